/** Every supervised loss, end to end on the glyphs: training with it makes retrieval better. */

import { beforeAll, describe, expect, it } from "vitest";
import {
  adam,
  angular,
  contrastive,
  conv4,
  glyphs,
  type Loss,
  liftedStructure,
  margin,
  nPairs,
  train,
  triplet,
  tripletEuclidean,
} from "../../src/index.ts";
import { temporaryFolder } from "../support/folders.ts";

/** Recall@1 on the test classes after `epochs` short epochs with `losses`. */
async function recall(losses: readonly Loss[], epochs: number, learningRate = 3e-3): Promise<number> {
  const { metrics } = await train({
    data: glyphs({ classes: 40, writers: 8, split: { kind: "classes", validation: 0, test: 0.4 } }),
    backbone: conv4({ width: 8, embedding: 16 }),
    batch: { size: 32, perClass: 2 },
    evaluation: { ks: [1] },
    optimizer: adam({ learningRate }),
    keep: "last",
    losses,
    epochs,
    stepsPerEpoch: 40,
    out: `${temporaryFolder()}/run`,
  });
  return metrics?.["recall@1"] ?? Number.NaN;
}

describe("training improves retrieval with", () => {
  let untrained = Number.NaN;
  beforeAll(async () => {
    untrained = await recall([triplet()], 1, 1e-9);
  });

  const kinds: [string, readonly Loss[]][] = [
    ["tripletEuclidean", [tripletEuclidean({ negatives: "semi-hard" })]],
    ["contrastive", [contrastive({ margin: 0.8 })]],
    ["liftedStructure", [liftedStructure()]],
    ["nPairs", [nPairs({ l2: 0.02 })]],
    ["angular and nPairs", [angular({ weight: 0.5 }), nPairs({ l2: 0.02 })]],
    ["margin", [margin()]],
    ["margin with a learned boundary", [margin({ learnBeta: true })]],
  ];
  it.each(kinds)("%s", async (_, losses) => {
    expect(await recall(losses, 3)).toBeGreaterThan(untrained);
  });
});
