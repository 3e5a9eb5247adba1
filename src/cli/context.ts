/** What all commands share: JSON or text, signals, and how a run is shown. */

import { closeSync, existsSync } from "node:fs";
import { constants } from "node:os";
import { join } from "node:path";
import { isatty } from "node:tty";
import type { Command } from "commander";
import { files } from "../artefacts/run-folder.ts";
import { RkdError } from "../errors.ts";
import type { DistillResult, TrainResult } from "../events.ts";
import { printable, printableLines } from "../printable.ts";
import { findingLines, metricsLine, prefixLines } from "../report/scores.ts";
import { follows } from "../run/ranks.ts";
import type { Run } from "../run/run.ts";
import { exitCodeOf } from "./exit.ts";
import { quoted } from "./flags.ts";
import { jsonReporter, textReporter } from "./progress.ts";
import { verdictTable } from "./table.ts";

/** Whether output is one JSON object a line. Known before the command line is parsed, so that its errors obey it. */
export const json: boolean = process.argv.includes("--json");

const controller = new AbortController();

/** Aborted by Ctrl-C, and by what schedulers and lost terminals send. */
export const signal: AbortSignal = controller.signal;

/** The signals that stop a run, each with the way it is sent again. */
const stops = {
  SIGINT: "press Ctrl-C again",
  SIGTERM: "send it again",
  SIGHUP: "send it again",
  SIGUSR1: "send it again",
  SIGUSR2: "send it again",
} as const;

/** How long what has nothing to save may take to stop before it is ended. */
const PATIENCE_MS = 800;

/**
 * A signal that comes again so soon is the same one by another way: `timeout` sends it to the process and to its group, and
 * under `npx` both the terminal and npm do.
 */
const ECHO_MS = 500;

let saving = false;

/** Says that there is now something to save, so that a stop waits for its checkpoint. */
export function willSave(): void {
  saving = true;
}

/** Whether `error` is what a run rejects with after such a signal. */
export function isStop(error: unknown): boolean {
  return signal.aborted && error === signal.reason;
}

/** The exit code after a signal: 128 and its number, as shells have it. */
export function exitCodeOfStop(name: NodeJS.Signals): number {
  return 128 + constants.signals[name];
}

/** The signal that came first, if one came. */
export let stoppedBy: NodeJS.Signals | undefined;
let stoppedAt = 0;

/** Listens to the signals: the first one stops at a checkpoint, the next at once. */
export function listenToStops(): void {
  for (const [name, again] of Object.entries(stops) as [keyof typeof stops, string][]) {
    // Windows has neither of the last two.
    if (name in constants.signals) process.on(name, () => stop(name, again));
  }
}

function stop(name: NodeJS.Signals, again: string): void {
  if (stoppedBy && performance.now() - stoppedAt > ECHO_MS) process.exit(exitCodeOfStop(name));
  if (stoppedBy) return;
  stoppedBy = name;
  stoppedAt = performance.now();
  const why = name === "SIGINT" ? "" : ` (${name})`;
  if (!follows())
    process.stderr.write(`\nStopping${saving ? " after a checkpoint" : ""}${why}; ${again} to stop at once.\n`);
  // Who follows ends when the first process does.
  if (!saving && !follows()) setTimeout(() => process.exit(exitCodeOfStop(name)), PATIENCE_MS).unref();
  controller.abort(new RkdError("ERR_CANCELLED", `stopped by ${name === "SIGINT" ? "Ctrl-C" : name}`));
}

/**
 * Lets work go on where nobody reads its output any more. A reader that has gone away (`| head`) wanted no more; output
 * that was lost for another reason, a full disk for example, makes a success a failure.
 */
export function bearLostOutput(): void {
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code !== "EPIPE") lost ??= error;
  });
  process.stderr.on("error", () => {});
  // Node ends with an abort where it cannot set a terminal back that has been closed; it leaves out what is no longer open.
  const terminals = [0, 1, 2].filter((descriptor) => isatty(descriptor));
  process.on("exit", () => {
    for (const descriptor of terminals) if (!isatty(descriptor)) closeSync(descriptor);
  });
  process.on("exit", () => {
    if (!lost || process.exitCode) return;
    process.exitCode = exitCodeOf("ERR_IO");
    process.stderr.write(`rkd: standard output could not be written: ${lost.message}\n`);
  });
}

let lost: Error | undefined;

/** The command that was typed: its messages name its flags. */
export let typed: Command | undefined;

/** Says which command was typed. */
export function setTyped(command: Command | undefined): void {
  typed = command;
}

/** Shows the events of a run until it ends, where this process has any. `name` stands before each line. */
export async function watch<R>(run: Run<R>, name?: string): Promise<R> {
  const reporter = json ? jsonReporter() : textReporter(name, typed);
  try {
    for await (const event of run) {
      if (event.type === "start") willSave();
      reporter.event(event);
    }
    return await run;
  } finally {
    reporter.end();
  }
}

/**
 * Shows a run with a folder, and says at the end where things are, or how to go on. A new run that was stopped before its
 * first step has left nothing to go on with: what stands in the folder is an older run, which it would have replaced.
 */
export async function finish(
  run: Run<TrainResult | DistillResult>,
  out: string,
  resumable: () => boolean = () => saving,
): Promise<void> {
  let result: TrainResult | DistillResult;
  try {
    result = await watch(run);
  } catch (error) {
    if (isStop(error) && !follows()) {
      const again =
        "Nothing was trained yet: the same command begins again, and takes what is decoded and embedded already.";
      say(resumable() ? `Go on with: rkd resume ${quoted(out)}` : again);
    }
    throw error;
  }
  if (json || follows()) return;
  if ("verdict" in result) printLines(verdictTable(result.verdict));
  else {
    if (result.metrics) print(`test classes: ${metricsLine(result.metrics)}`);
    prefixLines(result.prefixes).forEach(print);
  }
  findingLines(result.findings).forEach(print);
  print(`model: ${result.model}`);
  const page = join(result.out, files.report);
  if (existsSync(page)) print(`report: ${page}`);
}

/** Writes a line of the result. */
export function print(line: string): void {
  process.stdout.write(`${printable(line)}\n`);
}

/** Writes lines of the result, those of a table for example, whose cells are printable already. */
export function printLines(lines: string): void {
  process.stdout.write(`${printableLines(lines)}\n`);
}

/** Writes a line for people beside the result. */
export function say(line: string): void {
  process.stderr.write(`${printable(line)}\n`);
}
