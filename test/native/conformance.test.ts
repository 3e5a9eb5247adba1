/** The rows of docs/conformance.md that TypeScript alone can show. */

import { describe, expect, it } from "vitest";
import { evaluateLoss, type Loss, rkdAngle, rkdDistance, triplet } from "../../src/index.ts";

const n = 12;
const rows = (d: number, at: (i: number) => number) => ({
  data: Float32Array.from({ length: n * d }, (_, i) => at(i)),
  shape: [n, d],
});
const student = rows(5, (i) => Math.sin(i * 1.7));
const teacher = rows(7, (i) => Math.cos(i * 2.3));
const labels = Array.from({ length: n }, (_, i) => Math.floor(i / 3));

describe("evaluateLoss", () => {
  it("gives a gradient of the student alone", () => {
    for (const loss of [rkdDistance(), rkdAngle()]) {
      const { gradients } = evaluateLoss(loss, { student, teacher });
      expect(Object.keys(gradients)).toEqual(["student"]);
      expect(Math.hypot(...gradients.student)).toBeGreaterThan(0);
    }
  });

  it("takes the paper's negatives for a bare specification as for a constructor's", () => {
    const value = (loss: Loss, seed = 0) => evaluateLoss(loss, { student, labels }, { seed }).value;
    expect(value({ kind: "triplet-squared" })).toBe(value(triplet()));
    expect(value({ kind: "triplet-squared", negatives: "all" })).toBe(value(triplet({ negatives: "all" })));
    expect(triplet()).toMatchObject({ kind: "triplet-squared", margin: 0.2, negatives: "distance-weighted" });
    const drawn = [0, 1, 2, 3].map((seed) => value(triplet(), seed));
    expect(drawn).toEqual([0, 1, 2, 3].map((seed) => value(triplet({ negatives: "distance-weighted" }), seed)));
    expect(new Set(drawn).size).toBeGreaterThan(1);
  });
});
