import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import {
  type Backbone,
  conv4,
  crossEntropy,
  glyphs,
  googlenet,
  imageFolder,
  mlp,
  resnet,
  rkdAngle,
  rkdDistance,
  sgd,
  triplet,
  vgg,
} from "../../src/index.ts";
import { planDistill, planTrain } from "../../src/plan/build.ts";
import { temporaryFolder } from "../support/folders.ts";

const train = { data: "glyphs", backbone: conv4({ embedding: 64 }), out: "runs/x" };

describe("the plan of train", () => {
  it("fills in every default", () => {
    process.env.RKD_CACHE = "/cache";
    const { plan, policy, job, warnings } = planTrain(train);
    expect({ plan, policy, job, warnings }).toEqual({
      job: "train",
      warnings: [],
      plan: {
        data: {
          source: "glyphs",
          more: [],
          imageSize: 28,
          channels: 1,
          split: { kind: "classes", validation: 0.1, test: 0.2 },
          augment: { cropPadding: 0, flip: false, rotate: 10, scale: 0.1, shear: 5, translate: 0.05 },
          cache: "/cache",
        },
        backbone: {
          kind: "conv4",
          width: 64,
          hidden: [],
          stem: "small",
          embedding: 64,
          normalize: true,
          inChannels: 1,
          imageSize: 28,
          classes: null,
        },
        weights: null,
        tuning: { freeze: [], learningRates: {}, batchNorm: "batch" },
        teacher: null,
        losses: [triplet()],
        optimizer: { kind: "adam", learningRate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0 },
        schedule: { kind: "cosine", warmupSteps: 0, minimum: 0 },
        clipGradientNorm: null,
        batch: { size: 64, perClass: 4 },
        microBatch: null,
        epochs: 20,
        stepsPerEpoch: null,
        seed: 1,
        threads: 0,
      },
      policy: { evaluateEveryEpochs: 1, ks: [1, 2, 4, 8], keep: "best", patience: null, checkpointEverySteps: null },
    });
  });

  it("survives JSON unchanged", () => {
    const { plan } = planTrain(train);
    expect(JSON.parse(JSON.stringify(plan))).toEqual(plan);
  });

  it("takes grey 28 for characters and colour 64 for photographs, with a stem to match", () => {
    const folder = temporaryFolder();
    const photos = planTrain({ ...train, data: imageFolder(folder), backbone: resnet(18) }).plan;
    expect(photos.data).toMatchObject({ imageSize: 64, channels: 3, augment: { flip: true, cropPadding: 8 } });
    expect(photos.backbone).toMatchObject({ stem: "small", inChannels: 3, imageSize: 64 });
    const large = planTrain({ ...train, data: imageFolder(folder, { imageSize: 224 }), backbone: resnet(50) }).plan;
    expect(large.backbone).toMatchObject({ stem: "imagenet", imageSize: 224 });
  });

  it("recognises what has defaults of its own", () => {
    const folder = temporaryFolder();
    for (const [name, file] of [
      ["omniglot", "images_background.zip"],
      ["idx", "train-images-idx3-ubyte.gz"],
    ] as const) {
      mkdirSync(join(folder, name));
      writeFileSync(join(folder, name, file), "");
    }
    const split = (name: string) => planTrain({ ...train, data: join(folder, name) }).plan.data;
    expect(split("omniglot")).toMatchObject({ imageSize: 28, split: { kind: "source", validation: 0.1 } });
    expect(split("idx")).toMatchObject({ imageSize: 28, split: { kind: "classes", validation: 0.2, test: 0.3 } });
    for (const part of ["train", "test"]) mkdirSync(join(folder, "parts", part), { recursive: true });
    expect(split("parts")).toMatchObject({ imageSize: 64, split: { kind: "source", validation: 0.1 } });
  });

  it("holds what fine-tuning asks for, with absolute paths", () => {
    const folder = temporaryFolder();
    const file = join(folder, "resnet18.pth");
    writeFileSync(file, "");
    const normalization = { mean: [0.5, 0.5, 0.5], std: [0.2, 0.2, 0.2] };
    const weights = { file, except: ["layer4"], normalization };
    const { plan } = planTrain({ ...train, weights, freeze: ["bn1"], learningRates: { fc: 10 }, batchNorm: "running" });
    expect(plan.weights).toEqual(weights);
    expect(plan.tuning).toEqual({ freeze: ["bn1"], learningRates: { fc: 10 }, batchNorm: "running" });
    writeFileSync(join(folder, "model.safetensors"), "");
    const run = planTrain({ ...train, weights: folder }).plan.weights;
    expect(run).toEqual({ file: join(folder, "model.safetensors"), except: [], normalization: null });
  });

  it("has the widths of a perceptron and the form of every network by image size", () => {
    const planned = (backbone: Backbone) => planTrain({ ...train, backbone }).plan.backbone;
    expect(planned(mlp({ hidden: [32, 16] }))).toMatchObject({ kind: "mlp", hidden: [32, 16], embedding: null });
    expect(planned(mlp()).hidden).toEqual([256, 256]);
    expect(planned(vgg(11, { stem: "imagenet" }))).toMatchObject({ kind: "vgg11", stem: "imagenet", hidden: [] });
    expect(planned(googlenet({ width: 32 }))).toMatchObject({ kind: "googlenet", stem: "small", width: 32 });
    expect(planned(resnet(101))).toMatchObject({ kind: "resnet101", stem: "small" });
  });

  it("normalises embeddings for a triplet loss only", () => {
    const normalize = (losses: Parameters<typeof planTrain>[0]["losses"]) =>
      planTrain({ ...train, ...(losses && { losses }) }).plan.backbone.normalize;
    expect([normalize([triplet()]), normalize([crossEntropy()])]).toEqual([true, false]);
  });

  it("draws without regard to class for cross entropy alone", () => {
    expect(planTrain({ ...train, losses: [crossEntropy()] }).plan.batch.perClass).toBeNull();
  });

  it("makes paths absolute, so that a run can be resumed from elsewhere", () => {
    const { data } = planTrain({ ...train, data: imageFolder("test", { cache: "cache" }) }).plan;
    expect([data.source, data.cache]).toEqual([join(process.cwd(), "test"), join(process.cwd(), "cache")]);
  });

  it("names the glyphs' own settings in the source", () => {
    const { source } = planTrain({ ...train, data: glyphs({ classes: 300, seed: 7 }) }).plan.data;
    expect(source).toBe("glyphs:classes=300,seed=7");
  });
});

describe("the plan of distill", () => {
  function teacher(seed: number): string {
    const folder = temporaryFolder();
    const { plan, policy } = planTrain({ ...train, seed, data: glyphs({ imageSize: 32 }) });
    writeFileSync(
      join(folder, "plan.json"),
      JSON.stringify({ form: 1, rkd: "0", job: "train", plan, policy, inputs: {} }),
    );
    writeFileSync(join(folder, "model.safetensors"), "not read here");
    return folder;
  }
  const student = { data: "glyphs", student: conv4({ width: 16 }), out: "runs/y" };

  it("is RKD-DA with the paper's weights, on the teacher's pixels", () => {
    const folder = teacher(1);
    const { plan, warnings } = planDistill({ ...student, teacher: folder });
    expect(plan.losses).toEqual([rkdDistance({ weight: 1 }), rkdAngle({ weight: 2 })]);
    expect(plan.teacher).toEqual({ model: join(folder, "model.safetensors"), features: "live" });
    expect(plan.data.imageSize).toBe(32);
    expect(plan.backbone.normalize).toBe(false);
    expect(warnings).toEqual([]);
  });

  it("warns where the teacher has seen the test classes", () => {
    const { warnings } = planDistill({ ...student, teacher: teacher(2) });
    expect(warnings.join()).toMatch(/seed 2.*Use the same seed/);
  });

  it("refuses pixels that the teacher does not take", () => {
    const options = { ...student, teacher: teacher(1), data: glyphs({ imageSize: 28 }) };
    expect(() => planDistill(options)).toThrow(/expected 32 pixels, 1 channels, received 28 pixels/);
  });

  it("says that an unfinished teacher must be finished", () => {
    const folder = temporaryFolder();
    writeFileSync(join(folder, "plan.json"), "{}");
    expect(() => planDistill({ ...student, teacher: folder })).toThrow(/not finished: rkd resume/);
  });

  it("takes other optimisers and leaves their constants alone", () => {
    const optimizer = sgd({ learningRate: 0.1, nesterov: true });
    expect(planDistill({ ...student, teacher: teacher(1), optimizer }).plan.optimizer).toEqual({
      kind: "sgd",
      learningRate: 0.1,
      weightDecay: 0,
      momentum: 0.9,
      nesterov: true,
    });
  });
});
