import { mkdirSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { basename, dirname, join, relative, resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { runOptions } from "../../src/cli/options.ts";
import {
  adam,
  adamW,
  type Backbone,
  conv4,
  crossEntropy,
  efficientnet,
  efficientnetLite,
  glyphs,
  googlenet,
  imageFolder,
  mlp,
  mobilenetV2,
  mobilenetV3,
  prototypical,
  resnet,
  rkdAngle,
  rkdDistance,
  sgd,
  triplet,
  vgg,
  vit,
} from "../../src/index.ts";
import { temporaryFolder } from "../support/folders.ts";
import { planAgain, planDistill, planTrain } from "../support/plan.ts";

/** Makes a file, and the folders above it. */
function touch(folder: string, file: string, text = ""): void {
  mkdirSync(dirname(join(folder, file)), { recursive: true });
  writeFileSync(join(folder, file), text);
}

const train = { data: "glyphs", backbone: conv4({ embedding: 64 }), out: "runs/x" };

describe("the plan of train", () => {
  it("fills in every default", async () => {
    process.env.RKD_CACHE = "/cache";
    expect(await planTrain(train)).toEqual({
      job: "train",
      out: resolve("runs/x"),
      overwrite: false,
      acceptChangedData: false,
      baseline: null,
      plan: {
        data: {
          kind: "glyphs",
          source: "glyphs",
          more: [],
          imageSize: 28,
          channels: 1,
          vectors: null,
          labels: "classes",
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
        tuning: { freeze: [], learningRates: {}, batchNorm: "batch", dropout: 0, dropPath: 0 },
        teachers: [],
        losses: [triplet()],
        prefixes: [],
        optimizer: { kind: "adam", learningRate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0 },
        schedule: { kind: "cosine", warmupSteps: 0, minimum: 0 },
        clipGradientNorm: null,
        batch: { size: 64, perClass: 4, episode: null },
        microBatch: null,
        epochs: 20,
        stepsPerEpoch: null,
        seed: 1,
        splitSeed: 1,
        threads: availableParallelism(),
        device: "cpu",
        precision: "float32",
      },
      policy: {
        evaluation: { everyEpochs: 1, everySteps: null, ks: [1, 2, 4, 8], part: "validation" },
        keep: "last",
        patience: null,
        checkpointEverySteps: null,
        baseline: false,
      },
      warnings: [],
    });
  });

  it("is itself when it is resolved again, and a person's sketch of it becomes it", async () => {
    const run = await planTrain(train);
    expect(await planAgain(run, run.plan, run.policy)).toEqual(run);
    const sketch = {
      data: "glyphs",
      backbone: { kind: "conv4", embedding: 64 },
      losses: [{ kind: "triplet-squared" }],
    };
    expect(await planAgain(run, sketch as never, {} as never)).toEqual(run);
    const mistyped = planAgain(
      run,
      { ...run.plan, losses: [{ kind: "triplet-squared", margn: 1 }] } as never,
      run.policy,
    );
    await expect(mistyped).rejects.toThrow(/losses\[0\]\.margn: .+Did you mean "margin"\?/);
  });

  it("says when to evaluate: by epochs, by steps, or both", async () => {
    const policy = async (evaluation: object) => (await planTrain({ ...train, evaluation })).policy.evaluation;
    expect(await policy({ everySteps: 5 })).toMatchObject({ everyEpochs: null, everySteps: 5 });
    expect(await policy({ everySteps: 5, everyEpochs: 2 })).toMatchObject({ everyEpochs: 2, everySteps: 5 });
    await expect(policy({ everySteps: 0 })).rejects.toThrow(/evaluation\.everySteps: .+at least 1, received 0/);
    const run = await planTrain({ ...train, evaluation: { everySteps: 5 } });
    expect(await planAgain(run, run.plan, run.policy)).toEqual(run);
  });

  it("takes grey 28 for characters and colour 64 for photographs, with a stem to match", async () => {
    const folder = temporaryFolder();
    for (const name of ["a", "b"]) touch(folder, `${name}/1.png`);
    const photos = (await planTrain({ ...train, data: imageFolder(folder), backbone: resnet(18) })).plan;
    expect(photos.data).toMatchObject({ imageSize: 64, channels: 3, augment: { flip: true, cropPadding: 8 } });
    expect(photos.backbone).toMatchObject({ stem: "small", inChannels: 3, imageSize: 64 });
    const data = imageFolder(folder, { imageSize: 224 });
    const large = (await planTrain({ ...train, data, backbone: resnet(50) })).plan;
    expect(large.backbone).toMatchObject({ stem: "imagenet", imageSize: 224 });
  });

  it("recognises what has defaults of its own", async () => {
    const folder = temporaryFolder();
    touch(folder, "omniglot/images_background.zip");
    touch(folder, "idx/train-images-idx3-ubyte.gz");
    touch(folder, "idx/train-labels-idx1-ubyte.gz");
    const split = async (name: string) => (await planTrain({ ...train, data: join(folder, name) })).plan.data;
    const omniglot = { kind: "omniglot", imageSize: 28, split: { kind: "source", validation: 0.1 } };
    expect(await split("omniglot")).toMatchObject(omniglot);
    const idx = { kind: "idx", imageSize: 28, split: { kind: "classes", validation: 0.2, test: 0.3 } };
    expect(await split("idx")).toMatchObject(idx);
    for (const file of ["train/a", "train/b", "test/a"]) touch(folder, `parts/${file}/1.png`);
    expect(await split("parts")).toMatchObject({ imageSize: 64, split: { kind: "source", validation: 0.1 } });
    const other = imageFolder(join(folder, "idx"));
    await expect(planTrain({ ...train, data: other })).rejects.toThrow(
      /another kind: expected "images", received "idx"/,
    );
  });

  it("holds what fine-tuning asks for, with absolute paths", async () => {
    const folder = temporaryFolder();
    const file = join(folder, "resnet18.pth");
    writeFileSync(file, "");
    const normalization = { mean: [0.5, 0.5, 0.5], std: [0.2, 0.2, 0.2] };
    const weights = { file, key: "ema_state_dict", except: ["layer4"], normalization };
    const { plan } = await planTrain({
      ...train,
      weights,
      freeze: ["bn1"],
      learningRates: { fc: 10 },
      batchNorm: "running",
      dropout: 0.2,
    });
    expect(plan.weights).toEqual(weights);
    expect(plan.tuning).toEqual({
      freeze: ["bn1"],
      learningRates: { fc: 10 },
      batchNorm: "running",
      dropout: 0.2,
      dropPath: 0,
    });
    writeFileSync(join(folder, "model.safetensors"), "");
    const run = (await planTrain({ ...train, weights: folder })).plan.weights;
    expect(run).toEqual({ file: join(folder, "model.safetensors"), key: null, except: [], normalization: null });
  });

  it("moves trained weights at a tenth of the usual rate, unless a rate is said", async () => {
    const weights = join(temporaryFolder(), "resnet18.pth");
    writeFileSync(weights, "");
    const rate = async (more: object) => (await planTrain({ ...train, ...more })).plan.optimizer.learningRate;
    for (const [optimizer, usual] of [
      [undefined, 1e-3],
      [adam({ weightDecay: 0.1 }), 1e-3],
      [adamW(), 1e-3],
      [sgd(), 0.05],
    ] as const) {
      expect(await rate({ optimizer })).toBe(usual);
      expect(await rate({ optimizer, weights })).toBe(usual / 10);
    }
    expect(await rate({ weights, optimizer: adam({ learningRate: 1e-3 }) })).toBe(1e-3);
    // As the command line has them.
    const { signal } = new AbortController();
    const flags = (more: object) => runOptions({ data: "glyphs", out: "run", ...more }, signal).optimizer;
    expect(await rate({ weights, optimizer: flags({}) })).toBe(1e-4);
    expect(await rate({ weights, optimizer: flags({ optimizer: "sgd", weightDecay: 0.1 }) })).toBe(0.005);
    expect(await rate({ weights, optimizer: flags({ lr: 1e-3 }) })).toBe(1e-3);
  });

  it("refuses to leave out at random what the network has not", async () => {
    const residual = await planTrain({ ...train, backbone: resnet(18, { embedding: 8 }), dropPath: 0.2, dropout: 0.1 });
    expect(residual.plan.tuning).toMatchObject({ dropPath: 0.2, dropout: 0.1 });
    const refused = (options: object) => planTrain({ ...train, ...options });
    await expect(refused({ dropPath: 0.2 })).rejects.toMatchObject({ subject: "dropPath" });
    await expect(refused({ dropout: 0.2, backbone: conv4() })).rejects.toMatchObject({ subject: "dropout" });
    const classified = await refused({ dropout: 0.2, backbone: conv4(), losses: [crossEntropy()] });
    expect(classified.plan.tuning.dropout).toBe(0.2);
  });

  it("has the widths of a perceptron and the form of every network by image size", async () => {
    const planned = async (backbone: Backbone) => (await planTrain({ ...train, backbone })).plan.backbone;
    expect(await planned(mlp({ hidden: [32, 16] }))).toMatchObject({ kind: "mlp", hidden: [32, 16], embedding: null });
    expect((await planned(mlp())).hidden).toEqual([256, 256]);
    expect(await planned(vgg(11, { stem: "imagenet" }))).toMatchObject({ kind: "vgg11", stem: "imagenet", hidden: [] });
    expect(await planned(googlenet({ width: 32 }))).toMatchObject({ kind: "googlenet", stem: "small", width: 32 });
    expect(await planned(efficientnetLite(0, { width: 32 }))).toMatchObject({ kind: "efficientnet-lite0", width: 32 });
    expect(await planned(efficientnet("b0"))).toMatchObject({ kind: "efficientnet-b0", width: 64 });
    expect(await planned(mobilenetV2({ width: 32 }))).toMatchObject({ kind: "mobilenet-v2", width: 32 });
    expect(await planned(mobilenetV3("small"))).toMatchObject({ kind: "mobilenet-v3-small" });
    expect(await planned(mobilenetV3("large"))).toMatchObject({ kind: "mobilenet-v3-large" });
    expect(await planned(vit("tiny"))).toMatchObject({ kind: "vit-tiny", width: 64 });
    expect(await planned(vit("small", { width: 32 }))).toMatchObject({ kind: "vit-small", width: 32 });
    expect(await planned(vit("small-clip"))).toMatchObject({ kind: "vit-small-clip" });
    expect(await planned(resnet(101))).toMatchObject({ kind: "resnet101", stem: "small" });
  });

  it("takes the split that a data set is published with", async () => {
    const folder = temporaryFolder();
    const split = async (name: string, content: Readonly<Record<string, string>>) => {
      for (const [file, text] of Object.entries(content)) touch(folder, `${name}/${file}`, text);
      return (await planTrain({ ...train, data: join(folder, name) })).plan.data.split;
    };
    const own = { kind: "source", validation: 0.1 };
    const cub = { "images/001.A/1.jpg": "", "images/002.B/1.jpg": "", "images.txt": "1 001.A/1.jpg\n2 002.B/1.jpg\n" };
    expect(await split("CUB_200_2011", cub)).toEqual(own);
    expect(await split("birds", cub)).toEqual(own);
    const table = (name: string) => `filename,label\n${name}.jpg,n${name}\n`;
    const tables = { "train.csv": table("1"), "val.csv": table("2"), "test.csv": table("3") };
    const images = { "images/1.jpg": "", "images/2.jpg": "", "images/3.jpg": "" };
    expect(await split("mini", { ...tables, ...images })).toEqual({ kind: "source", validation: 0 });
    const parts = { "train/a/1.png": "", "val/b/1.png": "", "test/c/1.png": "" };
    expect(await split("whole", parts)).toEqual({ kind: "source", validation: 0 });
    // Parts that share classes, and tables of somebody else's.
    const classes = { kind: "classes", validation: 0.1, test: 0.2 };
    const trained = { "train/n1/images/1.JPEG": "", "train/n2/images/1.JPEG": "" };
    const tiny = { ...trained, "val/images/2.JPEG": "", "val/val_annotations.txt": "2.JPEG\tn1\t0" };
    expect(await split("tiny-imagenet-200", { ...tiny, "wnids.txt": "n1\n" })).toEqual(classes);
    expect(await split("other", { "train.csv": "", "test.csv": "", "a/1.png": "", "b/1.png": "" })).toEqual(classes);
    expect(await split("cifar-100-binary", { "train.bin": "", "test.bin": "" })).toEqual(classes);
    expect((await planTrain({ ...train, data: join(folder, "cifar-100-binary") })).plan.data).toMatchObject({
      imageSize: 32,
      channels: 3,
    });
  });

  it("makes the paths of lists absolute, and says which is missing", async () => {
    const folder = temporaryFolder();
    writeFileSync(join(folder, "train.txt"), "a");
    const list = relative(process.cwd(), join(folder, "train.txt"));
    const data = glyphs({ rotations: true, split: { kind: "lists", train: list } });
    expect((await planTrain({ ...train, data })).plan.data).toMatchObject({
      rotations: true,
      split: { kind: "lists", train: join(folder, "train.txt"), validation: null, test: null },
    });
    const missing = () => glyphs({ split: { kind: "lists", train: list, test: "no/such.txt" } });
    expect(missing).toThrow(/no\/such.txt: there is no such list.*one a line/);
  });

  it("splits by images", async () => {
    const split = { kind: "images", validation: 0.1, test: 0.3 } as const;
    expect((await planTrain({ ...train, data: glyphs({ split }) })).plan.data.split).toEqual(split);
    expect(() => glyphs({ split: { ...split, test: 0.9 } })).toThrow(/validation \+ test < 1/);
  });

  it("makes an episode of a batch, as the prototypical loss needs it", async () => {
    const losses = [prototypical({ way: 5, supportCount: 2 })];
    const episode = { way: 5, shots: 2, queries: 3 };
    const batch = async (episode: { way: number; shots: number; queries: number }) =>
      (await planTrain({ ...train, losses, batch: { episode } })).plan.batch;
    expect(await batch(episode)).toEqual({ size: 25, perClass: null, episode });
    await expect(batch({ ...episode, shots: 1 })).rejects.toThrow(/way 5 and shots 2.*received way 5 and shots 1/);
    await expect(planTrain({ ...train, losses })).rejects.toThrow(/batch.episode.*an episode with prototypical/);
    await expect(planTrain({ ...train, batch: { episode, size: 24 } })).rejects.toThrow(
      /batch.size.*follows from the episode/,
    );
  });

  it("normalises embeddings for a triplet loss only", async () => {
    const normalize = async (losses: Parameters<typeof planTrain>[0]["losses"]) =>
      (await planTrain({ ...train, ...(losses && { losses }) })).plan.backbone.normalize;
    expect([await normalize([triplet()]), await normalize([crossEntropy()])]).toEqual([true, false]);
  });

  it("draws without regard to class for cross entropy alone", async () => {
    expect((await planTrain({ ...train, losses: [crossEntropy()] })).plan.batch.perClass).toBeNull();
  });

  it("makes paths absolute, so that a run can be resumed from elsewhere", async () => {
    const folder = temporaryFolder();
    for (const name of ["a", "b"]) touch(folder, `${name}/1.png`);
    const source = relative(process.cwd(), folder);
    const { data } = (await planTrain({ ...train, data: imageFolder(source, { cache: "cache" }) })).plan;
    expect([data.source, data.cache]).toEqual([folder, join(process.cwd(), "cache")]);
  });

  it("names the glyphs' own settings in the source", async () => {
    const { source } = (await planTrain({ ...train, data: glyphs({ classes: 300, seed: 7 }) })).plan.data;
    expect(source).toBe("glyphs:classes=300,seed=7");
  });
});

describe("the plan of distill", () => {
  async function teacher(seed: number): Promise<string> {
    const folder = temporaryFolder();
    const { plan, policy } = await planTrain({ ...train, seed, data: glyphs({ imageSize: 32 }) });
    writeFileSync(
      join(folder, "plan.json"),
      JSON.stringify({ form: 1, rkd: "0", job: "train", plan, policy, inputs: {} }),
    );
    writeFileSync(join(folder, "model.safetensors"), "not read here");
    return folder;
  }
  const student = { data: "glyphs", student: conv4({ width: 16 }), out: "runs/y" };

  it("needs a teacher, data and a folder only, and is of the teacher's pixels", async () => {
    const folder = await teacher(1);
    const { plan } = await planDistill({ data: "glyphs", out: "runs/y", teacher: folder });
    expect(plan.losses).toEqual([triplet(), rkdDistance({ weight: 1 }), rkdAngle({ weight: 2 })]);
    const name = basename(folder);
    const model = join(folder, "model.safetensors");
    expect(plan.teachers).toEqual([{ name, weight: 1, model, onnx: null, vectors: null, features: "live" }]);
    const several = await planDistill({ data: "glyphs", out: "runs/y", teachers: [folder] });
    expect(several.plan).toEqual(plan);
    expect(plan.data.imageSize).toBe(32);
    expect(plan.backbone).toMatchObject({ kind: "conv4", width: 64, embedding: 64, normalize: true });
    expect([plan.epochs, plan.batch]).toEqual([38, { size: 64, perClass: 4, episode: null }]);
  });

  it("has the plan of its baseline, which a resumed run has too", async () => {
    const run = await planDistill({ ...student, teacher: await teacher(1), baseline: true });
    expect(run.policy.baseline).toBe(true);
    expect(run.baseline).toEqual({ ...run.plan, teachers: [], losses: [triplet()] });
    expect(await planAgain(run, run.plan, run.policy)).toEqual(run);
    const alone = await planDistill({ ...student, teacher: await teacher(1), baseline: true, losses: [rkdAngle()] });
    expect(alone.baseline?.backbone).toEqual({ ...alone.plan.backbone, normalize: true });
    const unlabelled = { ...student, teacher: await teacher(1), data: glyphs({ labels: "none" }), baseline: true };
    await expect(planDistill(unlabelled)).rejects.toThrow(/baseline: .+without labels, received true/);
    expect(await planAgain(await planTrain(train), (await planTrain(train)).plan, run.policy).catch(String)).toMatch(
      /baseline: there is no such option/,
    );
  });

  it("caches the teacher's features, if it may choose, where images are mirrored at most", async () => {
    const folder = await teacher(1);
    const features = async (augment: "none" | "affine" | { flip: true }, teacherFeatures: "auto" | "live") => {
      const options = { ...student, data: glyphs({ augment }), teacher: folder, teacherFeatures };
      return (await planDistill(options)).plan.teachers[0]?.features;
    };
    expect([await features("none", "auto"), await features({ flip: true }, "auto")]).toEqual(["cached", "cached"]);
    expect([await features("affine", "auto"), await features("none", "live")]).toEqual(["live", "live"]);
  });

  it("has the teacher's seed of the split on the same data", async () => {
    const folder = await teacher(2);
    const splitSeed = async (more: object) =>
      (await planDistill({ ...student, teacher: folder, ...more })).plan.splitSeed;
    expect([await splitSeed({}), await splitSeed({ splitSeed: 3 })]).toEqual([2, 3]);
    expect(await splitSeed({ data: "glyphs:seed=5", seed: 4 })).toBe(4);
  });

  it("lets the student have pixels of its own", async () => {
    const options = { ...student, teacher: await teacher(1), data: glyphs({ imageSize: 24 }) };
    const { plan } = await planDistill(options);
    expect([plan.data.imageSize, plan.backbone.imageSize]).toEqual([24, 24]);
  });

  it("says that an unfinished teacher must be finished", async () => {
    const folder = temporaryFolder();
    writeFileSync(join(folder, "plan.json"), "{}");
    await expect(planDistill({ ...student, teacher: folder })).rejects.toThrow(
      /not finished: go on with resume\(".+"\)/,
    );
  });

  it("takes other optimisers and leaves their constants alone", async () => {
    const optimizer = sgd({ learningRate: 0.1, nesterov: true });
    expect((await planDistill({ ...student, teacher: await teacher(1), optimizer })).plan.optimizer).toEqual({
      kind: "sgd",
      learningRate: 0.1,
      weightDecay: 0,
      momentum: 0.9,
      nesterov: true,
    });
  });
});
