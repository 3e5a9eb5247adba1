import { join } from "node:path";
import { expect, it } from "vitest";
import { crossEntropy, evaluate, glyphs, train } from "../../src/index.ts";
import { temporaryFolder } from "../support/folders.ts";
import { smallRun } from "../support/small.ts";

const classifier = { losses: [crossEntropy()], batch: { size: 16 } };

it("a classifier is measured by its accuracy on new images of its classes, and that chooses the weights", async () => {
  const out = join(temporaryFolder(), "run");
  const data = glyphs({ classes: 20, writers: 8, split: { kind: "images", validation: 0.25, test: 0.25 } });
  const { metrics, history, epoch } = await train(smallRun(out, { ...classifier, data, epochs: 4 }));
  expect(metrics).toMatchObject({ "top@1": expect.any(Number), "top@2": expect.any(Number) });
  expect(metrics?.["top@2"]).toBeGreaterThanOrEqual(metrics?.["top@1"] ?? 1);
  const scores = history.map(({ validation }) => validation?.["top@1"] ?? -1);
  expect(scores[epoch - 1]).toBe(Math.max(...scores));
  expect((await evaluate({ model: out, ks: [1, 2] })).metrics).toEqual(metrics);
});

it("has no accuracy on classes it was not trained on", async () => {
  const { metrics } = await train(smallRun(join(temporaryFolder(), "run"), classifier));
  expect(Object.keys(metrics ?? {}).filter((name) => name.startsWith("top@"))).toEqual([]);
});
