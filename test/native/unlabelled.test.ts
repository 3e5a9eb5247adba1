/** Images without labels: a teacher alone says what is alike, from the plan to the verdict. */

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import {
  conv4,
  type DistillOptions,
  distill,
  embed,
  evaluate,
  imageFolder,
  neighbours,
  rkdDistance,
  softTargetKl,
  type TeacherVerdict,
  train,
  triplet,
} from "../../src/index.ts";
import { rkd } from "../support/cli.ts";
import { temporaryFolder } from "../support/folders.ts";
import { planDistill } from "../support/plan.ts";
import { smallRun } from "../support/small.ts";
import { waves } from "../support/waves.ts";

const folder = temporaryFolder();
const teacher = join(folder, "teacher");
const photos = join(folder, "photos");
const out = join(folder, "student");
const student = conv4({ width: 4, embedding: 8 });
const options = (more: Partial<DistillOptions> = {}): DistillOptions => ({
  teacher,
  student,
  data: photos,
  batch: { size: 16 },
  epochs: 3,
  out,
  ...more,
});

beforeAll(async () => {
  waves(photos, 100, (i) => `${String(i).padStart(3, "0")}.pgm`);
  await train(smallRun(teacher, { losses: [triplet()] }));
});

describe("a flat folder of images", () => {
  const scores = [1, 2, 4, 8].map((k) => `teacherRecall@${k}`);
  const names = ["angleRankCorrelation", "distanceRankCorrelation", "neighbourOverlap", ...scores];

  it("is planned without labels", async () => {
    const { plan, policy } = await planDistill(options());
    expect(plan.data).toMatchObject({ labels: "none", split: { kind: "images", validation: 0.1, test: 0.1 } });
    expect(plan.batch).toEqual({ size: 16, perClass: null, episode: null });
    expect(plan.losses[0]).toMatchObject({ relative: true });
    expect(plan.losses.map(({ kind, weight }) => [kind, weight])).toEqual([
      ["linear-hint", 1],
      ["rkd-distance", 1],
      ["rkd-angle", 2],
    ]);
    expect(policy.keep).toBe("best");
  });

  it("is distilled, with a verdict by the teacher's relations", async () => {
    const run = distill(options());
    const warnings: string[] = [];
    for await (const event of run) {
      if (event.type === "warning") warnings.push(event.message);
      if (event.type === "start") {
        expect([event.train, event.validation, event.test]).toEqual(
          [80, 10, 10].map((images) => ({ images, classes: 0 })),
        );
        expect(event.data).toMatch(/100 images without labels\.$/);
      }
      if (event.type === "evaluation") {
        expect(Object.keys(event.metrics).sort()).toEqual(names);
        expect(event.fidelity?.[0]?.neighbourOverlap).toBe(event.metrics.neighbourOverlap);
        expect(event.classes).toBe(0);
      }
    }
    expect(warnings).toEqual([]);
    const { verdict, metrics, history, epoch, model } = await run;
    expect(verdict.labels).toBe("none");
    for (const name of names) expect(verdict.teachers[0]?.metrics[name]).toBeCloseTo(1, 12);
    const taught = verdict.teachers[0]?.fidelity as TeacherVerdict["fidelity"];
    const { neighbourOverlap, distanceRankCorrelation, angleRankCorrelation, recall } = taught;
    const recalls = Object.fromEntries(Object.entries(recall).map(([k, share]) => [`teacherRecall@${k}`, share]));
    expect(metrics).toEqual({ neighbourOverlap, distanceRankCorrelation, angleRankCorrelation, ...recalls });
    expect(verdict.studentAfter.metrics).toEqual(metrics);
    // Distances are what it learns: it has learned some.
    const before = verdict.studentBefore.metrics.distanceRankCorrelation ?? 1;
    expect(distanceRankCorrelation).toBeGreaterThan(before);
    const judged = history.map(({ validation }) => validation?.neighbourOverlap ?? -1);
    expect(epoch).toBe(1 + judged.indexOf(Math.max(...judged)));

    const bytes = readFileSync(model, "base64");
    await distill(options({ overwrite: true, threads: 1 }));
    expect(readFileSync(model, "base64")).toBe(bytes);
    expect((await evaluate({ model: out })).metrics).toEqual(metrics);
    expect((await evaluate({ model: out, data: photos })).metrics).toEqual(metrics);
    const itself = await evaluate({ model: teacher, data: photos, teacher, part: "train" });
    expect([itself.images, itself.classes, itself.metrics["teacherRecall@1"]]).toEqual([80, 0, 1]);
  });

  it("can be embedded and looked at", async () => {
    const file = join(folder, "all.npy");
    expect(await embed({ model: out, data: photos, out: file })).toMatchObject({ images: 100 });
    const ids = JSON.parse(readFileSync(`${file}.ids.json`, "utf8"));
    expect(Object.keys(ids)).toEqual(["ids", "model", "modelHash"]);
    expect(ids.ids[99]).toBe("099.pgm");
    const [found] = await neighbours({ model: out, queries: 1, k: 2 });
    expect(found?.query.class).toBe("");
  });

  it("keeps both weights, each measured by the teacher", async () => {
    const { last, metrics } = await distill(options({ keep: "both", out: join(folder, "both") }));
    expect(Object.keys(last?.metrics ?? {}).sort()).toEqual(Object.keys(metrics ?? {}).sort());
  });

  it("is shown by the command line without a word of classes", async () => {
    const doctor = await rkd("doctor", "data", photos);
    expect(doctor.stdout).toContain("100 images without labels.");
    expect(doctor.stdout).toContain("note: there are no labels: the split is by images, and a student keeps");
    expect(doctor.stdout).toMatch(/all +100 +-/);
    const flags = ["--teacher", teacher, "--data", photos, "--backbone", "conv4", "--width", "4", "--embedding", "8"];
    const shown = await rkd("distill", ...flags, "--epochs", "1", "--batch", "16", "--out", join(folder, "shown"));
    expect(shown.stderr).toContain("images: train 80, validation 10, test 10");
    expect(shown.stderr).toMatch(/epoch 1, validation images: neighbourOverlap [\d.]+ % {2}distanceRankCorrelation/);
    expect(shown.stdout).toMatch(/^test images +3 nearest +distances +angles +nearest@1/);
    expect(`${shown.stdout}${shown.stderr}`).not.toContain("classes");
    const measured = await rkd("evaluate", join(folder, "shown"));
    expect(measured.stdout).toContain("test: 10 images without labels, measured by the teacher's relations");
    const json = await rkd("evaluate", join(folder, "shown"), "--json");
    const { metrics, fidelity } = JSON.parse(json.stdout.trim().split("\n").at(-1) ?? "");
    expect(fidelity[0].recall["1"]).toBe(metrics["teacherRecall@1"]);
  });

  it.each<[string, () => Promise<unknown>, string[]]>([
    [
      "training without a teacher",
      () => train(smallRun(join(folder, "x"), { data: photos, batch: { size: 16 } })),
      ["data: there is nothing to learn from", "Distill from a teacher", "a manifest with a column class"],
    ],
    [
      "losses of classes",
      () => distill(options({ losses: [rkdDistance(), triplet()] })),
      ["losses", "that go without labels (rkd-distance, rkd-angle, ", '"triplet-squared" for images without labels'],
    ],
    ["losses of logits", () => distill(options({ losses: [softTargetKl()] })), ['"soft-target-kl" for images']],
    ["batches by class", () => distill(options({ batch: { perClass: 2 } })), ["batch.perClass", "without labels"]],
    [
      "episodes",
      () => distill(options({ batch: { episode: { way: 2, shots: 1, queries: 1 } } })),
      ["batch.episode", "without labels"],
    ],
    [
      "splits by classes",
      () =>
        distill(
          options({
            overwrite: true,
            data: imageFolder(photos, { split: { kind: "classes", validation: 0.1, test: 0.2 } }),
          }),
        ),
      ["no image has a class", 'labels "none", split by images'],
    ],
    [
      "a measure without a teacher",
      () => evaluate({ model: teacher, data: photos }),
      ["teacher", "a teacher whose relations are the measure", "Name the teacher (--teacher)"],
    ],
    [
      "few-shot episodes",
      () => evaluate({ model: out, fewShot: [{ way: 2, shots: 1 }] }),
      ["fewShot", "images with classes"],
    ],
  ])("refuses %s in words", async (_, job, parts) => {
    const error: Error = await job().then(
      () => new Error("nothing was refused"),
      (error) => error,
    );
    for (const part of parts) expect(error.message).toContain(part);
  });
});

it("leaves classes of a tree aside where the user says so, and shows both measures where they count", async () => {
  const tree = waves(join(folder, "tree"), 60, (i) => `${i % 12}/${i}.pgm`);
  const none = await distill(
    options({ data: imageFolder(tree, { labels: "none" }), epochs: 1, out: join(folder, "none") }),
  );
  expect([none.verdict.labels, Object.keys(none.verdict.teachers[0]?.metrics ?? {})]).toEqual([
    "none",
    expect.not.arrayContaining(["recall@1"]),
  ]);
  const both = await distill(options({ data: tree, epochs: 1, out: join(folder, "classes") }));
  expect(both.verdict.labels).toBe("classes");
  expect(both.verdict.studentAfter.metrics["recall@1"]).toBeGreaterThanOrEqual(0);
  expect(both.verdict.teachers[0]?.fidelity.recall["1"]).toBeGreaterThanOrEqual(0);
  // The run's own labels are those of its evaluation.
  expect((await evaluate({ model: join(folder, "none"), data: tree })).metrics).toEqual(none.metrics);
});

it("takes a manifest with parts of its own", async () => {
  waves(join(folder, "listed"), 40, (i) => `images/${i}.pgm`);
  const rows = Array.from({ length: 40 }, (_, i) =>
    JSON.stringify({ file: `images/${i}.pgm`, id: i, split: i < 30 ? "train" : "test" }),
  );
  const data = join(folder, "listed", "list.jsonl");
  writeFileSync(data, rows.join("\n"));
  const { verdict } = await distill(options({ data, epochs: 1, out: join(folder, "by-list") }));
  expect(verdict.labels).toBe("none");
  const plan = JSON.parse(readFileSync(join(folder, "by-list", "plan.json"), "utf8")).plan;
  expect(plan.data.split).toEqual({ kind: "source", validation: 0.1 });
  await expect(
    distill(
      options({
        data: join(folder, "listed", "images", "[12]*.pgm"),
        epochs: 1,
        batch: { size: 8 },
        out: join(folder, "listed", "images", "run"),
      }),
    ),
  ).rejects.toThrow(/out: this is the folder of the data/);
});
