/** What a run reports while it runs, and what it returns, beside what the core reports. */

import type {
  Evaluation,
  Event,
  Fidelity,
  Job,
  Labels,
  NetworkSummary,
  Plan,
  PrefixEvaluation,
  SessionSummary,
  TermValue,
} from "./protocol/protocol.ts";

/** What happens, told apart by `type`. A failure is no event: the run rejects. */
export type RunEvent =
  | StartEvent
  | DataEvent
  | StepEvent
  | WeightsEvent
  | EvaluationEvent
  | CheckpointEvent
  | EarlyStopEvent
  | CollapseEvent
  | WarningEvent
  | BaselineEvent
  | EndEvent;

/** Data and networks are ready; training begins or goes on. */
export interface StartEvent extends Omit<SessionSummary, "data"> {
  readonly type: "start";
  readonly job: Job;
  /** Absolute path of the run's folder. */
  readonly out: string;
  /** Whether an interrupted run goes on. */
  readonly resumed: boolean;
  /** What the data was recognised as, in a sentence. */
  readonly data: string;
  readonly plan: Plan;
}

/** Images are being decoded, or embedded; or shards of embeddings are being joined, which counts files: each is read twice. */
export interface DataEvent {
  readonly type: "data";
  readonly phase: "decode" | "teacherFeatures" | "embed" | "merge" | "calibrate";
  /** Images, or files, done. */
  readonly done: number;
  /** Images, or files, in all. */
  readonly total: number;
  readonly imagesPerSecond?: number;
}

/** Training goes on. `events.jsonl` and reporters get one of every step, whoever iterates a run at most 20 in a second. */
export type StepEvent = Extract<Event, { readonly type: "step" }>;
/** The weights `"auto"` have been found and stay from here on. They also stand in `plan.json`. */
export type WeightsEvent = Extract<Event, { readonly type: "weights" }>;
/**
 * The student's embeddings are running together in one point: their mean distance has fallen below a hundredth of what it was
 * in the first batch. Comes once; the run goes on.
 */
export type CollapseEvent = Extract<Event, { readonly type: "collapse" }>;
/** Something to know that does not stop the run. */
export type WarningEvent = Extract<Event, { readonly type: "warning" }>;

/** What happens while the same student is trained without its teacher (`baseline`). */
export interface BaselineEvent {
  readonly type: "baseline";
  readonly event: RunEvent;
}

/** A network was measured. */
export interface EvaluationEvent extends Evaluation {
  readonly type: "evaluation";
  /** `before` is the student with its initial weights, `model` the stored result, `baseline` that without a teacher. */
  readonly who: "student" | "before" | "model" | "teacher" | "baseline";
  /** The name of the teacher that was measured. */
  readonly teacher?: string;
  readonly part: "validation" | "test";
  /** Epochs done. */
  readonly epoch: number;
  /** Steps done. */
  readonly step: number;
  /** Whether this is the best validation result so far. */
  readonly best: boolean;
}

/** The run can be resumed from here. */
export interface CheckpointEvent {
  readonly type: "checkpoint";
  readonly step: number;
  readonly path: string;
}

/** The run ends before its last epoch, as so many evaluations (`patience`) brought nothing better. */
export interface EarlyStopEvent {
  readonly type: "earlyStop";
  /** Epochs begun. */
  readonly epoch: number;
  /** Steps done. */
  readonly step: number;
  readonly patience: number;
  /** The best evaluation. */
  readonly best: { readonly epoch: number; readonly step: number; readonly score: number };
}

/** The last event of a run that succeeded. */
export interface EndEvent {
  readonly type: "end";
  readonly result: TrainResult | DistillResult;
}

/**
 * `recall@K` and `knn@K` for every K asked for, `top@K` where a classifier knows the classes, `mapAtR`, `rPrecision`, and `fewshot/5-way-1-shot` and the like where asked for,
 * all in [0, 1]. Without labels, as averages over the teachers, `neighbourOverlap`, `teacherRecall@K`, `distanceRankCorrelation` and `angleRankCorrelation`.
 */
export type Metrics = Readonly<Record<string, number>>;

/** One line of the history: the mean loss of an epoch and what the validation said after it. */
export interface EpochRecord {
  /** From 1. */
  readonly epoch: number;
  readonly loss: number;
  readonly terms: readonly TermValue[];
  /** What was measured at its end; nothing where it was not. */
  readonly validation: Metrics | null;
  /** What was measured inside it (`evaluation.everySteps`), where anything was. */
  readonly within?: readonly StepRecord[];
}

/** An evaluation inside an epoch. */
export interface StepRecord {
  /** Steps done. */
  readonly step: number;
  readonly validation: Metrics;
}

/** What `train` returns and `metrics.json` holds. */
export interface TrainResult {
  readonly job: Job;
  /** Absolute path of the run's folder. */
  readonly out: string;
  /** Absolute path of the model. */
  readonly model: string;
  /** The model on the test images; nothing where there are none. */
  readonly metrics: Metrics | null;
  /** The same of each prefix of the embedding (`prefixes`), where there are any. */
  readonly prefixes?: readonly PrefixEvaluation[];
  readonly network: NetworkSummary;
  /** Where it was trained. */
  readonly device: Plan["device"];
  /** In which numbers it computed there. */
  readonly precision: Plan["precision"];
  /** The epoch whose weights the model has. */
  readonly epoch: number;
  /** The steps after which it had them. */
  readonly step: number;
  /** Epochs done; `patience` may have cut the last one short where evaluations come by steps. */
  readonly epochs: number;
  readonly steps: number;
  /** Wall-clock time of training, evaluations not counted. */
  readonly seconds: number;
  /** Share of it that training waited for data, in [0, 1]. */
  readonly dataWaitShare: number;
  /** Whether the run ended before its last epoch (`patience`). */
  readonly stoppedEarly: boolean;
  /** The last weights, on the test images where there are any, where both are kept (`keep: "both"`); nothing else. */
  readonly last: { readonly epoch: number; readonly model: string; readonly metrics: Metrics | null } | null;
  /** What is wrong with the result, each with its likely cause; nothing where all is well. */
  readonly findings: readonly Finding[];
  readonly history: readonly EpochRecord[];
}

/** Something that is wrong with a result. */
export interface Finding {
  /**
   * `below-start`: the student ends below its initial weights. `below-baseline`: below the same student without a teacher.
   * `dead-gradient`: the last epochs changed nothing. `no-progress`: the loss ended no lower than it began. `collapse`: the
   * embeddings ran together in one point.
   */
  readonly kind: "below-start" | "below-baseline" | "dead-gradient" | "no-progress" | "collapse";
  /** What it is, the likely cause and what to try, in full sentences. */
  readonly message: string;
}

/** What `distill` returns. */
export interface DistillResult extends TrainResult {
  readonly verdict: Verdict;
}

/** How much of each teacher survived. All metrics are of the test images. */
export interface Verdict {
  /** Whether the metrics are of the images' classes, or, without labels, of the teachers' relations. */
  readonly labels: Labels;
  /** In the order of the plan. */
  readonly teachers: readonly TeacherVerdict[];
  /** The student with its initial weights. */
  readonly studentBefore: VerdictRow;
  readonly studentAfter: VerdictRow;
  /** Its embedding's first numbers alone, as many as `embedding` says: a row for each of `prefixes`, where there are any. */
  readonly prefixes?: readonly VerdictRow[];
  /** The same student by labels alone, where `baseline` asked for it. */
  readonly baseline: VerdictRow | null;
  /** Which row the gap is measured from: the baseline where there is one. */
  readonly gapFrom: "studentBefore" | "baseline";
}

/** A teacher of a verdict, and how much of it survived. */
export interface TeacherVerdict extends VerdictRow {
  /** What it is called. */
  readonly name: string;
  /** Its weight in averages over the teachers. */
  readonly weight: number;
  /** (after - from) / (teacher - from) for every metric; null where the teacher is no better than that row. */
  readonly gapClosed: Readonly<Record<string, number | null>>;
  /** How well the student keeps its relations on the test images. */
  readonly fidelity: Fidelity;
}

/** One network of a verdict. */
export interface VerdictRow extends NetworkSummary {
  readonly metrics: Metrics;
  readonly millisecondsPerImage: number;
}
