// A student at work: `loadModel` beside onnxruntime-node on the exported file, one image after another and many in batches.
// `node bench/serving.mjs [--networks conv4,resnet18] [--threads 1,2] [--singles 1000] [--many 10000] [--out FILE]`.
//
// Each side is a process of its own that loads its file once; they take turns, round by round, and idle in between. Both begin
// with the raw pixels of images of the network's size: rkd embeds them; for onnxruntime JavaScript normalises them into a
// tensor, whose share is shown. Where the embeddings of the two differ, the bench stops.
// The students have random weights, of one step of training; they and their exports are kept in bench/.serving, and so is
// onnxruntime-node, which is installed there the first time. The table is printed and written to bench/record/.
import { execFileSync, fork } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { circumstances, here, record, short } from "./programs.mjs";

const ORT = "1.22.0";
const folder = path.join(here, ".serving");
const networks = {
  conv4: { side: 64, flags: ["--backbone", "conv4", "--width", "64", "--embedding", "64"] },
  resnet18: { side: 64, flags: ["--backbone", "resnet18", "--stem", "small", "--width", "32", "--embedding", "128"] },
  "resnet18-224": { side: 224, flags: ["--backbone", "resnet18", "--embedding", "128"] },
  "efficientnet-lite0": { side: 224, flags: ["--backbone", "efficientnet-lite0", "--embedding", "128"] },
  resnet50: { side: 224, flags: ["--backbone", "resnet50", "--embedding", "128"] },
};
const BATCH = 64;
const ROUNDS = 10;
/** Images that are drawn, and come again. */
const POOL = 64;

const sides = { rkd: ownSide, onnxruntime: otherSide };
if (process.send) await serve();
else await compare();

/** The images of a network: bytes [side, side, 3]. */
function images(side) {
  let state = 1;
  const draw = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state >>> 24;
  };
  return Array.from({ length: POOL }, () => Uint8Array.from({ length: side * side * 3 }, draw));
}

/** A side's process: loads its model and answers requests for rounds. */
async function serve() {
  const [kind, name, threads] = process.argv.slice(2);
  const { side } = networks[name];
  const embed = await sides[kind](path.join(folder, name), side, Number(threads));
  const pool = images(side);
  process.on("message", async ({ work, count }) => {
    const times = [];
    const own = [];
    for (let done = 0; done < count; ) {
      const size = Math.min(work === "singles" ? 1 : BATCH, count - done);
      const chosen = Array.from({ length: size }, (_, i) => pool[(done + i) % POOL]);
      const start = performance.now();
      const { prepared } = await embed(chosen);
      times.push((performance.now() - start) / size);
      own.push(prepared / size);
      done += size;
    }
    process.send({ times, own });
  });
  const { rows } = await embed(pool.slice(0, 3));
  process.send({ rows: rows.map((row) => [...row]) });
}

async function ownSide(at, side, threads) {
  const { loadModel } = await import("../dist/index.js");
  const model = await loadModel(at, { threads, batch: BATCH });
  return async (pool) => {
    const raw = pool.map((data) => ({ data, width: side, height: side, channels: 3 }));
    return { rows: raw.length === 1 ? [await model.embed(raw[0])] : await model.embed(raw), prepared: 0 };
  };
}

async function otherSide(at, side, threads) {
  const ort = createRequire(path.join(folder, "package.json"))("onnxruntime-node");
  const session = await ort.InferenceSession.create(path.join(at, "onnx", "model.onnx"), {
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
  });
  const { mean, std } = JSON.parse(readFileSync(path.join(at, "normalization.json"), "utf8"));
  const [factor, shift] = [std.map((s) => 1 / (255 * s)), mean.map((m, c) => -m / std[c])];
  const pixels = side * side;
  return async (pool) => {
    const start = performance.now();
    const data = new Float32Array(pool.length * 3 * pixels);
    pool.forEach((image, n) => {
      for (let c = 0; c < 3; c++) {
        const plane = (n * 3 + c) * pixels;
        for (let p = 0; p < pixels; p++) data[plane + p] = factor[c] * image[3 * p + c] + shift[c];
      }
    });
    const prepared = performance.now() - start;
    const tensor = new ort.Tensor("float32", data, [pool.length, 3, side, side]);
    const [output] = Object.values(await session.run({ [session.inputNames[0]]: tensor }));
    const d = output.dims[1];
    return { rows: pool.map((_, n) => output.data.slice(n * d, (n + 1) * d)), prepared };
  };
}

async function compare() {
  const { values } = parseArgs({
    options: {
      networks: { type: "string", default: Object.keys(networks).join(",") },
      threads: { type: "string", default: [...new Set([1, os.availableParallelism()])].join(",") },
      singles: { type: "string", default: "1000" },
      many: { type: "string", default: "10000" },
      out: { type: "string", default: path.join(here, "record", "serving.md") },
    },
  });
  const { publishedAddon } = await import("../scripts/setup.mjs");
  const addon = publishedAddon();
  install();
  const started = new Date();
  const rows = [];
  for (const name of values.networks.split(",")) {
    student(name, addon);
    for (const threads of values.threads.split(",")) {
      rows.push({ name, threads, ...(await measure(name, threads, addon, values)) });
      process.stderr.write(`${name}, ${threads} threads: done\n`);
    }
  }
  const table = render(started, values, rows);
  record(table, values.out);
}

function install() {
  if (existsSync(path.join(folder, "node_modules", "onnxruntime-node"))) return;
  mkdirSync(folder, { recursive: true });
  writeFileSync(path.join(folder, "package.json"), '{"private":true}\n');
  // Its installation would fetch CUDA's libraries, which nobody asks here.
  const env = { ...process.env, ONNXRUNTIME_NODE_INSTALL: "skip" };
  execFileSync("npm", ["install", "--no-audit", "--no-fund", `onnxruntime-node@${ORT}`], {
    cwd: folder,
    env,
    stdio: "inherit",
  });
}

/** The network after one step of training, and its export. */
function student(name, addon) {
  const at = path.join(folder, name);
  const rkd = (...args) => {
    const command = [path.join(here, "..", "bin", "rkd.mjs"), ...args];
    return execFileSync(process.execPath, command, {
      env: { ...process.env, RKD_NATIVE_PATH: addon },
      encoding: "utf8",
    });
  };
  if (!existsSync(path.join(at, "model.safetensors"))) {
    const { side, flags } = networks[name];
    const data = ["--data", "glyphs:classes=12,writers=4", "--image-size", String(side), "--channels", "3"];
    const steps = ["--batch", "4", "--per-class", "2", "--epochs", "1", "--steps-per-epoch", "1", "--keep", "last"];
    rkd("train", ...data, ...flags, ...steps, "--loss", "triplet", "--out", at, "--overwrite");
  }
  const onnx = path.join(at, "onnx");
  if (!existsSync(path.join(onnx, "model.onnx"))) rkd("export", at, "--to", "onnx", "--out", onnx);
  const file = readFileSync(path.join(at, "model.safetensors"));
  const header = JSON.parse(file.toString("utf8", 8, 8 + Number(file.readBigUInt64LE())));
  const { normalization } = JSON.parse(Object.values(header.__metadata__)[0]);
  writeFileSync(path.join(at, "normalization.json"), JSON.stringify(normalization));
}

/** Rounds of both sides in turn. */
async function measure(name, threads, addon, { singles, many }) {
  const processes = {};
  const first = {};
  for (const kind of Object.keys(sides)) {
    const env = { ...process.env, RKD_NATIVE_PATH: addon };
    processes[kind] = fork(new URL(import.meta.url), [kind, name, threads], { env });
    first[kind] = (await answer(processes[kind])).rows;
  }
  check(name, first);
  const result = {};
  for (const [work, count] of [
    ["singles", Number(singles)],
    ["many", Number(many)],
  ]) {
    const all = Object.fromEntries(Object.keys(sides).map((kind) => [kind, { times: [], own: [] }]));
    for (const kind of Object.keys(sides)) await ask(processes[kind], { work, count: Math.min(count, 2 * BATCH) });
    for (let round = 0; round < ROUNDS; round++) {
      for (const kind of Object.keys(sides)) {
        const { times, own } = await ask(processes[kind], { work, count: Math.ceil(count / ROUNDS) });
        all[kind].times.push(...times);
        all[kind].own.push(...own);
      }
    }
    result[work] = all;
  }
  for (const process of Object.values(processes)) process.disconnect();
  return result;
}

function answer(process) {
  return new Promise((resolve, reject) => {
    process.once("exit", reject);
    process.once("message", (message) => {
      process.off("exit", reject);
      resolve(message);
    });
  });
}

function ask(process, request) {
  const reply = answer(process);
  process.send(request);
  return reply;
}

function check(name, { rkd, onnxruntime }) {
  const largest = Math.max(...rkd.flatMap((row, i) => row.map((x, j) => Math.abs(x - onnxruntime[i][j]))));
  if (!(largest < 1e-4)) throw new Error(`${name}: the embeddings of the two differ by ${largest}`);
}

function quantile(values, share) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
}

function render(started, values, rows) {
  const flags = `--networks ${values.networks} --threads ${values.threads} --singles ${values.singles} --many ${values.many}`;
  const head = [
    "# A student at work, beside onnxruntime-node",
    "",
    `${circumstances(started)}; Node ${process.version}, onnxruntime-node ${ORT}, rkd in its release profile.`,
    `Command: \`node bench/serving.mjs ${flags}\`.`,
    `Milliseconds an image, from raw pixels of the network's size to the embedding: ${values.singles} images one after another, and ${values.many} in batches of ${BATCH}, in ${ROUNDS} rounds by turns. Of onnxruntime's, JavaScript takes what stands in brackets to normalise the pixels. Ratio: onnxruntime's time by rkd's, so above 1 rkd is faster.`,
    "",
    "| network | threads | images | rkd p50 | rkd p99 | onnxruntime p50 | onnxruntime p99 | ratio of p50 | ratio of p99 |",
    "| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
  ];
  const body = rows.flatMap(({ name, threads, ...works }) =>
    Object.entries(works).map(([work, { rkd, onnxruntime }]) => {
      const [a50, a99, b50, b99] = [rkd, onnxruntime].flatMap(({ times }) =>
        [0.5, 0.99].map((q) => quantile(times, q)),
      );
      const own = quantile(onnxruntime.own, 0.5);
      const ratios = [b50 / a50, b99 / a99].map(short);
      const images = work === "singles" ? "one by one" : `batches of ${BATCH}`;
      return `| ${[name, threads, images, short(a50), short(a99), `${short(b50)} (${short(own)})`, short(b99), ...ratios].join(" | ")} |`;
    }),
  );
  return `${[...head, ...body].join("\n")}\n`;
}
