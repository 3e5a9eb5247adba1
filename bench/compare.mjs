// Training steps of rkd and of PyTorch, side by side in one run: `node bench/compare.mjs [--only NAME] [--threads 2] [--rounds 5]`.
//
// Both programs take turns, round by round, so that a slow minute of a shared machine hits both. A round's figure is the
// median step of its program; the table has the medians over rounds and the ratio PyTorch / rkd with its range over rounds.
// PyTorch is installed into bench/.venv the first time (needs python3 with venv); RKD_PYTHON names another interpreter
// that has torch and torchvision. The table is printed and written to bench/record/.
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";

const here = import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname);
const { values: options } = parseArgs({
  options: {
    only: { type: "string", multiple: true },
    threads: { type: "string", default: String(os.availableParallelism()) },
    rounds: { type: "string", default: "5" },
    seconds: { type: "string", default: "3" },
    out: { type: "string" },
  },
});

const python = process.env.RKD_PYTHON ?? installPyTorch();
const workloads = options.only ?? ours(["--list"]).map((line) => line.workload);
const rows = workloads.map(compare);
const table = render(rows);
process.stdout.write(table);
const file = options.out ?? path.join(here, "record", `pytorch-${options.threads}-threads.md`);
mkdirSync(path.dirname(file), { recursive: true });
writeFileSync(file, table);
process.stdout.write(`written to ${path.relative(process.cwd(), file)}\n`);

/** The interpreter of bench/.venv, made on the first call. */
function installPyTorch() {
  const venv = path.join(here, ".venv");
  const interpreter = path.join(venv, "bin", "python");
  if (!existsSync(interpreter)) {
    process.stderr.write("installing PyTorch into bench/.venv (once; some minutes)\n");
    execFileSync("python3", ["-m", "venv", venv], { stdio: "inherit" });
    execFileSync(interpreter, ["-m", "pip", "install", "-q", "torch", "torchvision", "numpy"], { stdio: "inherit" });
  }
  return interpreter;
}

/** Runs `rkd bench` and gives its JSON lines. */
function ours(args) {
  return lines(execFileSync(process.execPath, [path.join(here, "..", "bin", "rkd.mjs"), "bench", ...args, "--json"]));
}

/** Runs the peer's program and gives its JSON lines. */
function theirs(args) {
  return lines(execFileSync(python, [path.join(here, "pytorch_steps.py"), ...args]));
}

/** The JSON objects of a program's standard output. */
function lines(output) {
  return output
    .toString()
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line));
}

/** One workload: rounds of both programs in turn. */
function compare(workload) {
  const args = ["--only", workload, "--threads", options.threads, "--seconds", options.seconds];
  const rounds = Array.from({ length: Number(options.rounds) }, () => ({ peer: theirs(args)[0], rkd: ours(args)[0] }));
  const ratios = rounds.map(({ peer, rkd }) => peer.step_ms / rkd.step_ms);
  const row = {
    workload,
    peer: median(rounds.map(({ peer }) => peer.step_ms)),
    rkd: median(rounds.map(({ rkd }) => rkd.step_ms)),
    ratio: median(ratios),
    lowest: Math.min(...ratios),
    highest: Math.max(...ratios),
    torch: rounds[0].peer.torch,
  };
  process.stderr.write(`${workload}: PyTorch ${row.peer} ms, rkd ${row.rkd} ms, ratio ${row.ratio.toFixed(2)}\n`);
  return row;
}

/** The middle value. */
function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}

/** The Markdown table with what is needed to repeat it. */
function render(all) {
  const head = [
    "# Training steps: rkd and PyTorch, interleaved",
    "",
    `${new Date().toISOString().slice(0, 10)}, ${os.cpus()[0]?.model}, ${options.threads} threads, Node ${process.version}, PyTorch ${all[0]?.torch}, float32.`,
    `Command: \`node bench/compare.mjs --threads ${options.threads} --rounds ${options.rounds} --seconds ${options.seconds}\`.`,
    "Milliseconds are medians over rounds of the median step; PyTorch at its faster memory format. Ratio = PyTorch / rkd: above 1, rkd is faster.",
    "",
    "| workload | PyTorch ms | rkd ms | ratio | lowest | highest |",
    "| --- | ---: | ---: | ---: | ---: | ---: |",
  ];
  const body = all.map(
    (r) =>
      `| ${r.workload} | ${r.peer} | ${r.rkd} | ${r.ratio.toFixed(2)} | ${r.lowest.toFixed(2)} | ${r.highest.toFixed(2)} |`,
  );
  return `${[...head, ...body].join("\n")}\n`;
}
