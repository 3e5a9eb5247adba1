/** Every recipe at the scale that takes seconds: it runs, every cell of its table has a figure, the tables are there. */

import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, it } from "vitest";
import { curvesOf } from "../../src/experiment/curves.ts";
import { type ReproduceOptions, recipeNames, reproduce, type StepEvent } from "../../src/index.ts";
import { recipes } from "../../src/recipes/list.ts";
import { planReproduce } from "../../src/recipes/plan.ts";
import { lines, rkd, start } from "../support/cli.ts";
import { temporaryFolder } from "../support/folders.ts";

/** The terms of a run that never had a gradient. */
function idleTerms(folder: string): string[] {
  const steps = lines(readFileSync(join(folder, "events.jsonl"), "utf8")).filter(({ type }) => type === "step");
  const terms: StepEvent["terms"] = steps.flatMap((step) => step.terms);
  const worked = new Set(terms.filter(({ gradientNorm }) => (gradientNorm ?? 0) > 0).map(({ name }) => name));
  return [...new Set(terms.map(({ name }) => name))].filter((name) => !worked.has(name));
}

describe("recipes", () => {
  it.each(Object.keys(recipeNames))("%s runs at smoke scale", async (name) => {
    const out = join(temporaryFolder(), name);
    const result = await reproduce(name, { scale: "smoke", seeds: 1, out });
    expect(result.complete).toBe(true);
    for (const { row, cells } of result.rows) {
      for (const { figure, best, last } of cells) {
        const all = [row, figure, best.mean, last?.mean];
        expect(all).toEqual([row, figure, expect.any(Number), expect.any(Number)]);
      }
    }
    expect(result.notes.join(" ")).toContain(
      name === "defaults" ? "not of the paper" : "not comparable with the paper's",
    );
    expect(result.gallery.length > 0).toBe(name === "retrieval");
    for (const file of ["table.md", "table.json", "table.html"]) expect(existsSync(join(out, file))).toBe(true);
    // A row whose loss has no gradient would be another row once more.
    for (const run of result.runs) expect([run.row, idleTerms(run.folder)]).toEqual([run.row, []]);
  });

  it("shows only chosen rows and columns, and trains the teacher that they need", async () => {
    const out = join(temporaryFolder(), "some");
    const chosen = { rows: ["RKD-DA", "Triplet"], columns: ["8"] };
    const result = await reproduce("metric-learning", { scale: "smoke", seeds: 1, out, ...chosen });
    expect(result.rows.map(({ row }) => row)).toEqual(["Triplet", "RKD-DA"]);
    expect(result.columns).toEqual(["8"]);
    expect(result.claims.map(({ says }) => says)).toEqual(["RKD-DA is above triplet alone"]);
    expect(readdirSync(join(out, "cells"))).toHaveLength(3);
  });

  it("shows a run's own network, its teacher and its baseline each with their own figures", async () => {
    const out = join(temporaryFolder(), "beside");
    const result = await reproduce("defaults", {
      scale: "smoke",
      seeds: 1,
      out,
      rows: ["teacher", "by labels alone", "the default"],
    });
    expect(result.rows.map(({ row, cells }) => [row, cells[0]?.beside])).toEqual([
      ["teacher", true],
      ["by labels alone", true],
      ["the default", false],
    ]);
    const lines = curvesOf(result).flatMap((chart) => chart.lines.map(({ name }) => name));
    expect([...new Set(lines)]).toEqual(["the default"]);

    // The default keeps the last weights, so these are shown and judged: the baseline's own, too.
    const [, alone, chosen] = result.rows.map(({ cells }) => cells[0]);
    const folder = chosen?.folders[0] as string;
    const last = (at: string) => JSON.parse(readFileSync(join(at, "metrics.json"), "utf8")).last.metrics["recall@1"];
    const figures = [last(folder), last(join(folder, "baseline"))];
    expect([chosen?.last?.mean, alone?.last?.mean]).toEqual(figures);
    expect(result.claims[0]?.differences[0]?.mean).toBeCloseTo(figures[0] - figures[1], 12);
    const page = readFileSync(join(out, "table.md"), "utf8");
    expect(page.indexOf("the last weights:")).toBeLessThan(page.indexOf("weights chosen by the validation part:"));
  });

  // What the defaults were chosen from is not in the paper.
  const ofPaper = recipes.filter(({ name }) => name !== "defaults");
  it.each(ofPaper.map((recipe) => [recipe.name, recipe] as const))("%s has the paper's whole table", (_, recipe) => {
    expect(recipe.published.length).toBeGreaterThan(0);
    for (const { columns, rows } of recipe.published) {
      for (const values of Object.values(rows)) expect(values).toHaveLength(columns.length);
    }
  });
});

describe("a recipe at the pretrained scale", () => {
  const pretrained = (name: string, options: ReproduceOptions) =>
    planReproduce(name, { scale: "pretrained", ...options }, new AbortController().signal);

  it("begins every network with the weights of its architecture", async () => {
    const weights = { "efficientnet-lite0": "lite0.pth", "efficientnet-lite2": "lite2.pth" };
    const able = recipes.filter(({ scales }) => scales.pretrained);
    expect(able.map(({ name }) => name)).toEqual([
      ...["metric-learning", "self-distillation", "state-of-the-art", "classification"],
      ...["domain-adaptation", "defaults"],
    ]);
    for (const { name } of able) {
      const alone = ["self-distillation", "domain-adaptation"].includes(name);
      const { rows, columns, cell } = await pretrained(name, {
        weights: alone ? { "efficientnet-lite0": "lite0.pth" } : weights,
      });
      for (const row of rows) {
        const { train, distill } = cell({ row, column: columns[0] as string, seed: 1, model: (other) => other });
        const network = train ? train.backbone : distill.student;
        const file = weights[network?.kind as keyof typeof weights];
        expect([name, row, (train ?? distill).weights]).toEqual([name, row, file]);
      }
    }
  });

  it("wants a file for each, and is refused where a recipe has none", async () => {
    const failure = pretrained("metric-learning", { weights: { "efficientnet-lite0": "lite0.pth" } });
    await expect(failure).rejects.toMatchObject({ subject: "weights" });
    await expect(failure).rejects.toThrow("efficientnet-lite2 at scale pretrained");
    await expect(pretrained("few-shot", {})).rejects.toThrow(
      'scale: invalid value: expected "smoke" or "small" or "paper"',
    );
  });
});

describe("a recipe at the paper's scale", () => {
  /** A data set by its lists and names; nothing decodes its images. */
  function published(files: Readonly<Record<string, string>>): string {
    const folder = temporaryFolder();
    for (const [name, content] of Object.entries(files)) {
      mkdirSync(dirname(join(folder, name)), { recursive: true });
      writeFileSync(join(folder, name), content);
    }
    return folder;
  }

  const tinyImageNet = () =>
    published({ "wnids.txt": "n1\nn2\n", "train/n1/images/a.JPEG": "", "val/n1/images/b.JPEG": "" });
  const products = () => {
    const list = (id: number, file: string) =>
      `image_id class_id super_class_id path\n${id} ${id} 1 bicycle_final/${file}\n`;
    const lists = { "Ebay_train.txt": list(1, "a.JPG"), "Ebay_test.txt": list(2, "b.JPG") };
    return published({ ...lists, "bicycle_final/a.JPG": "", "bicycle_final/b.JPG": "" });
  };
  const miniImageNet = () => {
    const parts = ["train", "val", "test"];
    const lists = parts.map((part) => [`${part}.csv`, `filename,label\n${part}.jpg,${part}\n`]);
    return published({
      ...Object.fromEntries(lists),
      ...Object.fromEntries(parts.map((part) => [`images/${part}.jpg`, ""])),
    });
  };

  async function cell(name: string, at: { row: string; column?: string }, options: ReproduceOptions) {
    const plan = await planReproduce(name, { scale: "paper", ...options }, new AbortController().signal);
    const column = at.column ?? (plan.columns[0] as string);
    const { train, distill } = plan.cell({ row: at.row, column, seed: 1, model: (row) => row });
    return { plan, options: train ?? distill };
  }

  it("has Tiny ImageNet's own networks and length, and CIFAR-100's for others", async () => {
    const [own, other] = [tinyImageNet(), "glyphs"];
    const both = { data: [own, other] };
    const first = await cell("classification", { row: "Teacher" }, both);
    expect(first.options).toMatchObject({ backbone: { kind: "resnet101" }, epochs: 300, stepsPerEpoch: 782 });
    expect(first.options?.data).toMatchObject({ imageSize: 64 });
    const second = await cell("classification", { row: "Teacher", column: other }, both);
    expect(second.options).toMatchObject({ backbone: { kind: "resnet50" }, epochs: 200, stepsPerEpoch: 391 });
  });

  it("has the length and the K of Stanford Online Products", async () => {
    const data = [products()];
    const teacher = await cell("metric-learning", { row: "teacher" }, { data });
    expect(teacher.options).toMatchObject({ epochs: 40, stepsPerEpoch: 1000 });
    const { plan, options } = await cell("state-of-the-art", { row: "RKD-DA" }, { data });
    expect(options).toMatchObject({ epochs: 120, stepsPerEpoch: 500, evaluation: { ks: [1, 10, 100, 1000] } });
    expect(plan.figures).toEqual(["recall@1", "recall@10", "recall@100", "recall@1000"]);
  });

  it("has the images, the episodes and the split of miniImageNet", async () => {
    const data = [miniImageNet()];
    const { plan, options } = await cell("few-shot", { row: "Teacher" }, { data });
    expect(plan.columns).toEqual(["5-way 1-shot", "5-way 5-shot"]);
    expect(options?.batch).toEqual({ episode: { way: 30, shots: 1, queries: 15 } });
    expect(options?.data).toMatchObject({ imageSize: 84, channels: 3, split: { kind: "source", validation: 0 } });
    expect(options?.data).not.toHaveProperty("rotations");
    const five = await cell("few-shot", { row: "Teacher", column: "5-way 5-shot" }, { data });
    expect(five.options?.batch).toEqual({ episode: { way: 20, shots: 5, queries: 15 } });
  });

  it("lets networks begin with weights, and says so", async () => {
    const weights = { resnet50: "r50.pth" };
    const begun = await cell("metric-learning", { row: "teacher" }, { weights });
    expect(begun.options).toMatchObject({ weights: "r50.pth" });
    expect(begun.plan.notes?.join(" ")).toContain("the architecture resnet50 start from a file");
    expect(begun.plan.notes?.join(" ")).not.toContain("Networks start from random weights");
    const student = await cell("metric-learning", { row: "RKD-DA" }, { weights });
    expect(student.options).not.toHaveProperty("weights");
    const wrong = cell("metric-learning", { row: "teacher" }, { weights: { vgg11: "x.pth" } });
    await expect(wrong).rejects.toMatchObject({ subject: "weights.vgg11" });
  });

  it("refuses two data sets of one name", async () => {
    const [a, b] = [published({ "photos/c/1.png": "", "photos/d/1.png": "" }), published({ "photos/c/1.png": "" })];
    const data = [join(a, "photos"), join(b, "photos")];
    await expect(cell("ablation", { row: "RKD-D" }, { data })).rejects.toMatchObject({ subject: "data[1]" });
  });
});

it("rkd reproduce, killed again and again, repeats no finished cell and ends with the same table", async () => {
  const [whole, cut] = [join(temporaryFolder(), "whole"), join(temporaryFolder(), "cut")];
  const args = (out: string) => ["reproduce", "self-distillation", "--scale", "smoke", "--out", out, "--json"];
  const uncut = await start(args(whole)).done;
  expect(lines(uncut.stdout).map(({ type }) => type)).toEqual(expect.arrayContaining(["plan", "cell", "end"]));
  const read = (out: string) => JSON.parse(readFileSync(join(out, "table.json"), "utf8"));
  const dates = () => {
    const cells = existsSync(join(cut, "cells")) ? readdirSync(join(cut, "cells")) : [];
    const results = cells.map((name) => join(cut, "cells", name, "result.json")).filter((file) => existsSync(file));
    return new Map(results.map((file) => [file, JSON.parse(readFileSync(file, "utf8")).date]));
  };
  let [kills, code] = [0, null as number | null];
  let finished = new Map<string, string>();
  while (code === null) {
    // Every attempt ends a run, and is killed in the middle of the next one.
    const child = start(args(cut));
    let said = "";
    child.stdout?.on("data", (text: Buffer) => {
      said += text;
      const inTheNext = /"type":"cell".*"doing":"training"/s.test(said);
      if (inTheNext && child.kill("SIGKILL")) kills += 1;
    });
    code = (await child.done).code;
    const now = dates();
    for (const [file, date] of finished) expect(now.get(file)).toBe(date);
    finished = now;
  }
  expect(code).toBe(0);
  expect(kills).toBeGreaterThanOrEqual(3);
  const figures = ({ rows }: ReturnType<typeof read>) => rows.map(({ cells }: (typeof rows)[number]) => cells[0].best);
  expect(figures(read(cut))).toEqual(figures(read(whole)));
  expect(read(cut).complete).toBe(true);
});

describe("rkd reproduce", () => {
  it("lists the recipes", async () => {
    const { code, stdout } = await rkd("reproduce", "--list");
    expect(code).toBe(0);
    for (const name of Object.keys(recipeNames)) expect(stdout).toContain(name);
  });

  it.each([
    [["reproduce", "metric-lerning"], 'Did you mean "metric-learning"?'],
    [["reproduce"], "Give one of metric-learning"],
    [["reproduce", "metric-learning", "--scale", "huge"], "--scale: invalid value"],
    [["reproduce", "metric-learning", "--data", "no/such"], "no/such: there is no such folder"],
    [["reproduce", "metric-learning", "--scale", "smoke", "--rows", "RKD-DB"], 'Did you mean "RKD-D"?'],
    [["reproduce", "metric-learning", "--scale", "smoke", "--columns", "5"], 'expected "4" or "8"'],
    [["reproduce", "metric-learning", "--seeds", "0"], "at least 1"],
    [["reproduce", "metric-learning", "--weights", "resnet50"], "network=file"],
  ])("%j is refused", async (args, message) => {
    const { code, stderr } = await rkd(...args);
    expect(stderr).toContain(message);
    expect(code).toBeGreaterThan(1);
  });

  it("prints the table and the verdicts", async () => {
    const out = join(temporaryFolder(), "x");
    const { code, stdout } = await rkd(
      "reproduce",
      "metric-learning",
      "--scale",
      "smoke",
      "--seeds",
      "1",
      "--out",
      out,
    );
    expect(code).toBe(0);
    const said = ["RKD-DA is above triplet alone: ", "Paper, table 1 (a)", "not comparable with the paper's"];
    for (const part of [...said, "Data: Recognised 20 procedurally", "table.html"]) {
      expect(stdout).toContain(part);
    }
  });
});
