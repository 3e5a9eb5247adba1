/** Scores, times and sizes in words and cells, for terminals and pages alike. */

import type { Finding, Metrics, Verdict, VerdictRow } from "../events.ts";
import type { PrefixEvaluation, TeacherFidelity } from "../protocol/protocol.ts";
import { percent, score } from "../run/figures.ts";

/** A verdict as a table: the networks' names first, then numbers. */
export interface VerdictTable {
  readonly titles: readonly string[];
  readonly rows: readonly (readonly string[])[];
  readonly notes: readonly string[];
}

/** The verdict of a distillation as a table, with what is to be said under it. */
export function verdictRows(verdict: Verdict): VerdictTable {
  const { labels, teachers, studentBefore, studentAfter, baseline, prefixes = [], gapFrom } = verdict;
  const rows: (readonly [string, VerdictRow])[] = [
    ...teachers.map((teacher) => [named("teacher", teacher, teachers), teacher] as const),
    ["student before", studentBefore],
    ...(baseline ? [["without a teacher", baseline] as const] : []),
    ["student after", studentAfter],
    ...prefixes.map((row) => [`its first ${row.embedding}`, row] as const),
  ];
  // A teacher that is no classifier has no top-K accuracy, and another one may have.
  const names = shownMetrics(teachers.map(({ metrics }) => metrics));
  const what = labels === "none" ? "test images" : "test classes";
  const neighbours = teachers[0]?.fidelity.neighbours ?? 0;
  const titles = [what, ...names.map((name) => shortName(name, neighbours)), "parameters", "embedding", "ms/image"];
  const body = rows.map(([title, row]) => [
    title,
    ...names.map((name) => score(name, row.metrics[name])),
    ...sizeCells(row),
  ]);
  const closed = teachers.map((teacher) => {
    const shares = names.map((name) => percent(teacher.gapClosed[name], 0));
    return [named("gap closed", teacher, teachers, "to "), ...shares, "", "", ""];
  });
  const kept = teachers.map(({ name, weight, fidelity }) => ({ teacher: name, weight, ...fidelity }));
  const notes = [
    gapNotes[gapFrom],
    ...(labels === "none" ? [legend(neighbours), ...angleLines(kept)] : fidelityLines(kept)),
  ];
  return { titles, rows: [...body, ...closed], notes };
}

/** Parameters, embedding and time of a network; stored vectors are none, and have an embedding only. */
export function sizeCells({ parameters, embedding, millisecondsPerImage }: VerdictRow): string[] {
  if (parameters === 0) return ["-", String(embedding), "-"];
  return [parameters.toLocaleString("en"), String(embedding), millisecondsPerImage.toFixed(3)];
}

/** The names of what the tables show of `all` metrics, each once. kNN accuracy stands in metrics.json; beside Recall@K it would make a table too wide for a terminal. */
export function shownMetrics(all: readonly Metrics[]): string[] {
  const names = new Set(all.flatMap((metrics) => Object.keys(metrics)));
  return [...names].filter((name) => !name.startsWith("knn@")).sort(metricOrder);
}

/** `what`, with the teacher's name where there are several. */
export function named(what: string, { name }: { readonly name: string }, all: readonly unknown[], word = ""): string {
  return all.length > 1 ? `${what} ${word}${name}` : what;
}

/** What the gap is. */
const gapNotes: Readonly<Record<Verdict["gapFrom"], string>> = {
  baseline: "gap closed: the student's way from the one without a teacher to the teacher",
  studentBefore:
    "gap closed: the student's way from its start to the teacher (with labels, --baseline measures from labels alone)",
};

/** The findings of a run, one paragraph each; nothing where all is well. */
export function findingLines(findings: readonly Finding[]): string[] {
  return findings.map(({ message }) => `note: ${message}`);
}

/** What the columns are where the teacher's relations are the measure. */
function legend(neighbours: number): string {
  return [
    "measured by the teacher's relations, as there are no labels:",
    `  ${neighbours} nearest: share of each image's ${neighbours} nearest images that are in common with the teacher's`,
    "  distances, angles: rank correlation with the teacher's",
    "  nearest@K: share of images whose nearest image for the teacher is among the K nearest",
  ].join("\n");
}

/** A metric as a column's title. */
export function shortName(name: string, neighbours: number): string {
  const short: Record<string, string> = {
    neighbourOverlap: `${neighbours} nearest`,
    distanceRankCorrelation: "distances",
    angleRankCorrelation: "angles",
  };
  return short[name] ?? name.replace("teacherRecall@", "nearest@");
}

/** The difference of angles from each teacher's, which stands in no metric, as more of it is worse. */
export function angleLines(kept: readonly TeacherFidelity[]): string[] {
  return kept.map((fidelity) => `${anglesApart(fidelity)}${kept.length > 1 ? ` from ${fidelity.teacher}'s` : ""}`);
}

function anglesApart({ angleDifference, angleDifferenceError }: TeacherFidelity): string {
  return `angles ${angleDifference.toFixed(1)} ± ${angleDifferenceError.toFixed(1)} degrees apart`;
}

/** How well the relations of each teacher are kept, in two lines. */
export function fidelityLines(kept: readonly TeacherFidelity[]): string[] {
  return kept.flatMap((fidelity) => {
    const { teacher, distanceRankCorrelation, angleRankCorrelation, neighbourOverlap, neighbours, recall } = fidelity;
    const correlations = `rank correlation of distances ${distanceRankCorrelation.toFixed(3)}, of angles ${angleRankCorrelation.toFixed(3)}`;
    const common = `${percent(neighbourOverlap, 0)} of the ${neighbours} nearest in common`;
    const first = Object.entries(recall).map(([k, share]) => `${k}: ${percent(share, 0)}`);
    return [
      `${kept.length > 1 ? `${teacher}'s relations` : "relations"} kept: ${correlations}, ${anglesApart(fidelity)}`,
      `  ${common}; the teacher's nearest among the student's K nearest: ${first.join(", ")}`,
    ];
  });
}

/** A line for each prefix of the embedding that was trained to be one too. */
export function prefixLines(prefixes: readonly PrefixEvaluation[] = []): string[] {
  return prefixes.map(
    ({ embedding, metrics, intervals }) => `first ${embedding} numbers: ${metricsLine(metrics, intervals)}`,
  );
}

/** One line of metrics, with their 95 % intervals where they have one. */
export function metricsLine(metrics: Metrics, intervals: Metrics = {}): string {
  const names = Object.keys(metrics).sort(metricOrder);
  const interval = (name: string) => (name in intervals ? ` ± ${percent(intervals[name])}` : "");
  return names.map((name) => `${name} ${score(name, metrics[name])}${interval(name)}`).join("  ");
}

/**
 * The two metrics that tell most: recall of the smallest K, and MAP@R; without labels the share of neighbours in common, and
 * the rank correlation of distances.
 */
export function shortMetrics(metrics: Metrics): Metrics {
  const [first] = Object.keys(metrics).sort(metricOrder);
  const second = first === overlap ? "distanceRankCorrelation" : "mapAtR";
  return Object.fromEntries(Object.entries(metrics).filter(([name]) => name === first || name === second));
}

const overlap = "neighbourOverlap";

/** Recall by rising K, then the others by name; without labels the overlap, correlations, and recall by rising K. */
function metricOrder(a: string, b: string): number {
  const place = (name: string) => {
    const [kind, k] = name.split("@");
    if (kind === "recall") return Number(k);
    if (kind === "teacherRecall") return 2 ** 40 + Number(k);
    const rest = [overlap, "distanceRankCorrelation", "angleRankCorrelation"].indexOf(name);
    return rest >= 0 ? rest : 2 ** 41;
  };
  return place(a) - place(b) || a.localeCompare(b);
}

/** A length of time in the two units that matter. */
export function duration(seconds: number): string {
  if (!Number.isFinite(seconds)) return "?";
  const s = Math.round(seconds);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
}

/** Bytes for people: whole MiB, or GiB with one decimal. */
export function bytesInWords(bytes: number): string {
  if (bytes < 2 ** 20) return `${Math.ceil(bytes / 2 ** 10)} KiB`;
  return bytes < 2 ** 30 ? `${Math.round(bytes / 2 ** 20)} MiB` : `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}
