/** Results as text for people. */

import type { Metrics, Verdict, VerdictRow } from "../run/events.ts";

/** Columns under their titles: the first to the left, numbers to the right. */
function table(titles: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = titles.map((title, i) => Math.max(title.length, ...rows.map((row) => row[i]?.length ?? 0)));
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0)))
      .join("  ")
      .trimEnd();
  return [line(titles), line(widths.map((width) => "-".repeat(width))), ...rows.map(line)].join("\n");
}

/** The verdict of a distillation; `others` are further networks on the same test classes. */
export function verdictTable(verdict: Verdict, others: Readonly<Record<string, VerdictRow>> = {}): string {
  const { teacher, studentBefore, studentAfter, gapClosed } = verdict;
  const rows = { teacher, "student before": studentBefore, ...others, "student after": studentAfter };
  const names = Object.keys(teacher.metrics).sort(metricOrder);
  const titles = ["test classes", ...names, "parameters", "embedding", "ms/image"];
  const body = Object.entries(rows).map(([title, row]) => [
    title,
    ...names.map((name) => percent(row.metrics[name])),
    row.parameters.toLocaleString("en"),
    String(row.embedding),
    row.millisecondsPerImage.toFixed(3),
  ]);
  const closed = ["gap closed", ...names.map((name) => percent(gapClosed[name], 0)), "", "", ""];
  return table(titles, [...body, closed]);
}

/** One line of metrics. */
export function metricsLine(metrics: Metrics): string {
  const names = Object.keys(metrics).sort(metricOrder);
  return names.map((name) => `${name} ${percent(metrics[name])}`).join("  ");
}

/** The two metrics that tell most: recall of the smallest K, and MAP@R. */
export function shortMetrics(metrics: Metrics): Metrics {
  const [first] = Object.keys(metrics).sort(metricOrder);
  return Object.fromEntries(Object.entries(metrics).filter(([name]) => name === first || name === "mapAtR"));
}

/** Recall by rising K, then the others by name. */
function metricOrder(a: string, b: string): number {
  const k = (name: string) =>
    name.startsWith("recall@") ? Number(name.slice("recall@".length)) : Number.MAX_SAFE_INTEGER;
  return k(a) - k(b) || a.localeCompare(b);
}

function percent(value: number | null | undefined, digits = 2): string {
  return value === null || value === undefined ? "-" : `${(100 * value).toFixed(digits)} %`;
}

/** A length of time in the two units that matter. */
export function duration(seconds: number): string {
  if (!Number.isFinite(seconds)) return "?";
  const s = Math.round(seconds);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
}
