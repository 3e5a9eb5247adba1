import { expect, it } from "vitest";
import { verdictTable } from "../../src/cli/table.ts";
import type { VerdictRow } from "../../src/events.ts";
import type { Fidelity } from "../../src/protocol/protocol.ts";
import { duration, metricsLine, shortMetrics } from "../../src/report/scores.ts";
import { verdictOf } from "../../src/run/verdict.ts";

const row = (recall: number, parameters: number): VerdictRow => ({
  backbone: "conv4",
  parameters,
  embedding: 16,
  metrics: { mapAtR: recall / 2, "knn@2": 0.4, "recall@1": recall, "recall@10": 1, "recall@2": 0.95 },
  millisecondsPerImage: 0.25,
});

/** A teacher with its row. */
const named = (name: string, row: VerdictRow) => ({ ...row, name, weight: 1, fidelity });

const fidelity: Fidelity = {
  distanceRankCorrelation: 0.87654,
  pairs: 100,
  angleRankCorrelation: 0.6543,
  angleDifference: 7.24,
  angleDifferenceError: 0.13,
  triples: 1000,
  neighbourOverlap: 0.613,
  neighbours: 10,
  recall: { "1": 0.31, "10": 0.9 },
};

it("lines up the verdict", () => {
  const [teacher, before, after, alone] = [row(0.9, 130_000), row(0.5, 9_000), row(0.8, 9_000), row(0.6, 9_000)];
  const prefixes = [{ ...row(0.7, 9_000), embedding: 8 }];
  expect(verdictTable({ ...verdictOf("classes", [named("a", teacher)], before, after, alone), prefixes })).toBe(
    [
      "test classes       recall@1  recall@2  recall@10   mapAtR  parameters  embedding  ms/image",
      "-----------------  --------  --------  ---------  -------  ----------  ---------  --------",
      "teacher             90.00 %   95.00 %   100.00 %  45.00 %     130,000         16     0.250",
      "student before      50.00 %   95.00 %   100.00 %  25.00 %       9,000         16     0.250",
      "without a teacher   60.00 %   95.00 %   100.00 %  30.00 %       9,000         16     0.250",
      "student after       80.00 %   95.00 %   100.00 %  40.00 %       9,000         16     0.250",
      "its first 8         70.00 %   95.00 %   100.00 %  35.00 %       9,000          8     0.250",
      "gap closed             67 %         -          -     67 %",
      "gap closed: the student's way from the one without a teacher to the teacher",
      "relations kept: rank correlation of distances 0.877, of angles 0.654, angles 7.2 ± 0.1 degrees apart",
      "  61 % of the 10 nearest in common; the teacher's nearest among the student's K nearest: 1: 31 %, 10: 90 %",
    ].join("\n"),
  );
});

it("has a row, a gap and the relations of each of several teachers", () => {
  const taught = [named("large", row(0.9, 130_000)), named("dinov2", row(0.7, 0))];
  expect(verdictTable(verdictOf("classes", taught, row(0.5, 9_000), row(0.8, 9_000))).split("\n")).toEqual([
    "test classes          recall@1  recall@2  recall@10   mapAtR  parameters  embedding  ms/image",
    "--------------------  --------  --------  ---------  -------  ----------  ---------  --------",
    "teacher large          90.00 %   95.00 %   100.00 %  45.00 %     130,000         16     0.250",
    "teacher dinov2         70.00 %   95.00 %   100.00 %  35.00 %           -         16         -",
    "student before         50.00 %   95.00 %   100.00 %  25.00 %       9,000         16     0.250",
    "student after          80.00 %   95.00 %   100.00 %  40.00 %       9,000         16     0.250",
    "gap closed to large       75 %         -          -     75 %",
    "gap closed to dinov2     150 %         -          -    150 %",
    "gap closed: the student's way from its start to the teacher (with labels, --baseline measures from labels alone)",
    "large's relations kept: rank correlation of distances 0.877, of angles 0.654, angles 7.2 ± 0.1 degrees apart",
    "  61 % of the 10 nearest in common; the teacher's nearest among the student's K nearest: 1: 31 %, 10: 90 %",
    "dinov2's relations kept: rank correlation of distances 0.877, of angles 0.654, angles 7.2 ± 0.1 degrees apart",
    "  61 % of the 10 nearest in common; the teacher's nearest among the student's K nearest: 1: 31 %, 10: 90 %",
  ]);
});

it("shows the verdict without labels by the teacher's relations", () => {
  const of = (share: number) => ({
    ...row(share, 9_000),
    metrics: {
      angleRankCorrelation: share,
      distanceRankCorrelation: share,
      neighbourOverlap: share,
      "teacherRecall@1": share,
      "teacherRecall@10": share,
    },
  });
  const verdict = verdictOf("none", [named("a", of(1))], of(0.2), of(0.6));
  expect(verdictTable(verdict).split("\n")).toEqual([
    "test images     10 nearest  distances  angles  nearest@1  nearest@10  parameters  embedding  ms/image",
    "--------------  ----------  ---------  ------  ---------  ----------  ----------  ---------  --------",
    "teacher           100.00 %      1.000   1.000   100.00 %    100.00 %       9,000         16     0.250",
    "student before     20.00 %      0.200   0.200    20.00 %     20.00 %       9,000         16     0.250",
    "student after      60.00 %      0.600   0.600    60.00 %     60.00 %       9,000         16     0.250",
    "gap closed            50 %       50 %    50 %       50 %        50 %",
    "gap closed: the student's way from its start to the teacher (with labels, --baseline measures from labels alone)",
    "measured by the teacher's relations, as there are no labels:",
    "  10 nearest: share of each image's 10 nearest images that are in common with the teacher's",
    "  distances, angles: rank correlation with the teacher's",
    "  nearest@K: share of images whose nearest image for the teacher is among the K nearest",
    "angles 7.2 ± 0.1 degrees apart",
  ]);
  expect(metricsLine(shortMetrics(of(0.5).metrics))).toBe("neighbourOverlap 50.00 %  distanceRankCorrelation 0.500");
});

it("orders metrics by K, and shortens them", () => {
  const { metrics } = row(0.5, 1);
  expect(metricsLine(metrics)).toBe(
    "recall@1 50.00 %  recall@2 95.00 %  recall@10 100.00 %  knn@2 40.00 %  mapAtR 25.00 %",
  );
  expect(metricsLine(shortMetrics(metrics))).toBe("recall@1 50.00 %  mapAtR 25.00 %");
});

it.each([
  [0.4, "0 s"],
  [59.4, "59 s"],
  [59.6, "1 min 0 s"],
  [3725, "1 h 2 min"],
  [Number.POSITIVE_INFINITY, "?"],
])("writes %d seconds as %s", (seconds, text) => {
  expect(duration(seconds)).toBe(text);
});
