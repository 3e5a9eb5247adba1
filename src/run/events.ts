/** What a run reports while it runs, and what it returns. Every number says its unit in its name or comment. */

import type { Plan } from "../plan/plan.ts";

/** One piece of news, told apart by `type`. A failure is no event: the run rejects. */
export type RunEvent =
  | StartEvent
  | DataEvent
  | StepEvent
  | WeightsEvent
  | EvaluationEvent
  | CheckpointEvent
  | CollapseEvent
  | WarningEvent
  | EndEvent;

/** Data and networks are ready; training begins or goes on. */
export interface StartEvent {
  readonly type: "start";
  readonly job: "train" | "distill";
  /** Absolute path of the run's folder. */
  readonly out: string;
  /** Whether an interrupted run goes on. */
  readonly resumed: boolean;
  /** Steps done already. */
  readonly step: number;
  readonly totalSteps: number;
  readonly stepsPerEpoch: number;
  /** What the data was recognised as, in a sentence. */
  readonly data: string;
  readonly train: PartSize;
  readonly validation: PartSize;
  readonly test: PartSize;
  readonly student: NetworkSummary;
  readonly teacher: NetworkSummary | null;
  /** Where the student runs. */
  readonly device: Plan["device"];
  /** CPU threads in use. */
  readonly threads: number;
  readonly instructionSet: string;
  readonly plan: Plan;
}

/** Images are being decoded, or embedded. */
export interface DataEvent {
  readonly type: "data";
  readonly phase: "decode" | "teacherFeatures" | "embed";
  /** Images done. */
  readonly done: number;
  /** Images in all. */
  readonly total: number;
  readonly imagesPerSecond?: number;
}

/** Training goes on; at most 20 in a second. */
export interface StepEvent {
  readonly type: "step";
  /** Steps done, from 1. */
  readonly step: number;
  readonly totalSteps: number;
  /** From 1. */
  readonly epoch: number;
  /** Weighted sum of all terms. */
  readonly loss: number;
  readonly terms: readonly TermValue[];
  readonly learningRate: number;
  /** Euclidean norm of the whole gradient before clipping. */
  readonly gradientNorm: number;
  readonly imagesPerSecond: number;
  /** Share of the time that training waited for data, in [0, 1]. */
  readonly dataWaitShare: number;
}

/** The weights `"auto"` have been found and stay from here on. They also stand in `plan.json`. */
export interface WeightsEvent {
  readonly type: "weights";
  /** Steps done. */
  readonly step: number;
  readonly weights: readonly ChosenWeight[];
}

/** A weight that was found. */
export interface ChosenWeight {
  /** The term, as in {@link TermValue}. */
  readonly name: string;
  readonly weight: number;
}

/** A network was measured. */
export interface EvaluationEvent extends Evaluation {
  readonly type: "evaluation";
  /** `before` is the student with its initial weights, `model` the stored result. */
  readonly who: "student" | "before" | "model" | "teacher";
  readonly part: "validation" | "test";
  /** Epochs done. */
  readonly epoch: number;
  /** Whether this is the best validation result so far. */
  readonly best: boolean;
}

/** The run can be resumed from here. */
export interface CheckpointEvent {
  readonly type: "checkpoint";
  readonly step: number;
  readonly path: string;
}

/**
 * The student's embeddings are running together in one point: their mean distance has fallen below a hundredth of what it was
 * in the first batch. Comes once; the run goes on.
 */
export interface CollapseEvent {
  readonly type: "collapse";
  /** Steps done, from 1. */
  readonly step: number;
  /** The root mean square distance of two embeddings of the step's batch. */
  readonly distance: number;
  /** The same in the first batch. */
  readonly start: number;
  /** What this means and what to try, in full sentences. */
  readonly message: string;
}

/** Something to know that does not stop the run. */
export interface WarningEvent {
  readonly type: "warning";
  /** Full sentences. */
  readonly message: string;
}

/** The last event of a run that succeeded. */
export interface EndEvent {
  readonly type: "end";
  readonly result: TrainResult | DistillResult;
}

/** One term of the total loss; those that are not computed, for a weight of 0, are not listed. */
export interface TermValue {
  /** The loss's kind; the second of the same kind is `kind#2`. */
  readonly name: string;
  readonly weight: number;
  /** Before weighting. */
  readonly value: number;
  /** Euclidean norm of the gradient with respect to the student's feature, before weighting. */
  readonly gradientNorm: number;
}

/** Images and classes of a part of the data. */
export interface PartSize {
  readonly images: number;
  readonly classes: number;
}

/** Size of a network. */
export interface NetworkSummary {
  readonly backbone: string;
  /** Trainable numbers. */
  readonly parameters: number;
  /** Length of the embedding. */
  readonly embedding: number;
}

/**
 * `recall@K` and `knn@K` for every K asked for, `top@K` where a classifier knows the classes, `mapAtR`, `rPrecision`, and `fewshot/5-way-1-shot` and the like where asked for,
 * all in [0, 1].
 */
export type Metrics = Readonly<Record<string, number>>;

/** The result of an evaluation: each image is a query against all others of its part. */
export interface Evaluation {
  readonly metrics: Metrics;
  /** Half the width of the 95 % interval of few-shot accuracies, by the metric's name. */
  readonly intervals?: Metrics;
  readonly images: number;
  readonly classes: number;
  /** Mean time of the network's forward pass for one image. */
  readonly millisecondsPerImage: number;
  /** How well the relations of a teacher are kept, where one was given. */
  readonly fidelity?: Fidelity;
}

/** How well a student keeps the relations of its teacher's embedding, apart from any labels. */
export interface Fidelity {
  /** Spearman's rank correlation of the distances of pairs, in [-1, 1]. */
  readonly distanceRankCorrelation: number;
  /** Pairs it was computed on: all, or four million drawn by the seed where there are more. */
  readonly pairs: number;
  /** Mean absolute difference of the angles of drawn triples, in degrees. */
  readonly angleDifference: number;
  /** Standard error of that mean. */
  readonly angleDifferenceError: number;
  /** Triples drawn. */
  readonly triples: number;
  /** Share of common nearest neighbours, in [0, 1]. */
  readonly neighbourOverlap: number;
  /** Neighbours compared of each item. */
  readonly neighbours: number;
}

/** One line of the history: the mean loss of an epoch and what the validation said after it. */
export interface EpochRecord {
  /** From 1. */
  readonly epoch: number;
  readonly loss: number;
  readonly terms: readonly TermValue[];
  /** Nothing where this epoch was not evaluated. */
  readonly validation: Metrics | null;
}

/** What `train` returns and `metrics.json` holds. */
export interface TrainResult {
  readonly job: "train" | "distill";
  /** Absolute path of the run's folder. */
  readonly out: string;
  /** Absolute path of the model. */
  readonly model: string;
  /** The model on the test classes; nothing where there are none. */
  readonly metrics: Metrics | null;
  readonly network: NetworkSummary;
  /** Where it was trained. */
  readonly device: Plan["device"];
  /** The epoch whose weights the model has. */
  readonly epoch: number;
  readonly epochs: number;
  readonly steps: number;
  /** Wall-clock time of training, evaluations not counted. */
  readonly seconds: number;
  /** Share of it that training waited for data, in [0, 1]. */
  readonly dataWaitShare: number;
  /** Whether the run ended before its last epoch (`patience`). */
  readonly stoppedEarly: boolean;
  /** The last weights on the test classes, where both are kept (`keep: "both"`); nothing else. */
  readonly last: { readonly epoch: number; readonly model: string; readonly metrics: Metrics } | null;
  readonly history: readonly EpochRecord[];
}

/** What `distill` returns. */
export interface DistillResult extends TrainResult {
  readonly verdict: Verdict;
}

/** How much of the teacher survived. All metrics are of the test classes. */
export interface Verdict {
  readonly teacher: VerdictRow;
  /** The student with its initial weights. */
  readonly studentBefore: VerdictRow;
  readonly studentAfter: VerdictRow;
  /** (after - before) / (teacher - before) for every metric; null where the teacher is no better than the start. */
  readonly gapClosed: Readonly<Record<string, number | null>>;
  /** How well the student keeps the teacher's relations on the test classes. */
  readonly fidelity: Fidelity;
}

/** One network of a verdict. */
export interface VerdictRow extends NetworkSummary {
  readonly metrics: Metrics;
  readonly millisecondsPerImage: number;
}
