/** The result of an experiment: everything its tables show, as one JSON document. */

import { cpus, totalmem } from "node:os";
import type { DistillResult, EpochRecord, Metrics } from "../events.ts";
import type { NetworkSummary } from "../protocol/protocol.ts";
import type { GalleryQuery } from "../report/pictures.ts";
import { settingsOf } from "../report/settings.ts";
import { version } from "../version.ts";
import { type CellResult, planOf } from "./cell-run.ts";
import type { Matrix, PlannedCell, PlannedRun } from "./matrix.ts";
import type { Claim, PlacedOptions, Protocol, PublishedTable } from "./options.ts";
import { claimVerdict, compare, type Difference, type Spread, spreadOf } from "./statistics.ts";

/** What `experiment` returns and `table.json` holds. All figures are in [0, 1] where their unit allows it. */
export interface ExperimentResult {
  /** Form of this document. */
  readonly form: 1;
  readonly name: string;
  /** The experiment's folder, as the options name it. */
  readonly out: string;
  /** Whether every cell is finished. */
  readonly complete: boolean;
  /** When it was written, ISO 8601. */
  readonly date: string;
  readonly command: string;
  readonly protocol: Protocol;
  /** Which weights the table shows and claims are judged by. */
  readonly judgedWeights: "best" | "last";
  readonly versions: { readonly rkd: string; readonly node: string };
  readonly machine: {
    readonly cpu: string;
    /** CPU threads that the runs used. */
    readonly threads: number | null;
    readonly instructionSet: string | null;
    /** GiB. */
    readonly memory: number;
  };
  readonly seeds: readonly number[];
  readonly columns: readonly string[];
  readonly figures: readonly string[];
  readonly rows: readonly ResultRow[];
  readonly claims: readonly ClaimResult[];
  readonly published: readonly PublishedTable[];
  readonly notes: readonly string[];
  /** What the data was recognised as, a sentence each. */
  readonly data: readonly string[];
  /** The settings of each row that was run, shown or not; without a column where they are the same in all. */
  readonly settings: readonly { readonly row: string; readonly column: string | null; readonly text: string }[];
  /** Wall-clock time of the runs that were not stopped in between, evaluations included. */
  readonly seconds: number;
  readonly runs: readonly ResultRun[];
  /** Nearest neighbours; empty where none were asked for, or not every run is finished. */
  readonly gallery: readonly GalleryQuery[];
}

/** A row of the table. */
export interface ResultRow {
  readonly row: string;
  readonly cells: readonly ResultCell[];
}

/** One figure at a row and column. */
export interface ResultCell {
  readonly column: string;
  readonly figure: string;
  /** Of the weights that were chosen. */
  readonly best: Spread;
  /** Of the last weights; nothing where they were not measured. */
  readonly last: Spread | null;
  /** Half the 95 % interval of each value of `best`, where it is a mean over a sample (few-shot episodes); by seed. */
  readonly intervals: readonly (number | null)[];
  readonly network: NetworkSummary | null;
  /** Whether it is of a network beside the run's own: its teacher, or its baseline. */
  readonly beside: boolean;
  /** The folders of the runs, by seed. */
  readonly folders: readonly string[];
}

/** One run, with its history. */
export interface ResultRun {
  readonly row: string;
  readonly column: string;
  readonly seed: number;
  readonly folder: string;
  /** The epoch whose weights were chosen. */
  readonly epoch: number | null;
  readonly epochs: number | null;
  readonly stoppedEarly: boolean;
  /** Training alone. */
  readonly trainingSeconds: number | null;
  readonly figures: Readonly<Record<string, number>>;
  readonly last: Readonly<Record<string, number>> | null;
  readonly failed: string | null;
  readonly history: readonly EpochRecord[];
}

/** What became of a claim. */
export interface ClaimResult extends Claim {
  readonly differences: readonly (Difference & { readonly column: string; readonly figure: string })[];
  /** In words. */
  readonly verdict: string;
}

/** Puts together what is there. */
export function resultOf(
  options: PlacedOptions,
  seeds: readonly number[],
  { runs, cells }: Matrix,
  results: ReadonlyMap<PlannedRun, CellResult>,
  gallery: readonly GalleryQuery[],
): ExperimentResult {
  const figures = options.figures ?? defaultFigures;
  const rows = options.rows.map((row) => ({
    row,
    cells: options.columns.flatMap((column) => {
      const own = cells.filter((cell) => cell.row === row && cell.column === column);
      return figures.map((figure) => resultCell(column, figure, own, results));
    }),
  }));
  const finished = runs.flatMap((run) => results.get(run) ?? []);
  const { protocol = "honest", judgedWeights = "best", published = [], notes = [], claims = [] } = options;
  return {
    form: 1,
    name: options.name,
    out: options.out,
    complete: finished.length === runs.length,
    date: new Date().toISOString(),
    command: options.command ?? process.argv.slice(1).join(" "),
    protocol,
    judgedWeights,
    versions: { rkd: version, node: process.version },
    machine: {
      cpu: cpus()[0]?.model.trim() ?? "unknown",
      threads: finished[0]?.start?.threads ?? null,
      instructionSet: finished[0]?.start?.instructionSet ?? null,
      memory: Math.round((totalmem() / 2 ** 30) * 10) / 10,
    },
    seeds,
    columns: options.columns,
    figures,
    rows,
    claims: claims.map((claim) => examine(claim, rows, judgedWeights)),
    published,
    notes,
    data: dataSentences(finished.flatMap(({ start }) => (start ? [start] : []))),
    settings: settings(runs),
    seconds: finished.reduce((sum, { wallSeconds }) => sum + (wallSeconds ?? 0), 0),
    runs: runs.flatMap((run) => {
      const result = results.get(run);
      return result ? [resultRun(run, result)] : [];
    }),
    gallery,
  };
}

/** What a table shows where the options do not say it. */
export const defaultFigures: readonly string[] = ["recall@1"];

/** All figures of a cell: those of the run's test, of the networks beside it, and of its measures, under their names. */
export function figuresOf({ run, measures }: CellResult): Record<string, number> {
  return { ...run?.metrics, ...beside(run), ...under(measures, ({ metrics }) => metrics) };
}

/** The same of the last weights, the baseline's too; a teacher has one form. */
function lastOf({ run, measures, baseline }: CellResult): Record<string, number> {
  const alone = Object.fromEntries(named("baseline", baseline?.last?.metrics ?? {}));
  return { ...run?.last?.metrics, ...beside(run), ...alone, ...under(measures, ({ last }) => last ?? {}) };
}

/** The rows of a verdict: `teacher/recall@1` of the first teacher, `baseline/recall@1` of the student without one. */
function beside(run: CellResult["run"]): Metrics {
  const { verdict } = (run ?? {}) as Partial<DistillResult>;
  const rows = { teacher: verdict?.teachers[0], baseline: verdict?.baseline };
  const all = Object.entries(rows).flatMap(([name, row]) => named(name, row?.metrics ?? {}));
  return Object.fromEntries(all);
}

/** What the measures found, under their names. */
function under(measures: CellResult["measures"], of: (measure: CellResult["measures"][string]) => Metrics): Metrics {
  return Object.fromEntries(Object.entries(measures).flatMap(([name, measure]) => named(name, of(measure))));
}

/** `recall@1` of `name` as `name/recall@1`. */
function named(name: string, metrics: Metrics): (readonly [string, number])[] {
  return Object.entries(metrics).map(([metric, value]) => [`${name}/${metric}`, value] as const);
}

/** @param cells One cell of the table, by seed. */
function resultCell(
  column: string,
  figure: string,
  cells: readonly PlannedCell[],
  results: ReadonlyMap<PlannedRun, CellResult>,
): ResultCell {
  const own = cells.map(({ run }) => results.get(run));
  const called = cells[0]?.figures[figure] ?? figure;
  const best = own.map((result) => (result ? (figuresOf(result)[called] ?? null) : null));
  const last = own.map((result) => (result ? (lastOf(result)[called] ?? null) : null));
  const network = own.find((result) => result?.run)?.run?.network ?? null;
  return {
    beside: own.some((result) => result && called in beside(result.run)),
    ...{ column, figure, network, best: spreadOf(best), folders: cells.map(({ run }) => run.folder) },
    intervals: own.map((result) => under(result?.measures ?? {}, ({ intervals }) => intervals)[called] ?? null),
    last: last.every((value) => value === null) ? null : spreadOf(last),
  };
}

function resultRun({ row, column, seed, folder }: PlannedRun, result: CellResult): ResultRun {
  const { run, failed } = result;
  return {
    ...{ row, column, seed, folder, failed },
    epoch: run?.epoch ?? null,
    epochs: run?.epochs ?? null,
    stoppedEarly: run?.stoppedEarly ?? false,
    trainingSeconds: run?.seconds ?? null,
    figures: figuresOf(result),
    last: run?.last ? lastOf(result) : null,
    history: run?.history ?? [],
  };
}

/** A sentence for each data set; counts that differ from seed to seed are a range. */
function dataSentences(starts: readonly NonNullable<CellResult["start"]>[]): string[] {
  return [...new Set(starts.map(({ data }) => data))].map((data) => {
    const own = starts.filter((one) => one.data === data);
    const parts = (["train", "validation", "test"] as const).map((part) => {
      const [images, classes] = (["images", "classes"] as const).map((what) =>
        range(own.map((one) => one[part][what])),
      );
      const of = classes === "0" ? "" : ` of ${classes} classes`;
      return `${part === "train" ? "training" : part} ${images} images${of}`;
    });
    return `${data} Of these ${parts.join(", ")}.`;
  });
}

function range(counts: readonly number[]): string {
  const [least, most] = [Math.min(...counts), Math.max(...counts)];
  return least === most ? `${least}` : `${least} to ${most}`;
}

/** Rows with the same settings in every column have one line, others one for each column. */
function settings(runs: readonly PlannedRun[]): ExperimentResult["settings"] {
  const texts = new Map<string, Map<string, string>>(); // row -> column -> settings
  for (const run of runs) {
    const plan = planOf(run);
    if (plan) texts.set(run.row, (texts.get(run.row) ?? new Map()).set(run.column, settingsOf(plan)));
  }
  return [...texts].flatMap(([row, columns]) => {
    const same = new Set(columns.values()).size === 1 && columns.size > 1;
    return [...columns]
      .slice(0, same ? 1 : undefined)
      .map(([column, text]) => ({ row, column: same ? null : column, text }));
  });
}

function examine(claim: Claim, rows: readonly ResultRow[], weights: "best" | "last"): ClaimResult {
  const spread = (cell: ResultCell | undefined) => cell?.[weights] ?? spreadOf([]);
  const cells = (row: string) => rows.find((each) => each.row === row)?.cells ?? [];
  const wanted = cells(claim.above).filter(
    ({ column, figure }) =>
      (claim.columns ?? [column]).includes(column) && (claim.figures ?? [figure]).includes(figure),
  );
  const differences = wanted.map((cell) => {
    const { column, figure } = cell;
    const other = cells(claim.below).find((each) => each.column === column && each.figure === figure);
    return { column, figure, ...compare(spread(cell), spread(other)) };
  });
  return { ...claim, differences, verdict: claimVerdict(differences) };
}
