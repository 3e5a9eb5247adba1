/** One table of bad values for each option: every one is refused with the option's name, before anything is touched. */

import { existsSync } from "node:fs";
import { describe, expect, it } from "vitest";
import {
  adam,
  adamW,
  angular,
  attentionTransfer,
  constant,
  contrastive,
  conv4,
  correlationCongruence,
  cosine,
  crossEntropy,
  efficientnet,
  efficientnetLite,
  glyphs,
  googlenet,
  hardDarkRank,
  hint,
  imageFolder,
  liftedStructure,
  margin,
  mlp,
  mobilenetV2,
  mobilenetV3,
  nPairs,
  prototypical,
  RkdError,
  resnet,
  rkdAngle,
  rkdDistance,
  sgd,
  softTargetKl,
  step,
  train,
  triplet,
  tripletEuclidean,
  twoStages,
  vgg,
  vit,
} from "../../src/index.ts";

const notNumbers = [Number.NaN, Number.POSITIVE_INFINITY, "1", null, {}, []];
const notCounts = [0, -1, 1.5, ...notNumbers];

// biome-ignore lint/suspicious/noExplicitAny: wrong types are the point
type Bad = any;

const run = { data: "glyphs", backbone: conv4(), out: "never-made" };
const runTable: Record<string, Bad[]> = {
  data: [undefined, "", 7, "no/such/folder"],
  backbone: [undefined, "conv4", { kind: "conv5" }, { kind: "conv4", depth: 4 }],
  out: [undefined, "", "a\0b", 3],
  overwrite: ["yes", 1],
  losses: [[], {}, [null], [{ kind: "triplet" }], [triplet({ weight: 0 })], [rkdAngle()], [hardDarkRank()]],
  optimizer: ["adam", null, { kind: "adamw" }],
  schedule: ["cosine", null, { kind: "linear" }],
  epochs: [...notCounts, 1e9],
  stepsPerEpoch: notCounts.filter((value) => value !== null),
  "batch.size": [1, ...notCounts],
  "batch.perClass": [0, 1, 64, 65, 1.5, "4", null],
  "batch.episode": [5, {}, { way: 1, shots: 1, queries: 1 }, { way: 5, shots: 0, queries: 1 }, { way: 5, shots: 1 }],
  prefixes: [32, "32", [1], [1.5], [1e9], null],
  microBatch: [0, 1, 1.5, "8"],
  clipGradientNorm: [0, -1, "1", Number.NaN],
  seed: [-1, 0.5, "1", 2 ** 53],
  threads: [-1, 0.5, 2000, "2"],
  device: ["gpu", "tpu", 0],
  precision: ["fp16", "float16", "tf32", "bf16", 16],
  distributed: ["slurm", true, 4],
  "evaluation.everyEpochs": notCounts,
  "evaluation.everySteps": notCounts.filter((value) => value !== null),
  "evaluation.ks": [[], [0], ["1"], 5, [1.5]],
  keep: ["first", true],
  weights: ["", 3, "no/such.pth", {}, { path: "a" }],
  freeze: ["conv1", [""], [1], null, {}],
  learningRates: [10, ["fc"], { fc: 0 }, { fc: "10" }, { fc: Number.NaN }],
  batchNorm: ["eval", "synchronised", true],
  dropout: [1, -0.1, "0.2", null],
  dropPath: [1, -0.1, "0.2", null],
  patience: [0, -1, 1.5, "3"],
  checkpointEverySteps: [0, -1, 1.5],
  signal: [{}, "stop"],
};

describe("train refuses", () => {
  const cases = Object.entries(runTable).flatMap(([name, values]) => values.map((value) => [name, value] as const));
  it.each(cases)("%s: %j", async (name, value) => {
    const [outer = "", inner] = name.split(".");
    const options = { ...run, [outer]: inner ? { [inner]: value } : value } as Bad;
    const error = await train(options).then(
      () => undefined,
      (reason: unknown) => reason,
    );
    expect(error).toBeInstanceOf(RkdError);
    expect((error as RkdError).message).toContain(name.split(".")[0] === "data" ? "" : name);
    expect((error as RkdError).code).toMatch(/^ERR_(INVALID_OPTION|UNKNOWN_OPTION|NOT_FOUND)$/);
    expect(existsSync("never-made")).toBe(false);
  });

  it.each([
    ["epoch", "epochs"],
    ["optimiser", "optimizer"],
    ["seeds", "seed"],
    ["lr", "optimizer.learningRate"],
    ["batch_size", "batch.size"],
    ["num_epochs", "epochs"],
    ["perClass", "batch.perClass"],
    ["matryoshka_dims", "prefixes"],
  ])("the unknown option %s, with a suggestion", async (typed, meant) => {
    const error = await train({ ...run, [typed]: 1 } as Bad).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: "ERR_UNKNOWN_OPTION", subject: typed });
    expect((error as Error).message).toContain(`Did you mean "${meant}"?`);
  });

  it("CUDA in a build without it", async () => {
    await expect(train({ ...run, device: "cuda" })).rejects.toMatchObject({ code: "ERR_DEVICE" });
  });
});

const constructorTable: [string, (value: Bad) => unknown, Bad[]][] = [
  ["conv4.width", (width) => conv4({ width }), notCounts],
  ["conv4.embedding", (embedding) => conv4({ embedding }), notCounts.filter((value) => value !== null)],
  ["conv4.normalize", (normalize) => conv4({ normalize }), ["yes", 1]],
  ["resnet depth", (depth) => resnet(depth), [17, 152, "18", null]],
  ["vgg depth", (depth) => vgg(depth), [12, 19, "11", null]],
  ["efficientnetLite size", (size) => efficientnetLite(size), [5, -1, "0", null]],
  ["efficientnet size", (size) => efficientnet(size), ["b1", 0, null]],
  ["mobilenetV3 size", (size) => mobilenetV3(size), ["medium", 0, null]],
  ["mobilenetV2.width", (width) => mobilenetV2({ width }), notCounts],
  ["vit size", (size) => vit(size), ["base", 16, null]],
  ["vgg.stem", (stem) => vgg(11, { stem }), ["cifar", 3]],
  ["googlenet.width", (width) => googlenet({ width }), notCounts],
  ["mlp.hidden", (hidden) => mlp({ hidden }), [[], [0], ["1"], 256, null, [1.5]]],
  ["resnet.stem", (stem) => resnet(18, { stem }), ["cifar", "", 3]],
  ["rkdDistance.weight", (weight) => rkdDistance({ weight }), [-1, "automatic", {}, { from: -1, to: 1 }, null]],
  ["rkdDistance.studentFeature", (studentFeature) => rkdDistance({ studentFeature }), ["", 3, null]],
  ["rkdDistance.teacherFeature", (teacherFeature) => rkdDistance({ teacherFeature }), ["", 3, null]],
  ["hint.weight.steps", (steps) => hint({ weight: { from: 0, to: 1, steps } }), [-1, 0.5, "10"]],
  ["rkdDistance.normalize", (normalize) => rkdDistance({ normalize }), ["yes", 1, null]],
  ["hint.frozen", (frozen) => hint({ frozen }), ["yes", 1]],
  ["attentionTransfer.studentFeature", (studentFeature) => attentionTransfer({ studentFeature }), [undefined, ""]],
  ["softTargetKl.temperature", (temperature) => softTargetKl({ temperature }), [0, -4, "4"]],
  ["twoStages.hintSteps", (hintSteps) => twoStages({ hints: [hint()], task: [triplet()], hintSteps }), [0, 1.5]],
  [
    "twoStages.hints",
    (hints) => twoStages({ hints, task: [triplet()], hintSteps: 1 }),
    [[], [hint({ weight: "auto" })]],
  ],
  ["rkdAngle.delta", (delta) => rkdAngle({ delta }), [0, -1, ...notNumbers.slice(0, 3)]],
  ["rkdAngle.reduction", (reduction) => rkdAngle({ reduction }), ["mean", 3]],
  ["hardDarkRank.alpha", (alpha) => hardDarkRank({ alpha }), [0, -1, "3"]],
  ["hardDarkRank.beta", (beta) => hardDarkRank({ beta }), [0, Number.POSITIVE_INFINITY]],
  ["hardDarkRank.permuteLength", (permuteLength) => hardDarkRank({ permuteLength }), [1, 2.5, "4"]],
  ["correlationCongruence.kernel", (kernel) => correlationCongruence({ kernel }), ["gaussian", 2]],
  ["correlationCongruence.gamma", (gamma) => correlationCongruence({ gamma }), [0, 101, "0.4"]],
  ["correlationCongruence.order", (order) => correlationCongruence({ order }), [0, 1.5, 101, "2"]],
  ["triplet.margin", (margin) => triplet({ margin }), [0, -0.2, "0.2", Number.NaN]],
  ["triplet.negatives", (negatives) => triplet({ negatives }), ["semihard", "best", 1]],
  ["triplet.uniformWhenUnderflow", (uniformWhenUnderflow) => triplet({ uniformWhenUnderflow }), ["yes", 1, null]],
  [
    "triplet.uniformWhenUnderflow",
    (negatives) => triplet({ negatives, uniformWhenUnderflow: true }),
    ["all", "random", "hard", "semi-hard"],
  ],
  ["tripletEuclidean.margin", (margin) => tripletEuclidean({ margin }), [0, "0.2"]],
  ["contrastive.margin", (margin) => contrastive({ margin }), [0, -1, null]],
  ["contrastive.negatives", (negatives) => contrastive({ negatives }), ["some", 1]],
  ["liftedStructure.margin", (margin) => liftedStructure({ margin }), [0, Number.NaN]],
  ["nPairs.l2", (l2) => nPairs({ l2 }), [-0.1, "0"]],
  ["angular.degrees", (degrees) => angular({ degrees }), [0, 90, -45, "45"]],
  ["margin.beta", (beta) => margin({ beta }), [0, -1.2]],
  ["margin.alpha", (alpha) => margin({ alpha }), [0, "0.2"]],
  ["margin.learnBeta", (learnBeta) => margin({ learnBeta }), ["yes", 1]],
  ["prototypical.supportCount", (supportCount) => prototypical({ supportCount, way: 5 }), [...notCounts, undefined]],
  ["prototypical.way", (way) => prototypical({ supportCount: 1, way }), [1, ...notCounts, undefined]],
  ["crossEntropy.labelSmoothing", (labelSmoothing) => crossEntropy({ labelSmoothing }), [-0.1, 1, "0"]],
  ["adam.learningRate", (learningRate) => adam({ learningRate }), [0, -1, "1e-3"]],
  ["adam.beta1", (beta1) => adam({ beta1 }), [1, -0.1]],
  ["adam.beta2", (beta2) => adam({ beta2 }), [1, 2]],
  ["adam.epsilon", (epsilon) => adam({ epsilon }), [0]],
  ["adamW.weightDecay", (weightDecay) => adamW({ weightDecay }), [-1]],
  ["sgd.momentum", (momentum) => sgd({ momentum }), [1, -0.5]],
  ["sgd.nesterov", (nesterov) => sgd({ momentum: 0, nesterov }), [true, 1]],
  ["constant.warmupSteps", (warmupSteps) => constant({ warmupSteps }), [-1, 0.5]],
  ["cosine.minimum", (minimum) => cosine({ minimum }), [-0.1, 1.1]],
  ["step.milestones", (milestones) => step({ milestones }), [[], [5, 5], [5, 3], [-1], "10"]],
  ["step.factor", (factor) => step({ milestones: [1], factor }), [0, 1.5]],
  ["glyphs.classes", (classes) => glyphs({ classes }), [1, 0, 2.5]],
  ["glyphs.writers", (writers) => glyphs({ writers }), [1, "20"]],
  ["glyphs.imageSize", (imageSize) => glyphs({ imageSize }), [4, 2000, 28.5]],
  ["glyphs.channels", (channels) => glyphs({ channels }), [2, 4, "1"]],
  ["glyphs.augment", (augment) => glyphs({ augment }), ["rotate", { rotate: 200 }, { spin: 1 }]],
  ["glyphs.split", (split) => glyphs({ split }), [{ kind: "random" }, { kind: "classes", validation: 0.5, test: 0.5 }]],
];

describe("constructors refuse", () => {
  const cases = constructorTable.flatMap(([name, make, values]) => values.map((value) => [name, value, make] as const));
  it.each(cases)("%s: %j", (name, value, make) => {
    expect(() => make(value)).toThrow(RkdError);
    expect(() => make(value)).toThrow(name);
  });

  it.each([
    [{ kind: "triplet-squared", margin: "0.2" }, /losses\[0\]\.margin: .+a number greater than 0, received "0\.2"/],
    [{ kind: "triplet-squared", margn: 0.2 }, /losses\[0\]\.margn: .+Did you mean "margin"\?/],
    [{ kind: "margin", weight: Number.NaN }, /losses\[0\]\.weight: .+received NaN/],
    [{ kind: "margin", negatives: "semihard" }, /losses\[0\]\.negatives: .+Did you mean "semi-hard"\?/],
    [{ kind: "attention-transfer" }, /losses\[0\]\.kind: .+For attention-transfer, which compares with a teacher/],
    [{ kind: "prototypical", way: 5 }, /losses\[0\]\.supportCount/],
    [{ kind: "triplet" }, /losses\[0\]\.kind: .+Did you mean "triplet-squared"\?/],
    [{ kind: "rkd_angle" }, /losses\[0\]\.kind: .+For rkd-angle, which compares with a teacher, use distill\(\)/],
    [{ kind: "margin", lambda: 2 }, /losses\[0\]\.lambda: .+Did you mean "weight"\?/],
    [{ kind: "lifted-structured" }, /losses\[0\]\.kind: .+Did you mean "lifted-structure"\?/],
  ] as [Bad, RegExp][])(
    "a specification that is written by hand, as its constructor would: %j",
    async (loss, message) => {
      await expect(train({ ...run, losses: [loss] })).rejects.toThrow(message);
    },
  );

  it("a folder that is not there", () => {
    expect(() => imageFolder("no/such")).toThrow(/no\/such: there is no such folder or file/);
  });
});
