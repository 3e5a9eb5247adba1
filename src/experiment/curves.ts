/** What the validation said epoch by epoch, as one SVG for each column of the table. */

import type { Drawing } from "./blocks.ts";
import type { ExperimentResult, ResultRun } from "./result.ts";

interface Line {
  readonly name: string;
  /** By seed: pairs of epoch and value in percent. */
  readonly seeds: readonly (readonly Point[])[];
}

type Point = readonly [epoch: number, value: number];

/** Told apart on light and dark ground; after the last one the lines are dashed. */
const colours = ["#3b82f6", "#ef4444", "#10a37f", "#d98e04", "#8b5cf6", "#0ea5b7", "#db2777", "#6b8e23"];

/** One picture a column, where there is more than one epoch to draw. */
export function curvesOf({ rows, columns, figures, runs, protocol }: ExperimentResult): Drawing[] {
  const byFolder = new Map(runs.map((run) => [run.folder, run]));
  const part = protocol === "honest" ? "validation" : "test";
  return columns.flatMap((column) => {
    const own = rows.map(({ row, cells }) => {
      const folders = cells.find((cell) => cell.column === column)?.folders ?? [];
      return { row, runs: folders.flatMap((folder) => byFolder.get(folder) ?? []) };
    });
    const measured = own.flatMap((row) =>
      row.runs.flatMap(({ history }) => history.flatMap(({ validation }) => (validation ? [validation] : []))),
    );
    const figure = [...figures, "recall@1"].find((name) => measured.some((metrics) => name in metrics));
    if (figure === undefined) return [];
    const lines = own.map(({ row, runs: each }) => ({ name: row, seeds: each.map((run) => pointsOf(run, figure)) }));
    if (!lines.some(({ seeds }) => seeds.some((points) => points.length > 1))) return [];
    const caption = `${column}: ${figure} of the ${part} part by epoch, percent${runs.some(({ seed }) => seed !== runs[0]?.seed) ? "; thick lines are means over seeds" : ""}`;
    return [{ svg: draw(lines), caption, legend: lines.map(({ name }, i) => ({ name, svg: sample(i) })) }];
  });
}

function pointsOf({ history }: ResultRun, figure: string): Point[] {
  return history.flatMap(({ epoch, validation }) => {
    const value = validation?.[figure];
    return value === undefined ? [] : [[epoch, 100 * value] as const];
  });
}

const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [640, 330, 44, 12, 12, 34];

function draw(lines: readonly Line[]): string {
  const all = lines.flatMap(({ seeds }) => seeds.flat());
  const epochs = Math.max(...all.map(([epoch]) => epoch));
  const [low, high] = bounds(all.map(([, value]) => value));
  const x = (epoch: number) => LEFT + ((WIDTH - RIGHT - LEFT) * (epoch - 1)) / Math.max(epochs - 1, 1);
  const y = (value: number) => TOP + ((HEIGHT - TOP - BOTTOM) * (high - value)) / (high - low);
  const polyline = (points: readonly Point[], attributes: string) =>
    `<polyline fill="none" ${attributes} points="${points.map(([epoch, value]) => `${x(epoch).toFixed(1)},${y(value).toFixed(1)}`).join(" ")}"/>`;
  const ticks = steps(low, high).map(
    (value) =>
      `<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${y(value)}" y2="${y(value)}" stroke="var(--line)"/>` +
      `<text x="${LEFT - 6}" y="${y(value) + 4}" text-anchor="end">${value}</text>`,
  );
  const ends = [...new Set([1, Math.ceil(epochs / 2), epochs])].map(
    (epoch) => `<text x="${x(epoch)}" y="${HEIGHT - BOTTOM + 20}" text-anchor="middle">${epoch}</text>`,
  );
  const drawn = lines.map(({ seeds }, i) => {
    const thin = seeds.length > 1 ? seeds.map((points) => polyline(points, `${stroke(i)} stroke-opacity="0.3"`)) : [];
    const mean = meanOf(seeds);
    const end = mean.slice(-1).map(([epoch, value]) => dot(x(epoch), y(value), i));
    return [...thin, polyline(mean, `${stroke(i)} stroke-width="2.5"`), ...end].join("");
  });
  return `<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" width="${WIDTH}" role="img" font-size="12" fill="var(--ink)">${[...ticks, ...ends, ...drawn].join("\n")}</svg>`;
}

/** How the line of row `i` is drawn. */
function stroke(i: number): string {
  return `stroke="${colours[i % colours.length]}"${i < colours.length ? "" : ' stroke-dasharray="5 3"'}`;
}

/** The end of a line; all there is of one with a single epoch. */
function dot(x: number, y: number, i: number): string {
  return `<circle cx="${x.toFixed(1)}" cy="${y.toFixed(1)}" r="3.5" fill="${colours[i % colours.length]}"/>`;
}

/** A piece of the line of row `i`, for the legend. */
function sample(i: number): string {
  return `<svg viewBox="0 0 28 8" width="28" height="8"><line x1="0" x2="24" y1="4" y2="4" ${stroke(i)} stroke-width="2.5"/>${dot(24, 4, i)}</svg>`;
}

/** The mean over the seeds at every epoch that all of them have. */
function meanOf(seeds: readonly (readonly Point[])[]): Point[] {
  const [first = [], ...others] = seeds.filter((points) => points.length > 0);
  return first.flatMap(([epoch, value]) => {
    const same = others.map((points) => points.find(([at]) => at === epoch)?.[1]);
    if (same.includes(undefined)) return [];
    const sum = same.reduce<number>((total, each) => total + (each ?? 0), value);
    return [[epoch, sum / (same.length + 1)] as const];
  });
}

/** The range of the values, widened to whole steps of the axis. */
function bounds(values: readonly number[]): [number, number] {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const size = stepSize(low, high);
  return [Math.floor(low / size) * size, Math.max(Math.ceil(high / size), Math.floor(low / size) + 1) * size];
}

function steps(low: number, high: number): number[] {
  const size = stepSize(low, high);
  return Array.from({ length: Math.round((high - low) / size) + 1 }, (_, i) => Number((low + i * size).toFixed(6)));
}

/** 1, 2 or 5 times a power of ten, so that about five steps fill the range. */
function stepSize(low: number, high: number): number {
  const raw = Math.max(high - low, 1e-3) / 5;
  const power = 10 ** Math.floor(Math.log10(raw));
  return ([1, 2, 5, 10].find((factor) => factor * power >= raw) ?? 10) * power;
}
