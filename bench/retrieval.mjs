// What an exact retrieval evaluation costs: Recall@1, 2, 4, 8 and MAP@R of labelled embeddings, rkd and PyTorch.
// `node bench/retrieval.mjs [--sizes 10000x128,60000x512] [--threads 2,1] [--rounds 1] [--through WORD]...`.
//
// Both programs measure the same embeddings, classes of ten, and take turns at every size and number of threads; both must find
// the same Recall@1. PyTorch takes a float32 matrix product and topk; rkd orders by exact float64 distances.
// RKD_PYTHON names an interpreter with torch and torchvision; without one there is no column of PyTorch's.
// --through puts words before every program, for a machine that others use. The table is printed and written to
// bench/record/retrieval.md.
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { example, here, middle, python, run, short } from "./programs.mjs";

const { values: options } = parseArgs({
  options: {
    sizes: { type: "string", default: "10000x128,60000x128,10000x512,60000x512" },
    threads: { type: "string", default: [...new Set([os.availableParallelism(), 1])].join(",") },
    rounds: { type: "string", default: "1" },
    through: { type: "string", multiple: true },
  },
});
const binary = example("retrieval_bench");
const scripts = existsSync(python) ? [path.join(here, "pytorch_retrieval.py")] : undefined;
const folder = mkdtempSync(path.join(os.tmpdir(), "rkd-bench-"));
const file = path.join(folder, "embeddings.f32");
const rows = [];
try {
  for (const size of options.sizes.split(",")) {
    const [n, d] = size.split("x").map(Number);
    for (const threads of options.threads.split(",").map(Number)) rows.push(measure(n, d, threads));
  }
} finally {
  rmSync(folder, { recursive: true });
}
const table = render();
process.stdout.write(table);
writeFileSync(path.join(here, "record", "retrieval.md"), table);

/** One line of the table. */
function measure(n, d, threads) {
  const rounds = Array.from({ length: Number(options.rounds) }, () => {
    const rkd = run(binary, [n, d, threads, file], options.through);
    const peer = scripts && run(python, [...scripts, n, d, threads, file], options.through);
    if (peer && Math.abs(peer.recall_at_1 - rkd.recall_at_1) > 2 / n) {
      throw new Error(`Recall@1 of ${n} x ${d}: ${rkd.recall_at_1} by rkd, ${peer.recall_at_1} by PyTorch`);
    }
    return { rkd, peer };
  });
  const of = (who) => middle(rounds.map((round) => round[who]).filter(Boolean), "seconds");
  const [rkd, peer] = [of("rkd"), of("peer")];
  process.stderr.write(`${n} x ${d}, ${threads} threads: rkd ${rkd.seconds} s, PyTorch ${peer?.seconds} s\n`);
  return { n, d, threads, rkd, peer };
}

/** The Markdown table with what is needed to repeat it. */
function render() {
  const torch = rows[0]?.peer?.torch;
  const head = [
    "# Exact retrieval evaluation, by number and length of the embeddings",
    "",
    `${new Date().toISOString().slice(0, 10)}, ${os.cpus()[0]?.model}, ${os.availableParallelism()} CPUs, ${torch ? `PyTorch ${torch}` : "no PyTorch"}, rkd (profile: release).`,
    `Command: \`node bench/retrieval.mjs --sizes ${options.sizes} --threads ${options.threads} --rounds ${options.rounds}\`.`,
    "Seconds for Recall@1, 2, 4, 8, MAP@R and, in rkd, R-precision and kNN accuracy. MiB at the peak above the embeddings. Ratios above 1: rkd is faster. PyTorch orders by float32 distances, rkd by exact ones.",
    "",
    "| vectors | d | threads | PyTorch s | rkd s | ratio | PyTorch MiB | rkd MiB | Recall@1 | MAP@R |",
    "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
  ];
  const body = rows.map(({ n, d, threads, rkd, peer }) => {
    const times = [peer ? short(peer.seconds) : "", short(rkd.seconds), peer ? short(peer.seconds / rkd.seconds) : ""];
    const memory = [peer, rkd].map((report) => (report?.peak_mib ? short(report.peak_mib) : ""));
    const found = [rkd.recall_at_1, rkd.map_at_r].map((share) => share.toFixed(4));
    return `| ${[n, d, threads, ...times, ...memory, ...found].join(" | ")} |`;
  });
  return `${[...head, ...body].join("\n")}\n`;
}
