/** Teachers that rkd did not train: ONNX models and stored vectors, from the option to the model. */

import { readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, it } from "vitest";
import {
  attentionTransfer,
  conv4,
  type DistillOptions,
  type DistillResult,
  distill,
  evaluate,
  hint,
  imageFolder,
  linearHint,
  resume,
  rkdAngle,
  rkdDistance,
  type StartEvent,
} from "../../src/index.ts";
import { lines, rkd, start } from "../support/cli.ts";
import { temporaryFolder } from "../support/folders.ts";
import { writeNpy } from "../support/npy.ts";
import { readTensors } from "../support/tensors.ts";
import { waves } from "../support/waves.ts";

const fixture = (name: string) => fileURLToPath(new URL(`../../crates/core/tests/${name}`, import.meta.url));
const onnx = (name: string) => fixture(`onnx/${name}.onnx`);
const folder = temporaryFolder();
const photos = join(folder, "photos");
const COUNT = 40;
const student = conv4({ width: 4, embedding: 8 });

const nameOf = (i: number) => `${String(i).padStart(3, "0")}.pgm`;
const names = Array.from({ length: COUNT }, (_, i) => nameOf(i));

/** What a teacher may have said of the image `i`: float32 numbers. */
function vector(i: number): number[] {
  const numbers = [Math.cos(4.8 * i), Math.sin(4.8 * i), i / COUNT, (i * i) / 1600, Math.cos(i), 1 / (i + 1)];
  return [...Float32Array.from(numbers)];
}

const options = (out: string, more: Partial<DistillOptions>): DistillOptions => ({
  student,
  data: imageFolder(photos, { imageSize: 28, channels: 1 }),
  batch: { size: 8 },
  epochs: 2,
  out: join(folder, out),
  threads: 2,
  ...more,
});

/** A run's result, its warnings, the phases of its work on data, and its model's bytes. */
async function follow(given: DistillOptions) {
  const run = distill(given);
  const warnings: string[] = [];
  const phases = new Set<string>();
  let start: StartEvent | undefined;
  for await (const event of run) {
    if (event.type === "warning") warnings.push(event.message);
    if (event.type === "start") start = event;
    if (event.type === "data") phases.add(event.phase);
  }
  const result: DistillResult = await run;
  return { result, warnings, phases, start, model: readFileSync(result.model, "base64") };
}

const refusal = (job: Promise<unknown>): Promise<Error> =>
  job.then(
    () => new Error("nothing was refused"),
    (error) => error,
  );

beforeAll(() => {
  waves(photos, COUNT, nameOf);
});

describe("an ONNX model", () => {
  it("teaches on a flat folder, and is asked once", async () => {
    const cache = join(folder, "cache");
    const data = imageFolder(photos, { imageSize: 28, channels: 1, cache });
    const first = await follow(options("once", { teacher: onnx("fixed"), data }));
    expect(first.result.verdict.labels).toBe("none");
    expect(first.result.verdict.teachers[0]?.metrics.neighbourOverlap).toBeCloseTo(1, 12);
    const { distanceRankCorrelation: before } = first.result.verdict.studentBefore.metrics;
    expect(first.result.verdict.teachers[0]?.fidelity.distanceRankCorrelation).toBeGreaterThan(before ?? 1);
    expect([...first.phases].sort()).toEqual(["decode", "embed", "teacherFeatures"]);
    const said = readdirSync(cache).filter((name) => name.endsWith(".rkdsaid"));
    expect(said).toHaveLength(2); // of the images as they are, and mirrored
    const again = await follow(options("twice", { teacher: { model: onnx("fixed") }, data }));
    expect(again.phases.has("teacherFeatures")).toBe(false);
    expect(again.model).toBe(first.model);
    // What was kept is what the teacher says.
    const other = imageFolder(photos, { imageSize: 28, channels: 1, cache: join(folder, "other-cache") });
    const fresh = await follow(options("fresh", { teacher: onnx("fixed"), data: other, threads: 1 }));
    expect(fresh.phases.has("teacherFeatures")).toBe(true);
    expect(fresh.model).toBe(first.model);
  });

  it("sees large images in smaller batches, and is timed all the same", async () => {
    const teacher = { model: onnx("plain"), onnx: { imageSize: 100 } };
    const { result } = await follow(options("large", { teacher, epochs: 1 }));
    const [row] = result.verdict.teachers;
    expect(row?.millisecondsPerImage).toBeGreaterThan(0);
    expect(row?.millisecondsPerImage).toBeLessThan(60_000);
  });

  it("is asked anew of turned images, which have the numbers of others", async () => {
    const root = waves(join(folder, "turned"), 48, (i) => `${i % 12}/${i}.pgm`);
    const model = async (out: string, rotations: boolean, cache: string) => {
      const data = imageFolder(root, { imageSize: 28, channels: 1, rotations, cache: join(folder, cache) });
      const run = await follow(options(out, { data, batch: { size: 8, perClass: 2 }, teacher: onnx("fixed") }));
      return run.model;
    };
    await model("turned-not", false, "shared-cache");
    expect(await model("turned-after", true, "shared-cache")).toBe(await model("turned-alone", true, "own-cache"));
  });

  it("teaches on a tree of classes, live too, with its preprocessing given", async () => {
    const tree = waves(join(folder, "tree"), 48, (i) => `${i % 12}/${i}.pgm`);
    const data = imageFolder(tree, { imageSize: 28, channels: 1, augment: "none" });
    const asked = { imageSize: 16, pooling: "class-token", normalization: { mean: [0.5], std: [0.5] } } as const;
    const given = { data, batch: { size: 8, perClass: null }, losses: [rkdDistance(), rkdAngle()] };
    const { result } = await follow(
      options("tree-plain", { ...given, teacher: { model: onnx("plain"), onnx: { imageSize: 16 } } }),
    );
    expect(result.verdict.labels).toBe("classes");
    expect(result.verdict.teachers[0]?.metrics["recall@1"]).toBeGreaterThanOrEqual(0);
    const tokens = {
      model: onnx("tokens"),
      onnx: { ...asked, normalization: { mean: [0.5, 0.5, 0.5], std: [1, 1, 1] } },
    };
    const cached = await follow(options("tree-cached", { ...given, teacher: tokens }));
    const live = await follow(options("tree-live", { ...given, teacher: tokens, teacherFeatures: "live" }));
    // Without augmentation both ways see the same pixels.
    expect(live.model).toBe(cached.model);
  });

  it("has an embedding of any length, and nothing inside", async () => {
    const teacher = onnx("fixed");
    const { result } = await follow(options("hinted", { teacher, losses: [linearHint(), rkdDistance()] }));
    expect(result.verdict.teachers[0]?.fidelity.neighbourOverlap).toBeGreaterThanOrEqual(0);
    const taps = { studentFeature: "blocks.1", teacherFeature: "layer3" };
    for (const loss of [hint(taps), attentionTransfer(taps)]) {
      const { message } = await refusal(distill(options("inside", { teacher, losses: [loss] })));
      expect(message).toContain("layer3");
      expect(message).toContain("embedding");
    }
  });

  it("is what evaluate compares with, in code and on the command line", async () => {
    const out = options("measured", { teacher: onnx("fixed") });
    const { result } = await follow(out);
    const model = join(folder, "measured");
    const { fidelity } = await evaluate({ model, teacher: onnx("fixed") });
    expect(fidelity).toMatchObject([{ teacher: "fixed", weight: 1, ...result.verdict.teachers[0]?.fidelity }]);
    const other = await rkd("evaluate", model, "--teacher", onnx("two"), "--teacher-output", "second", "--json");
    expect(other.code, other.stderr).toBe(0);
    expect(lines(other.stdout).at(-1).fidelity[0].neighbourOverlap).toBeLessThanOrEqual(1);
  });
});

describe("several teachers", () => {
  const vectors = () => writeNpy(join(folder, "several.npy"), names, [...names.keys()].map(vector));
  const teachers = () => [onnx("fixed"), { model: vectors(), name: "stored", weight: 3 }];
  const losses = [rkdDistance(), linearHint(), rkdAngle({ teacher: "stored", weight: "auto" })];

  it("teach together: a model and vectors, each with its row, and a run that was stopped ends with the same bytes", async () => {
    const { result, model, warnings } = await follow(options("several", { teachers: teachers(), losses }));
    expect(warnings).toEqual([expect.stringMatching(/^Teacher fixed: .+ how its images are normalised/)]);
    const plan = JSON.parse(readFileSync(join(folder, "several", "plan.json"), "utf8"));
    expect(plan.plan.teachers).toMatchObject([
      { name: "fixed", weight: 1, features: "cached", vectors: null },
      { name: "stored", weight: 3, features: "cached", onnx: null },
    ]);
    expect(Object.keys(plan.inputs)).toEqual(expect.arrayContaining([onnx("fixed"), join(folder, "several.npy")]));
    const taught = result.verdict.teachers;
    expect(taught.map(({ name, embedding }) => [name, embedding])).toEqual([
      ["fixed", taught[0]?.embedding],
      ["stored", 6],
    ]);
    expect(taught[0]?.embedding).not.toBe(6);
    // Without labels the student's metrics are the average over the teachers.
    const [first, second] = taught.map(({ fidelity }) => fidelity.neighbourOverlap);
    const overlap = result.metrics?.neighbourOverlap ?? Number.NaN;
    expect(overlap).toBeCloseTo(((first ?? 0) + 3 * (second ?? 0)) / 4, 12);
    const { fidelity, metrics } = await evaluate({ model: join(folder, "several") });
    expect(fidelity?.map(({ teacher }) => teacher)).toEqual(["fixed", "stored"]);
    expect(metrics.neighbourOverlap).toBeCloseTo(overlap, 12);

    const place = options("stopped", { teachers: teachers(), losses, checkpointEverySteps: 1 });
    const run = distill(place);
    const stop = async () => {
      for await (const event of run) if (event.type === "checkpoint") run.abort("enough");
    };
    expect(await stop().catch((reason) => reason)).toBe("enough");
    const moved = join(folder, "moved.npy");
    renameSync(join(folder, "several.npy"), moved);
    renameSync(join(folder, "several.npy.ids.json"), `${moved}.ids.json`);
    const stopped = place.out as string;
    await expect(resume(stopped)).rejects.toThrow(/option teacher \(--teacher\)/);
    await expect(resume(stopped, { teacher: moved })).rejects.toThrow(/by its name, one of fixed, stored/);
    const resumed = await rkd("resume", stopped, "--teacher", `stored=${moved}`);
    expect(resumed.code, resumed.stderr).toBe(0);
    expect(resumed.stdout).toMatch(/^teacher fixed .+\nteacher stored /m);
    expect(readFileSync(join(stopped, "model.safetensors"), "base64")).toBe(model);
  });

  it("teach as one does where the list has one, and rows as the file that they become", async () => {
    const given = { losses: [rkdDistance(), linearHint()] };
    const one = await follow(options("one", { ...given, teacher: onnx("fixed") }));
    const list = await follow(options("list", { ...given, teachers: [onnx("fixed")] }));
    expect(list.model).toBe(one.model);
    const file = await follow(options("of-file", { ...given, teachers: [onnx("fixed"), vectors()] }));
    const embeddings = names.map((id, i) => ({ id, vector: vector(i) }));
    const rows = await follow(
      options("of-rows", { ...given, teachers: [onnx("fixed"), { embeddings, name: "rows" }] }),
    );
    expect(rows.model).toBe(file.model);
    const { plan } = JSON.parse(readFileSync(join(folder, "of-rows", "plan.json"), "utf8"));
    expect(plan.teachers[1]).toMatchObject({ name: "rows", model: join(folder, "of-rows", "teacher.npy") });
  });

  it("are rows of several databases, each a file of its own", async () => {
    const embeddings = names.map((id, i) => ({ id, vector: vector(i) }));
    const others = names.map((id, i) => ({ id, vector: vector(2 * i + 1).slice(1) }));
    const given = (teachers: unknown) =>
      ({ losses: [rkdDistance(), linearHint()], teachers }) as Partial<DistillOptions>;
    const rows = await follow(options("two-rows", given([{ embeddings }, { embeddings: others, weight: 2 }])));
    const files = ["teacher.npy", "teacher-2.npy"].map((name) => join(folder, "two-rows", name));
    const { plan, inputs } = JSON.parse(readFileSync(join(folder, "two-rows", "plan.json"), "utf8"));
    expect(plan.teachers.map(({ model }: { model: string }) => model)).toEqual(files);
    expect(Object.keys(inputs).sort()).toEqual([...files].sort());
    expect(rows.start?.teachers.map(({ backbone }) => backbone.split(",")[0])).toEqual([
      "teacher.npy",
      "teacher-2.npy",
    ]);
    const [first, second] = files as [string, string];
    const stored = await follow(options("two-files", given([first, { model: second, weight: 2 }])));
    expect(rows.model).toBe(stored.model);
    const broken = await refusal(
      distill(options("two-broken", given([{ embeddings }, { embeddings: [{ id: "a", vector: [Number.NaN] }] }]))),
    );
    expect(broken.message).toContain('teachers[1].embeddings: row 1 ("a")');
    const many = Array.from({ length: 9 }, () => ({ embeddings }));
    const refused = await refusal(distill(options("many-rows", given(many))));
    expect(refused.message).toContain("teachers[8].embeddings: invalid value: expected rows of 8 teachers at most");
  });

  it("are named by flags, and what is wrong about them is said", async () => {
    const given = [
      "--teacher",
      onnx("fixed"),
      "--teacher",
      vectors(),
      "--data",
      photos,
      "--out",
      join(folder, "flags"),
    ];
    const small = ["--image-size", "28", "--channels", "1", "--batch", "8", "--epochs", "1", "--backbone", "conv4"];
    const terms = ["--loss", "rkd-distance", "--loss", "rkd-angle:2=several"];
    const run = await rkd("distill", ...given, ...small, ...terms, "--teacher-weight", "2,1");
    expect(run.code, run.stderr).toBe(0);
    const { plan } = JSON.parse(readFileSync(join(folder, "flags", "plan.json"), "utf8"));
    expect(plan.teachers).toMatchObject([
      { name: "fixed", weight: 2 },
      { name: "several", weight: 1 },
    ]);
    expect(plan.losses[1]).toMatchObject({ kind: "rkd-angle", weight: 2, teacher: "several" });
    for (const [flags, part] of [
      [["--loss", "rkd-angle=severl"], 'Did you mean "several"?'],
      [["--teacher-weight", "2"], "a weight for each --teacher, 2"],
      [["--teacher-pooling", "mean-token"], "say in code how each of several is read"],
    ] as const) {
      const refused = await rkd("distill", ...given, ...small, ...flags);
      expect(refused.code).toBe(2);
      expect(refused.stderr.toLowerCase()).toContain(part.toLowerCase());
    }
    const both = await refusal(distill(options("both", { teacher: onnx("fixed"), teachers: teachers() })));
    expect(both.message).toContain("teachers: invalid value: expected nothing beside teacher");
  });
});

describe("stored vectors", () => {
  it("teach the same from every file", async () => {
    const ids = names;
    const rows = ids.map((_, i) => vector(i));
    const npy = writeNpy(join(folder, "vectors.npy"), ids, rows);
    const csv = join(folder, "vectors.csv");
    writeFileSync(csv, ["path,vector", ...ids.map((id, i) => `${id},"[${rows[i]}]"`)].join("\n"));
    const jsonl = join(folder, "vectors.jsonl");
    writeFileSync(
      jsonl,
      ids.map((id, i) => JSON.stringify({ id: id.replace(".pgm", ".jpg"), vector: rows[i] })).join("\n"),
    );
    const models: string[] = [];
    for (const [i, teacher] of [npy, csv, jsonl].entries()) {
      const { result, warnings } = await follow(options(`stored-${i}`, { teacher }));
      expect(warnings).toEqual([]);
      expect(result.verdict.teachers[0]?.parameters).toBe(0);
      expect(result.verdict.teachers[0]?.metrics.neighbourOverlap).toBeCloseTo(1, 12);
      models.push(JSON.stringify(readTensors(join(folder, `stored-${i}`))));
    }
    expect(new Set(models).size).toBe(1);
  });

  it("are read from tables of other programs", async () => {
    const four = ["cat/1.jpg", "cat/2.jpg", "dog/ä.jpg", "dog/4.jpg"];
    const data = imageFolder(
      waves(join(folder, "four"), four.length, (i) => four[i] ?? ""),
      {
        imageSize: 28,
        channels: 1,
        labels: "none",
        split: { kind: "images", validation: 0, test: 0 },
      },
    );
    const models: string[] = [];
    for (const name of ["float32.npy", "plain.parquet", "zstd.parquet", "fixed.arrow", "lists.csv", "stored.npz"]) {
      const given = options(`four-${name}`, {
        data,
        teacher: fixture(`vectors/${name}`),
        batch: { size: 4 },
        epochs: 1,
      });
      models.push((await follow(given)).model);
    }
    expect(new Set(models).size).toBe(1);
  });

  it("may lack some images, and not most", async () => {
    const some = names.slice(0, 32);
    const extra = [...some, "elsewhere.jpg"];
    const model = writeNpy(
      join(folder, "some.npy"),
      extra,
      extra.map((_, i) => vector(i)),
    );
    const { message } = await refusal(distill(options("few", { teacher: model })));
    for (const part of ["032.pgm", "elsewhere.jpg", "allowMissing"]) expect(message).toContain(part);
    const { warnings, result } = await follow(options("few", { teacher: { model, vectors: { allowMissing: true } } }));
    expect(warnings.join("\n")).toContain("images without a vector, left out of training: 8 of 40 (032.pgm");
    expect(result.verdict.teachers[0]?.fidelity.neighbourOverlap).toBeGreaterThanOrEqual(0);
    const strange = writeNpy(
      join(folder, "strange.npy"),
      ["a", "b", "c"],
      [0, 1, 2].map((i) => vector(i)),
    );
    const poor = await refusal(
      distill(options("strange", { teacher: { model: strange, vectors: { allowMissing: true } } })),
    );
    for (const part of ["000.pgm", '"a", "b", "c"']) expect(poor.message).toContain(part);
  });

  it("see no augmented images and have no taps", async () => {
    const teacher = join(folder, "vectors.npy");
    const live = await refusal(distill(options("live", { teacher, teacherFeatures: "live" })));
    expect(live.message).toContain('expected "cached" with stored vectors');
    const losses = [hint({ studentFeature: "blocks.1", teacherFeature: "layer3" })];
    const inside = await refusal(distill(options("inside", { teacher, losses })));
    expect(inside.message).toContain("embedding");
    const { result } = await follow(options("hinted-by-vectors", { teacher, losses: [linearHint()] }));
    expect(result.steps).toBeGreaterThan(0);
  });
});

it.each([
  ["an ONNX model", () => onnx("fixed")],
  ["stored vectors", () => join(folder, "vectors.npy")],
])("ends with the same bytes after a kill, taught by %s", async (name, teacher) => {
  const place = (which: string) => join(folder, `${name} ${which}`);
  const flags = (out: string) =>
    ["distill", "--teacher", teacher(), "--data", photos, "--image-size", "28", "--channels", "1"]
      .concat("--backbone", "conv4", "--width", "4", "--embedding", "8", "--batch", "8", "--epochs", "40")
      .concat("--checkpoint-every", "3", "--json", "--out", out);
  const whole = start(flags(place("whole")));
  const killed = start(flags(place("killed")));
  killed.stdout?.on("data", (text) => {
    if (String(text).includes('"type":"checkpoint"')) killed.kill("SIGKILL");
  });
  expect((await killed.done).code).toBe(null);
  expect((await whole.done).code).toBe(0);
  const resumed = await rkd("resume", place("killed"), "--json");
  expect(resumed.code, resumed.stderr).toBe(0);
  const model = (which: string) => readFileSync(join(place(which), "model.safetensors"), "base64");
  expect(model("killed")).toBe(model("whole"));
});

describe("rkd doctor teacher", () => {
  it("tries an ONNX model out", async () => {
    const { stdout, stderr, code } = await rkd("doctor", "teacher", onnx("fixed"));
    expect(code, stderr).toBe(0);
    expect(stdout).toMatch(/written by make\.py, opset 17/);
    expect(stdout).toMatch(/embedding +out: 5 numbers/);
    expect(stdout).toMatch(/images +16 x 16, colour/);
  });

  it("judges stored vectors", async () => {
    const { stdout, stderr, code } = await rkd("doctor", "teacher", join(folder, "vectors.npy"));
    expect(code, stderr).toBe(0);
    expect(stdout).toMatch(/vectors +40 of 6 numbers, npy, float32/);
    expect(stdout).toMatch(/norms +[\d.]+ to [\d.]+, median [\d.]+/);
    const json = await rkd("doctor", "teacher", fixture("vectors/float16.npy"), "--json");
    expect(lines(json.stdout)[0].vectors).toMatchObject({ vectors: 4, dimension: 3, element: "float16" });
    const rough = await rkd("doctor", "teacher", fixture("vectors/float16.npy"));
    expect(rough.stdout).toContain("note: stored as float16");
    const { code: refused, stderr: why } = await rkd("doctor", "teacher", fixture("vectors/none.npy"));
    expect(refused).toBe(3);
    expect(why).toContain("the vectors have no ids");
  });

  it("says what a run of rkd is", async () => {
    const { stdout, stderr, code } = await rkd("doctor", "teacher", join(folder, "measured"));
    expect(code, stderr).toBe(0);
    expect(stdout).toMatch(/network +conv4 of width 4/);
    expect(stdout).toMatch(/embedding +8 numbers/);
    expect(stdout).toMatch(/images +28 x 28, grey/);
    expect(stdout).toMatch(/trained on .*photos, without labels/);
  });
});
