import { cpSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import {
  conv4,
  distill,
  evaluate,
  glyphs,
  imageFolder,
  mlp,
  neighbours,
  type Run,
  resume,
  type Split,
  train,
} from "../../src/index.ts";
import { temporaryFolder } from "../support/folders.ts";
import { planDistill } from "../support/plan.ts";
import { smallRun } from "../support/small.ts";
import { readDocument, readTensors } from "../support/tensors.ts";

const split = { kind: "classes", validation: 0.2, test: 0.3 } as const;
const name = (label: number) => `class${String(label).padStart(2, "0")}`;

/** A grey image of its own. */
function picture(folder: string, label: number, i: number, value = 4 * label + i): void {
  mkdirSync(join(folder, name(label)), { recursive: true });
  const pixels = Buffer.alloc(64, 2 * value);
  writeFileSync(join(folder, name(label), `${i}.pgm`), Buffer.concat([Buffer.from("P5 8 8 255\n"), pixels]));
}

/** So many classes of four images. */
function images(folder: string, classes = 10): string {
  for (let label = 0; label < classes; label++) for (let i = 0; i < 4; i++) picture(folder, label, i);
  return folder;
}

/** The options of a run of six steps on `data`. */
function small(data: string, out: string, parts: Split = split) {
  const batch = { size: 4, perClass: 2 };
  const options = { data: imageFolder(data, { imageSize: 8, split: parts }), batch, epochs: 3, stepsPerEpoch: 2 };
  return { ...smallRun(out, options), backbone: mlp({ hidden: [4], embedding: 4 }) };
}

/** Stops a run at its first checkpoint, as a kill would. */
async function started(options: ReturnType<typeof small>): Promise<string> {
  const run = train(options);
  for await (const event of run) if (event.type === "checkpoint") break;
  await run.catch(() => {});
  return String(options.out);
}

async function warningsOf(run: Run<unknown>): Promise<string> {
  const messages: string[] = [];
  for await (const event of run) if (event.type === "warning") messages.push(event.message);
  await run;
  return messages.join("\n");
}

interface DataFile {
  readonly outline: { readonly fingerprint: string; readonly classes: Record<string, [number, string]> };
  readonly images: readonly string[];
  readonly parts: string;
}

const dataOf = (out: string | URL): DataFile => JSON.parse(readFileSync(join(String(out), "data.json"), "utf8"));
const planOf = (out: string | URL) => JSON.parse(readFileSync(join(String(out), "plan.json"), "utf8"));
const bytes = (out: string) => readFileSync(join(out, "model.safetensors")).toString("base64");

/** The part of each class: "0" train, "1" validation, "2" test, "" none. */
const partsOf = (out: string | URL) => Object.entries(dataOf(out).outline.classes).map(([of, [, part]]) => [of, part]);

describe("resume on data that have changed", () => {
  it.each<[string, (data: string) => void, RegExp]>([
    ["an image more", (data) => picture(data, 0, 9), /1 image added \(class00\/9\.pgm\)/],
    ["an image fewer", (data) => rmSync(join(data, name(3), "1.pgm")), /1 image removed \(class03\/1\.pgm\)/],
    ["another picture", (data) => picture(data, 1, 0, 99), /1 image changed \(class01\/0\.pgm\)/],
    [
      "a class renamed",
      (data) => renameSync(join(data, name(5)), join(data, "zz")),
      /1 class added \(zz\), 1 class rem/,
    ],
    ["classes more", (data) => images(data, 14), /4 classes added \(class10, class11, class12 and 1 more\)/],
  ])("says what has changed: %s", async (_, change, expected) => {
    const folder = temporaryFolder();
    const data = images(join(folder, "data"));
    const out = await started(small(data, join(folder, "run")));
    const before = dataOf(out);
    change(data);
    const failure = { code: "ERR_INVALID_DATA", subject: data, message: expect.stringMatching(expected) };
    await expect(resume(out)).rejects.toMatchObject(failure);
    await expect(resume(out)).rejects.toThrow(/--accept-changed-data/);
    expect(dataOf(out)).toEqual(before);
  });

  it("goes on to the same bytes where they were only touched", async () => {
    const folder = temporaryFolder();
    const data = images(join(folder, "data"));
    await train(small(data, join(folder, "whole")));
    const out = await started(small(data, join(folder, "run")));
    for (const file of readdirSync(join(data, name(0)))) utimesSync(join(data, name(0), file), 1, 1);
    await resume(out);
    expect(bytes(out)).toBe(bytes(join(folder, "whole")));
  });

  it("keeps every class in its part where the change is accepted, and what is new out of all", async () => {
    const folder = temporaryFolder();
    const data = images(join(folder, "data"));
    const out = await started(small(data, join(folder, "run")));
    const before = partsOf(out);
    expect(new Set(before.map(([, part]) => part))).toEqual(new Set(["0", "1", "2"]));
    images(data, 24);
    const warnings = await warningsOf(resume(out, { acceptChangedData: true }));
    expect(warnings).toMatch(/14 classes added.*stored split goes on; 56 images of the data are in no part/);
    const after = partsOf(out);
    expect(after.slice(0, 10)).toEqual(before);
    expect(after.slice(10).every(([, part]) => part === "")).toBe(true);
    expect(planOf(out).fingerprint).toBe(dataOf(out).outline.fingerprint);
    // The run of now knows these data, and so does its model: nothing is asked again, and no other split is made.
    expect(await warningsOf(resume(out))).not.toContain("class");
    const { images: tested } = await evaluate({ model: out, ks: [1] });
    expect(tested).toBe(4 * before.filter(([, part]) => part === "2").length);
    cpSync(join(out, "model.safetensors"), join(folder, "alone.safetensors"));
    const alone = await evaluate({ model: join(folder, "alone.safetensors"), data, ks: [1] });
    expect(alone.images).toBe(tested);
  });

  it("keeps every image in its part in a split by images", async () => {
    const folder = temporaryFolder();
    const data = images(join(folder, "data"));
    const parts = { kind: "images", validation: 0.25, test: 0.25 } as const;
    const out = await started(small(data, join(folder, "run"), parts));
    const of = () => new Map(dataOf(out).images.map((image, i) => [image, dataOf(out).parts[i]]));
    const before = of();
    for (let label = 0; label < 10; label++) picture(data, label, 9, 100 + label);
    rmSync(join(data, name(2), "3.pgm"));
    await expect(resume(out)).rejects.toThrow(/10 images added .*1 image removed \(class02\/3\.pgm\)/);
    await resume(out, { acceptChangedData: true });
    for (const [image, part] of of()) expect(part, image).toBe(before.get(image) ?? "-");
    expect(of().size).toBe(49);
  });

  it("starts anew, on the data as they are, where nothing was trained", async () => {
    const folder = temporaryFolder();
    const data = images(join(folder, "data"));
    const out = await started(small(data, join(folder, "run")));
    rmSync(join(out, "checkpoint"), { recursive: true });
    images(data, 12);
    await expect(resume(out)).rejects.toThrow(/2 classes added/);
    expect(await warningsOf(resume(out, { acceptChangedData: true }))).toContain("starts anew");
    await train(small(data, join(folder, "new")));
    expect(bytes(out)).toBe(bytes(join(folder, "new")));
  });
});

describe("what has been moved", () => {
  it("is found where resume is told that it is, from then on", async () => {
    const folder = temporaryFolder();
    const data = images(join(folder, "data"));
    await train(small(data, join(folder, "whole")));
    const out = await started(small(data, join(folder, "run")));
    const moved = join(folder, "moved");
    renameSync(data, moved);
    const gone = { code: "ERR_NOT_FOUND", subject: data, message: expect.stringMatching(/option data \(--data\)/) };
    await expect(resume(out)).rejects.toMatchObject(gone);
    await expect(resume(out, { data: images(join(folder, "other"), 9) })).rejects.toThrow(/1 class removed/);
    await expect(resume(out, { data: [moved, moved] })).rejects.toMatchObject({ code: "ERR_INVALID_OPTION" });
    await expect(resume(out, { teacher: out })).rejects.toMatchObject({ subject: "teacher" });
    await resume(out, { data: moved });
    expect(bytes(out)).toBe(bytes(join(folder, "whole")));
    expect(planOf(out).plan.data.source).toBe(moved);
    await resume(out);
    // The path corrected by hand.
    renameSync(moved, data);
    const plan = readFileSync(join(out, "plan.json"), "utf8");
    writeFileSync(join(out, "plan.json"), plan.replace(JSON.stringify(moved), JSON.stringify(data)));
    await resume(out);
    expect(bytes(out)).toBe(bytes(join(folder, "whole")));
  });

  it("is a teacher too", async () => {
    const folder = temporaryFolder();
    const data = images(join(folder, "data"));
    const [teacher, moved, other] = ["teacher", "moved", "other"].map((name) => join(folder, name)) as [
      string,
      string,
      string,
    ];
    await train(small(data, teacher));
    await train({ ...small(data, other), seed: 5 });
    const { backbone: student, losses: _, ...common } = small(data, join(folder, "run"));
    const run = distill({ ...common, student, teacher });
    for await (const event of run) if (event.type === "checkpoint") break;
    await run.catch(() => {});
    renameSync(teacher, moved);
    await expect(resume(common.out)).rejects.toMatchObject({
      code: "ERR_NOT_FOUND",
      message: expect.stringMatching(/option teacher \(--teacher\)/),
    });
    await expect(resume(common.out, { teacher: other })).rejects.toThrow(/has changed since/);
    await resume(common.out, { teacher: moved });
    const { plan, inputs } = planOf(common.out);
    expect([plan.teachers[0].model, Object.keys(inputs)[0]]).toEqual(Array(2).fill(join(moved, "model.safetensors")));
    await resume(common.out);
  });

  it("is measured by the split that it was trained with", async () => {
    const folder = temporaryFolder();
    const data = images(join(folder, "data"), 20);
    const out = join(folder, "run");
    const { metrics } = await train({ ...small(data, out), splitSeed: 7 });
    renameSync(data, join(folder, "moved"));
    await expect(evaluate({ model: out })).rejects.toThrow(/option data \(--data\)/);
    const again = await evaluate({ model: out, data: join(folder, "moved"), ks: [1, 2] });
    expect(again.metrics).toEqual(metrics);
  });
});

describe("a teacher and the data of its student", () => {
  it("agree on split and seed without being told", async () => {
    const folder = temporaryFolder();
    const data = images(join(folder, "data"));
    const teacher = join(folder, "teacher");
    await train({ ...small(data, teacher), seed: 3, splitSeed: 7 });
    const student = mlp({ hidden: [4], embedding: 4 });
    const options = { teacher, student, data, out: join(folder, "student") };
    const { plan } = await planDistill(options);
    expect([plan.splitSeed, plan.seed, plan.data.split]).toEqual([7, 1, split]);
    expect((await planDistill({ ...options, splitSeed: 2 })).plan.splitSeed).toBe(2);
    const batch = { size: 4, perClass: 2 };
    const run = { ...options, batch, epochs: 1, stepsPerEpoch: 1 };
    expect(await warningsOf(distill(run))).not.toContain("too good");
    expect(partsOf(run.out)).toEqual(partsOf(teacher));
    const leaking = { ...run, data: imageFolder(data, { split }), splitSeed: 2, out: join(folder, "leaking") };
    expect(await warningsOf(distill(leaking))).toMatch(
      /teacher was trained on \d+ of the 12 images of the test part.*seed is 7/,
    );
  });

  it("are compared, and the teacher's parts go on where a change is accepted", async () => {
    const folder = temporaryFolder();
    const data = images(join(folder, "data"));
    const teacher = join(folder, "teacher");
    await train(small(data, teacher));
    images(data, 24);
    const { backbone: student, losses: _, ...common } = small(data, join(folder, "student"));
    const refused = distill({ ...common, student, teacher });
    const failure = {
      code: "ERR_INVALID_DATA",
      message: expect.stringMatching(/teacher was trained on: 14 classes add/),
    };
    await expect(refused).rejects.toMatchObject(failure);
    await distill({ ...common, student, teacher, acceptChangedData: true });
    expect(partsOf(common.out).slice(0, 10)).toEqual(partsOf(teacher));
    await expect(train({ ...common, backbone: student, acceptChangedData: true } as never)).rejects.toThrow(
      /no such option/,
    );
    // Of a teacher that is a file alone, the classes are known.
    const alone = join(folder, "alone.safetensors");
    cpSync(join(teacher, "model.safetensors"), alone);
    await expect(distill({ ...common, student, teacher: alone, overwrite: true })).rejects.toThrow(/14 classes added/);
  });

  it("may be of another data set", async () => {
    const folder = temporaryFolder();
    const other = join(folder, "other");
    for (let label = 0; label < 10; label++) for (let i = 0; i < 4; i++) picture(other, label, i, 60 + 4 * label + i);
    const teacher = join(folder, "teacher");
    await train(small(other, teacher));
    const { backbone: student, losses: _, ...common } = small(images(join(folder, "data")), join(folder, "student"));
    expect(await warningsOf(distill({ ...common, student, teacher }))).toBe("");
  });
});

describe("evaluate and neighbours", () => {
  it("say that another split seed tests classes that were trained on", async () => {
    const folder = temporaryFolder();
    const model = join(folder, "run");
    await train(small(images(join(folder, "data"), 20), model));
    const leak = /model was trained on \d+ of the 24 images of the test part.*its seed is 1/;
    expect(await warningsOf(evaluate({ model, seed: 2 }))).toMatch(leak);
    expect(await warningsOf(evaluate({ model, splitSeed: 2 }))).toMatch(leak);
    expect(await warningsOf(evaluate({ model, seed: 2, splitSeed: 1 }))).toBe("");
    expect(await warningsOf(evaluate({ model, seed: 2, part: "train" }))).toBe("");
    expect(await warningsOf(neighbours({ model, splitSeed: 2, queries: 1 }))).toMatch(leak);
  });

  it("refuse data that have changed, here or elsewhere, and measure the stored parts where that is accepted", async () => {
    const folder = temporaryFolder();
    const data = images(join(folder, "data"));
    const model = join(folder, "run");
    await train(small(data, model));
    const trained = partsOf(model).flatMap(([of, part]) => (part === "0" ? [of] : []));
    const more = images(join(folder, "more"), 24);
    const changed = {
      code: "ERR_INVALID_DATA",
      message: expect.stringMatching(/model was trained on: 14 classes added/),
    };
    await expect(evaluate({ model, data: more })).rejects.toMatchObject(changed);
    await expect(neighbours({ model, data: more })).rejects.toMatchObject(changed);
    const options = { model, data: more, queries: 50, k: 1, acceptChangedData: true } as const;
    const tested = await neighbours(options);
    expect(tested.length).toBeGreaterThan(0);
    expect(tested.filter(({ query }) => trained.includes(query.class))).toEqual([]);
    // All pictures are others: elsewhere that is another data set, in the same place it is a change.
    for (let label = 0; label < 10; label++) for (let i = 0; i < 4; i++) picture(data, label, i, 60 + 4 * label + i);
    await expect(evaluate({ model })).rejects.toThrow(/40 images changed/);
    cpSync(data, join(folder, "others"), { recursive: true });
    expect(await warningsOf(evaluate({ model, data: join(folder, "others") }))).toBe("");
  });
});

describe("the seed of the split", () => {
  it("is the run's by itself, gives the same bytes then, and moves classes alone", async () => {
    const folder = temporaryFolder();
    const data = images(join(folder, "data"));
    const of = async (out: string, more: object) => {
      await train({ ...small(data, join(folder, out)), ...more });
      return {
        model: bytes(join(folder, out)),
        tensors: readTensors(join(folder, out)),
        parts: partsOf(join(folder, out)),
      };
    };
    const usual = await of("usual", { seed: 4 });
    expect((await of("said", { seed: 4, splitSeed: 4 })).model).toBe(usual.model);
    const other = await of("other", { seed: 4, splitSeed: 5 });
    expect(other.parts).not.toEqual(usual.parts);
    expect(other.parts).toEqual((await of("run", { seed: 5 })).parts);
    expect(other.tensors).not.toEqual(usual.tensors);
    const { data: outline, seed } = readDocument(join(folder, "other")).origin;
    expect([outline.splitSeed, seed, outline.fingerprint]).toEqual([5, 4, planOf(join(folder, "other")).fingerprint]);
    expect(JSON.stringify(outline)).not.toContain(folder);
  });
});

describe("a plan that was edited between stop and resume", () => {
  it.each<[string, (policy: { evaluation: Record<string, unknown>; keep: string }) => void]>([
    ["evaluation.part", ({ evaluation }) => Object.assign(evaluation, { part: "test" })],
    ["evaluation.ks", ({ evaluation }) => Object.assign(evaluation, { ks: [2] })],
    ["keep", (policy) => Object.assign(policy, { keep: "best" })],
  ])("is refused where scores and weights would be of two measures: %s", async (subject, edit) => {
    const folder = temporaryFolder();
    const options = small(images(join(folder, "data")), join(folder, "run"));
    const out = await started({ ...options, keep: subject === "keep" ? "last" : "best" });
    const plan = planOf(out);
    edit(plan.policy);
    writeFileSync(join(out, "plan.json"), JSON.stringify(plan));
    await expect(resume(out)).rejects.toMatchObject({ code: "ERR_INVALID_ARTEFACT", subject: `policy.${subject}` });
  });

  it("goes on where only the times of measuring change, and on another device with a word", async () => {
    const folder = temporaryFolder();
    const data = glyphs({ classes: 20, writers: 8 });
    const run = train({ ...smallRun(join(folder, "run"), { backbone: conv4({ width: 4, embedding: 4 }) }), data });
    for await (const event of run) if (event.type === "checkpoint") break;
    await run.catch(() => {});
    const out = join(folder, "run");
    const plan = planOf(out);
    plan.policy.evaluation.everyEpochs = 2;
    writeFileSync(join(out, "plan.json"), JSON.stringify(plan));
    expect(await warningsOf(resume(out, { device: "candle-cpu" }))).toContain("goes on on candle-cpu");
    expect(planOf(out).plan.device).toBe("cpu");
    const refused = { code: "ERR_INVALID_OPTION", subject: "precision" };
    await expect(resume(out, { precision: "bf16" })).rejects.toMatchObject(refused);
  });
});
