/** The curves of runs: losses, validation, learning rate; of several runs over each other. */

import type { EvaluationEvent } from "../events.ts";
import { goalOf } from "../run/state.ts";
import type { Chart, Line, Point } from "./blocks.ts";
import type { RunRecord, StepRow } from "./record.ts";
import { shortName, shownMetrics } from "./scores.ts";

/** Points of one line; more are averaged in steps of equal length, since no screen has room for them. */
const MOST_POINTS = 600;

/** The charts of one run or of several. */
export function chartsOf(runs: readonly RunRecord[]): Chart[] {
  const single = runs.length === 1;
  const lines = (of: (row: StepRow) => number, what: string): Line[] =>
    runs.map(({ name, log }, colour) => ({
      name: single ? what : name,
      colour,
      points: thinned(log.steps.map((row) => [row.step, of(row)])),
    }));
  const [only] = runs;
  const charts: Chart[] = [
    { id: "loss", title: "Loss", x: "step", y: "loss", lines: lines(({ loss }) => loss, "all terms") },
    ...(single && only ? termsOf(only) : []),
    ...validationsOf(runs),
    {
      id: "learning-rate",
      title: "Learning rate",
      x: "step",
      y: "rate",
      lines: lines(({ learningRate }) => learningRate, "learning rate"),
    },
    {
      id: "gradient",
      title: "Gradient before clipping",
      x: "step",
      y: "norm",
      lines: lines(({ gradientNorm }) => gradientNorm, "norm"),
    },
    {
      id: "speed",
      title: "Speed",
      x: "step",
      y: "images/s",
      lines: lines(({ imagesPerSecond }) => imagesPerSecond, "images a second"),
    },
  ];
  return charts.filter(({ lines: each }) => each.some(({ points }) => points.length > 1));
}

/** Each term's own value, before its weight. */
function termsOf({ log }: RunRecord): Chart[] {
  const names = [...new Set(log.steps.flatMap(({ terms }) => terms.map(({ name }) => name)))];
  if (names.length < 2) return [];
  const lines = names.map((name, colour) => {
    const found = log.steps.flatMap(({ step, terms }) =>
      terms.filter((term) => term.name === name).map(({ value }): Point => [step, value]),
    );
    return { name, colour, points: thinned(found) };
  });
  return [{ id: "terms", title: "Terms of the loss, before their weights", x: "step", y: "value", lines }];
}

/** Scores of the validation by steps: of one run all of them; of several those that choose the weights, each over each other. */
function validationsOf(runs: readonly RunRecord[]): Chart[] {
  const [only] = runs;
  const measured = runs.map((run) => ({
    run,
    evaluations: run.log.evaluations.filter(({ who }) => who === "student"),
  }));
  const points = (evaluations: readonly EvaluationEvent[], metric: string): Point[] =>
    evaluations.flatMap(({ step, metrics }) => {
      const value = metrics[metric];
      return value === undefined ? [] : [[step, 100 * value] as const];
    });
  const parts = [...new Set(measured.flatMap(({ evaluations }) => evaluations.map(({ part }) => part)))].join(" or ");
  const all = measured.flatMap(({ evaluations }) => evaluations);
  const neighbours = all.flatMap(({ fidelity = [] }) => fidelity.map((each) => each.neighbours))[0] ?? 10;
  const named = (metric: string) => shortName(metric, neighbours);
  // Correlations are shares of 1 as well; in hundredths they stand beside percents.
  const chart = { x: "step", y: "percent" };
  if (runs.length === 1 && only) {
    const lines = shownMetrics(all.map(({ metrics }) => metrics)).map((name, colour) => ({
      name: named(name),
      colour,
      points: points(all, name),
    }));
    return [{ ...chart, id: "validation", title: `Scores of the ${parts} part`, lines }];
  }
  const goals = [...new Set(all.map(({ metrics }) => goalOf(metrics)))];
  return goals.map((goal) => ({
    ...chart,
    id: `validation-${goal}`,
    title: `${named(goal)} of the ${parts} part`,
    lines: measured.map(({ run, evaluations }, colour) => ({
      name: run.name,
      colour,
      points: points(evaluations, goal),
    })),
  }));
}

/** Means over equal numbers of points, where there are too many. */
function thinned(points: readonly Point[]): Point[] {
  const each = Math.ceil(points.length / MOST_POINTS);
  if (each <= 1) return [...points];
  return Array.from({ length: Math.ceil(points.length / each) }, (_, i) => {
    const some = points.slice(i * each, (i + 1) * each);
    const mean = (of: 0 | 1) => some.reduce((sum, point) => sum + point[of], 0) / some.length;
    return [Math.round(mean(0)), Number(mean(1).toPrecision(6))] as const;
  });
}
