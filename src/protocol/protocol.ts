// Made from the Rust types by `npm run protocol`. Do not edit: a test fails where this is stale.

/** Everything that crosses between TypeScript and the core. */
/** Every error code there is, with what it means. */
export const errorCodes = {
  ERR_INVALID_OPTION: "an option has a value outside its range, or two options contradict each other",
  ERR_UNKNOWN_OPTION: "an option, command or name does not exist",
  ERR_INVALID_SHAPE: "a tensor has another shape than the operation takes",
  ERR_NOT_FOUND: "a path does not exist",
  ERR_PERMISSION_DENIED: "a path may not be read or written",
  ERR_INVALID_DATA: "the data set as a whole cannot be used",
  ERR_INVALID_ARCHIVE: "an archive is damaged or has entries that leave it",
  ERR_INVALID_ARTEFACT: "a model, checkpoint or plan is damaged or of another version",
  ERR_OUTPUT_EXISTS: "the output folder holds another run, or files that rkd did not write",
  ERR_NON_FINITE: "a loss, gradient or parameter stopped being a finite number",
  ERR_CANCELLED: "the run was cancelled",
  ERR_CLOSED: "a model was used after it was closed",
  ERR_IO: "reading or writing failed for another reason",
  ERR_NATIVE_LOAD: "the native addon could not be loaded",
  ERR_DEVICE: "the device that was asked for cannot be used",
  ERR_MPI_MISSING: "ranks are to train together, and there is no MPI library",
  ERR_MPI_MISMATCH: "the MPI library is of another vendor than the launcher that started the ranks",
  ERR_MPI_FAILED: "a call of MPI failed",
  ERR_RANKS_DIFFER: "ranks that are to train together differ in plan, version, data or instruction set",
  ERR_INTERNAL: "a defect of this library",
} as const;

/** The stable name of a kind of error; a closed union, so a `switch` over it can be complete. */
export type RkdErrorCode = keyof typeof errorCodes;

/** A specification as it is given: what is not among `Needed` may be left out. */
type Given<T, Needed extends keyof T> = Pick<T, Needed> & Partial<Omit<T, Needed>>;

/** The architectures there are. */
export const backboneKinds = ["conv4", "resnet18", "resnet34", "resnet50", "resnet101", "vgg11", "vgg13", "vgg16", "googlenet", "mobilenet-v2", "mobilenet-v3-small", "mobilenet-v3-large", "efficientnet-b0", "efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2", "efficientnet-lite3", "efficientnet-lite4", "vit-tiny", "vit-small", "vit-tiny-clip", "vit-small-clip", "mlp"] as const;

/** The name of an architecture. */
export type BackboneKind = (typeof backboneKinds)[number];

/** The kinds of loss there are, as plans name them. */
export const lossKinds = ["rkd-distance", "rkd-angle", "hard-dark-rank", "similarity-preserving", "correlation-congruence", "triplet-squared", "triplet-euclidean", "contrastive", "lifted-structure", "n-pairs", "angular", "margin", "cross-entropy", "prototypical", "linear-hint", "hint", "attention-transfer", "soft-target-kl", "feature-regression"] as const;

/** The kinds that compare with a teacher. */
export const teacherLossKinds = ["rkd-distance", "rkd-angle", "hard-dark-rank", "similarity-preserving", "correlation-congruence", "linear-hint", "hint", "attention-transfer", "soft-target-kl", "feature-regression"] as const;

/** What every term of the total loss has beside the options of its loss. */
export type TeacherTermOptions = {
  /** Factor in the sum, at least 0; a term of weight 0 is not computed. @default 1 */
  readonly weight?: Weight;
  /**
   * The student's feature that the term reads: `"embedding"`, `"pooled"` (before the embedding layer), `"logits"`, or a
   * tap, the name of a map inside the network (`"blocks.3"` of Conv-4, `"layer3"` of a ResNet). A loss on rows takes a
   * map as one long row. @default the loss's own, said at each
   */
  readonly studentFeature?: string;
  /** The teacher's feature that the term reads, of losses that compare with one. @default that of the student */
  readonly teacherFeature?: string;
  /**
   * The name of the teacher that the term compares with, of losses that compare with one. @default all teachers: the term
   * is the average over them, by their weights
   */
  readonly teacher?: string;
  /**
   * Whether the loss sees rows divided by their L2 norm, those of the teacher too, a map being one long row. The network's
   * output stays as it is: that is the backbone's `normalize`. @default false
   */
  readonly normalize?: boolean;
};

/** Options of every term that compares with no teacher. */
export type TermOptions = Omit<TeacherTermOptions, "teacherFeature" | "teacher">;

/**
 * Factor of a term in the sum: a number, a course, or `"auto"`. Auto measures, in the first 20 steps, how large each
 * term's gradient is, and makes this one's as large as that of the first term whose weight is a number; the outcome is an
 * event and stands in `plan.json` as `chosenWeights`.
 */
export type Weight = number | WeightCourse | Named;

/** A weight that changes once, in a straight line. Where it is 0 the term is not computed. */
export type WeightCourse = {
  /** The weight up to step `start`, at least 0. */
  readonly from: number;
  /** The weight from step `start + steps` on, at least 0. */
  readonly to: number;
  /** The first step, counted from 0, whose weight may differ from `from`. @default 0 */
  readonly start?: number;
  /** Steps on the way; 0 is a jump. @default 0 */
  readonly steps?: number;
};

/** Weights that have a name. */
export type Named = "auto";

/** What the sum over pairs or triples is divided by. */
export type Reduction = "reference" | "distinct";

/** How two items correlate. */
export type CorrelationKernel = "gaussian-rbf" | "bilinear";

/** Which negatives a triplet loss takes for an anchor and a positive. */
export type Negatives = "all" | "random" | "hard" | "semi-hard" | "distance-weighted";

/** Options of `rkd-distance`. */
export type RkdDistance = {
  /** Huber threshold, positive; the paper's is 1. */
  readonly delta: number;
  /** What the sum is divided by. */
  readonly reduction: Reduction;
};

/** Options of `rkd-angle`. */
export type RkdAngle = {
  /** Huber threshold, positive; the paper's is 1. */
  readonly delta: number;
  /** What the sum is divided by. */
  readonly reduction: Reduction;
};

/** Options of `hard-dark-rank`. */
export type HardDarkRank = {
  /** Factor of the scores, positive; the paper's is 3. */
  readonly alpha: number;
  /** Power of the distance, positive; the paper's is 3. */
  readonly beta: number;
  /** How many of the teacher's nearest items are ordered, at least 2; the released code's is 4. */
  readonly permuteLength: number;
};

/** Options of `correlation-congruence`. */
export type CorrelationCongruence = {
  /** How two items correlate. */
  readonly kernel: CorrelationKernel;
  /** Of the Gaussian: factor of the squared distance, above 0 and at most 100; the paper's is 0.4. */
  readonly gamma: number;
  /** Of the Gaussian: the highest power of its expansion, from 1 to 100; the paper's is 2. */
  readonly order: number;
};

/** Options of `triplet-squared`. */
export type TripletSquared = {
  /** The margin m, positive; the paper's is 0.2, for embeddings of norm 1. */
  readonly margin: number;
  /** Which negatives are taken. */
  readonly negatives: Negatives;
  /**
   * With distance-weighted negatives: lets the weights underflow to uniform ones where a positive is near, as in the
   * authors' released code. For comparisons with it; wide embeddings train better without.
   */
  readonly uniformWhenUnderflow: boolean;
};

/** Options of `triplet-euclidean`. */
export type TripletEuclidean = {
  /** The margin m, positive; the released code's is 0.2, for embeddings of norm 1. */
  readonly margin: number;
  /** Which negatives are taken. */
  readonly negatives: Negatives;
  /**
   * With distance-weighted negatives: lets the weights underflow to uniform ones where a positive is near, as in the
   * authors' released code. For comparisons with it; wide embeddings train better without.
   */
  readonly uniformWhenUnderflow: boolean;
};

/** Options of `contrastive`. */
export type Contrastive = {
  /** The distance m beyond which a negative is far enough, positive; the released code's is 0.2. */
  readonly margin: number;
  /** Which negatives are taken. */
  readonly negatives: Negatives;
  /**
   * With distance-weighted negatives: lets the weights underflow to uniform ones where a positive is near, as in the
   * authors' released code. For comparisons with it; wide embeddings train better without.
   */
  readonly uniformWhenUnderflow: boolean;
};

/** Options of `lifted-structure`. */
export type LiftedStructure = {
  /** The margin m, positive; the paper's is 1, for embeddings without normalisation. */
  readonly margin: number;
};

/** Options of `n-pairs`. */
export type NPairs = {
  /** Weight of the squared norms, at least 0; by itself 0. */
  readonly l2: number;
};

/** Options of `angular`. */
export type Angular = {
  /**
   * The bound on the angle at the negative in degrees, between 0 and 90; 45 by itself, the paper tries 36 to 55.
   */
  readonly degrees: number;
};

/** Options of `margin`. */
export type Margin = {
  /** The boundary beta between near and far, positive; the paper's is 1.2, for embeddings of norm 1. */
  readonly beta: number;
  /** How far from the boundary pairs must stay, positive; the paper's is 0.2. */
  readonly alpha: number;
  /** Whether the boundary is learned. */
  readonly learnBeta: boolean;
  /** Which negatives are taken. */
  readonly negatives: Negatives;
  /**
   * With distance-weighted negatives: lets the weights underflow to uniform ones where a positive is near, as in the
   * authors' released code. For comparisons with it; wide embeddings train better without.
   */
  readonly uniformWhenUnderflow: boolean;
};

/** Options of `cross-entropy`. */
export type CrossEntropy = {
  /** Share of the target spread over all classes, in `[0, 1)`. */
  readonly labelSmoothing: number;
};

/** Options of `prototypical`. */
export type Prototypical = {
  /** Support rows of each class ("shots"), at least 1. */
  readonly supportCount: number;
  /** Classes of an episode, at least 2. */
  readonly way: number;
};

/** Options of `linear-hint`. */
export type LinearHint = {
  /**
   * Whether the value is a share of the spread of the teacher's rows about their mean in the batch, and so does not depend
   * on the teacher's scale.
   */
  readonly relative: boolean;
};

/** Options of `hint`. */
export type Hint = {
  /** Whether the regressor stays as it was drawn, as in the authors' code. */
  readonly frozen: boolean;
};

/** Options of `soft-target-kl`. */
export type SoftTargetKl = {
  /** What logits are divided by, positive; 4 in the experiments of Park et al. */
  readonly temperature: number;
};

/** What each kind of loss is given; what is left out has its default. */
export interface LossOptions {
  /**
   * RKD-D: keeps the teacher's pairwise distances, each side divided by its own mean (Park et al. 2019, equations 3-5).
   */
  readonly "rkd-distance": TeacherTermOptions & Given<RkdDistance, never>;
  /** RKD-A: keeps the teacher's angles at every vertex of every triple (Park et al. 2019, equations 6 and 7). */
  readonly "rkd-angle": TeacherTermOptions & Given<RkdAngle, never>;
  /**
   * Hard DarkRank (Chen et al. 2018) as in the authors' released code: the likelihood that the student's scores
   * `-alpha * distance ** beta` give to the teacher's order of the nearest items. Meant for embeddings of norm 1.
   */
  readonly "hard-dark-rank": TeacherTermOptions & Given<HardDarkRank, never>;
  /**
   * Similarity-preserving distillation (Tung, Mori 2019): keeps the teacher's matrix of inner products of items, every row
   * of it divided by its norm. Reads the embedding.
   */
  readonly "similarity-preserving": TeacherTermOptions;
  /**
   * Correlation congruence (Peng et al. 2019): keeps the teacher's matrix of a kernel between items. Reads the embedding.
   */
  readonly "correlation-congruence": TeacherTermOptions & Given<CorrelationCongruence, never>;
  /** Triplet loss as in the paper: squared distances, margin 0.2, distance-weighted negatives. */
  readonly "triplet-squared": TermOptions & Given<TripletSquared, never>;
  /** Triplet loss as in the authors' released code: plain distances, margin 0.2, distance-weighted negatives. */
  readonly "triplet-euclidean": TermOptions & Given<TripletEuclidean, never>;
  /** Contrastive loss (Hadsell et al. 2006) over the pairs of triplets, as in the authors' released code. */
  readonly "contrastive": TermOptions & Given<Contrastive, never>;
  /**
   * Lifted structure (Oh Song et al. 2016, equation 4): every positive pair against all negatives of both its ends.
   */
  readonly "lifted-structure": TermOptions & Given<LiftedStructure, never>;
  /**
   * Multi-class N-pair loss (Sohn 2016) on the first two rows of each class in the batch, the anchor and the positive.
   * Inner products want embeddings that are not normalised; batches of two images a class (`batch.perClass`) waste none.
   */
  readonly "n-pairs": TermOptions & Given<NPairs, never>;
  /**
   * Angular loss (Wang et al. 2017, equation 8) on the same pairs as {@link nPairs}, which the paper adds to it.
   */
  readonly "angular": TermOptions & Given<Angular, never>;
  /** Margin loss (Wu et al. 2017): positives nearer than `beta - alpha`, negatives farther than `beta + alpha`. */
  readonly "margin": TermOptions & Given<Margin, never>;
  /** Cross entropy of a linear classifier on the embedding. Reads the logits. */
  readonly "cross-entropy": TermOptions & Given<CrossEntropy, never>;
  /**
   * Prototypical networks (Snell et al. 2017). The rows are an episode: first `supportCount` support rows of each class,
   * class by class, then as many queries of each class, class by class. A run makes such batches with `batch: { episode }`.
   */
  readonly "prototypical": TermOptions & Given<Prototypical, "supportCount" | "way">;
  /**
   * Conventional distillation: the squared distance of the teacher's feature from a learned linear map of the student's,
   * mean over images. Reads the embedding.
   */
  readonly "linear-hint": TeacherTermOptions & Given<LinearHint, never>;
  /**
   * FitNet's hint (Romero et al. 2015): mean squared error of the teacher's map from the student's through a learned 1x1
   * convolution. Reads the embedding; name taps for maps. Maps of different sizes are averaged to the smaller.
   */
  readonly "hint": TeacherTermOptions & Given<Hint, never>;
  /**
   * Attention transfer (Zagoruyko, Komodakis 2017) between two taps, as in the code of Park et al., whose weight is 50.
   * Maps of different sizes are averaged to the smaller.
   */
  readonly "attention-transfer": TeacherTermOptions & {
    readonly studentFeature: string
  };
  /**
   * Soft targets (Hinton et al. 2015): T^2 times the Kullback-Leibler divergence of the student's class probabilities from
   * the teacher's, at temperature T. Reads the logits; the teacher must have been trained with cross entropy on the same
   * classes. The factor T^2 is inside: the weight 16 of Park et al. at T = 4 is weight 1 here.
   */
  readonly "soft-target-kl": TeacherTermOptions & Given<SoftTargetKl, never>;
  /**
   * Regression of the teacher's feature where the student's has the same shape: the squared distance, mean over images.
   * Reads the embedding.
   */
  readonly "feature-regression": TeacherTermOptions;
}

/** One term of the total loss: a kind with its options. */
export type Loss = { readonly [K in keyof LossOptions]: { readonly kind: K } & LossOptions[K] }[keyof LossOptions];

/**
 * An optimiser with its constants. All follow PyTorch's definitions and defaults of the same names, except the learning
 * rate.
 */
export type Optimizer = {
  readonly kind: "adam";
  /** Step size, greater than 0. @default 1e-3 */
  readonly learningRate: number;
  /** Decay of the mean of gradients, in [0, 1). @default 0.9 */
  readonly beta1: number;
  /** Decay of the mean of squares, in [0, 1). @default 0.999 */
  readonly beta2: number;
  /** Added to the root, greater than 0. @default 1e-8 */
  readonly epsilon: number;
  /** L2 factor, added to the gradient, at least 0. @default 0 */
  readonly weightDecay: number;
} | {
  readonly kind: "adam-w";
  /** Step size, greater than 0. @default 1e-3 */
  readonly learningRate: number;
  /** Decay of the mean of gradients, in [0, 1). @default 0.9 */
  readonly beta1: number;
  /** Decay of the mean of squares, in [0, 1). @default 0.999 */
  readonly beta2: number;
  /** Added to the root, greater than 0. @default 1e-8 */
  readonly epsilon: number;
  /** Share of the weight taken off in every step, times the learning rate, at least 0. @default 0.01 */
  readonly weightDecay: number;
} | {
  readonly kind: "sgd";
  /** Step size, greater than 0. @default 0.05 */
  readonly learningRate: number;
  /** In [0, 1); 0 is plain gradient descent. @default 0.9 */
  readonly momentum: number;
  /** Nesterov's form; needs a momentum. @default false */
  readonly nesterov: boolean;
  /** L2 factor, added to the gradient, at least 0. @default 0 */
  readonly weightDecay: number;
};

/** An optimiser as it is given; what is left out has its default. */
export type OptimizerOptions =
  | Given<Extract<Optimizer, { readonly kind: "adam" }>, "kind">
  | Given<Extract<Optimizer, { readonly kind: "adam-w" }>, "kind">
  | Given<Extract<Optimizer, { readonly kind: "sgd" }>, "kind">;

/** The learning rate over the run, as a factor of the optimiser's. Lengths are in steps (batches). */
export type Schedule = {
  readonly kind: "constant";
  /** Steps over which the rate grows linearly from 0; 0 is none. @default 0 */
  readonly warmupSteps: number;
} | {
  readonly kind: "step";
  /** Steps over which the rate grows linearly from 0; 0 is none. @default 0 */
  readonly warmupSteps: number;
  /** Steps, counted from 0 and rising, from which on the rate is multiplied once more. */
  readonly milestones: ReadonlyArray<number>;
  /** The factor at each milestone, in (0, 1]. @default 0.1 */
  readonly factor: number;
} | {
  readonly kind: "cosine";
  /** Steps over which the rate grows linearly from 0; 0 is none. @default 0 */
  readonly warmupSteps: number;
  /** The last factor, in [0, 1]. @default 0 */
  readonly minimum: number;
};

/** A schedule as it is given; what is left out has its default. */
export type ScheduleOptions =
  | Given<Extract<Schedule, { readonly kind: "constant" }>, "kind">
  | Given<Extract<Schedule, { readonly kind: "step" }>, "kind" | "milestones">
  | Given<Extract<Schedule, { readonly kind: "cosine" }>, "kind">;

/**
 * How images go to the parts. By itself `source` for Omniglot, for folders and manifests with `train` and `test`, and for
 * data sets whose published split is by classes, else `classes` with shares 0.1 and 0.2 (IDX, which has few classes: 0.2
 * and 0.3). Without labels `source` for folders and manifests with `train` and `test`, else `images` with 0.1 and 0.1.
 */
export type SplitPlan = {
  readonly kind: "classes";
  /** Share of the classes that choose the checkpoint, in [0, 1). */
  readonly validation: number;
  /** Share of the classes that only the final evaluation sees, in [0, 1). */
  readonly test: number;
} | {
  readonly kind: "source";
  /**
   * Where the source brings no validation part beside its test part, the share of the training classes set aside
   * to choose the checkpoint, in [0, 1); where its parts share classes, of each class's training images.
   */
  readonly validation: number;
} | {
  readonly kind: "images";
  /** Share of each class's images that choose the checkpoint, in [0, 1). */
  readonly validation: number;
  /** Share of each class's images that only the final evaluation sees, in [0, 1). */
  readonly test: number;
} | {
  readonly kind: "lists";
  /** The training classes. */
  readonly train: string;
  /** The classes that choose the checkpoint. */
  readonly validation: string | null;
  /** The classes that only the final evaluation sees. */
  readonly test: string | null;
};

/** How images go to training, validation and test, as it is given. */
export type Split =
  | Given<Extract<SplitPlan, { readonly kind: "classes" }>, "kind" | "validation" | "test">
  | Given<Extract<SplitPlan, { readonly kind: "source" }>, "kind" | "validation">
  | Given<Extract<SplitPlan, { readonly kind: "images" }>, "kind" | "validation" | "test">
  | Given<Paths<Extract<SplitPlan, { readonly kind: "lists" }>>, "kind" | "train">;

/** `T` with `file:` URLs for its paths too. */
type Paths<T> = { readonly [K in keyof T]: K extends "kind" ? T[K] : T[K] | URL };

/** What `train` and `distill` take. */
export type RunOptions = {
  /** The images: a source, or its name (`"glyphs"` or a path). */
  readonly data: Data | string | URL;
  /** Folder of the run; made where it is missing. An existing run in it is an error unless `overwrite`. */
  readonly out: string | URL;
  /** Whether a run in `out` may be replaced. Other files in the folder are left alone. @default false */
  readonly overwrite?: boolean;
  /** The network that `train` trains. */
  readonly backbone?: Backbone;
  /**
   * The network that `distill` trains. Without a kind, `{ embedding: 32 }`, it is the default one with what is said.
   * @default conv4({ embedding: 64 }) for images up to 32 pixels, else resnet(18, { width: 32, stem: "imagenet",
   * embedding: 128 }); for stored vectors mlp({ embedding: 64 })
   */
  readonly student?: Partial<Backbone>;
  /** The teacher: its path, or that with how it is read. @default of data that are vectors they themselves */
  readonly teacher?: string | URL | Teacher;
  /**
   * Several teachers, in place of `teacher`, each as that has it. What the student learns of a term that compares with
   * a teacher is then the average over all, by their weights, or of the one that the term names.
   */
  readonly teachers?: ReadonlyArray<string | URL | Teacher>;
  /**
   * When the features of those teachers are computed that say nothing of it themselves. `"live"`: the teacher sees the
   * same augmented images as the student, in every step. `"cached"`: every training image once, and its mirror image
   * where training mirrors, before the first step; other augmentation the teacher then does not see. `"auto"`: live
   * of a network of rkd where training does more than mirror images, cached otherwise. @default "live" of a network of
   * rkd, "cached" of others
   */
  readonly teacherFeatures?: TeacherFeatures | "auto";
  /**
   * The weighted terms of the total loss, at least one.
   * @default train: triplet(); distill: rkdDistance({ weight: 1 }) and rkdAngle({ weight: 2 }), with labels beside
   * triplet()
   */
  readonly losses?: ReadonlyArray<Loss>;
  /**
   * Lengths of prefixes of the student's embedding, each at least 2 and below the embedding's: one network then serves
   * embeddings of all these lengths (Matryoshka; Kusupati et al. 2022). Every term that reads the embedding is the mean
   * over the prefixes and the whole, and a classifier's has one of its own on each. Where the network normalises, a
   * prefix is divided by its own norm; divide it when you use it, too. @default []
   */
  readonly prefixes?: ReadonlyArray<number>;
  /** Weights to begin with: a file, or a file with what it need not have. @default drawn at random */
  readonly weights?: string | URL | Weights | null;
  /**
   * Patterns of parameters that stay as they are. Their running statistics follow `batchNorm`. A pattern is a name
   * as in torchvision, `layer1.0.conv1.weight`, or a module, `layer1`, which stands for all below it; a star stands
   * for any letters: `layer*.bn1`. @default []
   */
  readonly freeze?: ReadonlyArray<string>;
  /** Factors on the learning rate by pattern, each greater than 0: `{ fc: 10 }`. @default {} */
  readonly learningRates?: { readonly [key in string]: number };
  /**
   * What batch norm subtracts and divides by in training: the statistics of the `"batch"`, of each `microBatch` where
   * there are any, which the running ones follow; `"sync"`, of the whole batch over all micro batches and processes, whose
   * activations are then in memory at once; or the `"running"` ones, which then stay as they are.
   * @default "running" with `weights`, else "batch"
   */
  readonly batchNorm?: TrainingStatistics;
  /**
   * Share of the pooled feature's numbers that training leaves out at random before the embedding layer (without one,
   * before the classifier), from 0 to below 1; the others are divided by one less the share. Nothing is left out in
   * evaluation. torchvision's MobileNets and EfficientNet-B0 have 0.2 in training by classes. @default 0
   */
  readonly dropout?: number;
  /**
   * Stochastic depth: share of images for which training leaves the last residual block out at random, from 0 to below 1;
   * that of the blocks before it rises evenly from 0. For ResNets, MobileNets, EfficientNets and ViTs. @default 0
   */
  readonly dropPath?: number;
  /**
   * The optimiser. With `weights` a rate that is not said is a tenth of the usual one: 1e-4, of sgd 0.005.
   * @default adam()
   */
  readonly optimizer?: OptimizerOptions;
  /** The learning rate over the run. @default cosine() */
  readonly schedule?: ScheduleOptions;
  /**
   * Number of epochs, 1 to 1,000,000.
   * @default train: 20; distill: as many as show 128,000 images (2,000 batches of 64), at least 5, at most 60
   */
  readonly epochs?: number;
  /**
   * Batches of one epoch, 1 to 1,000,000. @default null: as many as show as many images as the training part has
   */
  readonly stepsPerEpoch?: number | null;
  /** Composition of a batch. */
  readonly batch?: BatchOptions;
  /**
   * Images that go through the network at once, 2 to 65,536; `null` is the whole batch. Smaller ones save memory: the
   * loss still sees the whole batch, and its gradient is the same, for the price of a second forward pass. Batch
   * normalisation takes its statistics from each such part, unless `batchNorm` is `"sync"`. Of several processes (`distributed`) each has some of these
   * parts. @default null; where processes train together eight parts of a batch
   */
  readonly microBatch?: number | null;
  /** Largest Euclidean norm of the whole gradient, greater than 0; `null` is no clipping. @default null */
  readonly clipGradientNorm?: number | null;
  /**
   * Seed of everything random, a whole number from 0. Same seed, same bytes, on any number of threads. @default 1
   */
  readonly seed?: number;
  /**
   * Seed of the split: which classes, or images, are in which part. Its own, so that runs of other seeds have the same
   * test classes. @default the teacher's where it was trained on the same data; else `seed`
   */
  readonly splitSeed?: number;
  /**
   * Of `distill`: whether the data may have changed since the teacher was trained on them. Then the teacher's split
   * goes on: what it was trained on trains, and what is new goes into no part. @default false: an error that says what
   * has changed
   */
  readonly acceptChangedData?: boolean;
  /**
   * Of `distill`: whether the same student is trained by labels alone too, in the folder `baseline` of the run. The
   * verdict then has a row for it, and measures the gap from there. It needs labels, and about as much time again.
   * @default false
   */
  readonly baseline?: boolean;
  /** CPU threads, 0 to 1024; 0 is all cores. @default 0 */
  readonly threads?: number;
  /** Where to compute. `"auto"` is the best there is. @default "auto" */
  readonly device?: DeviceOption;
  /** In which numbers a GPU computes; the CPU does so in float32. @default "float32" */
  readonly precision?: Precision;
  /** Whether the processes that a launcher has started train together. @default "auto" */
  readonly distributed?: Distributed;
  /** Evaluation during training. */
  readonly evaluation?: EvaluationOptions;
  /**
   * Which weights become the model. @default "last"; without labels, with a split by images, and with `weights` or
   * `patience` "best"
   */
  readonly keep?: Keep;
  /** Evaluations without a new best after which the run ends, at least 1; `null` never. @default null */
  readonly patience?: number | null;
  /** Steps between checkpoints besides the one after every epoch, at least 1; `null` none. @default null */
  readonly checkpointEverySteps?: number | null;
};

/** What `resume` takes besides the folder: where things are now, and what cannot change the result. */
export type ResumeOptions = {
  /**
   * Where the data are now: one place, or as many as the run had. Their fingerprint must be the run's.
   * @default where they were
   */
  readonly data?: string | URL | ReadonlyArray<string | URL>;
  /**
   * Where the teacher is now: the folder of a finished run, or the file. It must be the same one. Of several the place of
   * each that has moved, by its name: `{ dinov2: "models/dinov2.onnx" }`.
   * @default where it was
   */
  readonly teacher?: string | URL | Record<string, string | URL>;
  /**
   * Epochs of the whole run, 1 to 1,000,000: more than planned go on beyond the planned end, where the schedule does not
   * depend on it, as `cosine` does. @default those of the run
   */
  readonly epochs?: number;
  /** CPU threads, 0 is all cores. @default those of the run */
  readonly threads?: number;
  /** Where to compute. Another device than the run's gives other bytes. @default the run's */
  readonly device?: DeviceOption;
  /** In which numbers a GPU computes. Another precision than the run's gives other bytes. @default the run's */
  readonly precision?: Precision;
  /** Whether the processes that a launcher has started train together, as many as now. @default "auto" */
  readonly distributed?: Distributed;
  /**
   * Whether the data may have changed. Then the run goes on with its stored split: what was trained on stays trained
   * on, and what is new goes into no part. @default false: an error that says what has changed
   */
  readonly acceptChangedData?: boolean;
};

/** Evaluation during training. */
export type EvaluationOptions = {
  /**
   * Epochs between evaluations on the validation classes, at least 1; `null` beside `everySteps`: none by epochs.
   * @default 1; null with `everySteps`
   */
  readonly everyEpochs?: number | null;
  /**
   * Steps between evaluations, at least 1, instead of those by epochs or beside them. The last step is always
   * evaluated.
   * @default null
   */
  readonly everySteps?: number | null;
  /** The K of Recall@K, each at least 1. @default [1, 2, 4, 8] */
  readonly ks?: ReadonlyArray<number>;
  /** The classes that are measured and so choose the best weights. @default "validation" */
  readonly part?: ChoosingPart;
};

/**
 * The classes that choose the best weights. `"test"` is what the paper's code does: its scores are of weights chosen
 * by the very same classes, and too good.
 */
export type ChoosingPart = "validation" | "test";

/**
 * Which weights become the model: those with the best validation (accuracy of a classifier that knows the classes,
 * else Recall@K, of the smallest K; without labels the share of the ten nearest in common with the teacher), or the
 * last. `"both"` is the best, and writes and measures the last ones beside them.
 */
export type Keep = "best" | "last" | "both";

/**
 * Where a run computes. Devices agree but for rounding: the same plan gives the same bytes on one device only. `"cuda"` is the
 * first NVIDIA GPU, `"cuda:1"` the second.
 */
export type DeviceOption = "auto" | "cpu" | "candle-cpu" | "cuda" | `cuda:${number}`;

/**
 * Whether processes, on one machine or several, train one network together: `mpirun -n 4 rkd train ...`. The same plan
 * gives the same bytes on any number of them.
 */
export type Distributed = "auto" | "mpi" | "none";

/** Composition of a batch. */
export type BatchOptions = {
  /** Images of a batch, 2 to 65,536. @default 64; without labels at most the training images */
  readonly size?: number;
  /**
   * Images of each class in a batch, 1 to `size`; `null` draws without regard to class.
   * @default 4, or more where there are so few classes that a batch needs it; null where all losses see each image on
   * its own, and without labels
   */
  readonly perClass?: number | null;
  /**
   * A few-shot episode as batch, in place of `size` and `perClass`: what prototypical() needs. Its rows are the
   * supports class by class, then the queries class by class; relational losses read all of them. @default null
   */
  readonly episode?: Episode | null;
};

/** The shape of an episode, see [`super::episode`]. */
export type Episode = {
  /** Classes, at least 2. */
  readonly way: number;
  /** Support images of each class, at least 1. */
  readonly shots: number;
  /** Query images of each class, at least 1. */
  readonly queries: number;
};

/**
 * A network, as conv4(), resnet(), vgg(), googlenet(), mobilenetV2(), mobilenetV3(), efficientnet(), efficientnetLite(),
 * vit() and mlp() make it.
 */
export type Backbone = {
  /** The architecture. */
  readonly kind: BackboneKind;
  /**
   * Channels of the first block, 1 to 1024; of a MobileNet or an EfficientNet, whose first layers have fewer, 64 is the
   * published network too; of a ViT the channels of one head. @default 64, the published width
   */
  readonly width?: number;
  /** Widths of an mlp's hidden layers, at least one, each 1 to 65,536. @default [256, 256] */
  readonly hidden?: ReadonlyArray<number>;
  /**
   * ResNet and GoogLeNet: `"imagenet"` begins with a 7x7 convolution of stride 2 and a max pool, `"small"` with a
   * 3x3 convolution of stride 1, for images of 32 to 64 pixels. VGG: `"imagenet"` ends in two linear layers,
   * `"small"` in the flattened maps. The others have one form. @default "small" up to 64 pixels, else "imagenet"
   */
  readonly stem?: Stem;
  /**
   * Length of the embedding, 1 to 65,536; `null` is the pooled feature itself, without a linear layer.
   * @default null; of the student of `distill` 64 (conv4) or 128
   */
  readonly embedding?: number | null;
  /**
   * Whether embeddings are divided by their Euclidean norm.
   * @default true with a loss whose options assume a scale (triplet, contrastive, margin, hard-dark-rank); else
   * false
   */
  readonly normalize?: boolean;
};

/** The form of a network for large or for small images. */
export type Stem = "imagenet" | "small";

/** A file of weights and what it need not have. */
export type Weights = {
  /**
   * A `.safetensors` of rkd, torchvision or timm, a `.pth` of PyTorch (a state dict, or a checkpoint with one), or
   * the folder of a finished run. No code in the file is run.
   */
  readonly file: string | URL;
  /**
   * Which weights of the file: the keys that lead to them in a checkpoint and the beginning of their names, joined
   * by dots: `"ema_state_dict"`, `"state_dict.backbone"`.
   * @default those under a usual name (`state_dict`, `model`, ...), or the only ones; where there are several, an
   * error that names them
   */
  readonly key?: string | null;
  /**
   * Patterns of names that may be missing, unexpected or of another shape. The head, what stands above the pooled
   * feature, always may. What is not taken is named in a warning. @default []
   */
  readonly except?: ReadonlyArray<string>;
  /**
   * Mean and standard deviation of each channel, by which pixels from 0 to 1 are normalised.
   * torchvision's GoogLeNet wants 0.5 and 0.5 throughout. A teacher that wants another normalisation sees its own.
   * @default what the file says (rkd's own), ImageNet's (other files, three channels), or (grey) what the run would
   * have without weights
   */
  readonly normalization?: Normalization | null;
};

/** A teacher, and how it is read. */
export type Teacher = {
  /**
   * The folder of a finished run, a `model.safetensors`, an ONNX model, or a folder with one (`model.onnx`,
   * `onnx/model.onnx`), or stored vectors: `.npy`, `.npz`, `.safetensors`, `.csv`, `.jsonl`, Parquet or Arrow IPC.
   */
  readonly model: string | URL;
  /** How an ONNX model is read. @default found out from the file */
  readonly onnx?: Partial<OnnxOptions> | null;
  /** How stored vectors are read. @default found out from the file */
  readonly vectors?: Partial<VectorOptions> | null;
  /**
   * What it is called: by terms that compare with it alone, by reports and warnings. No two have the same name.
   * @default the name of its file without the ending; of a `model.safetensors` or `model.onnx` that of its folder; with #2
   * and so on where another one has it
   */
  readonly name?: string;
  /** Its weight in averages over several teachers, greater than 0; they are divided by their sum. @default 1 */
  readonly weight?: number;
  /** When its features are computed, in a distillation. @default that of `teacherFeatures` */
  readonly features?: TeacherFeatures | "auto";
};

/**
 * Pixels `v` in `0..=255` become `(v / 255 - mean) / std`, channel by channel; the numbers `v` of a stored vector
 * `(v - mean) / std`.
 */
export type Normalization = {
  /** Mean of `v / 255`, one a channel; of a vector of `v`. */
  readonly mean: ReadonlyArray<number>;
  /**
   * Standard deviation of `v / 255` over all pixels (not below 1/255, so that a constant channel is no division by
   * zero), one a channel; of a vector all are the same.
   */
  readonly std: ReadonlyArray<number>;
};

/** The statistics of batch normalisation in training. */
export type TrainingStatistics = "batch" | "sync" | "running";

/** A source of images, as glyphs(), imageFolder(), omniglot(), idx() and cifar100() make it. */
export type Data = {
  /** What the source must be. @default whatever it is found to be */
  readonly kind?: DataKind;
  /**
   * `"glyphs"`, with its settings or without, or a path: a folder, flat or with one for each class, a ZIP, a tar,
   * Omniglot, IDX or CIFAR-100 files; a manifest (`.txt` with a path a line; `.csv`, `.tsv`, `.json`, `.jsonl` with `path`,
   * and `class`, `part`, `id` where there are such); a pattern of paths (`"photos/2024-*"`); Parquet files with a column of
   * images. Or a file of stored vectors, which an `mlp` makes shorter: `.npy`, `.npz`, Arrow, `.safetensors`, Parquet;
   * with `kind: "vectors"` also `.csv` and `.jsonl`.
   */
  readonly source: string | URL;
  /** Further paths of the same data set. @default [] */
  readonly more?: ReadonlyArray<string | URL>;
  /** Of vectors: which columns, arrays or files hold them and their ids. @default found by their usual names */
  readonly vectors?: Partial<VectorOptions> | null;
  /** Of glyphs: number of characters, 2 to 10,000. @default 240 */
  readonly classes?: number;
  /** Of glyphs: writers, each drawing every character once, 2 to 1,000. @default 20 */
  readonly writers?: number;
  /** Of glyphs: seed of the drawings; not the run's. @default 0 */
  readonly seed?: number;
  /**
   * Height and width in pixels; every image is resized (antialiased) to this square, 8 to 1024.
   * @default the teacher's in a distillation; else 28 for glyphs, Omniglot and IDX, 32 for CIFAR-100, 64 for others
   */
  readonly imageSize?: number;
  /**
   * 1 (grey) or 3 (RGB). @default the teacher's in a distillation; else 1 for glyphs, Omniglot and IDX, 3 for others
   */
  readonly channels?: number;
  /**
   * Whether images have labels: their `"classes"`, or `"none"`. Without labels only losses that compare with a teacher
   * go, and the teacher's relations say how good a student is.
   * @default "classes" where there are two or more, else "none"
   */
  readonly labels?: Labels;
  /**
   * Whether every image comes in four turns, by 0, 90, 180 and 270 degrees, each a class of its own: the characters
   * of Omniglot become four times as many (Snell et al. 2017). @default false
   */
  readonly rotations?: boolean;
  /**
   * How images go to training, validation and test; shares without a kind are of the source's own kind of split, and
   * with a `test` of its own of `"classes"`. @default see {@link Split}
   */
  readonly split?: Split | Shares;
  /**
   * Random changes of training images: `"affine"` for characters, `"crop-flip"` for photographs, `"none"`, or each
   * strength by hand, where what is left out is off. @default "affine" for glyphs and Omniglot, else "crop-flip"
   */
  readonly augment?: "affine" | "crop-flip" | "none" | Partial<Augment>;
  /**
   * Folder of the decoded images; nothing is written outside it.
   * @default `$RKD_CACHE`, else `$XDG_CACHE_HOME/rkd`, else `~/.cache/rkd`
   */
  readonly cache?: string | URL;
};

/** Shares of a split whose kind is the source's own. */
export type Shares = {
  /** Share that chooses the checkpoint, in [0, 1). @default that of the source */
  readonly validation?: number;
  /** Share that only the final evaluation sees, in [0, 1). @default that of the source */
  readonly test?: number;
};

/** What a source is, as far as defaults of images, split and augmentation hang on it. */
export type DataKind = "glyphs" | "omniglot" | "idx" | "cifar" | "images" | "vectors";

/**
 * Whether images have labels: their classes, or `"none"`. Without labels a teacher alone says what is alike: the split is by
 * images, batches are drawn without regard to class, and a student is measured by its teacher's relations.
 */
export type Labels = "classes" | "none";

/** Random changes of a training image. Every field's neutral value switches it off. */
export type Augment = {
  /** Random crop after padding by this many pixels on every side (edge pixels repeated); 0 is off. */
  readonly cropPadding: number;
  /** Mirror left-right with probability one half. */
  readonly flip: boolean;
  /** Largest rotation in degrees, either way; 0 is off. */
  readonly rotate: number;
  /** Largest relative change of scale, for example 0.1; 0 is off. */
  readonly scale: number;
  /** Largest shear in degrees; 0 is off. */
  readonly shear: number;
  /** Largest shift as a share of the image's side; 0 is off. */
  readonly translate: number;
};

/** What `evaluate` takes. */
export type EvaluateOptions = {
  /** The folder of a finished run, or a `model.safetensors`. */
  readonly model: string | URL;
  /** The images. @default those of the run */
  readonly data?: Data | string | URL;
  /** Which classes. @default "test" */
  readonly part?: Part;
  /**
   * The K of Recall@K, of kNN accuracy and, where a classifier knows the classes, of top-K accuracy, each at least
   * 1.
   * @default [1, 2, 4, 8]
   */
  readonly ks?: ReadonlyArray<number>;
  /** Few-shot accuracies to measure, each over episodes drawn from the part's classes. @default none */
  readonly fewShot?: ReadonlyArray<FewShot>;
  /**
   * The teacher whose relations are compared with the model's: as of `distill`; `null` is none. Without labels it is
   * needed. @default null; without labels the run's own teachers
   */
  readonly teacher?: string | URL | Teacher | null;
  /**
   * Several teachers, in place of `teacher`. Without labels the metrics are the averages over them, by their weights.
   */
  readonly teachers?: ReadonlyArray<string | URL | Teacher>;
  /** CPU threads, 0 to 1024; 0 is all cores. @default 0 */
  readonly threads?: number;
  /**
   * Seed of few-shot episodes and of what fidelity is measured on; where `splitSeed` is not given, of the split too.
   * @default the run's, else 1
   */
  readonly seed?: number;
  /**
   * Seed of the split. Another one than the model was trained with makes training classes into test classes, which a
   * warning says. @default `seed`; else the model's
   */
  readonly splitSeed?: number;
  /**
   * Whether the data may have changed since the model was trained on them. Then they are measured by the stored split,
   * in which nothing that is new has a part. @default false: an error that says what has changed
   */
  readonly acceptChangedData?: boolean;
};

/** Episodes whose accuracy `evaluate` measures, by the nearest mean of the supports (Snell et al. 2017). */
export type FewShot = {
  /** Classes, at least 2. */
  readonly way: number;
  /** Support images of each class, at least 1. */
  readonly shots: number;
  /** Query images of each class, at least 1. @default 15 */
  readonly queries?: number;
  /** Number of episodes, at least 2. @default 1000 */
  readonly episodes?: number;
};

/** What `neighbours` takes. */
export type NeighboursOptions = {
  /** The folder of a finished run, or a `model.safetensors`. */
  readonly model: string | URL;
  /** The images. @default those of the run */
  readonly data?: Data | string | URL;
  /** Which classes. @default "test" */
  readonly part?: Part;
  /** Number of queries, drawn by the seed, each of another class while there are classes, 1 to 1000. @default 8 */
  readonly queries?: number;
  /** Neighbours of each query, 1 to 1000. @default 8 */
  readonly k?: number;
  /** CPU threads, 0 to 1024; 0 is all cores. @default 0 */
  readonly threads?: number;
  /** Seed of the queries; where `splitSeed` is not given, of the split too. @default the run's, else 1 */
  readonly seed?: number;
  /** Seed of the split. @default `seed`; else the model's */
  readonly splitSeed?: number;
  /** As of `evaluate`. @default false */
  readonly acceptChangedData?: boolean;
};

/** What `embed` takes. */
export type EmbedOptions = {
  /** The folder of a finished run, or a `model.safetensors`. */
  readonly model: string | URL;
  /** The images; all of them are embedded, or a shard. */
  readonly data: Data | string | URL;
  /**
   * The file to write: `.npy`, with `<name>.ids.json` beside it, `.safetensors`, `.csv`, `.jsonl`, `.parquet` or `.arrow`,
   * which hold their ids.
   */
  readonly out: string | URL;
  /** Form of the file. @default by the name's ending */
  readonly format?: EmbedFormat;
  /**
   * Embeds this shard of the images alone, into a file of its own: shard 3 of 100 of `vectors.npy` is
   * `vectors-00003-of-00100.npy`. One that is finished is left as it is. `mergeShards` makes one file of all. `{}` is the shard that
   * the scheduler gives this process. @default all images, whatever the environment says
   */
  readonly shard?: ShardOptions;
  /** CPU threads, 0 to 1024; 0 is all cores. @default 0 */
  readonly threads?: number;
};

/**
 * Which shard of the images a process embeds: one of so many neighbouring parts of the same size, but for an image. What is not said
 * the scheduler says that has started the process: a Kubernetes Indexed Job (`JOB_COMPLETION_INDEX`), a Slurm array
 * (`SLURM_ARRAY_TASK_ID`), an AWS Batch array job (`AWS_BATCH_JOB_ARRAY_INDEX`) or a Cloud Run job (`CLOUD_RUN_TASK_INDEX`).
 */
export type ShardOptions = {
  /** Which one, from 0 and below `count`. @default the scheduler's */
  readonly index?: number;
  /**
   * How many there are, 1 to 99,999; needed beside `index`. @default the scheduler's, which Kubernetes does not say
   */
  readonly count?: number;
};

/** What `mergeShards` takes. */
export type MergeOptions = {
  /** The `out` that the shards were written with: the file to write, beside which they lie. */
  readonly out: string | URL;
};

/** What `loadModel` takes. */
export type LoadModelOptions = {
  /**
   * The folder of a finished run, a `model.safetensors`, an ONNX model, or a folder with one (`model.onnx`,
   * `onnx/model.onnx`).
   */
  readonly model: string | URL;
  /** CPU threads, 0 to 1024; 0 is all cores. @default 0 */
  readonly threads?: number;
  /**
   * Most images of one forward pass, 1 to 4096. Calls that wait at the same time share a pass up to that. @default 64
   */
  readonly batch?: number;
  /** How an ONNX model is read. @default found out from the file */
  readonly onnx?: Partial<OnnxOptions> | null;
};

/** What `relationFidelity` takes besides the two embeddings. */
export type FidelityOptions = {
  /** The K of Recall@K of the teacher's nearest neighbour, each at least 1. @default [1, 2, 4, 8] */
  readonly ks?: ReadonlyArray<number>;
  /** Neighbours that are compared of each item, at most a quarter of the others, rounded up. @default 10 */
  readonly neighbours?: number;
  /** Pairs of items at most whose distances are compared; of more, so many are drawn. @default 4000000 */
  readonly pairs?: number;
  /** Triples that are drawn for angles. @default 100000 */
  readonly triples?: number;
  /** Seed of what is drawn. @default 0 */
  readonly seed?: number;
  /** CPU threads, 0 to 1024; 0 is all cores. The result has the same bits on any number. @default 0 */
  readonly threads?: number;
};

/** What `exportModel` takes. */
export type ExportOptions = {
  /** The folder of a finished run, or a `model.safetensors`. */
  readonly model: string | URL;
  /** What it is exported for. */
  readonly to: ExportTarget;
  /** The folder to write, which is made; one that holds something else than an export is an error. */
  readonly out: string | URL;
  /** Whether an export in `out` may be replaced. @default false */
  readonly overwrite?: boolean;
  /**
   * The form of the weights, or several, a file each; for timm and safetensors float32 alone. Of several the first is the
   * one that transformers.js takes by itself. @default "float32"
   */
  readonly dtype?: Dtype | ReadonlyArray<Dtype>;
  /**
   * What an ONNX file takes: `"floats"`, normalised by the caller, or, for onnx alone, `"bytes"`. @default "floats"
   */
  readonly input?: ExportInput;
  /** The images that int8 is calibrated on and all is measured on. @default those of the run */
  readonly data?: Data | string | URL;
  /**
   * The teacher whose relations are compared with the model's: as of `distill`; `null` is none.
   * @default the run's own teachers, those that are still there
   */
  readonly teacher?: string | URL | Teacher | null;
  /** Several teachers, in place of `teacher`. */
  readonly teachers?: ReadonlyArray<string | URL | Teacher>;
  /** Training images that int8 is calibrated on, drawn by the run's seed, 1 to 100,000. @default 200 */
  readonly calibrationImages?: number;
  /** Whether what was written is measured on the test images. @default true, where the data are there */
  readonly measure?: boolean;
  /** The K of Recall@K, each at least 1. @default [1, 2, 4, 8] */
  readonly ks?: ReadonlyArray<number>;
  /** What ONNX files are measured by. @default "auto" */
  readonly engine?: EngineChoice;
  /** The library of onnxruntime. @default `$RKD_ONNXRUNTIME`, else that of an installed onnxruntime-node */
  readonly onnxruntime?: string | URL;
  /**
   * The lowest Recall@K of the smallest K, in [0, 1]; without labels the share of images whose nearest image for the teacher
   * is among the K nearest. What falls below is told by `missed`. @default no such gate
   */
  readonly minRecall?: number;
  /** The most bytes of a file of weights. @default no such gate */
  readonly maxBytes?: number;
  /** The lowest mean cosine of embeddings and those of the model before export, in [0, 1]. @default no such gate */
  readonly minCosine?: number;
  /** CPU threads, 0 to 1024; 0 is all cores. @default 0 */
  readonly threads?: number;
  /** As of `evaluate`. @default false */
  readonly acceptChangedData?: boolean;
};

/** What an exported model is for. */
export type ExportTarget = "onnx" | "transformers" | "timm" | "safetensors";

/** The form of the weights. */
export type Dtype = "float32" | "float16" | "int8";

/** What an exported ONNX model takes. */
export type ExportInput = "floats" | "bytes";

/** The form of the written embeddings. */
export type EmbedFormat = "npy" | "safetensors" | "csv" | "jsonl" | "parquet" | "arrow";

/** What `embed` writes. */
export type EmbedPlan = {
  /** A `model.safetensors`. */
  readonly model: string;
  /** The images; all of them are embedded, whatever the split, or a shard of them. */
  readonly data: DataPlan;
  /** The file of all embeddings, or a pipe or device to write to; missing folders above it are made. */
  readonly out: string;
  /** The file to write: `out`, or that of the shard. */
  readonly file: string;
  /** The only shard of the images that is embedded. */
  readonly shard: Shard | null;
  /** Its form. */
  readonly format: EmbedFormat;
  /** CPU threads; 0: all cores. */
  readonly threads: number;
};

/** Shard `index` of `count`, with `index < count`. */
export type Shard = {
  /** Which one, from 0. */
  readonly index: number;
  /** How many there are. */
  readonly count: number;
};

/** A part of the options that has constructors. */
export type OptionPart = "loss" | "backbone" | "optimizer" | "schedule" | "data";

/** A run that is ready to start. */
export type ResolvedRun = {
  /** What it is for. */
  readonly job: Job;
  /** Absolute path of its folder. */
  readonly out: string;
  /** Whether a run in that folder is replaced. */
  readonly overwrite: boolean;
  /** The plan. */
  readonly plan: Plan;
  /** What is done between its segments. */
  readonly policy: Policy;
  /** The plan of the same student by labels alone, where it is asked for. */
  readonly baseline: Plan | null;
  /** Whether data that have changed are accepted. */
  readonly acceptChangedData: boolean;
  /** What had to be assumed, in full sentences. */
  readonly warnings: ReadonlyArray<string>;
};

/** What a run is for. */
export type Job = "train" | "distill";

/**
 * What the loop of segments does between them. It stands beside the plan in `plan.json`, under the names of the
 * options.
 */
export type Policy = {
  /** Evaluation during training. */
  readonly evaluation: EvaluationPolicy;
  /** Which weights become the model. */
  readonly keep: Keep;
  /** Evaluations without a new best after which the run ends; `None`: never. */
  readonly patience: number | null;
  /** Steps between checkpoints besides those after decisions; `None`: no others. */
  readonly checkpointEverySteps: number | null;
  /** Whether the same student is trained without its teacher too. */
  readonly baseline: boolean;
};

/** See [`EvaluationOptions`]. */
export type EvaluationPolicy = {
  /** Epochs between evaluations; `None`: only by steps. */
  readonly everyEpochs: number | null;
  /** Steps between evaluations; `None`: only by epochs. */
  readonly everySteps: number | null;
  /** The K of Recall@K, rising. */
  readonly ks: ReadonlyArray<number>;
  /** The classes that say which weights are the best. */
  readonly part: ChoosingPart;
};

/** The content of `plan.json`. */
export type PlanFile = {
  /** Form of this file, 1; another number is refused. */
  readonly form: number;
  /** The version of rkd that wrote it. */
  readonly rkd: string;
  /** What the run is for. */
  readonly job: Job;
  /** The plan. */
  readonly plan: Plan;
  /** What is done between its segments. */
  readonly policy: Policy;
  /** SHA-256 of the files the run was started from, by path. */
  readonly inputs: { readonly [key in string]: string };
  /** The fingerprint of the data; `data.json` says what it is of. */
  readonly fingerprint?: string;
  /** The weights `"auto"` that the run found, by term; nothing before they are found, or where there are none. */
  readonly chosenWeights?: { readonly [key in string]: number };
  /** False where the run was started without a report: then `resume` writes none either, unless it is asked for. */
  readonly report?: boolean;
};

/** A training run of one network: `train` without a teacher, `distill` with one or more. */
export type Plan = {
  /** The data. */
  readonly data: DataPlan;
  /** The network that is trained. */
  readonly backbone: BackbonePlan;
  /** Where its parameters come from; `None`: drawn at random. */
  readonly weights: WeightsPlan | null;
  /** Which of its parameters are trained, and how fast. */
  readonly tuning: TuningPlan;
  /** The teachers, for a distillation; their names are all different. */
  readonly teachers: ReadonlyArray<TeacherPlan>;
  /** The weighted terms of the total loss; at least one. */
  readonly losses: ReadonlyArray<Loss>;
  /**
   * Lengths of the prefixes of the student's embedding that terms are evaluated on too, rising. See
   * [`Prefixes`](crate::losses::Prefixes).
   */
  readonly prefixes: ReadonlyArray<number>;
  /** The optimiser. */
  readonly optimizer: Optimizer;
  /** The learning rate over the run. */
  readonly schedule: Schedule;
  /** Largest Euclidean norm of the whole gradient; larger ones are scaled down. `None`: no clipping. */
  readonly clipGradientNorm: number | null;
  /** Batch composition. */
  readonly batch: BatchPlan;
  /**
   * Largest number of images that go through the network at once; `None`: the whole batch. See [`crate::train::pass`].
   */
  readonly microBatch: number | null;
  /** Number of epochs, at least 1. */
  readonly epochs: number;
  /** Batches of one epoch; `None`: as many as it takes to show as many images as the training part has. */
  readonly stepsPerEpoch: number | null;
  /** The seed of everything random. */
  readonly seed: number;
  /** The seed of the class split: which classes, or images, are in which part. */
  readonly splitSeed: number;
  /** Number of CPU threads; 0: all cores. */
  readonly threads: number;
  /** Where the network runs. */
  readonly device: Device;
  /** In which numbers it runs there. */
  readonly precision: Precision;
};

/** Where a session starts. */
export type SessionStart = {
  /** The checkpoint to go on from; `None`: the first step. */
  readonly checkpoint: string | null;
  /** The `data.json` of the run that goes on; `None` for a new run. */
  readonly record: string | null;
  /** Whether data that are no longer those of the run, or of its teacher, are accepted. */
  readonly acceptChangedData: boolean;
};

/** Where a network runs. Losses, samplers and metrics run on the host. */
export type Device = "cpu" | "candle-cpu" | `cuda:${number}`;

/**
 * In which numbers a GPU computes a network. Parameters, what the optimiser keeps, statistics, losses and whatever comes to the host
 * are float32 in all of them, and sums of products too.
 */
export type Precision = "float32" | "tf32" | "bf16";

/** Where the images come from and how they reach the network. */
export type DataPlan = {
  /** What the source was found to be. */
  readonly kind: DataKind;
  /**
   * `"glyphs"`, or the path of a folder, an archive, a manifest or an IDX file, or a pattern of paths; see [`super`].
   */
  readonly source: string;
  /** Several paths may make one data set (Omniglot's two archives): the further ones. Usually empty. */
  readonly more: ReadonlyArray<string>;
  /** Height and width in pixels after decoding; every image is resized to this square. */
  readonly imageSize: number;
  /** 1 (grey) or 3 (RGB); of vectors the numbers of one. */
  readonly channels: number;
  /** How they are read, where they are vectors. */
  readonly vectors: VectorOptions | null;
  /** Whether its classes are labels. */
  readonly labels: Labels;
  /** Whether every image comes in four turns, each a class of its own, see [`super::rotation`]. */
  readonly rotations: boolean;
  /** How images are split. */
  readonly split: SplitPlan;
  /** Random changes of training images. */
  readonly augment: Augment;
  /** Folder of the decoded cache; nothing is written outside it. */
  readonly cache: string;
};

/** Composition of a batch. */
export type BatchPlan = {
  /** Images of a batch. */
  readonly size: number;
  /** Images of each class in a batch; `None`: images are drawn without regard to class. */
  readonly perClass: number | null;
  /** The batch is an episode of this shape; `size` is then its number of images and `per_class` `None`. */
  readonly episode: Episode | null;
};

/** The network: which one, how wide, and what it puts out. */
export type BackbonePlan = {
  /** The architecture: one of [`super::kinds`]. */
  readonly kind: BackboneKind;
  /**
   * Channels of the first block, of a ViT those of one head; 64 is the published width of every architecture here.
   */
  readonly width: number;
  /** The widths of the hidden layers of an `"mlp"`, at least one; empty for every other architecture. */
  readonly hidden: ReadonlyArray<number>;
  /** The form for large or for small images; the networks without a stem option have one form and ignore it. */
  readonly stem: Stem;
  /** Length of the embedding; `None`: the pooled feature itself (Conv-4 and the small VGG: the flattened map). */
  readonly embedding: number | null;
  /** Whether the embedding is divided by its Euclidean norm. */
  readonly normalize: boolean;
  /** Channels of the input image. */
  readonly inChannels: number;
  /** Height and width of the input image. */
  readonly imageSize: number;
  /**
   * Number of classes of the `classifier` layer on top of the embedding, for losses on logits; `None`: no such layer.
   */
  readonly classes: number | null;
};

/** The parameters a network begins with. */
export type WeightsPlan = {
  /** A file of [`Weights`](crate::artefact::weights::Weights). */
  readonly file: string;
  /** Which weights of the file: see [`Weights::load`]. `None`: those at the usual place. */
  readonly key: string | null;
  /**
   * Patterns of names ([`crate::nn::pattern`]) that may be missing, unexpected or of another shape, besides the head.
   */
  readonly except: ReadonlyArray<string>;
  /**
   * How images are normalised; `None`: as the file says (rkd's own), as ImageNet is (other files, three channels), or
   * (other files, grey) as the teacher wants images of the same size, or by the training data. A teacher that was
   * trained with another normalisation sees its own.
   */
  readonly normalization: Normalization | null;
};

/**
 * Which parameters are trained and how fast, and what of a pass is only of training. Patterns choose parameters by name, see
 * [`super::pattern`].
 */
export type TuningPlan = {
  /** Patterns of parameters that stay as they are. */
  readonly freeze: ReadonlyArray<string>;
  /** Factors on the learning rate by pattern, greater than 0; no parameter may be chosen by two. */
  readonly learningRates: { readonly [key in string]: number };
  /** What batch normalisation subtracts and divides by in training. */
  readonly batchNorm: TrainingStatistics;
  /**
   * Share of the pooled feature's numbers that are left out at random before the embedding layer (without one, before the
   * classifier), in `[0, 1)`.
   */
  readonly dropout: number;
  /**
   * Share of images for which the last residual block is left out at random, in `[0, 1)`; that of the blocks before it
   * rises evenly from 0: stochastic depth.
   */
  readonly dropPath: number;
};

/** A teacher of a distillation. */
export type TeacherPlan = {
  /** What it is called: by terms that compare with it alone, by reports and warnings. */
  readonly name: string;
  /** Its weight in averages over the teachers, greater than 0; they are divided by their sum. */
  readonly weight: number;
  /** A `model.safetensors` written by `train` or `distill`, an ONNX model, or a file of vectors. */
  readonly model: string;
  /** How it is read, where it is an ONNX model. */
  readonly onnx: OnnxOptions | null;
  /** How it is read, where it is a file of vectors. */
  readonly vectors: VectorOptions | null;
  /** Whether the teacher sees each augmented batch, or every training image once before the first step. */
  readonly features: TeacherFeatures;
};

/** What a user may say about an ONNX model. What is left open, [`OnnxOptions::resolve`] finds out from the file. */
export type OnnxOptions = {
  /**
   * The tensor that is the embedding: an output, or with rten one inside.
   * @default `image_embeds`, `pooler_output` or another usual name; the only output; the only one of two axes
   */
  readonly output: string | null;
  /** How an output of tokens becomes one vector. @default "class-token" */
  readonly pooling: Pooling | null;
  /**
   * Side of the images, 1 to 1024, where the graph leaves it open. @default what `preprocessor_config.json` beside the
   * file says, else 224
   */
  readonly imageSize: number | null;
  /**
   * Mean and standard deviation of each channel, by which pixels from 0 to 1 are normalised before they go in.
   * @default nothing where the graph normalises; else what `preprocessor_config.json` beside the file says, else
   * ImageNet's, with a warning
   */
  readonly normalization: Normalization | null;
  /** What runs it. @default "auto" */
  readonly engine: EngineChoice;
  /** The library of onnxruntime. @default `$RKD_ONNXRUNTIME`, else that of an installed onnxruntime-node */
  readonly onnxruntime: string | null;
};

/** How stored vectors are read. */
export type VectorOptions = {
  /**
   * A file with the id of each vector, in their order: a text of one id a line, JSON, or a `.npy` of texts. Without it
   * `NAME.ids.json` or `NAME.ids.txt` beside the vectors, where the file has no ids of its own.
   */
  readonly ids: string | null;
  /**
   * The column, array or key with the ids. @default the one of a usual name (`id`, `path`, `file_name`, ...), else the
   * only one that fits.
   */
  readonly idColumn: string | null;
  /**
   * The column, array or key with the vectors, or what the names of the columns with one number each begin with.
   * @default the one of a usual name (`vector`, `embedding`, ...), else the only one that fits.
   */
  readonly vectorColumn: string | null;
  /**
   * Whether images without a vector may be any number of the images. They are left out. @default false: at most one
   * in ten
   */
  readonly allowMissing: boolean;
};

/** How an output becomes one vector an image. */
export type Pooling = "none" | "class-token" | "mean-token" | "mean-pixel";

/** Which engine runs an ONNX model. */
export type EngineChoice = "auto" | "rten" | "onnxruntime";

/** When the teacher's features are computed. */
export type TeacherFeatures = "live" | "cached";

/** What to measure. */
export type BenchPlan = {
  /** One of [`workloads()`]. */
  readonly workload: string;
  /** Time to spend in seconds; at least three steps are measured however long they take. */
  readonly seconds: number;
  /** CPU threads, 0 to 1024; 0: all cores. */
  readonly threads: number;
};

/** What a session is about to do. */
export type SessionSummary = {
  /** What the data is. */
  readonly data: DatasetSummary;
  /** Images and classes of the three parts. */
  readonly train: PartSize;
  /** Images and classes that choose the checkpoint; may be empty. */
  readonly validation: PartSize;
  /** Images and classes of the final evaluation; may be empty. */
  readonly test: PartSize;
  /** The network that is trained. */
  readonly student: NetworkSummary;
  /** The teachers of a distillation. */
  readonly teachers: ReadonlyArray<TeacherSummary>;
  /** Batches of one epoch. */
  readonly stepsPerEpoch: number;
  /** Steps of the whole run. */
  readonly totalSteps: number;
  /** Steps done already (after a resume). */
  readonly step: number;
  /** Where the student runs. */
  readonly device: Device;
  /** In which numbers it computes there. */
  readonly precision: Precision;
  /** Processes that train together, see [`crate::ranks`]. */
  readonly ranks: number;
  /** CPU threads in use, in this process. */
  readonly threads: number;
  /** Instruction set in use. */
  readonly instructionSet: string;
  /** What memory the run takes at its peak. */
  readonly memory: MemoryEstimate;
};

/** What was found, for people and programs. */
export type DatasetSummary = {
  /**
   * `"glyphs"`, `"folder"`, `"glob"`, `"manifest"`, `"zip"`, `"tar"`, `"parquet"`, `"omniglot"`, `"idx"`, `"cifar"` or `"vectors"`.
   */
  readonly kind: string;
  /** The published data set that was recognised. */
  readonly name: string | null;
  /** One sentence for people: what was recognised and how much is in it. */
  readonly sentence: string;
  /** Number of usable images. */
  readonly images: number;
  /** Number of classes with at least one usable image; 0 without labels. */
  readonly classes: number;
  /** Whether the source has parts of its own (at least two of train, validation, test). */
  readonly ownSplit: boolean;
  /** Images and classes of those parts. */
  readonly parts: ReadonlyArray<PartCount>;
  /** Images that could not be used. */
  readonly broken: ReadonlyArray<BrokenImage>;
  /** Things a user should know. */
  readonly warnings: ReadonlyArray<string>;
  /** The same, and the images that could not be used in a sentence: see [`Dataset::notices`]. */
  readonly notices: ReadonlyArray<string>;
  /** The path of the file with the decoded images. */
  readonly cache: string;
  /** Whether that file was there already. */
  readonly reused: boolean;
  /** Hash of all images with their names and classes; equal for equal data wherever it lies. */
  readonly fingerprint: string;
  /** Height and width of the decoded images. */
  readonly imageSize: number;
  /** Channels of the decoded images. */
  readonly channels: number;
};

/** Size of one of the source's own parts. */
export type PartCount = {
  /** The part. */
  readonly part: Part;
  /** Number of images. */
  readonly images: number;
  /** Number of classes. */
  readonly classes: number;
};

/** A part of a data set. */
export type Part = "train" | "validation" | "test";

/** An image that could not be used. */
export type BrokenImage = {
  /** Its path inside the source. */
  readonly path: string;
  /** Why, a clause that reads on from the path: `is empty (0 bytes)`. */
  readonly reason: string;
};

/** Size of one part of the data. */
export type PartSize = {
  /** Number of images. */
  readonly images: number;
  /** Number of classes. */
  readonly classes: number;
};

/** The memory of a run at its peak, in bytes. The parts make up `total`. */
export type MemoryEstimate = {
  /** What the process had before; 0 where the system does not say. */
  readonly process: number;
  /** Weights and running statistics of student and teachers, and what losses learn. */
  readonly networks: number;
  /** What the forward passes keep for the way back. */
  readonly activations: number;
  /** The gradients of parameters and activations. */
  readonly gradients: number;
  /** The optimiser's state. */
  readonly optimizer: number;
  /** What evaluations during training take beside that. */
  readonly evaluation: number;
  /** Working memory of the kernels. */
  readonly kernels: number;
  /** The features on the host, and what losses make of them. */
  readonly losses: number;
  /** Batches that are made ahead. */
  readonly loader: number;
  /** The teachers' features of all training images, where they are computed once. */
  readonly teacherFeatures: number;
  /** The list of the images. */
  readonly listing: number;
  /** The best weights so far. */
  readonly best: number;
  /** What no part counts: the addon's code, stacks, what allocators keep. */
  readonly other: number;
  /** The largest of what comes and goes: a checkpoint, the final evaluation, reading a teacher. */
  readonly moment: number;
  /** All of it. */
  readonly total: number;
};

/** A limit on this process's memory. */
export type MemoryLimit = {
  /** Whose it is, for people: `"the machine"`, `"the control group /job"`, `"ulimit -v"`. */
  readonly name: string;
  /** Bytes. */
  readonly bytes: number;
  /** What this process has of it. */
  readonly used: number;
};

/** Every limit there is, and what is free. */
export type MemoryLimits = {
  /** The limits. */
  readonly limits: ReadonlyArray<MemoryLimit>;
  /** What the machine could give without swapping; none where it does not say. */
  readonly available: number | null;
};

/** What there is of CUDA. */
export type CudaReport = {
  /**
   * The newest CUDA that the driver runs, for example "13.0"; null where there is no driver, or this build did not look.
   */
  readonly driver: string | null;
  /** In the driver's order: the first is "cuda:0". */
  readonly devices: ReadonlyArray<CudaDevice>;
  /** Those that are needed. */
  readonly libraries: ReadonlyArray<CudaLibrary>;
  /** Why no device can be used; null where one can. */
  readonly problem: string | null;
};

/** A GPU. */
export type CudaDevice = {
  /** What its maker calls it. */
  readonly name: string;
  /** Bytes of its memory. */
  readonly memory: number;
  /** Its compute capability, for example "9.0". */
  readonly capability: string;
  /** Why it cannot be used; null where it can. */
  readonly problem: string | null;
};

/** A library of NVIDIA's. */
export type CudaLibrary = {
  /** For example "cuDNN". */
  readonly name: string;
  /** Its file, or its name where the system's loader finds it; null where it is not to be had. */
  readonly file: string | null;
};

/** Size of one network. */
export type NetworkSummary = {
  /** The architecture's name, or whatever a teacher is called. */
  readonly backbone: string;
  /** Trainable numbers (running statistics not counted). */
  readonly parameters: number;
  /** Length of the embedding. */
  readonly embedding: number;
};

/** One teacher of a run. */
export type TeacherSummary = {
  /** What it is called. */
  readonly name: string;
  /** Its weight in averages over the teachers. */
  readonly weight: number;
  /** The architecture's name, or whatever a teacher is called. */
  readonly backbone: string;
  /** Trainable numbers (running statistics not counted). */
  readonly parameters: number;
  /** Length of the embedding. */
  readonly embedding: number;
};

/** What a call of `train` did. */
export type SegmentReport = {
  /** Steps done since the run began. */
  readonly step: number;
  /** Whether it stopped early because the caller, or that of another rank, cancelled. */
  readonly cancelled: boolean;
  /** Wall-clock time of the segment. */
  readonly seconds: number;
  /** Part of it spent waiting for data. */
  readonly dataWaitSeconds: number;
  /** Part of it spent waiting for other ranks, and for what they sent. */
  readonly rankWaitSeconds: number;
  /** Images shown to the network in the segment. */
  readonly images: number;
  /** Mean total loss of the segment's steps. */
  readonly loss: number;
  /** Whether the student's embeddings have run together in one point, in this segment or before. */
  readonly collapsed: boolean;
  /** Each term that was computed in at least one step. */
  readonly terms: ReadonlyArray<TermMean>;
};

/** One term over some steps. */
export type TermMean = {
  /** Steps in which it was computed: those in which its weight was not 0. */
  readonly steps: number;
  /** The loss's kind; the second of the same kind is `kind#2`. */
  readonly name: string;
  /** Its weight in the sum, in this step. */
  readonly weight: number;
  /** Its value before weighting. Terms of weight 0 are not computed and not listed. */
  readonly value: number;
  /** Euclidean norm of its gradient with respect to the student's feature that it reads, before weighting. */
  readonly gradientNorm: number;
};

/** One term of the total loss. */
export type TermValue = {
  /** The loss's kind; the second of the same kind is `kind#2`. */
  readonly name: string;
  /** Its weight in the sum, in this step. */
  readonly weight: number;
  /** Its value before weighting. Terms of weight 0 are not computed and not listed. */
  readonly value: number;
  /** Euclidean norm of its gradient with respect to the student's feature that it reads, before weighting. */
  readonly gradientNorm: number;
};

/** The result of an evaluation. */
export type Evaluation = {
  /**
   * `recall@K` and `knn@K` for every K asked for, `mapAtR`, `rPrecision`, and `fewshot/N-way-K-shot` for every shape of
   * episode asked for; `top@K` where a classifier knows the classes; all in `[0, 1]`. Without labels, of the relations of
   * the teachers, the average over them by their weights: `neighbourOverlap`, `teacherRecall@K` for every K asked for, both
   * in `[0, 1]`, `distanceRankCorrelation` and `angleRankCorrelation`, in `[-1, 1]`.
   */
  readonly metrics: { readonly [key in string]: number };
  /** Half the width of the 95 % interval of those metrics that are means over a sample (few-shot accuracy). */
  readonly intervals?: { readonly [key in string]: number };
  /** Images that were embedded; each is a query against all others. */
  readonly images: number;
  /** Classes among them; 0 without labels. */
  readonly classes: number;
  /**
   * Time of the network's forward pass for one image, in the quickest batch of [`super::evaluate::BATCH`] of them.
   */
  readonly millisecondsPerImage: number;
  /** How well the relations of each teacher are kept, where any were given. */
  readonly fidelity?: ReadonlyArray<TeacherFidelity>;
  /** The same of each prefix of the embedding that a stored model was trained for. */
  readonly prefixes?: ReadonlyArray<PrefixEvaluation>;
};

/** What the first numbers of an embedding are worth, divided by their own norm where the network normalises. */
export type PrefixEvaluation = {
  /** How many. */
  readonly embedding: number;
  /** As [`Evaluation::metrics`], but for the accuracy of the classifier, which sees the whole. */
  readonly metrics: { readonly [key in string]: number };
  /** As [`Evaluation::intervals`]. */
  readonly intervals?: { readonly [key in string]: number };
  /** As [`Evaluation::fidelity`]. */
  readonly fidelity?: ReadonlyArray<TeacherFidelity>;
};

/** How well the relations of one teacher are kept. */
export type TeacherFidelity = {
  /** What the teacher is called. */
  readonly teacher: string;
  /** Its weight in averages over the teachers. */
  readonly weight: number;
  /** Spearman's rank correlation of distances, in `[-1, 1]`; 0 where all distances of one side are equal. */
  readonly distanceRankCorrelation: number;
  /** Pairs it was computed on. */
  readonly pairs: number;
  /** Spearman's rank correlation of angles, in `[-1, 1]`; 0 where all angles of one side are equal. */
  readonly angleRankCorrelation: number;
  /** Mean absolute difference of angles, in degrees, `[0, 180]`. */
  readonly angleDifference: number;
  /** Standard error of that mean. */
  readonly angleDifferenceError: number;
  /** Triples it was computed on; 0 for fewer than three items. */
  readonly triples: number;
  /** Share of common nearest neighbours, in `[0, 1]`. */
  readonly neighbourOverlap: number;
  /** Neighbours compared of each item. */
  readonly neighbours: number;
  /**
   * For every K asked for the share of items whose nearest neighbour for the teacher is among the K nearest for the
   * student, in `[0, 1]`.
   */
  readonly recall: Record<string, number>;
};

/** How well relations are kept. */
export type Fidelity = {
  /** Spearman's rank correlation of distances, in `[-1, 1]`; 0 where all distances of one side are equal. */
  readonly distanceRankCorrelation: number;
  /** Pairs it was computed on. */
  readonly pairs: number;
  /** Spearman's rank correlation of angles, in `[-1, 1]`; 0 where all angles of one side are equal. */
  readonly angleRankCorrelation: number;
  /** Mean absolute difference of angles, in degrees, `[0, 180]`. */
  readonly angleDifference: number;
  /** Standard error of that mean. */
  readonly angleDifferenceError: number;
  /** Triples it was computed on; 0 for fewer than three items. */
  readonly triples: number;
  /** Share of common nearest neighbours, in `[0, 1]`. */
  readonly neighbourOverlap: number;
  /** Neighbours compared of each item. */
  readonly neighbours: number;
  /**
   * For every K asked for the share of items whose nearest neighbour for the teacher is among the K nearest for the
   * student, in `[0, 1]`.
   */
  readonly recall: Record<string, number>;
};

/** Retrieval quality of labelled embeddings; all shares are in `[0, 1]`. */
export type Retrieval = {
  /** Recall for every K, in the order asked for. */
  readonly recall: ReadonlyArray<[number, number]>;
  /** kNN accuracy for every K, in the order asked for. */
  readonly knn: ReadonlyArray<[number, number]>;
  /** Mean average precision at R; 0 where no query has a relevant item. */
  readonly mapAtR: number;
  /** R-precision; 0 where no query has a relevant item. */
  readonly rPrecision: number;
  /** Queries: without a gallery all items. */
  readonly queries: number;
  /** Queries with an item of their class among those they are set against. */
  readonly queriesWithRelevant: number;
};

/** What a loaded model is. */
export type LoadedModel = {
  /** The file it was read from. */
  readonly file: string;
  /** What runs it: `"rkd"`, `"rten"` or `"onnxruntime (library)"`. */
  readonly engine: string;
  /** A hash of all that decides what it says of an image: `rkd embed` notes it beside the embeddings. */
  readonly hash: string;
  /** Length of an embedding. */
  readonly dimension: number;
  /** Side of the square that every image becomes, in pixels. */
  readonly imageSize: number;
  /** 1 (grey) or 3 (RGB): what every image becomes. */
  readonly channels: number;
  /** How its pixels are normalised. */
  readonly normalization: Normalization;
  /** Numbers that were trained; of an ONNX model all among its weights. */
  readonly parameters: number;
  /** CPU threads. */
  readonly threads: number;
  /** Most images of one forward pass. */
  readonly batch: number;
  /** What had to be assumed of an ONNX model, in full sentences. */
  readonly warnings: ReadonlyArray<string>;
};

/** What `embed` wrote. */
export type EmbedReport = {
  /** The file. */
  readonly out: string;
  /** Rows of the matrix. */
  readonly images: number;
  /** Columns of the matrix. */
  readonly embedding: number;
  /** Time of the network's forward pass for one image, in the quickest batch. */
  readonly millisecondsPerImage: number;
  /** Every image that has no row, and why. */
  readonly leftOut: ReadonlyArray<BrokenImage>;
  /** Which shard of the images these are, where they are one. */
  readonly shard?: WrittenShard;
};

/** The shard that `embed` wrote, or found finished. */
export type WrittenShard = {
  /** Which one, from 0. */
  readonly index: number;
  /** How many there are. */
  readonly count: number;
  /** Whether it was finished before: nothing was embedded then, and the report is that of before. */
  readonly skipped: boolean;
};

/** What `mergeShards` wrote. */
export type MergeReport = {
  /** The file. */
  readonly out: string;
  /** Rows of the matrix. */
  readonly images: number;
  /** Columns of the matrix. */
  readonly embedding: number;
  /** Shards that were joined. */
  readonly shards: number;
  /** Every image that has no row, and why. */
  readonly leftOut: ReadonlyArray<BrokenImage>;
};

/** What `export` wrote, measured as others load it. */
export type ExportReport = {
  /** What it is for. */
  readonly to: ExportTarget;
  /** Absolute path of the folder. */
  readonly out: string;
  /** Absolute path of the model that was exported. */
  readonly model: string;
  /** All files, in the order in which they were written. */
  readonly files: ReadonlyArray<ExportedFile>;
  /** The model itself, on the test images; nothing where nothing was measured. */
  readonly student: Evaluation | null;
  /** Bytes of the model's own file. */
  readonly studentBytes: number;
  /** The exported forms of it, in the order of the dtypes. */
  readonly models: ReadonlyArray<ExportedModel>;
  /**
   * The gates (`minRecall`, `maxBytes`, `minCosine`) that were missed, a sentence each; empty where all were met.
   */
  readonly missed: ReadonlyArray<string>;
};

/** A file of an export. */
export type ExportedFile = {
  /** Its path in the folder, with `/`. */
  readonly path: string;
  /** Its size. */
  readonly bytes: number;
};

/** One exported form of a model. */
export type ExportedModel = {
  /** The form of its weights. */
  readonly dtype: Dtype;
  /** Its path in the folder. */
  readonly file: string;
  /** Its size. */
  readonly bytes: number;
  /**
   * What it was measured by: `onnxruntime`, `rten`, or `rkd` for weights alone; nothing where it was not measured.
   */
  readonly engine: string | null;
  /** Its embeddings of the test images; nothing where it was not measured. */
  readonly evaluation: Evaluation | null;
  /** How near they are to those of the model itself. */
  readonly cosine: Cosine | null;
};

/** Cosines of the embeddings of the same images. */
export type Cosine = {
  /** Mean over the images. */
  readonly mean: number;
  /** Of the image where it is smallest. */
  readonly min: number;
};

/** What a data source holds by its names and lists, and the plan of its defaults. */
export type DataSurvey = {
  /** What the options and its defaults make of it. */
  readonly data: DataPlan;
  /** As [`super::DatasetSummary::kind`]. */
  readonly kind: string;
  /** The published data set that was recognised. */
  readonly name: string | null;
  /** One sentence for people: what was recognised and how much is in it. */
  readonly sentence: string;
  /** Whether the classes are labels: as the options say, else whether there are two of them. */
  readonly labels: Labels;
  /** Number of images. */
  readonly images: number;
  /** Number of classes; 0 without labels. */
  readonly classes: number;
  /** Images and classes of the source's own parts; empty where it has none. */
  readonly parts: ReadonlyArray<PartCount>;
  /** Whether a class occurs in more than one part. */
  readonly sharedClasses: boolean;
  /** Files and folders that cannot be read. */
  readonly broken: ReadonlyArray<BrokenImage>;
  /** What is missing, and other things a user should know. */
  readonly warnings: ReadonlyArray<string>;
};

/** What a teacher was found to be. */
export type TeacherReport = {
  /** The file. */
  readonly file: string;
  /** Of an ONNX model. */
  readonly onnx: OnnxReport | null;
  /** Of stored vectors. */
  readonly vectors: VectorSummary | null;
  /** Of a network of rkd. */
  readonly network: NetworkReport | null;
};

/** What a network of rkd says of itself. */
export type NetworkReport = {
  /** The network, with the size and channels of the images it takes. */
  readonly backbone: BackbonePlan;
  /** Numbers of its embedding. */
  readonly embedding: number;
  /** The number of its parameters. */
  readonly parameters: number;
  /** The version of rkd that trained it. */
  readonly rkd: string;
  /** The seed of that run. */
  readonly seed: number;
  /** Whether it was distilled from a teacher. */
  readonly distilled: boolean;
  /**
   * The path of the data that it was trained on, or `"glyphs"`; nothing where its run's `plan.json` is not beside it.
   */
  readonly data: string | null;
  /** Its training classes; 0 without labels, and nothing where the file does not say. */
  readonly classes: number | null;
};

/** What was found out, for a person. */
export type OnnxReport = {
  /** The file. */
  readonly file: string;
  /** BLAKE3 of the file. */
  readonly hash: string;
  /** The program that wrote it. */
  readonly producer: string;
  /** The version of ONNX's operations. */
  readonly opset: number;
  /** Numbers among the weights. */
  readonly parameters: number;
  /** All inputs, with types and shapes. */
  readonly inputs: ReadonlyArray<string>;
  /** All outputs, with types and shapes. */
  readonly outputs: ReadonlyArray<string>;
  /** Which pixels go in, in words. */
  readonly pixels: string;
  /** Side of the images. */
  readonly imageSize: number;
  /** Channels of the images. */
  readonly channels: number;
  /** The tensor that is the embedding, and how it becomes one vector. */
  readonly output: string;
  /** Length of the embedding. */
  readonly embedding: number;
  /** What runs it. */
  readonly engine: string;
  /** Mean time of one image, in a batch of three. */
  readonly millisecondsPerImage: number;
  /** Full sentences. */
  readonly warnings: ReadonlyArray<string>;
};

/** What [`judge`] found. */
export type VectorSummary = {
  /** Where the vectors come from. */
  readonly format: VectorFormat;
  /** The type of the stored numbers. */
  readonly element: VectorElement;
  /** Number of vectors. */
  readonly vectors: number;
  /** Numbers of each. */
  readonly dimension: number;
  /** As [`VectorTable::hash`]. */
  readonly hash: string;
  /** The Euclidean norms. */
  readonly norms: Norms;
  /** Whether all norms are 1, within 0.001. */
  readonly normalized: boolean;
  /** Vectors of zeros. */
  readonly zero: number;
  /** Vectors equal to one before them. */
  readonly repeated: number;
  /** Places at which all vectors have the same number. */
  readonly constantPlaces: number;
  /** What a user should know, that of the reading first. */
  readonly warnings: ReadonlyArray<string>;
};

/** Euclidean norms of vectors. */
export type Norms = {
  /** The smallest. */
  readonly minimum: number;
  /** The one in the middle. */
  readonly median: number;
  /** The largest. */
  readonly maximum: number;
};

/** The form in which vectors were stored. */
export type VectorFormat = "npy" | "npz" | "safetensors" | "csv" | "jsonl" | "parquet" | "arrow" | "given";

/** The type of the numbers that were stored; all become float32. */
export type VectorElement = "float16" | "bfloat16" | "float32" | "float64" | "text";

/** What a look at a source's names and lists found. */
export type Survey = {
  /** As [`super::DatasetSummary::kind`]. */
  readonly kind: string;
  /** The published data set that was recognised. */
  readonly name: string | null;
  /** One sentence for people: what was recognised and how much is in it. */
  readonly sentence: string;
  /** Whether the classes are labels: as the options say, else whether there are two of them. */
  readonly labels: Labels;
  /** Number of images. */
  readonly images: number;
  /** Number of classes; 0 without labels. */
  readonly classes: number;
  /** Images and classes of the source's own parts; empty where it has none. */
  readonly parts: ReadonlyArray<PartCount>;
  /** Whether a class occurs in more than one part. */
  readonly sharedClasses: boolean;
  /** Files and folders that cannot be read. */
  readonly broken: ReadonlyArray<BrokenImage>;
  /** What is missing, and other things a user should know. */
  readonly warnings: ReadonlyArray<string>;
};

/** One line of the result; the names are those of the peer's program. */
export type BenchReport = {
  /** The workload's name. */
  readonly workload: string;
  /** Median time of a step in milliseconds. */
  readonly step_ms: number;
  /** Shortest step in milliseconds. */
  readonly best_ms: number;
  /** How images lie in memory, in PyTorch's words: `channels_last`; `n/a` without a network. */
  readonly layout: string;
  /** CPU threads. */
  readonly threads: number;
  /** Steps measured. */
  readonly runs: number;
  /**
   * Highest memory of the process during the work, in MiB above that before it; none where the system does not say.
   * Right for the first workload of a process only.
   */
  readonly peak_mib: number | null;
  /**
   * Operations of a step's convolutions and linear layers by their definition, in GFLOP/s over the whole of the
   * median step; none without a network.
   */
  readonly gflops: number | null;
  /** [`peak_gflops`] of these threads. */
  readonly peak_gflops: number;
  /** `gflops / peak_gflops`; can exceed 1, since Winograd's convolution multiplies less than the definition. */
  readonly peak_share: number | null;
  /** Instruction set of the kernels. */
  readonly instruction_set: string;
  /** The cargo profile this is compiled in: see [`PROFILE`]. */
  readonly profile: string;
  /** Version of this library. */
  readonly rkd: string;
};

/** Where the time of a workload's step goes. */
export type ProfileReport = {
  /** The workload's name. */
  readonly workload: string;
  /** Median time of a step in milliseconds. */
  readonly step_ms: number;
  /** Median time of a step outside all records, in milliseconds. */
  readonly outside_ms: number;
  /** CPU threads. */
  readonly threads: number;
  /** Steps measured. */
  readonly runs: number;
  /** [`peak_gflops`] of these threads. */
  readonly peak_gflops: number;
  /** Instruction set of the kernels. */
  readonly instruction_set: string;
  /** The cargo profile this is compiled in: see [`PROFILE`]. */
  readonly profile: string;
  /** The records added up by what they are for, longest time first. */
  readonly categories: ReadonlyArray<CategoryTotal>;
  /** Every operation of every layer with its median time, longest first. */
  readonly records: ReadonlyArray<ProfileRecord>;
};

/** The records of one category. */
export type CategoryTotal = {
  /** The category. */
  readonly category: ProfileCategory;
  /** Number of calls. */
  readonly calls: number;
  /** Time in milliseconds. */
  readonly ms: number;
  /** Operations by definition. */
  readonly flops: number;
  /** Bytes read and written. */
  readonly bytes: number;
};

/** What was noted of one operation of one layer. Calls that agree in all names and the shape are added up. */
export type ProfileRecord = {
  /** The layer as its parameters name it, `layer2.0.conv1`; empty for an operation without parameters. */
  readonly layer: string;
  /** The method of [`Backend`], or what [`Profile::time`] was told. */
  readonly operation: string;
  /** What it is for. */
  readonly category: ProfileCategory;
  /** Shape of the operation's first tensor. */
  readonly shape: ReadonlyArray<number>;
  /** Number of calls. */
  readonly calls: number;
  /** Time in milliseconds. */
  readonly ms: number;
  /** Operations by definition; 0 where they are not counted. */
  readonly flops: number;
  /** Bytes of the tensors read and written, each once, at four a value. */
  readonly bytes: number;
};

/** What an operation is for. */
export type ProfileCategory = "forward" | "input-gradient" | "weight-gradient" | "batch-norm" | "layer-norm" | "attention" | "pooling" | "elementwise" | "loss" | "optimizer" | "data";

/**
 * What a session tells its caller. Every step has its event; where the norm of a gradient has to be fetched from another
 * device, steps have at most one every [`Control::STEP_INTERVAL`].
 */
export type Event = {
  readonly type: "decode";
  /** Images done so far. */
  readonly done: number;
  /** Images in all. */
  readonly total: number;
  /** Rate since the start of decoding. */
  readonly imagesPerSecond: number;
} | {
  readonly type: "teacherFeatures";
  /** Images done so far. */
  readonly done: number;
  /** Images in all. */
  readonly total: number;
} | {
  readonly type: "step"
} & StepEvent | {
  readonly type: "embed";
  /** Images done so far. */
  readonly done: number;
  /** Images in all. */
  readonly total: number;
} | {
  readonly type: "merge";
  /** Files of shards read so far: each is read twice, to check it and to copy it. */
  readonly done: number;
  /** Files to read, twice the shards. */
  readonly total: number;
} | {
  readonly type: "calibrate";
  /** Images done so far. */
  readonly done: number;
  /** Images in all. */
  readonly total: number;
} | {
  readonly type: "weights";
  /** Steps done. */
  readonly step: number;
  /** The terms that were balanced. */
  readonly weights: ReadonlyArray<ChosenWeight>;
} | {
  readonly type: "collapse"
} & CollapseEvent | {
  readonly type: "warning";
  /** A full sentence. */
  readonly message: string;
};

/** The state of training after a step. */
export type StepEvent = {
  /** Steps done, from 1. */
  readonly step: number;
  /** Steps of the whole run. */
  readonly totalSteps: number;
  /** Epoch this step belongs to, from 1. */
  readonly epoch: number;
  /** The weighted sum of all terms. */
  readonly loss: number;
  /** Each term, in the plan's order. */
  readonly terms: ReadonlyArray<TermValue>;
  /** Learning rate of this step. */
  readonly learningRate: number;
  /** Euclidean norm of the whole gradient before clipping. */
  readonly gradientNorm: number;
  /** Training images per second since the last step event. */
  readonly imagesPerSecond: number;
  /** Share of the time since the last step event that training waited for data, in `[0, 1]`. */
  readonly dataWaitShare: number;
  /** Share of that time in which it waited for other ranks, and for what they sent; 0 in one process. */
  readonly rankWaitShare: number;
};

/** The student's embeddings have run together. */
export type CollapseEvent = {
  /** Steps done, from 1. */
  readonly step: number;
  /** The root mean square distance of two embeddings of the step's batch. */
  readonly distance: number;
  /** The same in the first batch. */
  readonly start: number;
  /** What this means and what to try, in full sentences. */
  readonly message: string;
};

/** A weight that balancing has found. */
export type ChosenWeight = {
  /** The term, as in [`Term::name`]. */
  readonly name: string;
  /** Its weight from now on. */
  readonly weight: number;
};
