/** Every kind of distillation, end to end on the glyphs: it runs, its loss falls, and the student improves. */

import { existsSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import {
  adam,
  attentionTransfer,
  type Backbone,
  type ChosenWeight,
  conv4,
  crossEntropy,
  type DistillOptions,
  type DistillResult,
  distill,
  featureRegression,
  glyphs,
  hardDarkRank,
  hint,
  type Loss,
  linearHint,
  mlp,
  type RunEvent,
  resume,
  rkdAngle,
  rkdDistance,
  sgd,
  softTargetKl,
  train,
  triplet,
  twoStages,
} from "../../src/index.ts";
import { temporaryFolder } from "../support/folders.ts";
import { readDocument } from "../support/tensors.ts";

const common = {
  data: glyphs({ classes: 40, writers: 8, split: { kind: "classes", validation: 0, test: 0.4 } }),
  batch: { size: 32, perClass: 4 },
  evaluation: { ks: [1] },
  optimizer: adam({ learningRate: 3e-3 }),
  keep: "last",
} as const;
const teacherFolder = join(mkdtempSync(join(tmpdir(), "rkd-teacher-")), "teacher");

beforeAll(async () => {
  const losses = [triplet(), crossEntropy()];
  const backbone = conv4({ width: 16, embedding: 16 });
  await train({ ...common, backbone, losses, epochs: 3, stepsPerEpoch: 40, out: teacherFolder });
});

type Placed = DistillOptions & { readonly out: string };

/** The small student's options with these losses. */
function student(losses: readonly Loss[], more: Partial<Placed> = {}): Placed {
  return {
    ...common,
    teacher: teacherFolder,
    student: conv4({ width: 8, embedding: 8 }),
    losses,
    epochs: 4,
    stepsPerEpoch: 30,
    out: join(temporaryFolder(), "student"),
    ...more,
  };
}

/** The network of the small student. */
function networkOf({ student: { kind = "conv4", ...more } = {} }: Placed): Backbone {
  return { kind, ...more };
}

async function collect(run: AsyncIterable<RunEvent>): Promise<RunEvent[]> {
  const events: RunEvent[] = [];
  for await (const event of run) events.push(event);
  return events;
}

const bytes = (out: string) => readFileSync(join(out, "model.safetensors")).toString("base64");

const map = { studentFeature: "blocks.1" } as const;

describe("a distillation improves the student", () => {
  const hints = [hint(map), hint({ studentFeature: "pooled" })];
  const kinds: [string, readonly Loss[]][] = [
    ["linear hint", [triplet(), linearHint()]],
    ["FitNet, in two stages", twoStages({ hints, task: [triplet()], hintSteps: 60 })],
    [
      "FitNet as released, with random regressors",
      twoStages({ hints: [hint({ ...map, frozen: true })], task: [triplet()], hintSteps: 30 }),
    ],
    ["attention transfer", [triplet(), attentionTransfer({ ...map, weight: 50 })]],
    ["DarkRank", [triplet(), hardDarkRank()]],
    ["Hinton", [crossEntropy(), softTargetKl()]],
    [
      "RKD on every feature, KL on logits, several of one kind",
      [
        rkdDistance(),
        rkdDistance({ studentFeature: "pooled", teacherFeature: "embedding" }),
        rkdAngle({ weight: 2, studentFeature: "blocks.2" }),
        softTargetKl(),
      ],
    ],
  ];
  it.each(kinds)("%s", async (_, losses) => {
    const { history, verdict } = await distill(student(losses));
    const { studentBefore, studentAfter } = verdict;
    expect(studentAfter.metrics["recall@1"]).toBeGreaterThan(studentBefore.metrics["recall@1"] ?? 1);
    const [first, last] = [history[0], history.at(-1)];
    for (const { name, value, gradientNorm } of last?.terms ?? []) {
      const before = first?.terms.find((term) => term.name === name);
      if (before) expect(value).toBeLessThan(before.value);
      expect(gradientNorm).toBeGreaterThan(0);
    }
  });

  it("the same from cached features, taps included", async () => {
    const losses = [linearHint(), hint(map), softTargetKl()];
    const { verdict } = await distill(student(losses, { teacherFeatures: "cached" }));
    expect(verdict.teachers[0]?.gapClosed["recall@1"]).toBeGreaterThan(0);
  });

  it("the same losses from live and from cached features, where images are only mirrored", async () => {
    const mirrored = { data: { ...common.data, augment: { flip: true } }, epochs: 2 };
    const [live, cached] = await Promise.all(
      (["live", "cached"] as const).map((teacherFeatures) =>
        distill(student([linearHint()], { ...mirrored, teacherFeatures })),
      ),
    );
    expect(cached?.history.map(({ loss }) => loss)).toEqual(live?.history.map(({ loss }) => loss));
  });

  it("normalises the student's pixels as the teacher's", async () => {
    // Another seed has other training images, and so another mean of its own.
    const options = student([linearHint()], { seed: 2, epochs: 1, stepsPerEpoch: 2 });
    await distill(options);
    const alone = join(temporaryFolder(), "alone");
    await train({ ...common, backbone: networkOf(options), seed: 2, epochs: 1, stepsPerEpoch: 2, out: alone });
    const normalization = (out: string) => readDocument(out).normalization;
    expect(normalization(options.out)).toEqual(normalization(teacherFolder));
    expect(normalization(alone)).not.toEqual(normalization(teacherFolder));
  });

  it("plain regression where the lengths agree", async () => {
    const { history } = await distill(student([featureRegression()], { student: conv4({ width: 8, embedding: 16 }) }));
    expect(history.at(-1)?.loss).toBeLessThan(history[0]?.loss ?? 0);
  });
});

describe("candle on the CPU", () => {
  it("trains as the kernels do, and says where", async () => {
    const losses = [rkdDistance(), rkdAngle({ weight: 2 }), attentionTransfer(map), hint(map)];
    const runs = (["cpu", "candle-cpu"] as const).map(async (device) => {
      const options = student(losses, { device, epochs: 1, stepsPerEpoch: 8 });
      const events: RunEvent[] = [];
      const run = distill(options);
      for await (const event of run) events.push(event);
      const result = await run;
      const metrics = JSON.parse(readFileSync(join(options.out, "metrics.json"), "utf8"));
      const start = events.find((event) => event.type === "start");
      expect([start?.device, start?.plan.device, metrics.device]).toEqual([device, device, device]);
      expect([start?.precision, metrics.precision]).toEqual(["float32", "float32"]);
      return result.history[0]?.terms ?? [];
    });
    const [kernels, candle] = await Promise.all(runs);
    expect(candle).toHaveLength(losses.length);
    // The tolerance of golden trainings in float32.
    for (const [i, { name, value }] of (kernels ?? []).entries()) {
      expect(candle?.[i]?.name).toBe(name);
      expect(Math.abs((candle?.[i]?.value ?? 0) - value)).toBeLessThanOrEqual(1e-4 * value);
    }
  });
});

describe("a student of another size", () => {
  it("learns from larger pictures in colour, live and cached, and goes on with the same bytes", async () => {
    const folder = temporaryFolder();
    const out = join(folder, "teacher");
    const large = { ...common.data, imageSize: 32, channels: 3 } as const;
    const backbone = conv4({ width: 8, embedding: 8 });
    await train({ ...common, data: large, losses: [triplet()], backbone, epochs: 1, stepsPerEpoch: 8, out });
    for (const teacherFeatures of ["live", "cached"] as const) {
      const small = { ...large, imageSize: 16, channels: 1 } as const;
      const run = (name: string, more: Partial<Placed>) => {
        const place = { teacher: out, teacherFeatures, data: small, out: join(folder, `${teacherFeatures}-${name}`) };
        return {
          out: place.out,
          run: distill(student([rkdDistance()], { ...place, epochs: 2, stepsPerEpoch: 4, ...more })),
        };
      };
      const whole = run("whole", {});
      await whole.run;
      const abort = new AbortController();
      const stopped = run("stopped", { signal: abort.signal });
      const reading = (async () => {
        for await (const event of stopped.run) if (event.type === "checkpoint") abort.abort(new Error("enough"));
      })();
      await expect(stopped.run).rejects.toThrow("enough");
      await expect(reading).rejects.toThrow("enough");
      await resume(stopped.out);
      const model = (place: string) => readFileSync(join(place, "model.safetensors"));
      expect(model(stopped.out).equals(model(whole.out))).toBe(true);
      expect(readDocument(whole.out)).toMatchObject({ card: 1, backbone: { imageSize: 16, inChannels: 1 } });
    }
  });
});

describe("the two stages", () => {
  it("follow each other, and a term that rests is not listed", async () => {
    const run = student(twoStages({ hints: [hint(map)], task: [triplet()], hintSteps: 30 }), { epochs: 2 });
    const { history } = await distill(run);
    expect(history.map(({ terms }) => terms.map(({ name }) => name))).toEqual([["hint"], ["triplet-squared"]]);
  });
});

describe("weights", () => {
  const losses = [
    linearHint(),
    rkdAngle({ weight: "auto" }),
    hint({ ...map, weight: { from: 0, to: 2, start: 5, steps: 10 } }),
  ];

  it("that are found are an event, stand in the plan and balance the gradients", async () => {
    const options = student(losses, { epochs: 1 });
    const events = await collect(distill(options));
    const found = events.filter((event) => event.type === "weights");
    expect(found).toHaveLength(1);
    const weights = found[0]?.weights as readonly ChosenWeight[];
    expect(found[0]?.step).toBe(20);
    expect(weights.map(({ name }) => name)).toEqual(["rkd-angle"]);
    expect(weights[0]?.weight).toBeGreaterThan(0);
    expect(weights[0]?.weight).not.toBe(1);
    const plan = JSON.parse(readFileSync(join(options.out, "plan.json"), "utf8"));
    expect(plan.chosenWeights).toEqual({ "rkd-angle": weights[0]?.weight });
    const last = events.filter((event) => event.type === "step").at(-1);
    expect(last?.terms.map(({ weight }) => weight)).toEqual([1, weights[0]?.weight, 2]);
  });

  it("and what losses learn come back after an abort, bit for bit", async () => {
    const options = student([...losses], { epochs: 2, checkpointEverySteps: 7, clipGradientNorm: 1 });
    await distill(options);
    for (const stop of [4, 26]) {
      const out = join(temporaryFolder(), "cut");
      const run = distill({ ...options, out });
      for await (const event of run) {
        if (event.type === "checkpoint" && event.step >= stop) break;
      }
      run.abort();
      await expect(run).rejects.toMatchObject({ name: "AbortError" });
      await resume(out);
      expect(bytes(out)).toBe(bytes(options.out));
      const chosen = (folder: string) => JSON.parse(readFileSync(join(folder, "plan.json"), "utf8")).chosenWeights;
      expect(chosen(out)).toEqual(chosen(options.out));
    }
  });
});

describe("micro batches", () => {
  it("give the losses of the batch in one piece, where there are no batch statistics", async () => {
    const options = student([rkdDistance(), linearHint()], { student: mlp({ hidden: [24], embedding: 8 }), epochs: 1 });
    const whole = await distill(options);
    const cut = await distill({ ...options, microBatch: 6, out: join(temporaryFolder(), "cut") });
    const [expected, found] = [whole.history[0]?.loss ?? Number.NaN, cut.history[0]?.loss ?? Number.NaN];
    // Sums in another order, in float32, over thirty steps.
    expect(Math.abs(found - expected)).toBeLessThan(1e-3 * expected);
    expect(found).not.toBe(expected);
  });

  it("train, with the same bits on any number of threads", async () => {
    const options = student([rkdDistance(), rkdAngle({ weight: 2 })], { microBatch: 8, epochs: 2 });
    const one = await distill({ ...options, threads: 1 });
    expect(one.history[1]?.loss).toBeLessThan(one.history[0]?.loss ?? 0);
    const two = { ...options, threads: 2, out: join(temporaryFolder(), "two") };
    await distill(two);
    expect(bytes(two.out)).toBe(bytes(options.out));
  });
});

describe("a student that collapses", () => {
  it("raises the alarm once", async () => {
    const shrinking = sgd({ learningRate: 0.05, weightDecay: 5 });
    const events = await collect(distill(student([rkdDistance()], { optimizer: shrinking, epochs: 2 })));
    const alarms = events.filter((event) => event.type === "collapse");
    expect(alarms).toHaveLength(1);
    const [{ step, distance, start, message } = { step: 0, distance: 1, start: 0, message: "" }] = alarms;
    expect(step).toBeGreaterThan(1);
    expect(distance).toBeLessThan(start / 100);
    expect(message).toContain("running together");
    const end = events.find((event) => event.type === "end");
    expect(end?.result.findings.map(({ kind }) => kind)).toContain("collapse");
  });
});

describe("a baseline", () => {
  const both = [triplet(), rkdDistance(), rkdAngle({ weight: 2 })];
  const short = { baseline: true, epochs: 2, stepsPerEpoch: 10 } as const;

  it("is the same student by labels alone, as train makes it, with a row in the verdict", async () => {
    const options = student(both, short);
    const events = await collect(distill(options));
    const inside = events.filter((event) => event.type === "baseline").map(({ event }) => event);
    expect(new Set(inside.map(({ type }) => type).filter((type) => type !== "data"))).toEqual(
      new Set(["start", "step", "evaluation", "checkpoint", "end"]),
    );
    const ends = events.filter((event) => event.type === "end");
    expect(ends).toHaveLength(1);
    const metrics = JSON.parse(readFileSync(join(options.out, "metrics.json"), "utf8"));
    const { verdict, findings } = metrics as DistillResult;
    expect(ends[0]?.result).toEqual(metrics);
    const { stepsPerEpoch, epochs } = options;
    const out = join(temporaryFolder(), "alone");
    const alone = await train({
      ...common,
      ...(stepsPerEpoch && { stepsPerEpoch }),
      epochs: epochs ?? 0,
      backbone: networkOf(options),
      out,
    });
    expect(bytes(join(options.out, "baseline"))).toBe(bytes(out));
    expect(verdict.baseline).toMatchObject({ metrics: alone.metrics, embedding: 8 });
    expect(verdict.gapFrom).toBe("baseline");
    const [from = 1, to = 0] = [verdict.baseline, verdict.studentAfter].map((row) => row?.metrics["recall@1"]);
    expect(findings.some(({ kind }) => kind === "below-baseline") && to >= from).toBe(false);
    // It is replaced with the run that it belongs to.
    const { verdict: without } = await distill({ ...options, baseline: false, epochs: 1, overwrite: true });
    expect([without.baseline, without.gapFrom]).toEqual([null, "studentBefore"]);
    expect(existsSync(join(options.out, "baseline"))).toBe(false);
  });

  it("goes on where it was stopped", async () => {
    const whole = student(both, short);
    await distill(whole);
    for (const stopAt of ["student", "baseline"]) {
      const abort = new AbortController();
      const options = student(both, { ...short, signal: abort.signal });
      const reading = (async () => {
        for await (const event of distill(options)) {
          const { type } = stopAt === "baseline" && event.type === "baseline" ? event.event : event;
          if (type === "checkpoint" && (stopAt === "student") === (event.type !== "baseline"))
            abort.abort(new Error("enough"));
        }
      })();
      await expect(reading).rejects.toThrow("enough");
      expect(existsSync(join(options.out, "baseline"))).toBe(stopAt === "baseline");
      const result = await resume(options.out);
      expect("verdict" in result && result.verdict.gapFrom).toBe("baseline");
      expect(bytes(options.out)).toBe(bytes(whole.out));
      expect(bytes(join(options.out, "baseline"))).toBe(bytes(join(whole.out, "baseline")));
    }
  });

  it("takes no folder that is somebody's own", async () => {
    const options = student(both, short);
    mkdirSync(join(options.out, "baseline"), { recursive: true });
    writeFileSync(join(options.out, "baseline", "model.safetensors"), "mine");
    await expect(distill(options)).rejects.toMatchObject({ code: "ERR_OUTPUT_EXISTS" });
    await expect(distill({ ...options, overwrite: true })).rejects.toMatchObject({ code: "ERR_OUTPUT_EXISTS" });
  });
});

describe("a learning rate of 1,000", () => {
  const wild = { optimizer: adam({ learningRate: 1e3 }), stepsPerEpoch: 10 } as const;
  const relations = [rkdDistance(), rkdAngle({ weight: 2 })];
  const found = async (losses: readonly Loss[], more: Partial<Placed>) =>
    (await distill(student(losses, more))).findings;

  it("is told of where the gradient of relations dies", async () => {
    const message = expect.stringContaining("the learning rate, 1000");
    expect(await found(relations, wild)).toContainEqual({ kind: "dead-gradient", message });
    expect(await found(relations, { stepsPerEpoch: 10 })).toEqual([]);
  });

  it("is told of where labels keep a gradient alive that leads nowhere", async () => {
    // Which of both depends on the last bits.
    const kinds = (await found([triplet(), ...relations], wild)).map(({ kind }) => kind);
    expect(kinds.some((kind) => kind === "no-progress" || kind === "below-start")).toBe(true);
    expect(await found([triplet(), ...relations], { stepsPerEpoch: 10 })).toEqual([]);
  });
});

describe("what cannot be read is refused before the folder is touched", () => {
  const refusals: [string, readonly Loss[], RegExp][] = [
    [
      "a tap that does not exist",
      [hint({ studentFeature: "layer3" })],
      /hint\.studentFeature.+blocks\.0.+received layer3/,
    ],
    ["a vector for attention", [attentionTransfer({ studentFeature: "pooled" })], /maps.+one of blocks\.0, blocks\.1/],
    ["a teacher's tap that does not exist", [hint({ ...map, teacherFeature: "layer9" })], /hint\.teacherFeature/],
    ["regression of another length", [featureRegression()], /expected 8 numbers.+received 16 numbers.+linear-hint/],
    ["nothing to balance with", [rkdAngle({ weight: "auto" })], /balance/],
  ];
  it.each(refusals)("%s", async (_, losses, message) => {
    await expect(distill(student(losses))).rejects.toThrow(message);
  });

  it("soft targets of other classes", async () => {
    const options = student([softTargetKl(), rkdAngle()], { splitSeed: 2 });
    await expect(distill(options)).rejects.toMatchObject({ code: "ERR_INVALID_OPTION", subject: "teacher" });
  });

  it("soft targets of a teacher without classes", async () => {
    const out = join(temporaryFolder(), "teacher");
    await train({ ...common, backbone: conv4({ width: 4, embedding: 8 }), epochs: 1, stepsPerEpoch: 2, out });
    await expect(distill(student([softTargetKl(), rkdAngle()], { teacher: out }))).rejects.toThrow(
      /trained with cross entropy/,
    );
  });
});
