/**
 * The plan: one complete description of a run, with every default filled in. The same structure as the core's
 * `plan::Plan` (crates/core/src/plan.rs), field by field; the core refuses a field it does not know.
 */

import type { BackboneKind } from "../options/backbone.ts";
import type { Augment } from "../options/data.ts";
import type { Loss } from "../options/losses.ts";
import type { Optimizer } from "../options/optimizer.ts";
import type { Schedule } from "../options/schedule.ts";

/** A training run of one network. */
export interface Plan {
  readonly data: DataPlan;
  readonly backbone: BackbonePlan;
  /** Where its parameters come from; null: drawn at random. */
  readonly weights: WeightsPlan | null;
  /** Which of its parameters are trained, and how fast. */
  readonly tuning: TuningPlan;
  /** The teacher, for a distillation. */
  readonly teacher: TeacherPlan | null;
  readonly losses: readonly Loss[];
  readonly optimizer: Optimizer;
  readonly schedule: Schedule;
  readonly clipGradientNorm: number | null;
  readonly batch: {
    readonly size: number;
    readonly perClass: number | null;
    /** The shape of a few-shot episode, where the batch is one. */
    readonly episode: EpisodePlan | null;
  };
  /** Images that go through the network at once; null: the whole batch. */
  readonly microBatch: number | null;
  readonly epochs: number;
  readonly stepsPerEpoch: number | null;
  readonly seed: number;
  readonly threads: number;
}

/** Where the images come from and how they reach the network. */
export interface DataPlan {
  readonly source: string;
  readonly more: readonly string[];
  readonly imageSize: number;
  readonly channels: number;
  /** Whether every image comes in four turns, each a class of its own. */
  readonly rotations: boolean;
  readonly split: SplitPlan;
  readonly augment: Required<Augment>;
  readonly cache: string;
}

/** How images go to the three parts. */
export type SplitPlan =
  | { readonly kind: "classes" | "images"; readonly validation: number; readonly test: number }
  | { readonly kind: "source"; readonly validation: number }
  | {
      readonly kind: "lists";
      readonly train: string;
      readonly validation: string | null;
      readonly test: string | null;
    };

/** The shape of a few-shot episode. */
export interface EpisodePlan {
  readonly way: number;
  readonly shots: number;
  readonly queries: number;
}

/** Episodes that an evaluation measures. */
export interface FewShotPlan extends EpisodePlan {
  readonly episodes: number;
}

/** The network. */
export interface BackbonePlan {
  readonly kind: BackboneKind;
  readonly width: number;
  /** The widths of a perceptron's hidden layers. */
  readonly hidden: readonly number[];
  readonly stem: "imagenet" | "small";
  readonly embedding: number | null;
  readonly normalize: boolean;
  readonly inChannels: number;
  readonly imageSize: number;
  /** Classes of the classifier that cross entropy needs; the core fills it in from the data. */
  readonly classes: number | null;
}

/** The parameters a network begins with. */
export interface WeightsPlan {
  readonly file: string;
  readonly key: string | null;
  readonly except: readonly string[];
  readonly normalization: { readonly mean: readonly number[]; readonly std: readonly number[] } | null;
}

/** Which parameters are trained, and how fast. */
export interface TuningPlan {
  readonly freeze: readonly string[];
  readonly learningRates: Readonly<Record<string, number>>;
  readonly batchNorm: "batch" | "running";
}

/** The teacher. */
export interface TeacherPlan {
  readonly model: string;
  readonly features: "live" | "cached";
}

/** What the TypeScript side does between the core's segments. It stands beside the plan in `plan.json`. */
export interface Policy {
  /** Epochs between evaluations on the validation classes. */
  readonly evaluateEveryEpochs: number;
  /** The K of Recall@K, rising. */
  readonly ks: readonly number[];
  /** Which weights become the model. */
  readonly keep: "best" | "last" | "both";
  /** The classes that say which weights are the best. */
  readonly chooseBy: "validation" | "test";
  /** Evaluations without a new best after which the run ends. */
  readonly patience: number | null;
  /** Steps between checkpoints besides the one after every epoch. */
  readonly checkpointEverySteps: number | null;
}

/** The content of `plan.json`. */
export interface PlanFile {
  /** Form of this file; another number is refused. */
  readonly form: 1;
  /** The version of rkd that wrote it. */
  readonly rkd: string;
  readonly job: "train" | "distill";
  readonly plan: Plan;
  readonly policy: Policy;
  /** SHA-256 of the files the run was started from, by path. */
  readonly inputs: Readonly<Record<string, string>>;
  /** The weights "auto" that the run found, by term; nothing before they are found, or where there are none. */
  readonly chosenWeights?: Readonly<Record<string, number>>;
}
