// Milliseconds of an image and sizes of exported files, network by network: the right half of the table of docs/networks.md.
// `node bench/networks.mjs [--batch 16] [--threads 2] [--seconds 1] [--only conv4,...] [--out FILE]`.
//
// The table's rows are kept, those of other networks than --only as they are; what was measured and on what is the sentence below it.
// Run it on a machine that does nothing else: the medians are of one run.
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { example, here, jsonLines, short } from "./programs.mjs";

const { values: options } = parseArgs({
  options: {
    batch: { type: "string", default: "16" },
    threads: { type: "string", default: "2" },
    seconds: { type: "string", default: "1" },
    only: { type: "string" },
    out: { type: "string", default: path.join(here, "..", "docs", "networks.md") },
  },
});
const [begin, end] = ["<!-- bench/networks.mjs writes from here -->", "<!-- to here -->"];
const columns = ["ms at 224 px", "ms at 96 px", "float32 MB", "int8 MB"];

const page = readFileSync(options.out, "utf8");
const [before, table, after] = parts(page);
const started = new Date();
const { batch, threads, seconds } = options;
const args = [batch, threads, seconds, ...(options.only?.split(",") ?? [])];
const measured = jsonLines(execFileSync(example("networks_bench"), args, { stdio: ["ignore", "pipe", "inherit"] }));
const cellsOf = new Map(
  measured.map(({ kind, ms224, ms96, float32, int8 }) => [
    kind,
    [short(ms224), short(ms96), ...[float32, int8].map((bytes) => (bytes / 1e6).toFixed(1))],
  ]),
);
const rows = table.split("\n").filter((line) => line.startsWith("|"));
const written = [...rows.map(row), "", sentence()];
writeFileSync(options.out, `${[before, begin, written.join("\n"), end, after].join("\n\n")}\n`);
process.stdout.write(`${written.join("\n")}\n`);

/** What stands before the marks, between and after them. */
function parts(text) {
  const [first, last] = [text.indexOf(begin), text.indexOf(end)];
  if (first < 0 || last < first) throw new Error(`${options.out} has no table between ${begin} and ${end}`);
  return [text.slice(0, first).trimEnd(), text.slice(first + begin.length, last), text.slice(last + end.length).trim()];
}

/** A line of the table with what was measured; its last column is whose names the network has. */
function row(line, index) {
  const cells = line
    .split("|")
    .slice(1, -1)
    .map((cell) => cell.trim());
  const fixed = [...cells.slice(0, 4), cells.at(-1)];
  const own = [columns, columns.map(() => "---:")][index] ?? cellsOf.get(fixed[0].replaceAll("`", ""));
  const kept = cells.length === fixed.length ? columns.map(() => "") : cells.slice(4, -1);
  return `| ${[...fixed.slice(0, 4), ...(own ?? kept), fixed[4]].join(" | ")} |`;
}

function sentence() {
  const [{ profile }] = measured;
  const flags = `--batch ${batch} --threads ${threads} --seconds ${seconds}${options.only ? ` --only ${options.only}` : ""}`;
  return [
    `Milliseconds of an image in an embedding pass of ${batch} images on ${threads} threads of ${os.cpus()[0]?.model}, float32, ${started.toISOString().slice(0, 10)} (rkd's`,
    `${profile} profile, load ${os.loadavg()[0].toFixed(1)} at the end); sizes of the exported ONNX files. \`node bench/networks.mjs ${flags}\` measures them.`,
  ].join("\n");
}
