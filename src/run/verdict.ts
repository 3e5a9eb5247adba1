/** The verdict of a distillation: how much of the teacher's advantage the student has gained. */

import type { Evaluation, Fidelity, Labels, NetworkSummary } from "../protocol/protocol.ts";
import type { Metrics, Verdict, VerdictRow } from "./events.ts";

/** Puts three evaluations on the same test images side by side. */
export function verdictOf(
  labels: Labels,
  teacher: VerdictRow,
  studentBefore: VerdictRow,
  studentAfter: VerdictRow,
  fidelity: Fidelity,
): Verdict {
  const closed = gapClosed(teacher, studentBefore, studentAfter);
  return { labels, teacher, studentBefore, studentAfter, gapClosed: closed, fidelity };
}

/** One network with its measurement. */
export function verdictRow(network: NetworkSummary, { metrics, millisecondsPerImage }: Evaluation): VerdictRow {
  return { ...network, metrics, millisecondsPerImage };
}

function gapClosed(teacher: VerdictRow, before: VerdictRow, after: VerdictRow): Verdict["gapClosed"] {
  const share = (name: string) => {
    const gap = of(teacher.metrics, name) - of(before.metrics, name);
    return gap > 0 ? (of(after.metrics, name) - of(before.metrics, name)) / gap : null;
  };
  return Object.fromEntries(Object.keys(teacher.metrics).map((name) => [name, share(name)]));
}

function of(metrics: Metrics, name: string): number {
  return metrics[name] ?? Number.NaN;
}
