// Does relational distillation beat training the small network by itself? Omniglot, 28x28, class-disjoint:
// trained on the 964 background characters, measured on the 659 unseen ones.
//
//   node bench/omniglot.mjs --data DIR [--seeds 3] [--epochs 20] [--out runs/omniglot] [--only rkd-da ...]
//
// DIR holds images_background.zip and images_evaluation.zip. For every seed: a Conv-4 teacher (64 channels, embedding 64,
// triplet), and students of a quarter of the width (16 channels, embedding 16) by triplet alone, RKD-D, RKD-A, RKD-DA.
// A finished run is not repeated and an interrupted one goes on, so the script can be stopped and started at will. The
// table goes to standard output and to bench/record/omniglot.md; every number in it is read from the runs' metrics.json.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { adam, conv4, distill, omniglot, resume, rkdAngle, rkdDistance, train, triplet, version } from "rkd";

const { values: options } = parseArgs({
  options: {
    data: { type: "string" },
    seeds: { type: "string", default: "3" },
    epochs: { type: "string", default: "20" },
    "teacher-rate": { type: "string", default: "0.001" },
    "student-rate": { type: "string", default: "0.004" },
    out: { type: "string", default: "runs/omniglot" },
    only: { type: "string", multiple: true },
    record: { type: "string", default: "bench/record/omniglot.md" },
  },
});
if (!options.data) {
  process.stderr.write("--data DIR is missing: the folder with images_background.zip and images_evaluation.zip\n");
  process.exit(2);
}

const students = {
  triplet: [triplet()],
  "rkd-d": [rkdDistance()],
  "rkd-a": [rkdAngle()],
  "rkd-da": [rkdDistance({ weight: 1 }), rkdAngle({ weight: 2 })],
};
const wanted = Object.keys(students).filter((name) => !options.only || options.only.includes(name));
const seeds = Array.from({ length: Number(options.seeds) }, (_, i) => i + 1);
const data = omniglot(options.data);
const common = { data, epochs: Number(options.epochs), batch: { size: 128, perClass: 4 } };
const rate = (which) => adam({ learningRate: Number(options[which]) });

const rows = { teacher: [] };
for (const seed of seeds) {
  const teacher = path.join(options.out, `teacher-${seed}`);
  const byTriplet = { ...common, seed, losses: [triplet()] };
  rows.teacher.push(
    await finished(teacher, (out) =>
      train({ ...byTriplet, backbone: conv4({ embedding: 64 }), optimizer: rate("teacher-rate"), out }),
    ),
  );
  for (const name of wanted) {
    rows[name] ??= [];
    const small = { student: conv4({ width: 16, embedding: 16 }), optimizer: rate("student-rate") };
    const { student, ...alone } = { ...common, ...small, seed, losses: students[name] };
    const start = (out) =>
      name === "triplet" ? train({ ...alone, backbone: student, out }) : distill({ ...alone, student, teacher, out });
    rows[name].push(await finished(path.join(options.out, `${name}-${seed}`), start));
  }
}
const table = render();
process.stdout.write(table);
mkdirSync(path.dirname(options.record), { recursive: true });
writeFileSync(options.record, table);

/** The result of the run in `out`: read if it is there, else run to its end. */
async function finished(out, start) {
  const metrics = path.join(out, "metrics.json");
  if (!existsSync(metrics)) {
    const begin = Date.now();
    await (existsSync(path.join(out, "plan.json")) ? resume(out) : start(out));
    process.stderr.write(`${out}: ${Math.round((Date.now() - begin) / 1000)} s\n`);
  }
  return JSON.parse(readFileSync(metrics, "utf8"));
}

/** Mean and standard deviation, in percent. */
function spread(values) {
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  const variance = values.reduce((sum, v) => sum + (v - mean) ** 2, 0) / Math.max(values.length - 1, 1);
  return { mean: 100 * mean, deviation: 100 * Math.sqrt(variance) };
}

/** The Markdown table, with what is needed to repeat it and what it says. */
function render() {
  const metricNames = ["recall@1", "recall@8", "mapAtR", "rPrecision"];
  const of = (name, metric) => spread(rows[name].map((result) => result.metrics[metric]));
  const text = ({ mean, deviation }) => `${mean.toFixed(2)} ± ${deviation.toFixed(2)}`;
  const line = (name) =>
    `| ${name} | ${metricNames.map((metric) => text(of(name, metric))).join(" | ")} | ${rows[name][0].network.parameters} | ${rows[name][0].network.embedding} |`;
  const names = ["teacher", ...wanted];
  return `${[
    "# Omniglot: a Conv-4 student of a quarter of the width",
    "",
    `${new Date().toISOString().slice(0, 10)}, rkd ${version}, ${os.cpus()[0]?.model}, ${os.availableParallelism()} threads, seeds ${seeds.join(", ")}.`,
    `Command: \`node bench/omniglot.mjs --data DIR --seeds ${options.seeds} --epochs ${options.epochs} --teacher-rate ${options["teacher-rate"]} --student-rate ${options["student-rate"]}\`.`,
    "Trained on the 964 background characters (a tenth of them choose the checkpoint), measured on the 659 unseen ones (13,180 images,",
    "each a query against all others). Percent, mean ± standard deviation over seeds.",
    "",
    "| network | recall@1 | recall@8 | MAP@R | R-precision | parameters | embedding |",
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ...names.map(line),
    "",
    ...verdict(),
  ].join("\n")}\n`;
}

/** Each relational student against triplet alone, seed by seed. */
function verdict() {
  if (!rows.triplet) return [];
  return wanted
    .filter((name) => name !== "triplet")
    .map((name) => {
      const gains = rows[name].map((result, i) => result.metrics["recall@1"] - rows.triplet[i].metrics["recall@1"]);
      const { mean, deviation } = spread(gains);
      const error = deviation / Math.sqrt(gains.length);
      const word = Math.abs(mean) <= 2 * error ? "no difference beyond the noise" : mean > 0 ? "better" : "worse";
      return `- ${name} against triplet alone, recall@1: ${mean >= 0 ? "+" : ""}${mean.toFixed(2)} points (seed by seed ${gains.map((g) => (100 * g).toFixed(2)).join(", ")}): ${word}.`;
    });
}
