// What large batches cost: RKD distance + 2 x angle with its gradient, rkd and PyTorch, n = 64 ... 4096.
// `node bench/relations.mjs [--dimensions 512] [--threads 2] [--rounds 1] [--sizes 64,128] [--through WORD]...`.
//
// Both programs take turns at every size; each reports the median of the steps that fit into two seconds and its peak
// memory above the inputs. PyTorch is asked until its n^2 d and n^3 tensors would need more than 20 GiB, or a step more
// than a minute (both foretold from the size before). RKD_PYTHON names an interpreter with torch and torchvision.
// --through puts words before every program, for a machine that others use. The table is printed and written to
// bench/record/relations.md.
import { writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { example, here, middle, python, run, short } from "./programs.mjs";

const { values: options } = parseArgs({
  options: {
    dimensions: { type: "string", default: "512" },
    threads: { type: "string", default: String(os.availableParallelism()) },
    rounds: { type: "string", default: "1" },
    sizes: { type: "string", default: "64,128,256,512,1024,2048,4096" },
    through: { type: "string", multiple: true },
  },
});
const sizes = options.sizes.split(",").map(Number);

const binary = example("relations_bench");
let [peer, before] = [undefined, undefined];
const rows = [];
for (const n of sizes) {
  const rounds = Array.from({ length: Number(options.rounds) }, () => ({
    peer: foretold(n) === undefined ? ask(python, [path.join(here, "pytorch_relations.py")], n) : undefined,
    rkd: ask(binary, [], n),
  }));
  const reason = foretold(n);
  const row = {
    n,
    reason,
    rkd: middle(
      rounds.map((round) => round.rkd),
      "step_ms",
    ),
  };
  if (reason === undefined) {
    [peer, before] = [
      middle(
        rounds.map((round) => round.peer),
        "step_ms",
      ),
      n,
    ];
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

/** Runs a program for a batch of n. */
function ask(program, args, n) {
  return run(program, [...args, n, options.dimensions, options.threads], options.through);
}

/** The Markdown table with what is needed to repeat it. */
function render() {
  const head = [
    "# RKD distance + 2 x angle with its gradient, by size of batch",
    "",
    `${new Date().toISOString().slice(0, 10)}, ${os.cpus()[0]?.model}, ${options.threads} threads, d = ${options.dimensions}, PyTorch ${peer?.torch} float32, rkd float64 (profile: release).`,
    `Command: \`node bench/relations.mjs --dimensions ${options.dimensions} --threads ${options.threads} --rounds ${options.rounds} --sizes ${options.sizes}\`.`,
    'Median step in milliseconds after one to warm up; for the slowest that is a single step. MiB at the peak above the inputs. The estimate, made before the first step, is of the angle loss alone. "About": foretold from the size before, not measured.',
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
