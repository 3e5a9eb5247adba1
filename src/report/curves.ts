/** The curves of runs: losses, validation, learning rate; of several runs over each other. */

import type { Chart, Line, Point } from "./blocks.ts";
import type { RunRecord, StepRow } from "./record.ts";
import { metricOrder } from "./scores.ts";

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

/** Scores of the validation by steps: of one run all of them, of several the one that chooses the weights. */
function validationsOf(runs: readonly RunRecord[]): Chart[] {
  const single = runs.length === 1;
  const of = ({ log }: RunRecord) => log.evaluations.filter(({ who }) => who === "student");
  const names = [...new Set(runs.flatMap((run) => of(run).flatMap(({ metrics }) => Object.keys(metrics))))];
  const sorted = names.sort(metricOrder);
  const shown = single ? sorted.filter((name) => !name.startsWith("knn@")) : sorted.slice(0, 1);
  if (shown.length === 0) return [];
  const lines = runs.flatMap((run, place) =>
    shown.map((name, i) => ({
      name: single ? name : run.name,
      colour: single ? i : place,
      points: of(run).flatMap(({ step, metrics }): Point[] => {
        const value = metrics[name];
        return value === undefined ? [] : [[step, 100 * value]];
      }),
    })),
  );
  const parts = [...new Set(runs.flatMap((run) => of(run).map(({ part }) => part)))];
  const title = `${single ? "Scores" : (shown[0] ?? "")} of the ${parts.join(" or ")} part`;
  // Correlations are shares of 1 as well; in hundredths they stand beside percents.
  return [{ id: "validation", title, x: "step", y: "percent", lines }];
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
