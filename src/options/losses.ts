/** Losses: the terms of the total loss. Every constructor returns the specification that plans and `evaluateLoss` take. */

import { boolean, integer, invalid, number, object, oneOf, or } from "./check.ts";
import type { AttentionTransferLoss, FeatureLoss, HintLoss, SoftTargetKlLoss } from "./feature-losses.ts";
import { type TeacherTermOptions, type TermOptions, teacherTermOptions, term, termOptions } from "./term.ts";

/** One term of the total loss. */
export type Loss =
  | RelationalLoss
  | HardDarkRankLoss
  | SimilarityPreservingLoss
  | CorrelationCongruenceLoss
  | TripletLoss
  | ContrastiveLoss
  | LiftedStructureLoss
  | NPairsLoss
  | AngularLoss
  | MarginLoss
  | CrossEntropyLoss
  | PrototypicalLoss
  | FeatureLoss
  | HintLoss
  | AttentionTransferLoss
  | SoftTargetKlLoss;

/** The kinds of loss there are, as plans name them. */
export const lossKinds = [
  "rkd-distance",
  "rkd-angle",
  "hard-dark-rank",
  "similarity-preserving",
  "correlation-congruence",
  "triplet-squared",
  "triplet-euclidean",
  "contrastive",
  "lifted-structure",
  "n-pairs",
  "angular",
  "margin",
  "cross-entropy",
  "prototypical",
  "linear-hint",
  "hint",
  "attention-transfer",
  "soft-target-kl",
  "feature-regression",
] as const satisfies readonly Loss["kind"][];

/** The kinds that compare with a teacher. */
export const teacherKinds: readonly Loss["kind"][] = [
  "rkd-distance",
  "rkd-angle",
  "hard-dark-rank",
  "similarity-preserving",
  "correlation-congruence",
  "linear-hint",
  "hint",
  "attention-transfer",
  "soft-target-kl",
  "feature-regression",
];

/** The kinds that compare images of one class with each other and with those of other classes. */
export const classKinds: readonly Loss["kind"][] = [
  "triplet-squared",
  "triplet-euclidean",
  "contrastive",
  "lifted-structure",
  "n-pairs",
  "angular",
  "margin",
];

/** The kinds that see each image on its own: a batch needs no images of one class for them. */
export const imageKinds: readonly Loss["kind"][] = [
  "cross-entropy",
  "linear-hint",
  "hint",
  "attention-transfer",
  "soft-target-kl",
  "feature-regression",
];

/** The kinds whose published options assume embeddings of norm 1. */
export const unitKinds: readonly Loss["kind"][] = [
  "triplet-squared",
  "triplet-euclidean",
  "contrastive",
  "margin",
  "hard-dark-rank",
];

/** Options of {@link rkdDistance} and {@link rkdAngle}. */
export interface RelationalOptions extends TeacherTermOptions {
  /** Where the Huber loss turns from square to line, greater than 0. @default 1, the paper's */
  readonly delta?: number;
  /**
   * `"reference"`: mean over all n^2 or n^3 entries, as in the authors' code, whose published weights assume it.
   * `"distinct"`: mean over distinct tuples. @default "reference"
   */
  readonly reduction?: "reference" | "distinct";
}

/** A relational term, made by {@link rkdDistance} or {@link rkdAngle}. */
export interface RelationalLoss extends RelationalOptions {
  readonly kind: "rkd-distance" | "rkd-angle";
}

/** Options of {@link hardDarkRank}. */
export interface HardDarkRankOptions extends TeacherTermOptions {
  /** Factor of the scores, greater than 0. @default 3, the paper's */
  readonly alpha?: number;
  /** Power of the distance, greater than 0. @default 3, the paper's */
  readonly beta?: number;
  /** How many of the teacher's nearest items are ordered, at least 2. @default 4, the released code's */
  readonly permuteLength?: number;
}

/** A listwise term, made by {@link hardDarkRank}. */
export interface HardDarkRankLoss extends HardDarkRankOptions {
  readonly kind: "hard-dark-rank";
}

/** A similarity term, made by {@link similarityPreserving}. */
export interface SimilarityPreservingLoss extends TeacherTermOptions {
  readonly kind: "similarity-preserving";
}

/** How two images correlate. */
export type CorrelationKernel = "gaussian-rbf" | "bilinear";

/** Options of {@link correlationCongruence}. */
export interface CorrelationCongruenceOptions extends TeacherTermOptions {
  /**
   * `"gaussian-rbf"`: the Gaussian of rows of norm 1, expanded to `order`. `"bilinear"`: the inner product of the rows
   * as they are, which has neither `gamma` nor `order`. @default "gaussian-rbf", the paper's best
   */
  readonly kernel?: CorrelationKernel;
  /** Of the Gaussian: factor of the squared distance, above 0 and at most 100. @default 0.4, the paper's */
  readonly gamma?: number;
  /** Of the Gaussian: the highest power of its expansion, from 1 to 100. @default 2, the paper's */
  readonly order?: number;
}

/** A correlation term, made by {@link correlationCongruence}. */
export interface CorrelationCongruenceLoss extends CorrelationCongruenceOptions {
  readonly kind: "correlation-congruence";
}

/** How the negative of a triplet is chosen. */
export type Negatives = "all" | "random" | "hard" | "semi-hard" | "distance-weighted";
const negativeKinds: readonly Negatives[] = ["all", "random", "hard", "semi-hard", "distance-weighted"];

/** Options of the losses that choose negatives. */
export interface NegativesOptions extends TermOptions {
  /** How negatives are chosen. @default "distance-weighted" (Wu et al. 2017), as in the paper */
  readonly negatives?: Negatives;
  /**
   * With distance-weighted negatives: lets the weights underflow to uniform ones where a positive is near, as in the
   * authors' released code. For comparisons with it; wide embeddings train better without. @default false
   */
  readonly uniformWhenUnderflow?: boolean;
}

/** Options of {@link triplet} and {@link tripletEuclidean}. */
export interface TripletOptions extends NegativesOptions {
  /** Wanted gap between the negative's and the positive's (squared) distance, greater than 0. @default 0.2 */
  readonly margin?: number;
}

/** A triplet term, made by {@link triplet} (squared distances) or {@link tripletEuclidean} (plain ones). */
export interface TripletLoss extends TripletOptions {
  readonly kind: "triplet-squared" | "triplet-euclidean";
}

/** Options of {@link contrastive}. */
export interface ContrastiveOptions extends NegativesOptions {
  /** The distance at which a negative is far enough, greater than 0. @default 0.2, the released code's */
  readonly margin?: number;
}

/** A contrastive term, made by {@link contrastive}. */
export interface ContrastiveLoss extends ContrastiveOptions {
  readonly kind: "contrastive";
}

/** Options of {@link liftedStructure}. */
export interface LiftedStructureOptions extends TermOptions {
  /** The margin, greater than 0. @default 1, the paper's */
  readonly margin?: number;
}

/** A lifted-structure term, made by {@link liftedStructure}. */
export interface LiftedStructureLoss extends LiftedStructureOptions {
  readonly kind: "lifted-structure";
}

/** Options of {@link nPairs}. */
export interface NPairsOptions extends TermOptions {
  /** Weight of the mean squared norm of anchors and positives, at least 0. @default 0 */
  readonly l2?: number;
}

/** An N-pair term, made by {@link nPairs}. */
export interface NPairsLoss extends NPairsOptions {
  readonly kind: "n-pairs";
}

/** Options of {@link angular}. */
export interface AngularOptions extends TermOptions {
  /** Bound on the angle at the negative in degrees, between 0 and 90. @default 45 */
  readonly degrees?: number;
}

/** An angular term, made by {@link angular}. */
export interface AngularLoss extends AngularOptions {
  readonly kind: "angular";
}

/** Options of {@link margin}. */
export interface MarginOptions extends NegativesOptions {
  /** The boundary between near and far, greater than 0. @default 1.2, the paper's, for embeddings of norm 1 */
  readonly beta?: number;
  /** How far from the boundary pairs must stay, greater than 0. @default 0.2, the paper's */
  readonly alpha?: number;
  /** Whether the boundary is learned, from `beta` on. @default false */
  readonly learnBeta?: boolean;
}

/** A margin term, made by {@link margin}. */
export interface MarginLoss extends MarginOptions {
  readonly kind: "margin";
}

/** Options of {@link crossEntropy}. */
export interface CrossEntropyOptions extends TermOptions {
  /** Share of the target spread over all classes, in [0, 1). @default 0 */
  readonly labelSmoothing?: number;
}

/** A cross-entropy term, made by {@link crossEntropy}. */
export interface CrossEntropyLoss extends CrossEntropyOptions {
  readonly kind: "cross-entropy";
}

/** Options of {@link prototypical}. */
export interface PrototypicalOptions extends TermOptions {
  /** Support images of each class, at least 1. */
  readonly supportCount: number;
  /** Classes of an episode, at least 2. */
  readonly way: number;
}

/** A prototypical term, made by {@link prototypical}. */
export interface PrototypicalLoss extends PrototypicalOptions {
  readonly kind: "prototypical";
}

/**
 * RKD-D: keeps the teacher's pairwise distances, each side divided by its own mean (Park et al. 2019, equations 3-5).
 * @throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`
 */
export function rkdDistance(options: RelationalOptions = {}): RelationalLoss {
  return Object.freeze({ kind: "rkd-distance", ...relational("rkdDistance", options) });
}

/**
 * RKD-A: keeps the teacher's angles at every vertex of every triple (Park et al. 2019, equations 6 and 7).
 * @throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`
 */
export function rkdAngle(options: RelationalOptions = {}): RelationalLoss {
  return Object.freeze({ kind: "rkd-angle", ...relational("rkdAngle", options) });
}

/**
 * Hard DarkRank (Chen et al. 2018) as in the authors' released code: the likelihood that the student's scores
 * `-alpha * distance ** beta` give to the teacher's order of the nearest items. Meant for embeddings of norm 1.
 * @throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`
 */
export function hardDarkRank(options: HardDarkRankOptions = {}): HardDarkRankLoss {
  object<HardDarkRankOptions>("hardDarkRank", options, [...teacherTermOptions, "alpha", "beta", "permuteLength"]);
  return Object.freeze({
    kind: "hard-dark-rank",
    ...term("hardDarkRank", options),
    alpha: number("hardDarkRank.alpha", or(options.alpha, 3), { over: 0 }),
    beta: number("hardDarkRank.beta", or(options.beta, 3), { over: 0 }),
    permuteLength: integer("hardDarkRank.permuteLength", or(options.permuteLength, 4), { from: 2 }),
  });
}

/**
 * Similarity-preserving distillation (Tung and Mori 2019, equations 1-4): images alike to the teacher are alike to the
 * student. For the paper's maps name the last tap as `studentFeature`; beside cross entropy its weight is 3000.
 * @throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`
 */
export function similarityPreserving(options: TeacherTermOptions = {}): SimilarityPreservingLoss {
  object<TeacherTermOptions>("similarityPreserving", options, teacherTermOptions);
  return Object.freeze({ kind: "similarity-preserving", ...term("similarityPreserving", options) });
}

/**
 * Correlation congruence (Peng et al. 2019): the images of a batch correlate as they do for the teacher.
 * @throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`
 */
export function correlationCongruence(options: CorrelationCongruenceOptions = {}): CorrelationCongruenceLoss {
  const name = "correlationCongruence";
  object<CorrelationCongruenceOptions>(name, options, [...teacherTermOptions, "kernel", "gamma", "order"]);
  const kernel = oneOf(`${name}.kernel`, or(options.kernel, "gaussian-rbf"), ["gaussian-rbf", "bilinear"]);
  const gamma = number(`${name}.gamma`, or(options.gamma, 0.4), { over: 0, to: 100 });
  const order = integer(`${name}.order`, or(options.order, 2), { from: 1, to: 100 });
  return Object.freeze({ kind: "correlation-congruence", ...term(name, options), kernel, gamma, order });
}

/**
 * Triplet loss as in the paper: squared distances, margin 0.2, distance-weighted negatives.
 * @throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`
 */
export function triplet(options: TripletOptions = {}): TripletLoss {
  object<TripletOptions>("triplet", options, ["margin", ...sampled]);
  return Object.freeze({
    kind: "triplet-squared",
    ...withMargin("triplet", options),
    ...negatives("triplet", options),
  });
}

/**
 * Triplet loss as in the authors' released code: plain distances, margin 0.2, distance-weighted negatives.
 * @throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`
 */
export function tripletEuclidean(options: TripletOptions = {}): TripletLoss {
  const name = "tripletEuclidean";
  object<TripletOptions>(name, options, ["margin", ...sampled]);
  return Object.freeze({ kind: "triplet-euclidean", ...withMargin(name, options), ...negatives(name, options) });
}

/**
 * Contrastive loss (Hadsell et al. 2006) over the pairs of triplets, as in the authors' released code.
 * @throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`
 */
export function contrastive(options: ContrastiveOptions = {}): ContrastiveLoss {
  const name = "contrastive";
  object<ContrastiveOptions>(name, options, ["margin", ...sampled]);
  return Object.freeze({ kind: name, ...withMargin(name, options), ...negatives(name, options) });
}

/**
 * Lifted structure (Oh Song et al. 2016, equation 4): every positive pair against all negatives of both its ends.
 * @throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`
 */
export function liftedStructure(options: LiftedStructureOptions = {}): LiftedStructureLoss {
  object<LiftedStructureOptions>("liftedStructure", options, [...termOptions, "margin"]);
  return Object.freeze({ kind: "lifted-structure", ...withMargin("liftedStructure", options, 1) });
}

/**
 * Multi-class N-pair loss (Sohn 2016) on the first two rows of each class in the batch, the anchor and the positive.
 * Inner products want embeddings that are not normalised; batches of two images a class (`batch.perClass`) waste none.
 * @throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`
 */
export function nPairs(options: NPairsOptions = {}): NPairsLoss {
  object<NPairsOptions>("nPairs", options, [...termOptions, "l2"]);
  return Object.freeze({
    kind: "n-pairs",
    ...term("nPairs", options),
    l2: number("nPairs.l2", or(options.l2, 0), { from: 0 }),
  });
}

/**
 * Angular loss (Wang et al. 2017, equation 8) on the same pairs as {@link nPairs}, which the paper adds to it.
 * @throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`
 */
export function angular(options: AngularOptions = {}): AngularLoss {
  object<AngularOptions>("angular", options, [...termOptions, "degrees"]);
  return Object.freeze({
    kind: "angular",
    ...term("angular", options),
    degrees: number("angular.degrees", or(options.degrees, 45), { over: 0, under: 90 }),
  });
}

/**
 * Margin loss (Wu et al. 2017): positives nearer than `beta - alpha`, negatives farther than `beta + alpha`.
 * @throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`
 */
export function margin(options: MarginOptions = {}): MarginLoss {
  object<MarginOptions>("margin", options, ["beta", "alpha", "learnBeta", ...sampled]);
  return Object.freeze({
    kind: "margin",
    ...term("margin", options),
    beta: number("margin.beta", or(options.beta, 1.2), { over: 0 }),
    alpha: number("margin.alpha", or(options.alpha, 0.2), { over: 0 }),
    learnBeta: boolean("margin.learnBeta", or(options.learnBeta, false)),
    ...negatives("margin", options),
  });
}

/**
 * Cross entropy of a linear classifier on the embedding.
 * @throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`
 */
export function crossEntropy(options: CrossEntropyOptions = {}): CrossEntropyLoss {
  object<CrossEntropyOptions>("crossEntropy", options, [...termOptions, "labelSmoothing"]);
  return Object.freeze({
    kind: "cross-entropy",
    ...term("crossEntropy", options),
    labelSmoothing: number("crossEntropy.labelSmoothing", or(options.labelSmoothing, 0), { from: 0, under: 1 }),
  });
}

/**
 * Prototypical networks (Snell et al. 2017). The rows are an episode: first `supportCount` support rows of each class, class by
 * class, then as many queries of each class, class by class. A run makes such batches with `batch: { episode }`.
 * @throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`
 */
export function prototypical(options: PrototypicalOptions): PrototypicalLoss {
  object<PrototypicalOptions>("prototypical", options, [...termOptions, "supportCount", "way"]);
  return Object.freeze({
    kind: "prototypical",
    ...term("prototypical", options),
    supportCount: integer("prototypical.supportCount", options.supportCount, { from: 1 }),
    way: integer("prototypical.way", options.way, { from: 2 }),
  });
}

function relational(name: string, options: RelationalOptions) {
  object<RelationalOptions>(name, options, [...teacherTermOptions, "delta", "reduction"]);
  return {
    ...term(name, options),
    delta: number(`${name}.delta`, or(options.delta, 1), { over: 0 }),
    reduction: oneOf(`${name}.reduction`, or(options.reduction, "reference"), ["reference", "distinct"]),
  };
}

function withMargin(name: string, options: TermOptions & { readonly margin?: number }, usual = 0.2) {
  return { ...term(name, options), margin: number(`${name}.margin`, or(options.margin, usual), { over: 0 }) };
}

const sampled = [...termOptions, "negatives", "uniformWhenUnderflow"] as const;

function negatives(name: string, options: NegativesOptions) {
  const kind = oneOf(`${name}.negatives`, or(options.negatives, "distance-weighted"), negativeKinds);
  const uniform = boolean(`${name}.uniformWhenUnderflow`, or(options.uniformWhenUnderflow, false));
  if (uniform && kind !== "distance-weighted") {
    const advice = "only distance-weighted negatives have weights that underflow";
    throw invalid(`${name}.uniformWhenUnderflow`, `false with negatives "${kind}"`, uniform, advice);
  }
  return { negatives: kind, uniformWhenUnderflow: uniform };
}
