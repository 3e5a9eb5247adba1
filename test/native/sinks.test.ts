/** The examples of docs/serving.md, each against the real database: what it finds is what exact search finds. */

import { copyFileSync, mkdirSync, readdirSync, renameSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { loadModel, nearest, train } from "../../src/index.ts";
import { exampleOf, hasLanceDb, install, runExample, withPostgres } from "../support/examples.ts";
import { temporaryFolder } from "../support/folders.ts";
import { smallRun } from "../support/small.ts";
import { waves } from "../support/waves.ts";

const folder = temporaryFolder();
const run = join(folder, "run");
/** The five photos that are nearest to the new one. */
let expected: { path: string; distance: number }[] = [];

/** A folder of somebody with photos, a new one and a model, who has installed what the example that imports `name` imports. */
function project(name: string): { at: string; code: string } {
  const at = temporaryFolder();
  waves(at, 31, (i) => (i < 30 ? `photos/${i}.pgm` : "new.jpg"));
  mkdirSync(join(at, "runs", "small"), { recursive: true });
  copyFileSync(join(run, "model.safetensors"), join(at, "runs", "small", "model.safetensors"));
  const code = exampleOf("serving.md", name);
  install(at, code);
  return { at, code };
}

function check(output: string): void {
  const found: { path: string; distance: number }[] = JSON.parse(output);
  expect(found.map(({ path }) => path)).toEqual(expected.map(({ path }) => path));
  for (const [i, { distance }] of found.entries()) expect(distance).toBeCloseTo(expected[i]?.distance ?? Number.NaN, 4);
}

beforeAll(async () => {
  await train(smallRun(run));
  const { at } = project("pg");
  const paths = readdirSync(join(at, "photos")).map((name) => `photos/${name}`);
  renameSync(join(at, "new.jpg"), join(at, "new.pgm")); // told by its content, not by its name
  await using model = await loadModel(run);
  const rows = await model.embed(paths.map((path) => join(at, path)));
  const gallery = paths.map((id, i) => ({ id, vector: rows[i] ?? [] }));
  const [found = []] = await nearest([await model.embed(join(at, "new.pgm"))], gallery, 5);
  expected = found.map(({ id = "", distance }) => ({ path: id, distance }));
  expect(new Set(expected.map(({ distance }) => distance.toFixed(4))).size).toBe(5);
});

describe("the examples of docs/serving.md", () => {
  it("fill and ask sqlite-vec", async () => {
    const { at, code } = project("sqlite-vec");
    check(await runExample(at, code));
  });

  it("fill and ask pgvector", async () => {
    check(
      await withPostgres((_, env) => {
        const { at, code } = project("pg");
        return runExample(at, code, env);
      }),
    );
  });

  it.runIf(hasLanceDb)("fill and ask LanceDB", async () => {
    const { at, code } = project("@lancedb/lancedb");
    check(await runExample(at, code));
  });
});
