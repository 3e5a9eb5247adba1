import { describe, expect, it } from "vitest";
import { claimVerdict, compare, type Judgement, spreadOf, studentT } from "../../src/experiment/statistics.ts";

describe("the spread over seeds", () => {
  it("has the mean and the deviation of a sample", () => {
    expect(spreadOf([1, 2, 3])).toEqual({ mean: 2, deviation: 1, values: [1, 2, 3] });
    expect(spreadOf([1, null, 3])).toMatchObject({ mean: 2, deviation: Math.SQRT2 });
  });

  it("has no deviation of one value, and nothing of none", () => {
    expect(spreadOf([0.5])).toMatchObject({ mean: 0.5, deviation: null });
    expect(spreadOf([null])).toMatchObject({ mean: null, deviation: null });
  });
});

describe("a difference", () => {
  it("is paired: what the seed does to both rows is no noise", () => {
    const [above, below] = [spreadOf([0.9, 0.5, 0.1]), spreadOf([0.88, 0.481, 0.079])];
    const { mean, judgement } = compare(above, below);
    expect(mean).toBeCloseTo(0.02, 12);
    expect(judgement).toBe("higher");
    expect(compare(below, above).judgement).toBe("lower");
  });

  it("is noise where the interval of its mean holds 0", () => {
    // Mean 1, deviation 1: half the interval is 4.303 / sqrt(3) = 2.484.
    const difference = compare(spreadOf([2, 1, 0]), spreadOf([0, 0, 0]));
    expect(difference.halfInterval).toBeCloseTo(2.484, 3);
    expect(difference.judgement).toBe("inside the noise");
  });

  it("is not judged below three seeds, nor where a side is missing", () => {
    expect(compare(spreadOf([2, 2]), spreadOf([1, 1])).judgement).toBe("too few seeds");
    expect(compare(spreadOf([2]), spreadOf([1])).judgement).toBe("too few seeds");
    expect(compare(spreadOf([2]), spreadOf([null])).judgement).toBe("missing");
  });
});

describe("the verdict on a claim", () => {
  const verdict = (...judgements: Judgement[]) =>
    claimVerdict(judgements.map((judgement) => ({ judgement, mean: judgement === "missing" ? null : 0.1 })));

  it.each<[string, Judgement[]]>([
    ["held", ["higher", "higher"]],
    ["did not hold: the opposite was measured", ["lower"]],
    ["not shown: the difference is inside the noise", ["inside the noise"]],
    ["not shown: all differences are inside the noise", ["inside the noise", "inside the noise"]],
    ["held in 1 of 3, the opposite in 1, inside the noise in 1", ["higher", "lower", "inside the noise"]],
    ["not measured", ["missing", "missing"]],
    ["not measured", []],
  ])("is: %s", (words, judgements) => {
    expect(verdict(...judgements)).toBe(words);
  });

  it("counts a column that has too few seeds or no figure, and judges the others", () => {
    expect(verdict("higher", "too few seeds", "missing")).toBe(
      "held in 1 of 3, the opposite in 0, inside the noise in 0, too few seeds in 1, not measured in 1",
    );
    expect(verdict("too few seeds", "missing")).toMatch(/^so in 1 of 1, not judged: fewer than three seeds/);
  });
});

it("Student's t is right where the table ends", () => {
  expect(studentT(2)).toBe(4.303);
  expect(studentT(21)).toBeCloseTo(2.0796, 3);
  expect(studentT(60)).toBeCloseTo(2.0003, 3);
  expect(studentT(1e6)).toBeCloseTo(1.96, 3);
});
