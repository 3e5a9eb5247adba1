// Training steps of rkd and of PyTorch, side by side in one run:
// `node bench/compare.mjs [--only NAME]... [--threads 2,1] [--rounds 5] [--seconds 3] [--out FILE]`.
//
// Both programs take turns, round by round, so that a slow minute of a shared machine hits both; in each round every number
// of threads has its turn too. Each measurement is a process of its own, with one workload and one memory layout. Which of
// PyTorch's layouts is faster is found in the first round, and that one is used in all. PyTorch under bfloat16 autocast, where the
// processor has such products, and onnxruntime on the exported network of an embedding pass take turns beside them. A round's figure is the median step
// of its program; the table has medians over rounds, and of the ratio its range too.
// PyTorch is installed into bench/.venv the first time (needs python3 with venv); RKD_PYTHON names another interpreter
// that has them, timm and, for embedding passes, onnxruntime and onnxscript. The table is printed and written to bench/record/.
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { publishedAddon } from "../scripts/setup.mjs";
import { here, install, jsonLines, python, record } from "./programs.mjs";

const { values: options } = parseArgs({
  options: {
    only: { type: "string", multiple: true },
    threads: { type: "string", default: [...new Set([os.availableParallelism(), 1])].join(",") },
    rounds: { type: "string", default: "5" },
    seconds: { type: "string", default: "3" },
    out: { type: "string", default: path.join(here, "record", "pytorch.md") },
  },
});
// What is measured is what is published: the addon of the release profile.
const env = { ...process.env, RKD_NATIVE_PATH: process.env.RKD_NATIVE_PATH ?? publishedAddon() };
const counts = numbers("threads", options.threads.split(","));
const [rounds] = numbers("rounds", [options.rounds]);
const known = ours(["--list"]).map(({ workload }) => workload);
const workloads = options.only ?? known;
for (const name of workloads) if (!known.includes(name)) fail(`--only ${name}: expected one of ${known.join(", ")}`);

const hasBfloat16 = /\b(avx512_bf16|amx_bf16)\b/.test(processor());
install(["torch", "torchvision", "timm", "numpy", "onnxruntime", "onnxscript"]);
const started = new Date();
const rows = workloads.flatMap(compare);
const table = render(rows);
record(table, options.out);
process.stdout.write(`written to ${path.relative(process.cwd(), options.out)}\n`);

/** Whole numbers of at least 1. */
function numbers(flag, texts) {
  const values = texts.map(Number);
  const right = values.every((value) => Number.isSafeInteger(value) && value >= 1);
  return right ? values : fail(`--${flag}: expected whole numbers of at least 1, received ${texts}`);
}

/** What Linux says of the processor; nothing elsewhere. */
function processor() {
  return existsSync("/proc/cpuinfo") ? readFileSync("/proc/cpuinfo", "utf8") : "";
}

/** Ends the program with a message. */
function fail(message) {
  process.stderr.write(`compare: ${message}\n`);
  process.exit(2);
}

/** Runs `rkd bench` and gives its JSON lines. */
function ours(args) {
  const program = path.join(here, "..", "bin", "rkd.mjs");
  return jsonLines(execFileSync(process.execPath, [program, "bench", ...args, "--json"], { env }));
}

/** Runs the peer's program and gives its JSON lines. */
function theirs(args) {
  return jsonLines(execFileSync(python, [path.join(here, "pytorch_steps.py"), ...args]));
}

/** One workload: rounds of both programs in turn; a row for each number of threads. */
function compare(workload) {
  const results = counts.map((threads) => ({ threads, layout: {}, peer: [], autocast: [], engine: [], rkd: [] }));
  const isNetwork = !workload.startsWith("rkd");
  for (let round = 0; round < rounds; round++) {
    for (const result of results) {
      const args = ["--only", workload, "--threads", String(result.threads), "--seconds", options.seconds];
      result.peer.push(fastest(args, result.layout.peer));
      result.layout.peer = result.peer[0].layout;
      result.rkd.push(ours(args)[0]);
      if (isNetwork && hasBfloat16) {
        result.autocast.push(fastest([...args, "--autocast"], result.layout.autocast));
        result.layout.autocast = result.autocast[0].layout;
      }
      if (workload.endsWith("embed")) result.engine.push(theirs([...args, "--layout", "onnxruntime"])[0]);
    }
  }
  return results.map(({ threads, layout, peer, autocast, engine, rkd }) => {
    const ratios = peer.map((theirs, round) => theirs.step_ms / rkd[round].step_ms);
    const row = {
      workload,
      threads,
      layout: layout.peer,
      torch: peer[0].torch,
      version: rkd[0].rkd,
      instructionSet: rkd[0].instruction_set,
      profile: rkd[0].profile,
      peerMs: of(peer, "step_ms"),
      rkdMs: of(rkd, "step_ms"),
      ratio: of(peer, "step_ms") / of(rkd, "step_ms"),
      autocastMs: of(autocast, "step_ms"),
      engineMs: of(engine, "step_ms"),
      engineMib: of(engine, "peak_mib"),
      lowest: Math.min(...ratios),
      highest: Math.max(...ratios),
      peerMib: of(peer, "peak_mib"),
      rkdMib: of(rkd, "peak_mib"),
      gflops: of(rkd, "gflops"),
      peakShare: of(rkd, "peak_share"),
    };
    const times = `PyTorch ${row.peerMs} ms, rkd ${row.rkdMs} ms, ratio ${fixed(row.ratio, 2)}`;
    process.stderr.write(`${workload}, ${threads} threads: ${times}\n`);
    return row;
  });
}

/** One measurement of the peer: of `layout`, or of both and the faster one. */
function fastest(args, layout) {
  const names = ["contiguous", "channels_last"];
  const layouts = args[1].startsWith("rkd") ? [[]] : names.map((name) => ["--layout", name]);
  const tried = (layout === undefined || layout === "n/a" ? layouts : [["--layout", layout]]).map(
    (choice) => theirs([...args, ...choice])[0],
  );
  return tried.reduce((best, one) => (one.step_ms < best.step_ms ? one : best));
}

/** The median of a field over rounds; null where a round has none. */
function of(results, field) {
  const values = results.map((result) => result[field]);
  if (values.length === 0 || values.some((value) => value === null || value === undefined)) return null;
  return values.sort((a, b) => a - b)[Math.floor(values.length / 2)];
}

/** A number with so many decimals, or a dash. */
function fixed(value, digits) {
  return value === null ? "-" : value.toFixed(digits);
}

/** The Markdown tables with what is needed to repeat them. */
function render(all) {
  const only = (options.only ?? []).map((name) => ` --only ${name}`).join("");
  const [{ torch, version, instructionSet, profile }] = all;
  const minutes = ((Date.now() - started.getTime()) / 60_000).toFixed(0);
  const row = (r) => [
    r.workload,
    r.threads,
    fixed(r.peerMs, 2),
    fixed(r.rkdMs, 2),
    fixed(r.ratio, 2),
    `${fixed(r.lowest, 2)} to ${fixed(r.highest, 2)}`,
    r.layout,
    fixed(r.peerMib, 0),
    fixed(r.rkdMib, 0),
    fixed(r.peerMib === null || r.rkdMib === null ? null : r.peerMib / r.rkdMib, 2),
    fixed(r.gflops, 0),
    r.peakShare === null ? "-" : `${fixed(100 * r.peakShare, 0)} %`,
  ];
  const beside = (r) => [
    r.workload,
    r.threads,
    ...[r.autocastMs, r.engineMs].flatMap((ms) => [fixed(ms, 2), fixed(ms === null ? null : ms / r.rkdMs, 2)]),
    fixed(r.engineMib === null ? null : r.engineMib / r.rkdMib, 2),
  ];
  const text = [
    "# Training steps: rkd and PyTorch, interleaved",
    "",
    `${started.toISOString().slice(0, 10)}, ${os.cpus()[0]?.model}, ${os.availableParallelism()} cores, ${instructionSet}; rkd ${version} (profile: ${profile}), Node ${process.version}, PyTorch ${torch}, float32.`,
    `Command: \`node bench/compare.mjs${only} --threads ${options.threads} --rounds ${rounds} --seconds ${options.seconds}\` (${minutes} minutes).`,
    "",
    "- Milliseconds: median over rounds of the median step; PyTorch in its faster memory layout (column layout). Ratio = PyTorch / rkd",
    "  of these medians, and the range of the ratio over rounds: above 1, rkd is faster.",
    "- Peak MiB: highest resident memory of a process that runs the workload alone, above that before it. Memory ratio =",
    "  PyTorch / rkd: above 1, rkd needs less.",
    "- GFLOP/s: rkd's convolutions and linear layers by their definition over the whole step, and their share of the machine's own",
    "  multiply-add rate on as many threads. Winograd's algorithm multiplies less than the definition, so 100 % is no bound.",
    "",
    "| workload | threads | PyTorch ms | rkd ms | ratio | range | layout | PyTorch MiB | rkd MiB | memory ratio | GFLOP/s | of peak |",
    "| --- | ---: | ---: | ---: | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: |",
    ...all.map((r) => `| ${row(r).join(" | ")} |`),
  ];
  return `${[...text, ...others(all.filter((r) => r.autocastMs !== null || r.engineMs !== null).map(beside)), ...scaling(all)].join("\n")}\n`;
}

/** What else took turns. */
function others(rows) {
  if (rows.length === 0) return [];
  return [
    "",
    "Beside rkd's float32, in the same rounds: PyTorch under bfloat16 autocast in its faster layout, and for embedding passes onnxruntime's float32",
    "on the network that PyTorch exported. Ratios are theirs / rkd: above 1, rkd is faster, or needs less.",
    "",
    "| workload | threads | bfloat16 ms | ratio | onnxruntime ms | ratio | memory ratio |",
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ...rows.map((cells) => `| ${cells.join(" | ")} |`),
  ];
}

/** How much faster more threads are, for both programs. */
function scaling(all) {
  const one = all.filter(({ threads }) => threads === 1);
  const more = all.filter(({ threads }) => threads !== 1);
  if (one.length === 0 || more.length === 0) return [];
  const rows = more.map((r) => {
    const single = one.find(({ workload }) => workload === r.workload);
    const gains = [single.peerMs / r.peerMs, single.rkdMs / r.rkdMs].map((gain) => fixed(gain, 2));
    return `| ${[r.workload, r.threads, ...gains].join(" | ")} |`;
  });
  return [
    "",
    "Time on one thread / time on so many:",
    "",
    "| workload | threads | PyTorch | rkd |",
    "| --- | ---: | ---: | ---: |",
    ...rows,
  ];
}
