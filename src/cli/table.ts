/** Results as text for people. */

import type { Verdict } from "../events.ts";
import { printable } from "../printable.ts";
import type {
  BenchReport,
  CategoryTotal,
  Cosine,
  Evaluation,
  ExportReport,
  ProfileReport,
} from "../protocol/protocol.ts";
import { shortName, shownMetrics, verdictRows } from "../report/scores.ts";
import { percent, score } from "../run/figures.ts";

/** Columns under their titles: the first to the left, numbers to the right. Its cells are printable, one line each. */
export function table(titles: readonly string[], cells: readonly (readonly string[])[]): string {
  const rows = cells.map((row) => row.map(printable));
  const widths = titles.map((title, i) => Math.max(title.length, ...rows.map((row) => row[i]?.length ?? 0)));
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0)))
      .join("  ")
      .trimEnd();
  return [line(titles), line(widths.map((width) => "-".repeat(width))), ...rows.map(line)].join("\n");
}

/** The verdict of a distillation. */
export function verdictTable(verdict: Verdict): string {
  const { titles, rows, notes } = verdictRows(verdict);
  return [table(titles, rows), ...notes].join("\n");
}

/** An exported model in its forms, beside the model itself. */
export function exportTable({ student, studentBytes, models }: ExportReport): string {
  const names = shownMetrics([student?.metrics ?? {}]).filter((name) => !name.startsWith("top@"));
  const neighbours = student?.fidelity?.[0]?.neighbours ?? 0;
  const row = (title: string, bytes: number, evaluation: Evaluation | null, cosine: Cosine | null, engine: string) => [
    title,
    bytes.toLocaleString("en"),
    cosine?.mean.toFixed(6) ?? "",
    cosine?.min.toFixed(6) ?? "",
    ...names.map((name) => (evaluation ? score(name, evaluation.metrics[name]) : "")),
    evaluation?.millisecondsPerImage.toFixed(3) ?? "",
    engine,
  ];
  const titles = [
    "model",
    "bytes",
    "cosine",
    "lowest",
    ...names.map((name) => shortName(name, neighbours)),
    "ms/image",
    "by",
  ];
  return table(titles, [
    row("student", studentBytes, student, null, student ? "rkd" : ""),
    ...models.map(({ dtype, bytes, evaluation, cosine, engine }) =>
      row(dtype, bytes, evaluation, cosine, engine ?? ""),
    ),
  ]);
}

/** The measured workloads. */
export function benchTable(reports: readonly BenchReport[]): string {
  const titles = ["workload", "ms/step", "best ms", "threads", "peak MiB", "GFLOP/s", "of the machine's"];
  const rows = reports.map((report) => [
    report.workload,
    report.step_ms.toFixed(2),
    report.best_ms.toFixed(2),
    String(report.threads),
    report.peak_mib?.toFixed(0) ?? "-",
    report.gflops?.toFixed(1) ?? "-",
    report.peak_share === null ? "-" : `${percent(report.peak_share, 0)} of ${report.peak_gflops.toFixed(0)}`,
  ]);
  const [first] = reports;
  const machine = first === undefined ? "" : `${first.instruction_set}; profile: ${first.profile}\n`;
  return `${table(titles, rows)}\n${machine}${rateNote}`;
}

const rateNote =
  "GFLOP/s count convolutions and linear layers by their definition; Winograd's algorithm multiplies less, so more than 100 % is possible.";

/** Where the time of a step goes: a table by category, and one by layer and operation. */
export function profileTables(report: ProfileReport): string {
  const { workload, step_ms, outside_ms, threads, runs, instruction_set, profile, peak_gflops } = report;
  const head = [
    `${workload}: ${step_ms.toFixed(2)} ms a step, median of ${runs}; ${threads} threads, ${instruction_set}; profile: ${profile}`,
    `the machine's multiply-adds: ${peak_gflops.toFixed(0)} GFLOP/s`,
  ];
  const titles = ["calls", "ms", "share", "GFLOP/s", "of machine", "MB", "GB/s"];
  const cells = ({ calls, ms, flops, bytes }: Omit<CategoryTotal, "category">) => {
    const rate = flops > 0 ? [(flops / ms / 1e6).toFixed(1), percent(flops / ms / 1e6 / peak_gflops, 0)] : ["-", "-"];
    const moved = bytes > 0 ? [(bytes / 1e6).toFixed(2), (bytes / ms / 1e6).toFixed(1)] : ["-", "-"];
    return [String(calls), ms.toFixed(3), percent(ms / step_ms, 1), ...rate, ...moved];
  };
  const outside = ["between operations", "", outside_ms.toFixed(3), percent(outside_ms / step_ms, 1), "", "", "", ""];
  const categories = report.categories.map((total) => [total.category, ...cells(total)]);
  const records = report.records.map((record) => [
    `${record.layer || "-"} ${record.operation} ${record.shape.join("x")}`.trimEnd(),
    ...cells(record),
  ]);
  return [
    ...head,
    "",
    table(["category", ...titles], [...categories, outside]),
    "",
    table(["layer, operation, its first tensor", ...titles], records),
    "",
    rateNote,
  ].join("\n");
}
