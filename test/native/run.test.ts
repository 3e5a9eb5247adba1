import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setImmediate as nextTick } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import {
  constant,
  conv4,
  crossEntropy,
  distill,
  evaluate,
  glyphs,
  type RunEvent,
  resume,
  rkdDistance,
  sgd,
  type TrainOptions,
  train,
  triplet,
} from "../../src/index.ts";
import { temporaryFolder } from "../support/folders.ts";
import { smallRun } from "../support/small.ts";

async function collect(run: AsyncIterable<RunEvent>): Promise<RunEvent[]> {
  const events: RunEvent[] = [];
  for await (const event of run) events.push(event);
  return events;
}

const bytes = (out: string) => readFileSync(join(out, "model.safetensors")).toString("base64");

describe("a run", () => {
  it("can be iterated and awaited, and writes what it says", async () => {
    const out = join(temporaryFolder(), "run");
    const run = train(smallRun(out));
    const events = await collect(run);
    const result = await run;
    const types = events.map(({ type }) => type);
    expect(types.indexOf("start")).toBeLessThan(types.indexOf("step"));
    expect(types.filter((type) => type === "evaluation")).toHaveLength(3); // two epochs, one test
    expect(events.at(-1)).toEqual({ type: "end", result });
    expect(result).toMatchObject({ job: "train", out, steps: 12, epochs: 2, stoppedEarly: false });
    expect(result.history.map(({ epoch }) => epoch)).toEqual([1, 2]);
    expect(Object.keys(result.metrics ?? {}).sort()).toEqual([
      "knn@1",
      "knn@2",
      "mapAtR",
      "rPrecision",
      "recall@1",
      "recall@2",
    ]);
    expect(JSON.parse(readFileSync(join(out, "metrics.json"), "utf8"))).toEqual(JSON.parse(JSON.stringify(result)));
    const log = readFileSync(join(out, "events.jsonl"), "utf8").trim().split("\n");
    expect(JSON.parse(log.at(-1) ?? "")).toMatchObject({ type: "end" });
    expect(JSON.parse(readFileSync(join(out, "plan.json"), "utf8"))).toMatchObject({ form: 1, job: "train" });
    expect(existsSync(result.model)).toBe(true);
  });

  it("fills a batch of the usual size from few classes", async () => {
    const split = { kind: "classes", validation: 0.2, test: 0.3 } as const;
    const run = train({
      data: glyphs({ classes: 10, writers: 30, split }),
      backbone: conv4({ width: 4, embedding: 8 }),
      epochs: 1,
      stepsPerEpoch: 1,
      out: join(temporaryFolder(), "run"),
    });
    let images = {};
    for await (const event of run) if (event.type === "start") images = { ...event.train, ...event.plan.batch };
    expect(images).toEqual({ images: 150, classes: 5, size: 64, perClass: 13, episode: null });
  });

  it("needs no reader", async () => {
    const out = join(temporaryFolder(), "run");
    expect(await train(smallRun(out, { epochs: 1 }))).toMatchObject({ epochs: 1 });
  });

  it("leaves the event loop free", async () => {
    const run = train(smallRun(join(temporaryFolder(), "run"), { stepsPerEpoch: 60 }));
    let [ended, longest, ticks] = [false, 0, 0];
    const done = run.finally(() => {
      ended = true;
    });
    for (let last = performance.now(); !ended; ticks++) {
      await nextTick();
      longest = Math.max(longest, performance.now() - last);
      last = performance.now();
    }
    const { seconds } = await done;
    expect(ticks).toBeGreaterThan(100);
    expect(longest / 1000).toBeLessThan(Math.max(seconds, 1)); // a run on this thread would be one tick
  });

  it("refuses a folder that holds a run, unless told to overwrite", async () => {
    const out = join(temporaryFolder(), "run");
    await train(smallRun(out, { epochs: 1 }));
    writeFileSync(join(out, "notes.txt"), "mine");
    await expect(train(smallRun(out))).rejects.toMatchObject({ code: "ERR_OUTPUT_EXISTS", subject: out });
    await train(smallRun(out, { epochs: 1, overwrite: true }));
    expect(readFileSync(join(out, "notes.txt"), "utf8")).toBe("mine");
  });

  it("stops early when the validation gets no better", async () => {
    const run = smallRun(join(temporaryFolder(), "run"), { epochs: 30, stepsPerEpoch: 1, patience: 2 });
    const result = await train(run);
    expect(result.stoppedEarly).toBe(result.epochs < 30);
    const best = Math.max(...result.history.map(({ validation }) => validation?.["recall@1"] ?? 0));
    expect(result.history[result.epoch - 1]?.validation?.["recall@1"]).toBe(best);
  });
});

describe("evaluations by steps", () => {
  const evaluated = (events: readonly RunEvent[]) =>
    events.flatMap((event) => (event.type === "evaluation" && event.part === "validation" ? [event.step] : []));

  it("come instead of those by epochs or beside them, and at the last step", async () => {
    const folder = temporaryFolder();
    const steps = async (name: string, evaluation: object) =>
      evaluated(await collect(train(smallRun(join(folder, name), { evaluation: { ks: [1], ...evaluation } }))));
    expect(await steps("instead", { everySteps: 4 })).toEqual([4, 8, 12]);
    expect(await steps("beside", { everySteps: 4, everyEpochs: 1 })).toEqual([4, 6, 8, 12]);
    expect(await steps("last", { everySteps: 5 })).toEqual([5, 10, 12]);
  });

  it("choose the best weights, which the result names by step, and change no other byte", async () => {
    const folder = temporaryFolder();
    const out = join(folder, "steps");
    const keep = "last" as const;
    const result = await train(smallRun(out, { evaluation: { ks: [1], everySteps: 4 } }));
    const within = result.history.flatMap(({ within = [] }) => within);
    expect(within.map(({ step }) => step)).toEqual([4, 8]);
    const scores = [...within, { step: 12, validation: result.history[1]?.validation ?? {} }];
    const best = Math.max(...scores.map(({ validation }) => validation["recall@1"] ?? 0));
    expect(result.step).toBe(scores.find(({ validation }) => validation["recall@1"] === best)?.step);
    expect(result.epoch).toBe(Math.ceil(result.step / 6));
    await train(smallRun(join(folder, "a"), { keep, evaluation: { ks: [1], everySteps: 1 } }));
    await train(smallRun(join(folder, "b"), { keep }));
    expect(bytes(join(folder, "a"))).toBe(bytes(join(folder, "b")));
  });

  it("count for patience, and may end a run inside an epoch", async () => {
    const run = smallRun(join(temporaryFolder(), "run"), {
      epochs: 2,
      stepsPerEpoch: 500,
      patience: 1,
      evaluation: { ks: [1], everySteps: 1 },
    });
    const result = await train(run);
    expect(result.stoppedEarly).toBe(true);
    expect(result.steps).toBeLessThan(500);
    expect(result.history.at(-1)?.within?.at(-1)?.step).toBe(result.steps);
    expect(result.step).toBe(result.steps - 1);
  });

  it("decide the same after a stop at any step", async () => {
    const folder = temporaryFolder();
    const options = smallRun(join(folder, "whole"), {
      checkpointEverySteps: 1,
      evaluation: { ks: [1], everySteps: 2 },
    });
    const whole = await train(options);
    for (const stop of [1, 2, 3, 4, 6]) {
      const out = join(folder, `cut-${stop}`);
      const run = train({ ...options, out });
      run.catch(() => {});
      for await (const event of run) if (event.type === "checkpoint" && event.step >= stop) break;
      run.abort();
      await run.catch(() => {});
      const resumed = await resume(out);
      expect(resumed).toMatchObject({ step: whole.step, epoch: whole.epoch, metrics: whole.metrics });
      expect(resumed.history.map(({ within }) => within)).toEqual(whole.history.map(({ within }) => within));
      expect(bytes(out)).toBe(bytes(join(folder, "whole")));
    }
  });
});

describe("a run that diverges", () => {
  it("stops with the step and what broke, and leaves the last whole checkpoint", async () => {
    const out = join(temporaryFolder(), "run");
    const optimizer = sgd({ learningRate: 1e36, momentum: 0 });
    const run = train(smallRun(out, { optimizer, schedule: constant(), epochs: 4, checkpointEverySteps: 1 }));
    await expect(run).rejects.toMatchObject({ code: "ERR_NON_FINITE", message: expect.stringMatching(/step \d+/) });
    expect(existsSync(join(out, "model.safetensors"))).toBe(false);
    // The checkpoint is whole: going on with it reaches the same step and says the same.
    await expect(resume(out)).rejects.toMatchObject({ code: "ERR_NON_FINITE" });
  });
});

describe("the same seed gives the same bytes", () => {
  it("on one thread and on two", async () => {
    const folder = temporaryFolder();
    await train(smallRun(join(folder, "one"), { threads: 1 }));
    await train(smallRun(join(folder, "two"), { threads: 2 }));
    await train(smallRun(join(folder, "other"), { threads: 2, seed: 2 }));
    expect(bytes(join(folder, "two"))).toBe(bytes(join(folder, "one")));
    expect(bytes(join(folder, "other"))).not.toBe(bytes(join(folder, "one")));
  });
});

describe("abort", () => {
  it("rejects with the signal's reason after a checkpoint, and resume ends with the same bytes", async () => {
    const folder = temporaryFolder();
    const options = smallRun(join(folder, "whole"), { stepsPerEpoch: 40 });
    await train(options);
    const out = join(folder, "cut");
    const controller = new AbortController();
    const reason = new Error("enough");
    const run = train({ ...options, out, signal: controller.signal });
    const seen: RunEvent[] = [];
    const reading = (async () => {
      for await (const event of run) {
        seen.push(event);
        if (event.type === "step") controller.abort(reason);
      }
    })();
    await expect(run).rejects.toBe(reason);
    await expect(reading).rejects.toBe(reason);
    expect(seen.at(-1)?.type).toBe("checkpoint");
    expect(existsSync(join(out, "model.safetensors"))).toBe(false);
    const events = await collect(resume(out));
    expect(events.find(({ type }) => type === "start")).toMatchObject({ resumed: true });
    expect(bytes(out)).toBe(bytes(join(folder, "whole")));
  });

  it("does nothing at all when the signal is aborted already", async () => {
    const out = join(temporaryFolder(), "run");
    const signal = AbortSignal.abort(new Error("too late"));
    await expect(train(smallRun(out, { signal }))).rejects.toThrow("too late");
    expect(existsSync(out)).toBe(false);
  });

  it("comes with leaving the loop", async () => {
    const out = join(temporaryFolder(), "run");
    const run = train(smallRun(out, { stepsPerEpoch: 1_000_000 }));
    for await (const event of run) if (event.type === "step") break;
    await expect(run).rejects.toMatchObject({ name: "AbortError" });
    expect(existsSync(join(out, "checkpoint", "latest.safetensors"))).toBe(true);
  });

  it("comes with dispose", async () => {
    const out = join(temporaryFolder(), "run");
    const run = train(smallRun(out, { stepsPerEpoch: 10_000 }));
    for await (const event of run) if (event.type === "step") break;
    await run[Symbol.asyncDispose]();
    await expect(run).rejects.toMatchObject({ name: "AbortError" });
    expect(existsSync(join(out, "checkpoint", "latest.safetensors"))).toBe(true);
  });
});

describe("resume", () => {
  it("says where there is no run", async () => {
    await expect(resume(temporaryFolder())).rejects.toMatchObject({ code: "ERR_NOT_FOUND" });
  });

  it("of a finished run returns its result again", async () => {
    const out = join(temporaryFolder(), "run");
    const first = await train(smallRun(out));
    const model = bytes(out);
    const again = await resume(out);
    expect(again.metrics).toEqual(first.metrics);
    expect(bytes(out)).toBe(model);
  });

  it("refuses a damaged plan and a damaged checkpoint", async () => {
    const out = join(temporaryFolder(), "run");
    await train(smallRun(out, { epochs: 1 }));
    const checkpoint = join(out, "checkpoint", "latest.safetensors");
    const whole = readFileSync(checkpoint);
    writeFileSync(checkpoint, whole.subarray(0, whole.length / 2));
    await expect(resume(out)).rejects.toMatchObject({ code: "ERR_INVALID_ARTEFACT" });
    writeFileSync(join(out, "plan.json"), "{");
    await expect(resume(out)).rejects.toMatchObject({ code: "ERR_INVALID_ARTEFACT" });
  });
});

describe("a damaged checkpoint", () => {
  it("gives way to the one before it, with a warning, and the run ends with the same bytes", async () => {
    const out = join(temporaryFolder(), "run");
    await train(smallRun(out, { epochs: 3 }));
    const model = bytes(out);
    const latest = join(out, "checkpoint", "latest.safetensors");
    const damaged = readFileSync(latest);
    damaged.writeUInt8(damaged.readUInt8(damaged.length - 5) ^ 4, damaged.length - 5);
    writeFileSync(latest, damaged);
    const events = await collect(resume(out));
    expect(events.find(({ type }) => type === "start")).toMatchObject({ resumed: true });
    const warnings = events.filter((event) => event.type === "warning").map(({ message }) => message);
    expect(warnings.join()).toContain("the run goes on from the one before it");
    expect(bytes(out)).toBe(model);
    writeFileSync(latest, damaged);
    writeFileSync(join(out, "checkpoint", "previous.safetensors"), damaged);
    await expect(resume(out)).rejects.toMatchObject({ code: "ERR_INVALID_ARTEFACT" });
  });
});

describe("a run with prefixes", () => {
  it("measures each, after a stop and a resume too, and evaluate says the same", async () => {
    const teacher = join(temporaryFolder(), "teacher");
    const { backbone: _, losses: __, ...common } = smallRun(teacher);
    await train(smallRun(teacher, { epochs: 1 }));
    const options = {
      ...common,
      teacher,
      student: conv4({ width: 4, embedding: 8, normalize: true }),
      losses: [rkdDistance(), triplet(), crossEntropy()],
      prefixes: [4, 2],
    };
    const out = join(temporaryFolder(), "student");
    const { verdict, prefixes = [], metrics } = await distill({ ...options, threads: 1, out });
    expect(prefixes.map(({ embedding }) => embedding)).toEqual([2, 4]);
    expect(prefixes.every(({ fidelity }) => fidelity !== undefined)).toBe(true);
    expect(prefixes[0]?.metrics).not.toEqual(metrics);
    expect(verdict.prefixes?.map(({ embedding, metrics }) => ({ embedding, metrics }))).toEqual(
      prefixes.map(({ embedding, metrics }) => ({ embedding, metrics })),
    );
    expect((await evaluate({ model: out, ks: [1, 2], teacher })).prefixes).toEqual(prefixes);
    const again = join(temporaryFolder(), "again");
    const cut = distill({ ...options, threads: 2, out: again });
    for await (const event of cut) if (event.type === "checkpoint") break;
    cut.abort();
    await expect(cut).rejects.toMatchObject({ name: "AbortError" });
    await resume(again);
    expect(bytes(again)).toBe(bytes(out));
  });

  it("refuses a prefix that is no part of the embedding", async () => {
    const run = train(smallRun(join(temporaryFolder(), "run"), { prefixes: [8] }));
    await expect(run).rejects.toMatchObject({ code: "ERR_INVALID_OPTION", subject: "prefixes" });
  });
});

describe("distill", () => {
  it("ends with a verdict that adds up, and evaluate says the same", async () => {
    const folder = temporaryFolder();
    const teacher = join(folder, "teacher");
    const { data, batch, stepsPerEpoch, evaluation } = smallRun(teacher);
    await train(smallRun(teacher, { backbone: conv4({ width: 8, embedding: 16 }) }));
    const out = join(folder, "student");
    const common = {
      data,
      ...(batch && { batch }),
      ...(stepsPerEpoch && { stepsPerEpoch }),
      ...(evaluation && { evaluation }),
    };
    const run = distill({ ...common, teacher, student: conv4({ width: 4, embedding: 4 }), epochs: 2, out });
    const { verdict, metrics, history } = await run;
    expect(verdict.teachers[0]).toMatchObject({ embedding: 16, backbone: "conv4" });
    expect(verdict.studentAfter).toMatchObject({ embedding: 4, metrics });
    const [t, b, a] = [verdict.teachers[0], verdict.studentBefore, verdict.studentAfter].map(
      (row) => row?.metrics["recall@1"] ?? 0,
    );
    if (t !== undefined && b !== undefined && a !== undefined && t > b) {
      expect(verdict.teachers[0]?.gapClosed["recall@1"]).toBeCloseTo((a - b) / (t - b), 12);
    } else expect(verdict.teachers[0]?.gapClosed["recall@1"]).toBeNull();
    expect(history[0]?.terms.map(({ name, weight }) => [name, weight])).toEqual([
      ["triplet-squared", 1],
      ["rkd-distance", 1],
      ["rkd-angle", 2],
    ]);
    const again = await evaluate({ model: out, ks: [1, 2], teacher });
    expect(again.metrics).toEqual(metrics);
    expect(again.metrics["knn@1"]).toBe(again.metrics["recall@1"]);
    expect(again.fidelity).toEqual([{ teacher: "teacher", weight: 1, ...verdict.teachers[0]?.fidelity }]);
    expect(verdict.teachers[0]?.fidelity.neighbourOverlap).toBeGreaterThan(0.2);
    const itself = await evaluate({ model: out, ks: [1], teacher: out });
    expect(itself.fidelity).toMatchObject([{ distanceRankCorrelation: 1, angleDifference: 0, neighbourOverlap: 1 }]);
    expect((await evaluate({ model: out, ks: [1] })).fidelity).toBeUndefined();
    await expect(
      distill({ ...common, teacher, student: conv4(), epochs: 1, out: teacher, overwrite: true }),
    ).rejects.toThrow(/out: an input lies in this folder/);
    writeFileSync(join(teacher, "model.safetensors"), "other");
    await expect(resume(out)).rejects.toThrow(/has changed since/);
  });

  it("names the file when the model is damaged", async () => {
    const folder = temporaryFolder();
    writeFileSync(join(folder, "model.safetensors"), "not a model");
    const failure = distill({ teacher: folder, student: conv4(), data: glyphs(), out: join(folder, "out") });
    await expect(failure).rejects.toMatchObject({
      code: "ERR_INVALID_ARTEFACT",
      message: expect.stringContaining("model.safetensors"),
    });
  });
});

describe("what a run cannot learn from", () => {
  const folder = temporaryFolder();
  /** 12 classes, of which `more` have two images, the others one. */
  const photos = (name: string, more: number) => {
    for (let i = 0; i < 12; i++) {
      mkdirSync(join(folder, name, `c${i}`), { recursive: true });
      for (let j = 0; j < (i < more ? 2 : 1); j++) {
        writeFileSync(
          join(folder, name, `c${i}`, `${j}.ppm`),
          `P5 16 16 255\n${"ab".repeat(64 + i)}${"z".repeat(256)}`.slice(0, 269),
        );
      }
    }
    const split = { kind: "classes", validation: 0, test: 0 } as const;
    return { source: join(folder, name), imageSize: 16, channels: 1, split } as const;
  };

  it("is told where every class has one image, and no folder is made", async () => {
    const out = join(folder, "alone");
    const options = smallRun(out, { data: photos("one", 0), batch: { size: 8, perClass: 2 } });
    await expect(train(options)).rejects.toMatchObject({
      code: "ERR_INVALID_DATA",
      message: expect.stringContaining("every training class has one image, and triplet-squared compares two"),
    });
    expect(existsSync(out)).toBe(false);
  });

  it("is a warning where most have one image, and nothing where a loss sees each alone", async () => {
    const warnings = async (more: Partial<TrainOptions>) => {
      const data = photos("few", 3);
      const run = train(
        smallRun(join(folder, `few-${Object.keys(more)}`), { data, epochs: 1, stepsPerEpoch: 1, ...more }),
      );
      const said: string[] = [];
      for await (const event of run) if (event.type === "warning") said.push(event.message);
      return said.join("\n");
    };
    const batch = { size: 8, perClass: 2 };
    expect(await warnings({ batch })).toContain("9 of the 12 training classes have one image: triplet-squared learns");
    expect(await warnings({ losses: [crossEntropy()], batch })).not.toContain("learns nothing");
  });
});

it("keeps the last weights beside the best without test classes too", async () => {
  const out = join(temporaryFolder(), "both");
  const data = glyphs({ classes: 20, writers: 8, split: { kind: "classes", validation: 0.2, test: 0 } });
  const options = smallRun(out, {
    data,
    keep: "both",
    epochs: 6,
    stepsPerEpoch: 2,
    optimizer: sgd({ learningRate: 2 }),
  });
  const { last, metrics, step, steps, model } = await train(options);
  expect(metrics).toBeNull();
  expect(last).toEqual({ epoch: 6, model: step === steps ? model : join(out, "last.safetensors"), metrics: null });
  expect(existsSync(last?.model ?? "")).toBe(true);
  expect(step).toBeLessThan(steps); // or the test is not of this
});

it("a share of the validation alone is of the source's own split", async () => {
  const out = join(temporaryFolder(), "share");
  const data = glyphs({ classes: 20, writers: 8, split: { validation: 0.3 } });
  await train(smallRun(out, { data, epochs: 1, stepsPerEpoch: 1 }));
  const { plan } = JSON.parse(readFileSync(join(out, "plan.json"), "utf8"));
  expect(plan.data.split).toEqual({ kind: "classes", validation: 0.3, test: 0.2 });
});

it("refuses to go on for fewer epochs than are done, and writes nothing", async () => {
  const out = join(temporaryFolder(), "fewer");
  await train(smallRun(out, { schedule: constant() }));
  const before = readFileSync(join(out, "plan.json"), "utf8");
  await expect(resume(out, { epochs: 1 })).rejects.toMatchObject({
    code: "ERR_INVALID_OPTION",
    subject: "epochs",
    expected: "at least 2, which are done or begun",
    received: "1",
  });
  expect(readFileSync(join(out, "plan.json"), "utf8")).toBe(before);
});

it("a run that was started without a report goes on without one, unless it is asked for", async () => {
  const out = join(temporaryFolder(), "unshown");
  const page = join(out, "report.html");
  await train(smallRun(out, { epochs: 1, stepsPerEpoch: 1, report: false }));
  await resume(out);
  expect(existsSync(page)).toBe(false);
  await resume(out, { report: true });
  expect(existsSync(page)).toBe(true);
});

it("a plan.json that was edited is told by its fields, with both values", async () => {
  const out = join(temporaryFolder(), "edited");
  await train(smallRun(out));
  const file = join(out, "plan.json");
  const plan = JSON.parse(readFileSync(file, "utf8"));
  plan.plan.optimizer.learningRate = 0.5;
  plan.plan.batch.perClass = 2;
  writeFileSync(file, JSON.stringify(plan));
  await expect(resume(out)).rejects.toMatchObject({
    code: "ERR_INVALID_ARTEFACT",
    message: expect.stringMatching(
      /plan\.json is not the plan that this run began with: expected .*optimizer\.learningRate: 0\.001.*received .*optimizer\.learningRate: 0\.5/,
    ),
  });
});
