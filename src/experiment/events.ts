/** What an experiment reports while it runs. */

import type { ExperimentResult } from "./result.ts";

/** What happens, told apart by `type`. A failure is no event: the experiment rejects. */
export type ExperimentEvent =
  | ExperimentPlanEvent
  | ExperimentCellEvent
  | ExperimentProgressEvent
  | ExperimentWarningEvent
  | ExperimentEndEvent;

/** What there is to do. */
export interface ExperimentPlanEvent {
  readonly type: "plan";
  /** Cells of the table, over all seeds. */
  readonly cells: number;
  /** Runs that they need; equal cells share one. */
  readonly runs: number;
  /** Runs that are finished already. */
  readonly finished: number;
  /** Estimated time of the others; nothing where there is nothing to go by. */
  readonly secondsLeft: number | null;
  /** What the estimate rests on, in a sentence. */
  readonly basis: string;
}

/** Where a run stands in the experiment. */
interface AtRun {
  readonly row: string;
  readonly column: string;
  readonly seed: number;
  /** Runs that are finished. */
  readonly done: number;
  readonly runs: number;
  readonly secondsLeft: number | null;
}

/** A run has ended. */
export interface ExperimentCellEvent extends AtRun {
  readonly type: "cell";
  readonly folder: string;
  /** The table's figures of this cell, in [0, 1]; empty where the run diverged. */
  readonly figures: Readonly<Record<string, number>>;
  /** Why it has none. */
  readonly failed: string | null;
}

/** The run in progress goes on. */
export interface ExperimentProgressEvent extends AtRun {
  readonly type: "progress";
  /** What it does. */
  readonly doing: "timing" | "reading images" | "training" | "measuring";
  /** Share of the run that is done, in [0, 1]. */
  readonly share: number;
}

/** A warning of a run; the same words come once. */
export interface ExperimentWarningEvent {
  readonly type: "warning";
  readonly message: string;
}

/** The last event. */
export interface ExperimentEndEvent {
  readonly type: "end";
  readonly result: ExperimentResult;
}
