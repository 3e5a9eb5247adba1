/** Stored vectors as data: a student that makes them short. */

import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { type DistillOptions, distill, embed, evaluate, linearHint, resume, rkdDistance } from "../../src/index.ts";
import { rkd } from "../support/cli.ts";
import { temporaryFolder } from "../support/folders.ts";
import { writeNpy } from "../support/npy.ts";
import { readDocument } from "../support/tensors.ts";

const folder = temporaryFolder();
const COUNT = 120;
const LENGTH = 20;
/** Vectors on a curved surface in many dimensions: what is near in two numbers is near in all. */
const row = (i: number) => {
  const [u, v] = [(i * 0.618) % 1, (i * 0.414) % 1];
  return Array.from(
    { length: LENGTH },
    (_, k) => Math.sin((1 + (k % 4)) * u + k) + Math.cos((1 + (k % 3)) * v * 2 - k),
  );
};
const flat = join(folder, "flat.npy");
const labelled = join(folder, "labelled.npy");

const small = (out: string, more: Partial<DistillOptions> = {}): DistillOptions => ({
  data: flat,
  student: { kind: "mlp", hidden: [32], embedding: 6 },
  batch: { size: 16 },
  epochs: 3,
  threads: 2,
  out: join(folder, out),
  ...more,
});

const model = (out: string) => readFileSync(join(folder, out, "model.safetensors"), "base64");

const refusal = (job: Promise<unknown>): Promise<string> =>
  job.then(
    () => "nothing was refused",
    (error) => error.message,
  );

beforeAll(() => {
  const items = Array.from({ length: COUNT }, (_, i) => i);
  writeNpy(flat, items.map(String), items.map(row));
  const name = (i: number) => `class${i % 8}/${i}.jpg`;
  writeNpy(
    labelled,
    items.map(name),
    items.map((i) => row(i).map((value, k) => value + (k === i % 8 ? 3 : 0))),
  );
});

describe("a student of stored vectors", () => {
  it("needs them and a folder, and is measured by them", async () => {
    const out = join(folder, "alone");
    const run = await rkd("distill", "--data", flat, "--epochs", "2", "--batch", "16", "--out", out);
    expect(run.code, run.stderr).toBe(0);
    const { plan } = JSON.parse(readFileSync(join(out, "plan.json"), "utf8"));
    expect(plan.backbone).toMatchObject({ kind: "mlp", embedding: 64, imageSize: 1, inChannels: LENGTH });
    expect(plan.data).toMatchObject({ kind: "vectors", labels: "none", imageSize: 1, channels: LENGTH });
    expect(plan.teachers).toMatchObject([{ model: flat, features: "cached" }]);
    expect(Object.values(plan.data.augment).every((strength) => strength === 0 || strength === false)).toBe(true);
    const { verdict } = JSON.parse(readFileSync(join(out, "metrics.json"), "utf8"));
    expect(verdict.teachers[0].metrics.neighbourOverlap).toBeCloseTo(1, 12);
    // They have neither pictures nor a size, and relations all the same.
    const page = readFileSync(join(out, "report.html"), "utf8");
    expect(page).toContain("Where they disagree most");
    expect(page).toContain("Its embedding has 64 numbers in place of");
    expect(page).not.toMatch(/defect in rkd|Infinity|<img data-image/);
    const card = readDocument(out);
    expect(card).toMatchObject({ input: "vectors", backbone: { inChannels: LENGTH } });
    expect(new Set(card.normalization.std).size).toBe(1);
  });

  it("learns to keep the neighbours, with prefixes, and ends with the same bytes when it was stopped", async () => {
    const given = { prefixes: [3], epochs: 12, losses: [rkdDistance(), linearHint({ relative: true })] };
    const { verdict } = await distill(small("whole", given));
    const { metrics } = verdict.studentAfter;
    expect(metrics.neighbourOverlap).toBeGreaterThan(verdict.studentBefore.metrics.neighbourOverlap as number);
    expect(verdict.prefixes).toMatchObject([{ embedding: 3 }]);
    const stop = new AbortController();
    const run = distill(small("stopped", { ...given, signal: stop.signal, checkpointEverySteps: 1 }));
    const watched = (async () => {
      for await (const event of run) if (event.type === "step" && event.step > 9) stop.abort(new Error("enough"));
    })();
    await expect(run).rejects.toThrow("enough");
    await watched.catch(() => {});
    const moved = join(folder, "elsewhere");
    mkdirSync(moved);
    const files = ["flat.npy", "flat.npy.ids.json"];
    for (const file of files) renameSync(join(folder, file), join(moved, file));
    try {
      await expect(resume(join(folder, "stopped"))).rejects.toThrow("there is no such folder or file");
      await resume(join(folder, "stopped"), { data: join(moved, "flat.npy") });
    } finally {
      for (const file of files) renameSync(join(moved, file), join(folder, file));
    }
    expect(model("stopped")).toBe(model("whole"));
  });

  it("embeds and is evaluated as any model", async () => {
    await distill(small("stored"));
    const run = join(folder, "stored");
    const out = join(folder, "short.npy");
    const { images, embedding } = await embed({ model: run, data: flat, out });
    expect([images, embedding]).toEqual([COUNT, 6]);
    expect(JSON.parse(readFileSync(`${out}.ids.json`, "utf8")).ids).toHaveLength(COUNT);
    const { fidelity, metrics } = await evaluate({ model: run });
    expect(fidelity).toHaveLength(1);
    expect(metrics.neighbourOverlap).toBeGreaterThan(0);
    // What it wrote is data again.
    await distill(small("shorter", { data: out, epochs: 1, student: { kind: "mlp", hidden: [8], embedding: 2 } }));
  });

  it("learns classes too, which the ids or a column say", async () => {
    const { verdict } = await distill(small("classes", { data: labelled, batch: { size: 16, perClass: 4 } }));
    expect(verdict.studentAfter.metrics["recall@1"]).toBeGreaterThanOrEqual(0);
    const table = join(folder, "table.csv");
    const text = Array.from(
      { length: COUNT },
      (_, i) => `${i},${"abcdefghijklmnopqrst"[i % 20]},${row(i).join(",")}`,
    ).join("\n");
    const heads = Array.from({ length: LENGTH }, (_, k) => `e${k}`).join(",");
    writeFileSync(table, `id,label,${heads}\n${text}\n`);
    const flags = ["--data", table, "--vectors", "--embedding", "6", "--batch", "16", "--per-class", "4"];
    const run = await rkd("distill", ...flags, "--epochs", "2", "--out", join(folder, "column"));
    expect(run.code, run.stderr).toBe(0);
    const { plan } = JSON.parse(readFileSync(join(folder, "column", "plan.json"), "utf8"));
    expect(plan.data.labels).toBe("classes");
    expect(plan.backbone).toMatchObject({ kind: "mlp", embedding: 6, normalize: false });
    const kinds = plan.losses.map(({ kind }: { kind: string }) => kind);
    expect(kinds).toEqual(["linear-hint", "rkd-distance", "rkd-angle"]);
    const told = await rkd("doctor", "data", labelled);
    expect(told.stdout).toContain(`${COUNT} vectors of 8 classes`);
  });

  it("takes no option of pictures, and no model takes the other kind", async () => {
    const cases: [Partial<DistillOptions>, string][] = [
      [{ student: { kind: "conv4" } }, 'student.kind: invalid value: expected "mlp" with data that are vectors'],
      [{ data: { source: flat, augment: "crop-flip" } }, "data.augment: invalid value: expected nothing with data"],
      [{ data: { source: flat, imageSize: 32 } }, "data.imageSize: invalid value: expected nothing with data"],
      [{ data: { source: flat, channels: 3 } }, "data.channels: invalid value: expected nothing with data"],
      [{ data: { source: flat, rotations: true } }, "data.rotations: invalid value: expected nothing with data"],
      [
        { data: { source: "glyphs", imageSize: 4 } },
        "data.imageSize: invalid value: expected a whole number at least 8",
      ],
      [
        { data: { source: "glyphs", channels: 2 as never } },
        "data.channels: invalid value: expected 1 or 3, received 2",
      ],
      [{ data: "glyphs" }, "teacher: this option is needed"],
    ];
    for (const [more, expected] of cases) expect(await refusal(distill(small("refused", more)))).toContain(expected);
    const stored = join(folder, "stored");
    const out = join(folder, "never.npy");
    const pictures = await refusal(embed({ model: stored, data: "glyphs:classes=4,writers=4", out }));
    expect(pictures).toContain(`expected vectors of ${LENGTH} numbers`);
    const other = writeNpy(
      join(folder, "other.npy"),
      ["a", "b", "c"],
      [
        [1, 2],
        [2, 1],
        [0, 1],
      ],
    );
    expect(await refusal(embed({ model: stored, data: other, out }))).toContain(
      `expected vectors of ${LENGTH} numbers`,
    );
    const twice = writeNpy(
      join(folder, "twice.npy"),
      ["a", "a", "c"],
      [
        [1, 2],
        [2, 1],
        [0, 1],
      ],
    );
    expect(await refusal(distill(small("refused", { data: twice })))).toContain("two vectors have the same id");
  });
});
