import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { conv4, distill, evaluate, glyphs, prototypical, rkdDistance, train } from "../../src/index.ts";
import { rkd } from "../support/cli.ts";
import { temporaryFolder } from "../support/folders.ts";
import { smallRun } from "../support/small.ts";

const data = glyphs({ classes: 30, writers: 8, split: { kind: "classes", validation: 0.2, test: 0.3 } });
const episode = { way: 5, shots: 2, queries: 3 };
const losses = [prototypical({ way: 5, supportCount: 2 })];
const options = (out: string) => smallRun(out, { data, losses, batch: { episode }, stepsPerEpoch: 25 });

describe("few-shot learning", () => {
  it("trains on episodes, distils on them, and is measured with an interval", async () => {
    const folder = temporaryFolder();
    const teacher = await train(options(join(folder, "teacher")));
    expect(teacher.history[1]?.loss).toBeLessThan(teacher.history[0]?.loss ?? 0);
    const { losses: _, backbone: student, ...run } = options(join(folder, "student"));
    const both = [...losses, rkdDistance()];
    await distill({ ...run, student, losses: both, teacher: teacher.out });

    const fewShot = [
      { way: 5, shots: 1, queries: 4 },
      { way: 3, shots: 2, queries: 3, episodes: 200 },
    ] as const;
    const found = await evaluate({ model: join(folder, "student"), fewShot });
    for (const [name, chance] of [
      ["fewshot/5-way-1-shot", 1 / 5],
      ["fewshot/3-way-2-shot", 1 / 3],
    ] as const) {
      expect(found.metrics[name]).toBeGreaterThan(chance + 0.1);
      expect(found.intervals?.[name]).toBeGreaterThan(0);
      expect(found.intervals?.[name]).toBeLessThan(0.05);
    }
    expect(await evaluate({ model: join(folder, "student"), fewShot, threads: 1 })).toMatchObject({
      metrics: found.metrics,
      intervals: found.intervals,
    });
    const shell = await rkd(
      "evaluate",
      join(folder, "student"),
      "--data",
      "glyphs:classes=30,writers=20",
      "--accept-changed-data", // each character has twelve writers more
      "--few-shot",
      "5x1",
    );
    expect(shell.stdout).toMatch(/fewshot\/5-way-1-shot \d+\.\d\d % ± \d\.\d\d %/);
  });

  it("says what an episode needs where a part has too few images", async () => {
    const out = join(temporaryFolder(), "run");
    await train(smallRun(out, { epochs: 1 }));
    const asked = evaluate({ model: out, fewShot: [{ way: 3, shots: 1 }] });
    await expect(asked).rejects.toThrow(/3 classes of 16 images or more \(1 \+ 15\), received 0 of the 4 classes/);
  });
});

describe("turns and lists", () => {
  it("train by lists, whose content the plan file remembers", async () => {
    const folder = temporaryFolder();
    const list = (name: string, from: number, to: number) => {
      const names = Array.from({ length: to - from }, (_, i) => `character${String(from + i).padStart(4, "0")}`);
      writeFileSync(join(folder, name), names.join("\n"));
      return join(folder, name);
    };
    const split = { kind: "lists", train: list("train.txt", 0, 12), test: list("test.txt", 12, 20) } as const;
    const turned = glyphs({ classes: 20, writers: 4, rotations: true, split });
    const out = join(folder, "run");
    const result = await train(smallRun(out, { data: turned, backbone: conv4({ width: 4, embedding: 8 }), epochs: 1 }));
    expect(result.metrics).not.toBeNull();
    const log = readFileSync(join(out, "events.jsonl"), "utf8");
    expect(JSON.parse(log.split("\n").find((line) => line.includes('"start"')) ?? "")).toMatchObject({
      train: { images: 192, classes: 48 },
      test: { images: 128, classes: 32 },
    });
    const { inputs } = JSON.parse(readFileSync(join(out, "plan.json"), "utf8"));
    expect(Object.keys(inputs).sort()).toEqual([split.test, split.train]);
  });
});

describe("rkd doctor data", () => {
  it("says what it recognised, what is in it and what is missing", async () => {
    const folder = temporaryFolder();
    const file = "bicycle_final/1_0.JPG";
    writeFileSync(join(folder, "Ebay_train.txt"), `image_id class_id super_class_id path\n1 1 1 ${file}\n`);
    const empty = await rkd("doctor", "data", folder);
    expect(empty.code).not.toBe(0);
    expect(empty.stderr).toContain("the folder holds no images");
    const shown = await rkd("doctor", "data", "glyphs:classes=4,writers=3");
    expect([shown.code, shown.stdout]).toEqual([0, expect.stringMatching(/4 procedurally drawn.*all +12 +4/s)]);
    const asJson = await rkd("doctor", "data", "glyphs:classes=4,writers=3", "--json");
    expect(JSON.parse(asJson.stdout)).toMatchObject({
      type: "end",
      kind: "glyphs",
      images: 12,
      classes: 4,
      warnings: [],
    });
    expect((await rkd("doctor", "dat", "x")).stderr).toContain('Did you mean "data"?');
    expect((await rkd("doctor", "data")).stderr).toContain("this option is needed");
  });
});
