/** What `experiment` takes: rows, columns, seeds, and what each cell of the matrix is. */

import type { DistillOptions, EvaluateOptions, TrainOptions } from "../options/run.ts";
import type { Data } from "../protocol/protocol.ts";

/** Where a cell stands, and how it finds others. */
export interface CellContext {
  /** The row, one of `rows`, or a name that another cell asked for. */
  readonly row: string;
  /** The column, one of `columns`. */
  readonly column: string;
  /** The seed; the run gets it by itself. */
  readonly seed: number;
  /**
   * The folder of another cell's run of the same seed, for example `teacher: model("teacher")`; that run comes first.
   * A row that is not among `rows` is run and not shown. `column` is this cell's, where it is left out.
   */
  readonly model: (row: string, column?: string) => string;
}

/** What the experiment decides by itself. */
type Managed = "out" | "overwrite" | "seed" | "threads" | "signal";

/** One more evaluation of a cell's model. */
export interface Measure extends Pick<EvaluateOptions, "part" | "ks" | "fewShot"> {
  /** The images. @default those of the run */
  readonly data?: Data | string;
}

/**
 * One cell: a run through `train` or `distill`, with their options. Two cells that say the same are one run, so a teacher
 * that does not depend on the column is trained once. Options that the cell leaves open are those of a single run, but
 * `keep: "both"`, and `teacherFeatures: "auto"`.
 */
export type Cell = (
  | { readonly train: Omit<TrainOptions, Managed>; readonly distill?: never }
  | { readonly distill: Omit<DistillOptions, Managed>; readonly train?: never }
) & {
  /** Further evaluations; the one called `x` gives figures called `x/recall@1` and so on. */
  readonly measure?: Readonly<Record<string, Measure>>;
  /** What a figure of the table is called among this cell's own, where that differs: `{ accuracy: "top@1" }`. */
  readonly figures?: Readonly<Record<string, string>>;
};

/** A statement that the experiment is to examine: one row's figures are above another's. */
export interface Claim {
  /** The statement in words. */
  readonly says: string;
  /** The row that is said to be higher. */
  readonly above: string;
  /** The row that is said to be lower. */
  readonly below: string;
  /** The figures it is about. @default all that the table shows */
  readonly figures?: readonly string[];
  /** The columns it is about. @default all */
  readonly columns?: readonly string[];
}

/** A published table, to stand beside the experiment's. */
export interface PublishedTable {
  /** What it shows and where it stands. */
  readonly title: string;
  readonly columns: readonly string[];
  /** The figures of each row in the order of the columns, as published; null where there is none. */
  readonly rows: Readonly<Record<string, readonly (number | string | null)[]>>;
}

/**
 * `honest`: the validation classes choose the weights, and the test classes are looked at when everything is decided.
 * `paper`: the test classes choose them, as in the authors' code; the scores are too good.
 */
export type Protocol = "honest" | "paper";

/** What `experiment` takes. */
export interface ExperimentOptions {
  /** What it is called; the title of its tables. */
  readonly name: string;
  /** Folder of the experiment; made where it is missing. Finished cells in it are not run again. */
  readonly out: string | URL;
  /** The rows of the table, for example methods. */
  readonly rows: readonly string[];
  /** The columns of the table, for example sizes of the student. */
  readonly columns: readonly string[];
  /** The seeds, or how many, then from 1. @default 3 */
  readonly seeds?: number | readonly number[];
  /** What the cell at a row and column is. Must give the same for the same coordinates. */
  readonly cell: (at: CellContext) => Cell;
  /** What the table shows of each cell, for example `recall@1`, `mapAtR`, or `x/recall@1` of the measure `x`; without labels for example `neighbourOverlap`. @default ["recall@1"] */
  readonly figures?: readonly string[];
  /**
   * Pictures of nearest neighbours, for queries that are drawn from the test classes: by the models of these rows, of the
   * first column and seed. @default none
   */
  readonly gallery?: { readonly rows: readonly string[]; readonly queries?: number; readonly k?: number };
  /** Statements to examine. */
  readonly claims?: readonly Claim[];
  /** Published tables to stand beside this one's. */
  readonly published?: readonly PublishedTable[];
  /** Which weights the table shows and claims are judged by, where runs keep both; the others stand beside. @default "best" */
  readonly judgedWeights?: "best" | "last";
  /** What a reader of the tables must know, in full sentences; the first stands above the table. */
  readonly notes?: readonly string[];
  /** How weights are chosen. @default "honest" */
  readonly protocol?: Protocol;
  /** How to repeat it; stands in the tables. @default the command line of this process */
  readonly command?: string;
  /** Whether a few steps of each kind of cell are timed first, to say how long it will take. @default true */
  readonly estimate?: boolean;
  /** CPU threads, 0 is all cores. @default 0 */
  readonly threads?: number;
  /** Stops the experiment after a clean checkpoint of the run in progress; it rejects with `signal.reason`. */
  readonly signal?: AbortSignal;
}

/** The same with its folder as the system takes it. */
export type PlacedOptions = ExperimentOptions & { readonly out: string };
