/** Runs the command line as a child process. */

import { type ChildProcess, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

const command = fileURLToPath(new URL("../../bin/rkd.mjs", import.meta.url));

/** How a child process ended. */
export interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Starts `rkd` with `args`. */
export function start(args: readonly string[], env: NodeJS.ProcessEnv = {}): ChildProcess & { done: Promise<Outcome> } {
  const child = spawn(process.execPath, [command, ...args], { env: { ...process.env, NO_COLOR: "1", ...env } });
  return Object.assign(child, { done: outcome(child) });
}

/** How `child` ends, and all that it prints until then. */
export function outcome(child: ChildProcess): Promise<Outcome> {
  let [stdout, stderr] = ["", ""];
  child.stdout?.on("data", (chunk) => {
    stdout += chunk;
  });
  child.stderr?.on("data", (chunk) => {
    stderr += chunk;
  });
  return new Promise((resolve) => child.on("close", (code) => resolve({ code, stdout, stderr })));
}

/** Runs `rkd` to its end. */
export function rkd(...args: string[]): Promise<Outcome> {
  return start(args).done;
}

/** The objects of JSON lines. */
// biome-ignore lint/suspicious/noExplicitAny: a test reads what it expects
export function lines(text: string): any[] {
  return text
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
}

/** The flags of a run of about a second. */
export function smallFlags(out: string): string[] {
  const data = ["--data", "glyphs:classes=20,writers=8", "--validation", "0.2", "--test", "0.2"];
  const network = ["--backbone", "conv4", "--width", "4", "--embedding", "8"];
  return [...data, ...network, "--batch", "16", "--epochs", "2", "--steps-per-epoch", "6", "--ks", "1,2", "--out", out];
}
