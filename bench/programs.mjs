// What the benches beside PyTorch share: building an example, running a program that prints a JSON line, short numbers.
import { execFileSync } from "node:child_process";
import path from "node:path";
import { cargoEnv } from "../scripts/setup.mjs";

/** This folder. */
export const here = import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname);

/** The interpreter with torch and torchvision: RKD_PYTHON, or that of `bench/.venv`. */
export const python = process.env.RKD_PYTHON ?? path.join(here, ".venv", "bin", "python");

/** Builds an example of the core in the release profile, as published binaries are, and gives its path. */
export function example(name) {
  const messages = execFileSync(
    "cargo",
    ["build", "-q", "--release", "-p", "rkd-core", "--example", name, "--message-format=json"],
    { cwd: path.join(here, ".."), env: { ...process.env, ...cargoEnv() } },
  );
  return lines(messages).find((message) => message.executable)?.executable;
}

/** Runs a program and gives its JSON line. `through` are words before it, for a machine that others use. */
export function run(program, args, through = []) {
  const [first, ...rest] = [...through, program, ...args.map(String)];
  return lines(execFileSync(first, rest))[0];
}

/** The JSON objects of a program's output. */
function lines(output) {
  return output
    .toString()
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line));
}

/** The report in the middle by `key`. */
export function middle(reports, key) {
  return reports.sort((a, b) => a[key] - b[key])[Math.floor(reports.length / 2)];
}

/** Three significant digits at least. */
export function short(value) {
  return value >= 100 ? String(Math.round(value)) : value.toPrecision(3);
}
