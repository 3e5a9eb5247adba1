import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { documentOf } from "../../src/experiment/document.ts";
import {
  constant,
  conv4,
  type ExperimentEvent,
  type ExperimentOptions,
  evaluate,
  experiment,
  glyphs,
  sgd,
} from "../../src/index.ts";
import { toMarkdown } from "../../src/report/markdown.ts";
import { temporaryFolder } from "../support/folders.ts";

const split = { kind: "classes", validation: 0.2, test: 0.2 } as const;
const data = glyphs({ classes: 20, writers: 8, split });
const small = { data, epochs: 2, stepsPerEpoch: 3, batch: { size: 16, perClass: 4 }, evaluation: { ks: [1, 2] } };

/** A teacher and a student, two seeds: four runs of a fraction of a second. */
function options(out: string, more: Partial<ExperimentOptions> = {}): ExperimentOptions {
  return {
    name: "a small <experiment>",
    out,
    rows: ["teacher", "student"],
    columns: ["conv4"],
    seeds: 2,
    estimate: false,
    claims: [{ says: "the student is above its teacher", above: "student", below: "teacher" }],
    cell: ({ row, model }) =>
      row === "teacher"
        ? { train: { ...small, backbone: conv4({ width: 8, embedding: 8 }) } }
        : { distill: { ...small, teacher: model("teacher"), student: conv4({ width: 4, embedding: 4 }) } },
    ...more,
  };
}

async function collect(run: AsyncIterable<ExperimentEvent>): Promise<ExperimentEvent[]> {
  const events: ExperimentEvent[] = [];
  for await (const event of run) events.push(event);
  return events;
}

describe("an experiment", () => {
  it("runs every cell, writes its tables, and does nothing the second time", async () => {
    const out = join(temporaryFolder(), "x");
    const run = experiment(options(out));
    const events = await collect(run);
    const result = await run;
    expect(events[0]).toMatchObject({ type: "plan", cells: 4, runs: 4, finished: 0 });
    expect(events.filter(({ type }) => type === "cell")).toHaveLength(4);
    expect(events.at(-1)).toEqual({ type: "end", result });
    expect(result).toMatchObject({ complete: true, seeds: [1, 2], protocol: "honest", columns: ["conv4"] });
    for (const { cells } of result.rows) {
      expect(cells[0]?.best.values.every((value) => value !== null && value >= 0 && value <= 1)).toBe(true);
      expect(cells[0]?.last?.values).toHaveLength(2);
    }
    expect(JSON.parse(readFileSync(join(out, "table.json"), "utf8"))).toEqual(JSON.parse(JSON.stringify(result)));
    const html = readFileSync(join(out, "table.html"), "utf8");
    expect(html).toContain("a small &lt;experiment&gt;");
    expect(html).toContain('data-widget="chart"');
    expect(html).not.toMatch(/\b(src|href)="(?!data:|#)|@import|url\(/);
    const markdown = readFileSync(join(out, "table.md"), "utf8");
    for (const part of [
      "| teacher |",
      "the student is above its teacher: ",
      "fewer than three seeds",
      "20 procedurally",
    ]) {
      expect(markdown).toContain(part);
    }
    const sampled = result.rows.map(({ row, cells }) => ({
      row,
      cells: cells.map((cell) => ({ ...cell, intervals: [0.01, 0.02] })),
    }));
    const published = [{ title: "Published", columns: ["a", "b"], rows: { teacher: [48.6, 51.92] } }];
    const text = toMarkdown(documentOf({ ...result, rows: sampled, published }));
    expect(text).toMatch(/\| teacher, seed 2 \| [\d.]+ ± 2\.00 \|/);
    expect(text).toContain("| teacher | 48.60 | 51.92 |");

    const again = await collect(experiment(options(out)));
    expect(again.map(({ type }) => type)).toEqual(["plan", "end"]);
    expect(again[0]).toMatchObject({ finished: 4, secondsLeft: 0 });
    expect(again.at(-1)).toMatchObject({ result: { rows: result.rows } });
  });

  it("describes one data set in one sentence, with the ranges of its parts", async () => {
    const splits = { a: { ...split, test: 0.2 }, b: { ...split, test: 0.4 } };
    const backbone = conv4({ width: 4, embedding: 4 });
    const result = await experiment({
      ...{ name: "splits", out: join(temporaryFolder(), "x"), rows: ["teacher"], columns: ["a", "b"], estimate: false },
      cell: ({ column }) => ({
        train: { ...small, data: { ...data, split: splits[column === "a" ? "a" : "b"] }, backbone },
      }),
    });
    expect(result.data).toHaveLength(1);
    expect(result.data[0]).toMatch(
      /training \d+ to \d+ images of \d+ to \d+ classes, validation .*test 32 to 64 images of 4 to 8 classes\./,
    );
  });

  it("runs only what has changed", async () => {
    const out = join(temporaryFolder(), "x");
    await experiment(options(out, { seeds: [1] }));
    const more = await collect(experiment(options(out, { seeds: [1, 5], figures: ["recall@1", "mapAtR"] })));
    expect(more.flatMap((event) => (event.type === "cell" ? [`${event.row} ${event.seed}`] : []))).toEqual([
      "teacher 5",
      "student 5",
    ]);
  });

  it("takes away what a run has left that was killed after its last file", async () => {
    const out = join(temporaryFolder(), "x");
    const seeds = 1;
    await experiment(options(out, { seeds }));
    const cell = join(out, "cells", readdirSync(join(out, "cells"))[0] ?? "");
    rmSync(join(cell, "result.json"));
    for (const name of [".rkd.lock", "metrics.json.1.tmp"]) writeFileSync(join(cell, name), "");
    const names = readdirSync(cell);
    await experiment(options(out, { seeds }));
    const strange = (name: string) => name.endsWith(".lock") || name.endsWith(".tmp");
    expect([names.filter(strange), readdirSync(cell).filter(strange)]).toEqual([
      [".rkd.lock", "metrics.json.1.tmp"],
      [],
    ]);
  });

  it("stopped in the middle of a run and called again, ends as if it had never been stopped", async () => {
    const folder = temporaryFolder();
    const [whole, cut] = [join(folder, "whole"), join(folder, "cut")];
    const expected = await experiment(options(whole, { seeds: [1] }));
    const controller = new AbortController();
    const stopped = experiment(options(cut, { seeds: [1], signal: controller.signal }));
    const reason = new Error("enough");
    for await (const event of stopped) {
      const inStudent = event.type === "progress" && event.row === "student" && event.doing === "training";
      if (inStudent && event.share < 1) {
        controller.abort(reason);
        break;
      }
    }
    await expect(stopped).rejects.toBe(reason);
    const left = readdirSync(join(cut, "cells")).filter((name) => !existsSync(join(cut, "cells", name, "result.json")));
    expect(left).toEqual([expect.stringMatching(/^student-s1-/)]);
    const { rows } = await experiment(options(cut, { seeds: [1] }));
    const values = (all: typeof rows) => all.map(({ cells }) => cells.map(({ best, last }) => [best, last]));
    expect(values(rows)).toEqual(values(expected.rows));
  });

  it("measures a model on other data without training it again", async () => {
    const out = join(temporaryFolder(), "x");
    const other = glyphs({ classes: 20, writers: 8, seed: 7, split });
    const measured: ExperimentOptions["cell"] = (at) => ({
      ...options(out).cell(at),
      measure: { elsewhere: { data: other, ks: [1] } },
    });
    await experiment(options(out, { seeds: [1] }));
    const figures = ["recall@1", "elsewhere/recall@1"];
    const events = await collect(experiment(options(out, { seeds: [1], cell: measured, figures })));
    expect(events.some((event) => event.type === "progress" && event.doing === "training")).toBe(false);
    expect(events.at(-1)).toMatchObject({ result: { complete: true } });
    const [, row] = (events.at(-1) as { result: Awaited<ReturnType<typeof experiment>> }).result.rows;
    expect(row?.cells.map(({ best }) => best.mean)).toEqual([expect.any(Number), expect.any(Number)]);
    const last = JSON.parse(readFileSync(join(row?.cells[0]?.folders[0] ?? "", "metrics.json"), "utf8")).last;
    const ofLast = await evaluate({ model: last.model, data: other, ks: [1], seed: 1 });
    expect(row?.cells[1]?.last?.mean).toBe(ofLast.metrics["recall@1"]);
  });

  it("goes on after a run that diverges, and says so", async () => {
    const out = join(temporaryFolder(), "x");
    const cell: ExperimentOptions["cell"] = (at) => {
      const it = options(out).cell(at);
      const wild = { optimizer: sgd({ learningRate: 1e36, momentum: 0 }), schedule: constant() };
      return it.train ? { train: { ...it.train, ...wild } } : it;
    };
    const result = await experiment(options(out, { seeds: [1], cell }));
    expect(result.rows.map(({ cells }) => cells[0]?.best.mean)).toEqual([null, null]);
    expect(result.runs.map(({ failed }) => failed !== null)).toEqual([true, true]);
    expect(readFileSync(join(out, "table.md"), "utf8")).toContain("Runs that diverged");
    rmSync(out, { recursive: true });
  });

  it("times a few steps of each kind of run first", async () => {
    const out = join(temporaryFolder(), "x");
    const [plan] = (await collect(experiment(options(out, { seeds: [1], estimate: true })))).filter(
      ({ type }) => type === "plan",
    );
    expect(plan).toMatchObject({ finished: 0, basis: expect.stringContaining("a trial of a few steps") });
    expect((plan as { secondsLeft: number }).secondsLeft).toBeGreaterThan(0);
    expect(readdirSync(out).sort()).toEqual(["cells", "table.html", "table.json", "table.md"]);
  });

  it("under the paper's protocol chooses by the test, and says that this is too good", async () => {
    const out = join(temporaryFolder(), "x");
    const result = await experiment(options(out, { seeds: [1], protocol: "paper" }));
    for (const run of result.runs) {
      const best = Math.max(...run.history.map(({ validation }) => validation?.["recall@1"] ?? 0));
      expect(run.figures["recall@1"]).toBeCloseTo(best, 12);
    }
    expect(readFileSync(join(out, "table.md"), "utf8")).toContain("the scores are too good");
  });
});
