import { mkdirSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { describe, expect, it } from "vitest";
import {
  type Backbone,
  conv4,
  crossEntropy,
  glyphs,
  googlenet,
  imageFolder,
  mlp,
  prototypical,
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
          rotations: false,
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
        batch: { size: 64, perClass: 4, episode: null },
        microBatch: null,
        epochs: 20,
        stepsPerEpoch: null,
        seed: 1,
        threads: 0,
      },
      policy: {
        evaluateEveryEpochs: 1,
        ks: [1, 2, 4, 8],
        keep: "best",
        chooseBy: "validation",
        patience: null,
        checkpointEverySteps: null,
      },
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
    const weights = { file, key: "ema_state_dict", except: ["layer4"], normalization };
    const { plan } = planTrain({ ...train, weights, freeze: ["bn1"], learningRates: { fc: 10 }, batchNorm: "running" });
    expect(plan.weights).toEqual(weights);
    expect(plan.tuning).toEqual({ freeze: ["bn1"], learningRates: { fc: 10 }, batchNorm: "running" });
    writeFileSync(join(folder, "model.safetensors"), "");
    const run = planTrain({ ...train, weights: folder }).plan.weights;
    expect(run).toEqual({ file: join(folder, "model.safetensors"), key: null, except: [], normalization: null });
  });

  it("has the widths of a perceptron and the form of every network by image size", () => {
    const planned = (backbone: Backbone) => planTrain({ ...train, backbone }).plan.backbone;
    expect(planned(mlp({ hidden: [32, 16] }))).toMatchObject({ kind: "mlp", hidden: [32, 16], embedding: null });
    expect(planned(mlp()).hidden).toEqual([256, 256]);
    expect(planned(vgg(11, { stem: "imagenet" }))).toMatchObject({ kind: "vgg11", stem: "imagenet", hidden: [] });
    expect(planned(googlenet({ width: 32 }))).toMatchObject({ kind: "googlenet", stem: "small", width: 32 });
    expect(planned(resnet(101))).toMatchObject({ kind: "resnet101", stem: "small" });
  });

  it("takes the split that a data set is published with", () => {
    const folder = temporaryFolder();
    const split = (name: string, content: readonly string[]) => {
      for (const file of content) mkdirSync(join(folder, name, file), { recursive: true });
      return planTrain({ ...train, data: join(folder, name) }).plan.data.split;
    };
    const own = { kind: "source", validation: 0.1 };
    expect(split("cub", ["CUB_200_2011"])).toEqual(own);
    expect(split("birds", ["images", "images.txt"])).toEqual(own);
    expect(split("cars", ["car_ims", "cars_annos.mat"])).toEqual(own);
    expect(split("cars-2", ["cars196_64px.zip"])).toEqual(own);
    expect(split("products", ["Ebay_train.txt", "Ebay_test.txt"])).toEqual(own);
    expect(split("mini", ["train.csv", "val.csv", "test.csv"])).toEqual({ kind: "source", validation: 0 });
    expect(split("whole", ["train", "val", "test"])).toEqual({ kind: "source", validation: 0 });
    // Parts that share classes, and tables of somebody else's.
    const classes = { kind: "classes", validation: 0.1, test: 0.2 };
    expect(split("tiny-imagenet-200", ["train", "val", "wnids.txt"])).toEqual(classes);
    expect(split("other", ["train.csv", "test.csv"])).toEqual(classes);
    expect(split("cifar-100-binary", ["train.bin", "test.bin"])).toEqual(classes);
    expect(planTrain({ ...train, data: join(folder, "cifar-100-binary") }).plan.data).toMatchObject({
      imageSize: 32,
      channels: 3,
    });
  });

  it("makes the paths of lists absolute, and says which is missing", () => {
    const folder = temporaryFolder();
    writeFileSync(join(folder, "train.txt"), "a");
    const list = relative(process.cwd(), join(folder, "train.txt"));
    const data = glyphs({ rotations: true, split: { kind: "lists", train: list } });
    expect(planTrain({ ...train, data }).plan.data).toMatchObject({
      rotations: true,
      split: { kind: "lists", train: join(folder, "train.txt"), validation: null, test: null },
    });
    const missing = () => glyphs({ split: { kind: "lists", train: list, test: "no/such.txt" } });
    expect(missing).toThrow(/no\/such.txt: there is no such list.*one a line/);
  });

  it("splits by images", () => {
    const split = { kind: "images", validation: 0.1, test: 0.3 } as const;
    expect(planTrain({ ...train, data: glyphs({ split }) }).plan.data.split).toEqual(split);
    expect(() => glyphs({ split: { ...split, test: 0.9 } })).toThrow(/validation \+ test < 1/);
  });

  it("makes an episode of a batch, as the prototypical loss needs it", () => {
    const losses = [prototypical({ way: 5, supportCount: 2 })];
    const episode = { way: 5, shots: 2, queries: 3 };
    const batch = (episode: { way: number; shots: number; queries: number }) =>
      planTrain({ ...train, losses, batch: { episode } }).plan.batch;
    expect(batch(episode)).toEqual({ size: 25, perClass: null, episode });
    expect(() => batch({ ...episode, shots: 1 })).toThrow(/way 5 and shots 2.*received way 5 and shots 1/);
    expect(() => planTrain({ ...train, losses })).toThrow(/batch.episode.*an episode with prototypical/);
    expect(() => planTrain({ ...train, batch: { episode, size: 25 } })).toThrow(/batch.size.*follows from the episode/);
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
