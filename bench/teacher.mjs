// What a teacher in an ONNX file takes for an image: inside rkd, by onnxruntime and by rten, and by onnxruntime alone in Python.
// `node bench/teacher.mjs [--model FILE] [--batch 32] [--threads 2,1] [--rounds 5] [--seconds 4] [--out FILE]`.
//
// All take turns, round by round, on the same file, the same images and the same library of onnxruntime, the one that
// Python's package brings. Each measurement is a process of its own and reports the median of its passes; the table has
// medians over rounds, and of the ratio to Python its range too. Where embeddings differ, the bench stops.
// The usual model is EfficientNet-Lite0 as `export_teacher.py` writes it. What that needs is installed into bench/.venv the
// first time; RKD_PYTHON names another interpreter that has it. The table is printed and written to bench/record/.
import { execFileSync } from "node:child_process";
import { readdirSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import {
  circumstances,
  example,
  exportedTeacher,
  FOR_TEACHERS,
  here,
  install,
  middle,
  python,
  record,
  run,
  short,
} from "./programs.mjs";

const { values: options } = parseArgs({
  options: {
    model: { type: "string" },
    batch: { type: "string", default: "32" },
    threads: { type: "string", default: [...new Set([os.availableParallelism(), 1])].join(",") },
    rounds: { type: "string", default: "5" },
    seconds: { type: "string", default: "4" },
    out: { type: "string", default: path.join(here, "record", "teacher.md") },
  },
});
const { batch, rounds, seconds } = options;

install(FOR_TEACHERS);
const model = options.model ?? exportedTeacher("efficientnet-lite0");
const library = libraryOfPython();
const binary = example("teacher_bench");
const ways = {
  "Python's onnxruntime": (threads) =>
    run(python, [path.join(here, "onnxruntime_teacher.py"), model, batch, threads, seconds]),
  "rkd, onnxruntime": (threads) => run(binary, [model, "onnxruntime", batch, threads, seconds, library]),
  "rkd, rten": (threads) => run(binary, [model, "rten", batch, threads, seconds]),
};
const [peer] = Object.keys(ways);

const started = new Date();
const tables = options.threads.split(",").map((threads) => measure(Number(threads)));
const table = render();
record(table, options.out);

/** The library in Python's package. */
function libraryOfPython() {
  const where = "import onnxruntime, os; print(os.path.dirname(onnxruntime.__file__))";
  const folder = path.join(execFileSync(python, ["-c", where]).toString().trim(), "capi");
  const found = readdirSync(folder).find((name) => /^(lib)?onnxruntime[.\d]*(\.so|\.dylib|\.dll)/.test(name));
  if (found === undefined) throw new Error(`no library of onnxruntime in ${folder}`);
  return path.join(folder, found);
}

/** Rounds of all ways in turn on so many threads. */
function measure(threads) {
  const measured = Object.fromEntries(Object.keys(ways).map((way) => [way, []]));
  for (let round = 0; round < Number(rounds); round++) {
    for (const [way, ask] of Object.entries(ways)) {
      const report = ask(threads);
      const expected = measured[peer][0]?.embedding ?? report.embedding;
      const near = report.embedding.every(
        (x, i) => Math.abs(x - expected[i]) <= 1e-3 * Math.max(1, Math.abs(expected[i])),
      );
      if (!near) throw new Error(`${way} gives ${report.embedding}, ${peer} ${expected}`);
      measured[way].push(report);
      process.stderr.write(`${threads} threads, round ${round + 1}: ${way} ${short(report.ms)} ms\n`);
    }
  }
  return { threads, measured };
}

/** The Markdown table with what is needed to repeat it. */
function render() {
  const { measured } = tables[0];
  const { parameters, side, profile } = measured["rkd, rten"][0];
  const { onnxruntime } = measured[peer][0];
  const file = options.model === undefined ? "" : `--model ${path.basename(model)} `;
  const flags = `${file}--batch ${batch} --threads ${options.threads} --rounds ${rounds} --seconds ${seconds}`;
  const head = [
    "# A teacher's pass over a batch, by who runs it",
    "",
    `${circumstances(started)}; ${path.basename(model)}, ${parameters.toLocaleString("en")} parameters, ${batch} images of ${side} pixels, onnxruntime ${onnxruntime} of both sides, rkd (profile: ${profile}).`,
    `Command: \`node bench/teacher.mjs ${flags}\`.`,
    `Milliseconds an image: the median over rounds of each round's median pass. Ratio: the time of ${peer} by that of the way, so above 1 rkd is faster; its range is over rounds.`,
    "",
    "| threads | by | ms/image | ratio | range |",
    "| ---: | --- | ---: | ---: | --- |",
  ];
  const body = tables.flatMap(({ threads, measured }) =>
    Object.entries(measured).map(([way, reports]) => {
      const ratios = reports.map(({ ms }, round) => measured[peer][round].ms / ms).sort((a, b) => a - b);
      const range = way === peer ? "" : `${short(ratios[0])} to ${short(ratios.at(-1))}`;
      const ratio = way === peer ? "" : short(ratios[Math.floor(ratios.length / 2)]);
      return `| ${[threads, way, short(middle([...reports], "ms").ms), ratio, range].join(" | ")} |`;
    }),
  );
  return `${[...head, ...body].join("\n")}\n`;
}
