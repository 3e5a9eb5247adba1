/** What `train`, `distill`, `evaluate` and `embed` take. */

import type { Backbone } from "./backbone.ts";
import type { Data } from "./data.ts";
import type { Loss } from "./losses.ts";
import type { Optimizer } from "./optimizer.ts";
import type { Schedule } from "./schedule.ts";
import type { TuningOptions } from "./weights.ts";

/**
 * Where a run computes. `"auto"` is the best there is; this build has the CPU only. `"cpu"` are rkd's own kernels,
 * `"candle-cpu"` the candle library on the CPU: slower, and what runs where there are no own kernels. Devices agree but for
 * rounding: the same plan gives the same bytes on one device only.
 */
export type Device = "auto" | "cpu" | "candle-cpu" | "cuda";

/**
 * An episode of few-shot learning: `way` classes, `shots` support and `queries` query images of each. Its rows are the
 * supports class by class, then the queries class by class; relational losses read all of them.
 */
export interface Episode {
  /** Classes, at least 2. */
  readonly way: number;
  /** Support images of each class, at least 1. */
  readonly shots: number;
  /** Query images of each class, at least 1. */
  readonly queries: number;
}

/** Episodes whose accuracy `evaluate` measures, by the nearest mean of the supports (Snell et al. 2017). */
export interface FewShot {
  /** Classes, at least 2. */
  readonly way: number;
  /** Support images of each class, at least 1. */
  readonly shots: number;
  /** Query images of each class, at least 1. @default 15 */
  readonly queries?: number;
  /** Number of episodes, at least 2. @default 1000 */
  readonly episodes?: number;
}

/** What `train` and `distill` share. */
export interface RunOptions extends TuningOptions {
  /** The images: a source, or its name (`"glyphs"` or a path). */
  readonly data: Data | string;
  /** Folder of the run; made where it is missing. An existing run in it is an error unless `overwrite`. */
  readonly out: string;
  /** Whether a run in `out` may be replaced. Other files in the folder are left alone. @default false */
  readonly overwrite?: boolean;
  /** The optimiser. @default adam() */
  readonly optimizer?: Optimizer;
  /** The learning rate over the run. @default cosine() */
  readonly schedule?: Schedule;
  /** Number of epochs, 1 to 1,000,000. @default 20 */
  readonly epochs?: number;
  /** Batches of one epoch, at least 1. @default as many as show as many images as the training part has */
  readonly stepsPerEpoch?: number;
  /** Composition of a batch. */
  readonly batch?: {
    /** Images of a batch, 2 to 65,536. @default 64 */
    readonly size?: number;
    /** Images of each class in a batch, 1 to `size`; `null` draws without regard to class. @default 4; null where all losses see each image on its own */
    readonly perClass?: number | null;
    /** A few-shot episode as batch, in place of `size` and `perClass`: what {@link prototypical} needs. */
    readonly episode?: Episode;
  };
  /**
   * Images that go through the network at once, at least 2; `null` is the whole batch. Smaller ones save memory: the loss
   * still sees the whole batch, and its gradient is the same, for the price of a second forward pass. Batch normalisation
   * takes its statistics from each such part. @default null
   */
  readonly microBatch?: number | null;
  /** Largest Euclidean norm of the whole gradient, greater than 0; `null` is no clipping. @default null */
  readonly clipGradientNorm?: number | null;
  /** Seed of everything random, a whole number from 0. Same seed, same bytes, on any number of threads. @default 1 */
  readonly seed?: number;
  /** CPU threads, 0 to 1024; 0 is all cores. @default 0 */
  readonly threads?: number;
  /** Where to compute. @default "auto" */
  readonly device?: Device;
  /** Evaluation during training. */
  readonly evaluation?: {
    /** Epochs between evaluations on the validation classes, at least 1. @default 1 */
    readonly everyEpochs?: number;
    /** The K of Recall@K, each at least 1. @default [1, 2, 4, 8] */
    readonly ks?: readonly number[];
    /**
     * The classes that are measured after an epoch and so choose the best weights. `"test"` is what the paper's code
     * does: its scores are of weights chosen by the very same classes, and too good. @default "validation"
     */
    readonly part?: "validation" | "test";
  };
  /**
   * Which weights become the model: those with the best validation (accuracy of a classifier that knows the classes,
   * else Recall@K, of the smallest K), or the last. `"both"` is the best,
   * and writes and measures the last ones beside them. @default "best"
   */
  readonly keep?: "best" | "last" | "both";
  /** Evaluations without a new best after which the run ends, at least 1; `null` never. @default null */
  readonly patience?: number | null;
  /** Steps between checkpoints besides the one after every epoch, at least 1; `null` none. @default null */
  readonly checkpointEverySteps?: number | null;
  /** Stops the run at the next step boundary, after a clean checkpoint; the run rejects with `signal.reason`. */
  readonly signal?: AbortSignal;
}

/** What `train` takes. */
export interface TrainOptions extends RunOptions {
  /** The network. */
  readonly backbone: Backbone;
  /** The weighted terms of the total loss, at least one. @default [triplet()] */
  readonly losses?: readonly Loss[];
}

/** What `distill` takes. */
export interface DistillOptions extends RunOptions {
  /** The folder of a finished run, or a `model.safetensors`. */
  readonly teacher: string;
  /** The network that is trained. */
  readonly student: Backbone;
  /** The weighted terms of the total loss, at least one. @default [rkdDistance({ weight: 1 }), rkdAngle({ weight: 2 })] */
  readonly losses?: readonly Loss[];
  /**
   * `"live"`: the teacher sees the same augmented images as the student, in every step. `"cached"`: every training
   * image once, and its mirror image where training mirrors, before the first step; other augmentation the teacher then
   * does not see. @default "live"
   */
  readonly teacherFeatures?: "live" | "cached";
}

/** What `evaluate` takes. */
export interface EvaluateOptions {
  /** The folder of a finished run, or a `model.safetensors`. */
  readonly model: string;
  /** The images. @default those of the run */
  readonly data?: Data | string;
  /** Which classes. @default "test" */
  readonly part?: "train" | "validation" | "test";
  /** The K of Recall@K, of kNN accuracy and, where a classifier knows the classes, of top-K accuracy, each at least 1. @default [1, 2, 4, 8] */
  readonly ks?: readonly number[];
  /** Few-shot accuracies to measure, each over episodes drawn from the part's classes. @default none */
  readonly fewShot?: readonly FewShot[];
  /** A finished run, or a `model.safetensors`, whose relations are compared with the model's. @default none */
  readonly teacher?: string;
  /** CPU threads, 0 is all cores. @default 0 */
  readonly threads?: number;
  /** Seed of the class split. @default the run's, else 1 */
  readonly seed?: number;
  /** Stops the evaluation; it rejects with `signal.reason`. */
  readonly signal?: AbortSignal;
}

/** What `embed` takes. */
export interface EmbedOptions {
  /** The folder of a finished run, or a `model.safetensors`. */
  readonly model: string;
  /** The images; all of them are embedded. */
  readonly data: Data | string;
  /** The file to write. Beside a `.npy` stands `<name>.ids.json`; a `.safetensors` holds its ids. */
  readonly out: string;
  /** Form of the file. @default by the name's ending */
  readonly format?: "npy" | "safetensors";
  /** CPU threads, 0 is all cores. @default 0 */
  readonly threads?: number;
  /** Stops the job; it rejects with `signal.reason`. */
  readonly signal?: AbortSignal;
}
