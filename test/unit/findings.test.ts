import { expect, it } from "vitest";
import type { EpochRecord, VerdictRow } from "../../src/events.ts";
import { findingLines } from "../../src/report/scores.ts";
import { type Evidence, findingsOf } from "../../src/run/findings.ts";
import { verdictOf } from "../../src/run/verdict.ts";

/** A history of one term: its value and the norm of its gradient, epoch by epoch. */
function history(epochs: readonly (readonly [value: number, gradientNorm: number, recall?: number])[]): EpochRecord[] {
  return epochs.map(([value, gradientNorm, recall], i) => ({
    epoch: i + 1,
    loss: value,
    terms: [{ name: "rkd-angle", weight: 1, value, gradientNorm }],
    validation: recall === undefined ? null : { "recall@1": recall, "recall@2": 1 },
  }));
}

const usual = { history: [], collapsed: false, learningRate: 1e-3, hasTeacher: true, testImages: 10_000 };

const kinds = (evidence: Partial<Evidence>) => findingsOf({ ...usual, ...evidence }).map(({ kind }) => kind);

it("finds nothing in a run that learns", () => {
  expect(
    kinds({
      history: history([
        [0.5, 1e-2],
        [0.3, 5e-3],
        [0.2, 4e-3],
      ]),
    }),
  ).toEqual([]);
  // All triplets of the last epochs are far apart, or the loss is all but gone: there is nothing left to learn.
  expect(
    kinds({
      history: history([
        [0.5, 1e-2],
        [0.1, 1e-3],
        [0, 0],
        [0, 0],
      ]),
    }),
  ).toEqual([]);
  expect(
    kinds({
      history: history([
        [0.5, 1e-2],
        [0.1, 1e-3],
        [0.01, 1e-8],
        [0.01, 1e-8],
      ]),
    }),
  ).toEqual([]);
});

it("tells a dead gradient from a small one, and from one epoch by chance", () => {
  expect(
    kinds({
      history: history([
        [0.5, 8e-3],
        [0.5, 3e-9],
        [0.4, 2e-9],
      ]),
    }),
  ).toEqual(["dead-gradient"]);
  expect(
    kinds({
      history: history([
        [0.5, 8e-3],
        [0.5, 0],
        [0.5, 0],
      ]),
    }),
  ).toEqual(["dead-gradient"]);
  expect(
    kinds({
      history: history([
        [0.5, 8e-3],
        [0.45, 8e-3],
        [0.4, 2e-9],
      ]),
    }),
  ).toEqual([]);
  expect(
    kinds({
      history: history([
        [0.5, 8e-3],
        [0.45, 4e-6],
        [0.4, 4e-6],
      ]),
    }),
  ).toEqual([]);
});

it("says that nothing was learnt where the terms ended no lower than they began", () => {
  const up = history([
    [0.4, 0.1],
    [0.3, 0.1],
    [0.5, 0.1],
  ]);
  const [found] = findingsOf({ ...usual, history: up, learningRate: 1000 });
  expect(found).toMatchObject({ kind: "no-progress", message: expect.stringContaining("the learning rate, 1000:") });
  expect(kinds({ history: up.slice(1) })).toEqual([]); // two epochs say little
  // Negatives that get harder raise the loss of labels: the validation must say the same.
  const labels = (last: number) =>
    history([
      [0.4, 0.1, 0.5],
      [0.3, 0.1, 0.6],
      [0.5, 0.1, last],
    ]);
  expect(kinds({ history: labels(0.7), hasTeacher: false })).toEqual([]);
  expect(kinds({ history: labels(0.5), hasTeacher: false })).toEqual(["no-progress"]);
  expect(kinds({ history: up, hasTeacher: false })).toEqual([]);
});

const row = (recall: number): VerdictRow => ({
  backbone: "conv4",
  parameters: 10,
  embedding: 4,
  metrics: { "recall@1": recall, "recall@2": 1, mapAtR: 1 - recall },
  millisecondsPerImage: 1,
});
const fidelity = {
  distanceRankCorrelation: 1,
  pairs: 1,
  angleRankCorrelation: 1,
  angleDifference: 0,
  angleDifferenceError: 0,
  triples: 0,
  neighbourOverlap: 1,
  neighbours: 1,
  recall: {},
};
const teacher = (recall: number) => ({ ...row(recall), name: "teacher", weight: 1, fidelity });
const verdict = (taught: number | number[], before: number, after: number, baseline?: number) =>
  verdictOf(
    "classes",
    [taught].flat().map(teacher),
    row(before),
    row(after),
    baseline === undefined ? null : row(baseline),
  );
const gapClosed = (...rows: Parameters<typeof verdict>) => verdict(...rows).teachers[0]?.gapClosed;

it("looks at the next metric where the first is the same", () => {
  const rows = verdict(0.9, 0.5, 0.5);
  const [before, after] = [rows.studentBefore.metrics, rows.studentAfter.metrics];
  const of = (was: number, is: number) => ({
    ...rows,
    studentBefore: { ...rows.studentBefore, metrics: { ...before, mapAtR: was } },
    studentAfter: { ...rows.studentAfter, metrics: { ...after, mapAtR: is } },
  });
  expect(kinds({ verdict: of(0.3, 0.2) })).toEqual(["below-start"]);
  expect(kinds({ verdict: of(0.2, 0.3) })).toEqual([]);
  expect(kinds({ verdict: rows })).toEqual([]);
});

it("compares the student with its start and its baseline, by the first metric", () => {
  expect(kinds({ verdict: verdict(0.9, 0.5, 0.8) })).toEqual([]);
  expect(kinds({ verdict: verdict(0.9, 0.5, 0.8, 0.7) })).toEqual([]);
  expect(kinds({ verdict: verdict(0.9, 0.5, 0.4) })).toEqual(["below-start"]);
  expect(kinds({ verdict: verdict(0.9, 0.5, 0.8, 0.85) })).toEqual(["below-baseline"]);
  expect(kinds({ verdict: verdict(0.9, 0.5, 0.4, 0.7) })).toEqual(["below-start", "below-baseline"]);
  expect(kinds({ collapsed: true, verdict: verdict(0.9, 0.5, 0.4) })).toEqual(["collapse", "below-start"]);
});

it("takes no difference for one that chance alone makes", () => {
  // Two standard errors of 28 % are 17 points of 30 images, and 0.9 of 10,000.
  expect(kinds({ verdict: verdict(0.9, 0.2833, 0.275), testImages: 30 })).toEqual([]);
  expect(kinds({ verdict: verdict(0.9, 0.28, 0.27), testImages: 30 })).toEqual([]);
  expect(kinds({ verdict: verdict(0.9, 0.28, 0.27) })).toEqual(["below-start"]);
  const metrics = (distanceRankCorrelation: number) => ({ neighbourOverlap: 0.5, distanceRankCorrelation });
  const { studentBefore, studentAfter, ...rest } = verdict(0.9, 0.5, 0.5);
  const correlated = (now: number) => ({
    ...rest,
    studentBefore: { ...studentBefore, metrics: metrics(0.4) },
    studentAfter: { ...studentAfter, metrics: metrics(now) },
  });
  expect(kinds({ verdict: correlated(0.3), testImages: 30 })).toEqual([]);
  const [found] = findingsOf({ ...usual, verdict: correlated(-0.003) });
  expect(found?.message).toContain("its distanceRankCorrelation is -0.003, and 0.400 at the start");
});

it("says the numbers, and whether the teacher has anything to give", () => {
  const told = (teacher: number | number[]) =>
    findingLines(
      findingsOf({
        ...usual,
        verdict: verdict(teacher, 0.5, 0.8, 0.85),
      }),
    ).join("\n");
  expect(told(0.9)).toMatch(
    /^note: The student is worse than .+ its recall@1 is 80\.00 %, and 85\.00 % there\. Try more/,
  );
  expect(told(0.6)).toContain("The teacher itself is no better than that");
  // Of several one is enough.
  expect(told([0.6, 0.9])).not.toContain("The teacher itself");
  expect(told([0.6, 0.7])).toContain("The teacher itself is no better than that");
});

it("measures the gap from the baseline where it is known", () => {
  expect(verdict(0.9, 0.5, 0.8)).toMatchObject({ gapFrom: "studentBefore", baseline: null });
  expect(gapClosed(0.9, 0.5, 0.8)?.["recall@1"]).toBeCloseTo(0.75, 12);
  expect(verdict(0.9, 0.5, 0.8, 0.7).gapFrom).toBe("baseline");
  expect(gapClosed(0.9, 0.5, 0.8, 0.7)?.["recall@1"]).toBeCloseTo(0.5, 12);
  expect(gapClosed(0.9, 0.5, 0.8, 0.7)?.mapAtR).toBeNull();
});
