// What exporting costs: bytes, cosine to the model, Recall@1 and milliseconds of an image, for six networks in three dtypes.
// `node bench/export.mjs [--data glyphs] [--image-size 64] [--width 32] [--steps 60] [--rounds 3] [--threads 2] [--only conv4,...] [--out FILE]`.
//
// Each network is trained for a while, exported in all dtypes and measured on the test part as others load it: by onnxruntime
// of the devDependency onnxruntime-node. Bytes, cosines and recalls are the same in every round; of the milliseconds the table
// has the least over rounds, since other work on the machine only adds. The addon is the published one, or RKD_NATIVE_PATH's.
import { mkdtempSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { publishedAddon, setUp } from "../scripts/setup.mjs";
import { circumstances, here, record } from "./programs.mjs";

const { values: options } = parseArgs({
  options: {
    data: { type: "string", default: "glyphs" },
    "image-size": { type: "string", default: "64" },
    width: { type: "string", default: "32" },
    steps: { type: "string", default: "60" },
    rounds: { type: "string", default: "3" },
    threads: { type: "string", default: String(os.availableParallelism()) },
    only: {
      type: "string",
      default:
        "conv4,resnet18,resnet50,vgg11,googlenet,mobilenet-v2,mobilenet-v3-small,efficientnet-b0,efficientnet-lite0",
    },
    out: { type: "string", default: path.join(here, "record", "export.md") },
  },
});
const [imageSize, width, steps, rounds, threads] = ["image-size", "width", "steps", "rounds", "threads"].map((name) =>
  Number(options[name]),
);
const dtypes = ["float32", "float16", "int8"];

setUp();
const addon = process.env.RKD_NATIVE_PATH ? "of RKD_NATIVE_PATH" : "of the release profile";
process.env.RKD_NATIVE_PATH ??= publishedAddon();
const { exportModel, train } = await import("../dist/index.js");

const started = new Date();
const work = mkdtempSync(path.join(os.tmpdir(), "rkd-export-"));
const rows = [];
try {
  for (const kind of options.only.split(",")) rows.push(...(await measure(kind)));
} finally {
  rmSync(work, { recursive: true, force: true });
}
const table = render();
record(table, options.out);

/** The rows of one network: itself, and its exports. */
async function measure(kind) {
  const model = path.join(work, kind);
  const stem = /^(resnet|vgg|googlenet)/.test(kind) ? { stem: "imagenet" } : {};
  await train({
    data: { source: options.data, imageSize, channels: 3 },
    backbone: { kind, width, embedding: 64, normalize: true, ...stem },
    epochs: 1,
    stepsPerEpoch: steps,
    batch: { size: 32, perClass: 4 },
    out: model,
    threads,
  });
  const found = [];
  for (let round = 0; round < rounds; round++) {
    const out = path.join(work, `${kind}-export`);
    found.push(
      await exportModel({ model, to: "onnx", dtype: dtypes, out, overwrite: true, engine: "onnxruntime", threads }),
    );
    process.stderr.write(`${kind}, round ${round + 1}: ${line(found.at(-1))}\n`);
  }
  const [first] = found;
  const fastest = (pick) => Math.min(...found.map((report) => pick(report).millisecondsPerImage));
  const student = row(
    kind,
    "rkd, float32",
    first.studentBytes,
    null,
    first.student,
    fastest((report) => report.student),
  );
  return [
    student,
    ...first.models.map(({ dtype, bytes, cosine, evaluation }, place) =>
      row(
        "",
        dtype,
        bytes,
        cosine,
        evaluation,
        fastest((report) => report.models[place].evaluation),
      ),
    ),
  ];
}

function row(kind, form, bytes, cosine, evaluation, milliseconds) {
  return [
    kind,
    form,
    bytes.toLocaleString("en"),
    cosine?.mean.toFixed(6) ?? "",
    cosine?.min.toFixed(6) ?? "",
    `${(100 * evaluation.metrics["recall@1"]).toFixed(2)} %`,
    milliseconds.toFixed(3),
  ];
}

function line({ student, models }) {
  const all = [["rkd", student], ...models.map(({ dtype, evaluation }) => [dtype, evaluation])];
  return all.map(([name, { millisecondsPerImage }]) => `${name} ${millisecondsPerImage.toFixed(3)} ms`).join(", ");
}

/** The Markdown table with what is needed to repeat it. */
function render() {
  const flags = ["data", "image-size", "width", "steps", "rounds", "threads", "only"].map(
    (name) => `--${name} ${options[name]}`,
  );
  return [
    "# Exported networks, by dtype",
    "",
    `${circumstances(started)}; rkd with the addon ${addon}, onnxruntime of onnxruntime-node.`,
    `Command: \`node bench/export.mjs ${flags.join(" ")}\`.`,
    "Of test images, classes that training did not see. Cosine: of an image's embedding and that of the network before export, mean and lowest. Milliseconds of an image in batches of 64: the least over rounds.",
    "",
    "| network | by | bytes | cosine | lowest | Recall@1 | ms/image |",
    "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ...rows.map((cells) => `| ${cells.join(" | ")} |`),
    "",
  ].join("\n");
}
