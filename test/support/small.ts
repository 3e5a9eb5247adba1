/** A run that takes about a second: few classes, a narrow network, small steps. */

import { conv4, glyphs, type TrainOptions, triplet } from "../../src/index.ts";

/** The small run's options; `out` and what a test is about come on top. */
export function smallRun(out: string, more: Partial<TrainOptions> = {}): TrainOptions {
  return {
    data: glyphs({ classes: 20, writers: 8, split: { kind: "classes", validation: 0.2, test: 0.2 } }),
    backbone: conv4({ width: 4, embedding: 8 }),
    losses: [triplet()],
    batch: { size: 16, perClass: 4 },
    epochs: 2,
    stepsPerEpoch: 6,
    evaluation: { ks: [1, 2] },
    out,
    ...more,
  };
}
