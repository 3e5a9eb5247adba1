import { expect, it } from "vitest";
import { addSegment, closeEpoch, freshState } from "../../src/run/state.ts";
import { verdictOf, verdictRow } from "../../src/run/verdict.ts";

const mean = (value: number) => ({ name: "rkd-angle", weight: 2, value, gradientNorm: 2 * value });
const term = (steps: number, value: number) => ({ steps, ...mean(value) });

it("averages an epoch's segments by their steps, whatever they were cut into", () => {
  const [whole, cut] = [freshState(), freshState()];
  addSegment(whole, 4, 2.5, [term(4, 1.25)]);
  addSegment(cut, 1, 1, [term(1, 0.5)]);
  addSegment(cut, 0, Number.NaN, []);
  addSegment(cut, 3, 3, [term(3, 1.5)]);
  closeEpoch(whole, 0, null);
  closeEpoch(cut, 0, null);
  expect(cut).toEqual(whole);
  expect(whole.history).toEqual([{ epoch: 1, loss: 2.5, terms: [mean(1.25)], validation: null }]);
});

it("averages a term over the steps in which it was computed", () => {
  const state = freshState();
  addSegment(state, 4, 1, [term(1, 3)]);
  addSegment(state, 4, 1, [{ ...term(4, 0.5), name: "hint" }]);
  addSegment(state, 4, 1, [term(2, 6)]);
  closeEpoch(state, 0, null);
  expect(state.history[0]?.terms).toEqual([mean(5), { ...mean(0.5), name: "hint" }]);
});

it("calls the first of equal scores the best, and counts evaluations since", () => {
  const state = freshState();
  const bests = [0.5, 0.5, 0.7, 0.6].map((score) =>
    closeEpoch(state, 0, { "recall@1": score, "recall@10": 1, mapAtR: 0 }),
  );
  expect(bests).toEqual([true, false, true, false]);
  expect(state).toMatchObject({ best: { epoch: 3, score: 0.7 }, sinceBest: 1, epochsDone: 4 });
});

it("goes by the accuracy of a classifier where there is one", () => {
  const state = freshState();
  const bests = [0.5, 0.6].map((score) => closeEpoch(state, 9, { "top@1": score, "top@5": 1, "recall@1": 1 - score }));
  expect(bests).toEqual([true, true]);
  expect(state.best).toEqual({ epoch: 2, step: 9, score: 0.6 });
});

it("goes by the neighbours in common with the teacher where there are no labels", () => {
  const state = freshState();
  const bests = [0.5, 0.6, 0.55].map((neighbourOverlap) =>
    closeEpoch(state, 9, { neighbourOverlap, distanceRankCorrelation: 1 - neighbourOverlap, "teacherRecall@1": 0.1 }),
  );
  expect(bests).toEqual([true, true, false]);
  expect(state.best).toEqual({ epoch: 2, step: 9, score: 0.6 });
});

it("survives JSON, as it travels in the checkpoint", () => {
  const state = freshState();
  addSegment(state, 4, 2.5, [term(4, 1.25)]);
  expect(JSON.parse(JSON.stringify(state))).toEqual(state);
});

it("says how much of the gap was closed, and nothing where there is no gap", () => {
  const network = { backbone: "conv4", parameters: 10, embedding: 4 };
  const row = (recall: number, map: number) =>
    verdictRow(network, {
      metrics: { "recall@1": recall, mapAtR: map },
      images: 1,
      classes: 1,
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
  const teacher = (name: string, recall: number, map: number) => ({ ...row(recall, map), name, weight: 1, fidelity });
  const taught = [teacher("good", 0.9, 0.2), teacher("better", 1, 0.7)];
  const { teachers, studentAfter } = verdictOf("classes", taught, row(0.5, 0.3), row(0.8, 0.4));
  expect(teachers.map(({ name, fidelity }) => [name, fidelity])).toEqual([
    ["good", fidelity],
    ["better", fidelity],
  ]);
  expect(teachers[0]?.gapClosed["recall@1"]).toBeCloseTo(0.75, 12);
  expect(teachers[0]?.gapClosed.mapAtR).toBeNull();
  expect(teachers[1]?.gapClosed["recall@1"]).toBeCloseTo(0.6, 12);
  expect(teachers[1]?.gapClosed.mapAtR).toBeCloseTo(0.25, 12);
  expect(studentAfter).toMatchObject({ parameters: 10, metrics: { "recall@1": 0.8 } });
});
