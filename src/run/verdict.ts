/** The verdict of a distillation: how much of the teacher's advantage the student has gained. */

import type { Evaluation, Fidelity, Labels, NetworkSummary } from "../protocol/protocol.ts";
import type { Metrics, Verdict, VerdictRow } from "./events.ts";

/** Puts the evaluations on the same test images side by side. */
export function verdictOf(
  labels: Labels,
  teacher: VerdictRow,
  studentBefore: VerdictRow,
  studentAfter: VerdictRow,
  fidelity: Fidelity,
  baseline: VerdictRow | null = null,
): Verdict {
  const closed = gapClosed(teacher, baseline ?? studentBefore, studentAfter);
  const gapFrom = baseline ? "baseline" : "studentBefore";
  return { labels, teacher, studentBefore, studentAfter, baseline, gapFrom, gapClosed: closed, fidelity };
}

/** One network with its measurement. */
export function verdictRow(network: NetworkSummary, { metrics, millisecondsPerImage }: Evaluation): VerdictRow {
  return { ...network, metrics, millisecondsPerImage };
}

function gapClosed(teacher: VerdictRow, from: VerdictRow, after: VerdictRow): Verdict["gapClosed"] {
  const share = (name: string) => {
    const gap = of(teacher.metrics, name) - of(from.metrics, name);
    return gap > 0 ? (of(after.metrics, name) - of(from.metrics, name)) / gap : null;
  };
  return Object.fromEntries(Object.keys(teacher.metrics).map((name) => [name, share(name)]));
}

function of(metrics: Metrics, name: string): number {
  return metrics[name] ?? Number.NaN;
}
