/** What the validation said epoch by epoch, as a chart for each column of the table. */

import type { Chart, Line, Point } from "../report/blocks.ts";
import type { ExperimentResult, ResultRun } from "./result.ts";

/** One chart a column, where there is more than one epoch to draw. */
export function curvesOf({ rows, columns, figures, runs, protocol }: ExperimentResult): Chart[] {
  const byFolder = new Map(runs.map((run) => [run.folder, run]));
  const part = protocol === "honest" ? "validation" : "test";
  return columns.flatMap((column, place) => {
    const own = rows.flatMap(({ row, cells }, colour) => {
      const cell = cells.find((each) => each.column === column);
      // The history of a run is its own network's, not that of one beside it.
      if (cell?.beside) return [];
      return [{ row, colour, runs: (cell?.folders ?? []).flatMap((folder) => byFolder.get(folder) ?? []) }];
    });
    const measured = own.flatMap((row) =>
      row.runs.flatMap(({ history }) => history.flatMap(({ validation }) => (validation ? [validation] : []))),
    );
    const figure = [...figures, "recall@1"].find((name) => measured.some((metrics) => name in metrics));
    if (figure === undefined) return [];
    const lines = own.flatMap(({ row, colour, runs: each }) => linesOf(row, colour, each, figure));
    if (!lines.some(({ points }) => points.length > 1)) return [];
    const title = `${column}: ${figure} of the ${part} part${lines.some(({ thin }) => thin) ? "; thick lines are means over seeds" : ""}`;
    return [{ id: `curve-${place}`, title, x: "epoch", y: "percent", lines }];
  });
}

/** The mean of a row, and behind it its seeds where there are several. */
function linesOf(name: string, colour: number, runs: readonly ResultRun[], figure: string): Line[] {
  const seeds = runs.map((run) => pointsOf(run, figure)).filter((points) => points.length > 0);
  const thin = seeds.length > 1 ? seeds.map((points) => ({ name, points, colour, thin: true })) : [];
  return [...thin, { name, points: meanOf(seeds), colour }];
}

function pointsOf({ history }: ResultRun, figure: string): Point[] {
  return history.flatMap(({ epoch, validation }) => {
    const value = validation?.[figure];
    return value === undefined ? [] : [[epoch, 100 * value] as const];
  });
}

/** The mean over the seeds at every epoch that all of them have. */
function meanOf(seeds: readonly (readonly Point[])[]): Point[] {
  const [first = [], ...others] = seeds;
  return first.flatMap(([epoch, value]) => {
    const same = others.map((points) => points.find(([at]) => at === epoch)?.[1]);
    if (same.includes(undefined)) return [];
    const sum = same.reduce<number>((total, each) => total + (each ?? 0), value);
    return [[epoch, sum / (same.length + 1)] as const];
  });
}
