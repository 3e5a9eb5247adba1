/** The verdict of a distillation: how much of each teacher's advantage the student has gained. */

import type { Metrics, TeacherVerdict, Verdict, VerdictRow } from "../events.ts";
import type { Evaluation, Labels, NetworkSummary, TeacherFidelity, TeacherSummary } from "../protocol/protocol.ts";

/** A teacher before the gap to it is known. */
export type TeacherRow = Omit<TeacherVerdict, "gapClosed">;

/** Puts the evaluations on the same test images side by side. */
export function verdictOf(
  labels: Labels,
  teachers: readonly TeacherRow[],
  studentBefore: VerdictRow,
  studentAfter: VerdictRow,
  baseline: VerdictRow | null = null,
): Verdict {
  const from = baseline ?? studentBefore;
  const judged = teachers.map((teacher) => ({ ...teacher, gapClosed: gapClosed(teacher, from, studentAfter) }));
  return {
    labels,
    teachers: judged,
    studentBefore,
    studentAfter,
    baseline,
    gapFrom: baseline ? "baseline" : "studentBefore",
  };
}

/** One network with its measurement. */
export function verdictRow(network: NetworkSummary, { metrics, millisecondsPerImage }: Evaluation): VerdictRow {
  return { ...network, metrics, millisecondsPerImage };
}

/** One teacher with its measurement, and how well the student keeps its relations. */
export function teacherRow(
  teacher: TeacherSummary,
  { metrics, millisecondsPerImage }: Evaluation,
  { teacher: _, weight: __, ...fidelity }: TeacherFidelity,
): TeacherRow {
  return { ...teacher, metrics, millisecondsPerImage, fidelity };
}

function gapClosed(teacher: VerdictRow, from: VerdictRow, after: VerdictRow): TeacherVerdict["gapClosed"] {
  const share = (name: string) => {
    const gap = of(teacher.metrics, name) - of(from.metrics, name);
    return gap > 0 ? (of(after.metrics, name) - of(from.metrics, name)) / gap : null;
  };
  return Object.fromEntries(Object.keys(teacher.metrics).map((name) => [name, share(name)]));
}

function of(metrics: Metrics, name: string): number {
  return metrics[name] ?? Number.NaN;
}
