/** Every recipe at the scale that takes seconds: it runs, every cell of its table has a figure, the tables are there. */

import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { recipeNames, reproduce } from "../../src/index.ts";
import { recipes } from "../../src/recipes/list.ts";
import { rkd } from "../support/cli.ts";
import { temporaryFolder } from "../support/folders.ts";

describe("recipes", () => {
  it.each(Object.keys(recipeNames))("%s runs at smoke scale", async (name) => {
    const out = join(temporaryFolder(), name);
    const result = await reproduce(name, { scale: "smoke", seeds: 1, out });
    expect(result.complete).toBe(true);
    for (const { row, cells } of result.rows) {
      for (const { figure, best } of cells) expect([row, figure, best.mean]).toEqual([row, figure, expect.any(Number)]);
    }
    expect(result.notes.join(" ")).toContain("not comparable with the paper's");
    expect(result.gallery.length > 0).toBe(name === "retrieval");
    for (const file of ["table.md", "table.json", "table.html"]) expect(existsSync(join(out, file))).toBe(true);
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

  it.each(recipes.map((recipe) => [recipe.name, recipe] as const))("%s has the paper's whole table", (_, recipe) => {
    expect(recipe.published.length).toBeGreaterThan(0);
    for (const { columns, rows } of recipe.published) {
      for (const values of Object.values(rows)) expect(values).toHaveLength(columns.length);
    }
  });
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
    for (const part of ["RKD-DA is above triplet alone: ", "Paper, table 1 (a)", "table.html"]) {
      expect(stdout).toContain(part);
    }
  });
});
