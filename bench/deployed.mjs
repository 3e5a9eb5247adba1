// What a deployed student is worth: MobileNetV3-small taught by ImageNet's EfficientNet-Lite2 as an ONNX file on photographs without
// labels, exported as int8. `node bench/deployed.mjs --data FOLDER [--image-size 96] [--embedding 128] [--epochs N] [--rounds 5] [--threads 2] [--out FILE]`.
//
// FOLDER has a folder for each class. Every tenth photograph of a class is held out; the others train as one heap whose classes nobody
// says. Classes only judge: Recall@1 among the photographs held out. All models embed the same files by `loadModel` and take turns,
// round by round; of the milliseconds the table has the median over rounds. The run is kept in bench/.deployed, and goes on there.
// What the teacher's export needs is installed into bench/.venv the first time; onnxruntime is that of the devDependency
// onnxruntime-node. The addon is the published one, or RKD_NATIVE_PATH's. The table is printed and written to bench/record/.
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { publishedAddon, setUp } from "../scripts/setup.mjs";
import { circumstances, exportedTeacher, here, middle, record, short } from "./programs.mjs";

const { values: options } = parseArgs({
  options: {
    data: { type: "string" },
    "image-size": { type: "string", default: "96" },
    embedding: { type: "string", default: "128" },
    epochs: { type: "string" },
    rounds: { type: "string", default: "5" },
    threads: { type: "string", default: String(os.availableParallelism()) },
    out: { type: "string", default: path.join(here, "record", "deployed.md") },
  },
});
if (options.data === undefined)
  throw new Error("--data is needed: a folder with a folder of photographs for each class");
const [imageSize, embedding, rounds, threads] = ["image-size", "embedding", "rounds", "threads"].map((name) =>
  Number(options[name]),
);
const BATCH = 64;

setUp();
const addon = process.env.RKD_NATIVE_PATH ? "of RKD_NATIVE_PATH" : "of the release profile";
process.env.RKD_NATIVE_PATH ??= publishedAddon();
const { distill, exportModel, loadModel, mobilenetV3, recallAtK, relationFidelity } = await import("../dist/index.js");

const started = new Date();
const folder = path.join(here, ".deployed");
const run = path.join(folder, "run");
const teacher = exportedTeacher("efficientnet-lite2");
const heldOut = divide();
await trained();
const report = await exportModel({
  ...{ model: run, to: "onnx", dtype: ["float32", "int8"], out: path.join(folder, "export"), overwrite: true },
  ...{ engine: "onnxruntime", threads },
});
const rows = await measured();
const table = render();
record(table, options.out);

/** Copies what trains into one heap, unless it is there; gives what is held out, with its classes. */
function divide() {
  const heap = path.join(folder, "photographs");
  const copy = !existsSync(heap);
  mkdirSync(heap, { recursive: true });
  return readdirSync(options.data, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .flatMap(({ name }) => {
      const files = readdirSync(path.join(options.data, name)).sort();
      const own = files.map((file) => ({ name, file: path.join(options.data, name, file) }));
      const trains = own.filter((_, i) => i % 10 !== 0);
      if (copy)
        for (const [i, { file }] of trains.entries())
          cpSync(file, path.join(heap, `${name}-${i}${path.extname(file)}`));
      return own.filter((_, i) => i % 10 === 0);
    });
}

/** The student, trained on the first call. */
async function trained() {
  const metrics = path.join(run, "metrics.json");
  if (existsSync(metrics)) return JSON.parse(readFileSync(metrics, "utf8"));
  rmSync(run, { recursive: true, force: true });
  const job = distill({
    ...{ teacher, out: run, threads, student: mobilenetV3("small", { embedding }) },
    data: { source: path.join(folder, "photographs"), imageSize },
    ...(options.epochs && { epochs: Number(options.epochs) }),
  });
  for await (const event of job) {
    if (event.type !== "evaluation") continue;
    process.stderr.write(
      `epoch ${event.epoch}: ${(100 * event.metrics.neighbourOverlap).toFixed(1)} % of ten nearest\n`,
    );
  }
  return await job;
}

/** A row for each model, of the photographs held out. */
async function measured() {
  const files = report.models.map(({ dtype, file }) => [`student, ${dtype}`, path.join(report.out, file)]);
  const models = [];
  for (const [name, file] of [["teacher", teacher], ["student", run], ...files]) {
    const model = await loadModel(file, { threads });
    models.push({ name, model, bytes: statSync(model.file).size, times: [], vectors: [] });
  }
  const bytes = heldOut.map(({ file }) => readFileSync(file));
  for (let round = 0; round < rounds; round++) {
    for (const each of models) {
      const begun = performance.now();
      const vectors = [];
      for (let at = 0; at < bytes.length; at += BATCH)
        vectors.push(...(await each.model.embed(bytes.slice(at, at + BATCH))));
      each.times.push({ ms: (performance.now() - begun) / bytes.length });
      each.vectors = vectors;
      process.stderr.write(`round ${round + 1}: ${each.name} ${short(each.times.at(-1).ms)} ms\n`);
    }
  }
  const labels = heldOut.map(({ name }) => name);
  const [first] = models;
  return await Promise.all(
    models.map(async ({ name, model, bytes, times, vectors }) => {
      const all = { vectors, labels };
      const recall = await recallAtK(all, all, 1);
      const kept = await relationFidelity(first.vectors, vectors);
      const { ms } = middle(times, "ms");
      await model.close();
      return { name, engine: model.engine.split(" ")[0], parameters: model.parameters, bytes, ms, recall, kept };
    }),
  );
}

/** The Markdown table with what is needed to repeat it. */
function render() {
  const flags = ["image-size", "embedding", "epochs", "rounds", "threads"].flatMap((name) =>
    options[name] === undefined ? [] : [`--${name} ${options[name]}`],
  );
  const percent = (share) => `${(100 * share).toFixed(1)} %`;
  return [
    "# A deployed student",
    "",
    `${circumstances(started)}; rkd with the addon ${addon}.`,
    `Command: \`node bench/deployed.mjs --data ${path.basename(options.data)} ${flags.join(" ")}\`.`,
    `MobileNetV3-small from random weights at ${imageSize} pixels, taught by ImageNet's EfficientNet-Lite2 (ONNX, 260 pixels) on photographs without labels; ${heldOut.length} photographs held out, of ${new Set(heldOut.map(({ name }) => name)).size} classes that only judge. Milliseconds of a photograph from the file's bytes, decoded, in batches of ${BATCH}; the median of ${rounds} rounds by turns.`,
    "",
    "| model | by | parameters | bytes | ms/image | 10 nearest in common | distances | Recall@1 |",
    "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ...rows.map(({ name, engine, parameters, bytes, ms, recall, kept }) => {
      const cells = [name, engine, parameters.toLocaleString("en"), bytes.toLocaleString("en"), short(ms)];
      const { neighbourOverlap, distanceRankCorrelation } = kept;
      const figures = [percent(neighbourOverlap), distanceRankCorrelation.toFixed(3), percent(recall)];
      return `| ${[...cells, ...figures].join(" | ")} |`;
    }),
    "",
  ].join("\n");
}
