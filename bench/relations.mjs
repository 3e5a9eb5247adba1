// What large batches cost: RKD distance + 2 x angle with its gradient, rkd and PyTorch, n = 64 ... 4096.
// `node bench/relations.mjs [--dimensions 512] [--threads 2] [--rounds 1] [--sizes 64,128]`.
//
// Both programs take turns at every size; each reports the median of the steps that fit into two seconds and its peak
// memory above the inputs. PyTorch is asked until its n^2 d and n^3 tensors would need more than 20 GiB, or a step more
// than a minute (both foretold from the size before). RKD_PYTHON names an interpreter with torch and torchvision.
// The table is printed and written to bench/record/relations.md.
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";

const here = import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname);
const { values: options } = parseArgs({
  options: {
    dimensions: { type: "string", default: "512" },
    threads: { type: "string", default: String(os.availableParallelism()) },
    rounds: { type: "string", default: "1" },
    sizes: { type: "string", default: "64,128,256,512,1024,2048,4096" },
  },
});
const python = process.env.RKD_PYTHON ?? path.join(here, ".venv", "bin", "python");
const root = path.join(here, "..");
const sizes = options.sizes.split(",").map(Number);

const messages = execFileSync(
  "cargo",
  ["build", "-q", "-p", "rkd-core", "--example", "relations_bench", "--message-format=json"],
  { cwd: root },
);
const binary = lines(messages).find((message) => message.executable)?.executable;
let [peer, before] = [undefined, undefined];
const rows = [];
for (const n of sizes) {
  const rounds = Array.from({ length: Number(options.rounds) }, () => ({
    peer: foretold(n) === undefined ? run(python, [path.join(here, "pytorch_relations.py")], n) : undefined,
    rkd: run(binary, [], n),
  }));
  const reason = foretold(n);
  const row = { n, reason, rkd: middle(rounds.map((round) => round.rkd)) };
  if (reason === undefined) {
    [peer, before] = [middle(rounds.map((round) => round.peer)), n];
    row.peer = peer;
  }
  rows.push(row);
  process.stderr.write(`n = ${n}: PyTorch ${row.peer?.step_ms ?? reason}, rkd ${row.rkd.step_ms} ms\n`);
}
const table = render();
process.stdout.write(table);
writeFileSync(path.join(here, "record", "relations.md"), table);

/** Why PyTorch is not asked for a batch of n, from its last measurement; undefined if it is. */
function foretold(n) {
  if (peer === undefined || n <= before) return undefined;
  const growth = n / before;
  // Its largest tensors have n^2 d and n^3 numbers.
  const gibibytes = (peer.peak_mib / 1024) * growth ** 2 * ((n + peer.d) / (before + peer.d));
  const seconds = (peer.step_ms / 1e3) * growth ** 3;
  if (gibibytes > 20) return `about ${Math.round(gibibytes)} GiB`;
  return seconds > 60 ? `about ${Math.round(seconds)} s` : undefined;
}

/** Runs a program and gives its JSON line. */
function run(program, args, n) {
  return lines(execFileSync(program, [...args, String(n), options.dimensions, options.threads]))[0];
}

/** The JSON objects of a program's output. */
function lines(output) {
  return output
    .toString()
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line));
}

/** The report of middle time. */
function middle(reports) {
  return reports.sort((a, b) => a.step_ms - b.step_ms)[Math.floor(reports.length / 2)];
}

/** Three significant digits at least. */
function short(value) {
  return value >= 100 ? String(Math.round(value)) : value.toPrecision(3);
}

/** The Markdown table with what is needed to repeat it. */
function render() {
  const head = [
    "# RKD distance + 2 x angle with its gradient, by size of batch",
    "",
    `${new Date().toISOString().slice(0, 10)}, ${os.cpus()[0]?.model}, ${options.threads} threads, d = ${options.dimensions}, PyTorch ${peer?.torch} float32, rkd float64.`,
    `Command: \`node bench/relations.mjs --dimensions ${options.dimensions} --threads ${options.threads} --rounds ${options.rounds} --sizes ${options.sizes}\`.`,
    'Median step in milliseconds after one to warm up; for the slowest that is a single step. MiB at the peak above the inputs, too low below n = 1024, where earlier work had touched memory. The estimate, made before the first step, is of the angle loss alone. "About": foretold from the size before, not measured.',
    "",
    "| n | PyTorch ms | rkd ms | ratio | estimated ms | PyTorch MiB | rkd MiB |",
    "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
  ];
  const body = rows.map(({ n, peer, rkd, reason }) => {
    const ratio = peer ? Math.round(peer.step_ms / rkd.step_ms) : "";
    const cells = [n, peer ? short(peer.step_ms) : reason, short(rkd.step_ms), ratio, short(rkd.estimated_ms)];
    return `| ${[...cells, peer ? short(peer.peak_mib) : "", rkd.peak_mib ? short(rkd.peak_mib) : ""].join(" | ")} |`;
  });
  return `${[...head, ...body].join("\n")}\n`;
}
