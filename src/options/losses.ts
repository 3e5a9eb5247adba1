/** Losses: the terms of the total loss. Every constructor returns the specification that plans and `evaluateLoss` take. */

import { number, object, oneOf, or } from "./check.ts";
import type { AttentionTransferLoss, FeatureLoss, HintLoss, SoftTargetKlLoss } from "./feature-losses.ts";
import { type TeacherTermOptions, type TermOptions, teacherTermOptions, term, termOptions } from "./term.ts";

/** One term of the total loss. */
export type Loss =
  | RelationalLoss
  | TripletLoss
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
  "triplet-squared",
  "triplet-euclidean",
  "cross-entropy",
  "prototypical",
  "linear-hint",
  "hint",
  "attention-transfer",
  "soft-target-kl",
  "feature-regression",
] as const satisfies readonly Loss["kind"][];

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

/** How the negative of a triplet is chosen. */
export type Negatives = "all" | "random" | "hard" | "semi-hard" | "distance-weighted";
const negativeKinds: readonly Negatives[] = ["all", "random", "hard", "semi-hard", "distance-weighted"];

/** Options of {@link triplet}. */
export interface TripletOptions extends TermOptions {
  /** Wanted gap between the negative's and the positive's squared distance, at least 0. @default 0.2 */
  readonly margin?: number;
  /** How negatives are chosen. @default "distance-weighted" (Wu et al. 2017), as in the paper */
  readonly negatives?: Negatives;
}

/** A triplet term, made by {@link triplet}. `triplet-euclidean` takes plain instead of squared distances. */
export interface TripletLoss extends TripletOptions {
  readonly kind: "triplet-squared" | "triplet-euclidean";
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

/** Prototypical networks (Snell et al. 2017), for `evaluateLoss`: rows are `way` classes' supports, then queries. */
export interface PrototypicalLoss extends TermOptions {
  readonly kind: "prototypical";
  /** Support images of each class, at least 1. */
  readonly supportCount: number;
  /** Classes of an episode, at least 2. */
  readonly way: number;
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
 * Triplet loss as in the paper's experiments: squared distances, margin 0.2, distance-weighted negatives.
 * @throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`
 */
export function triplet(options: TripletOptions = {}): TripletLoss {
  object<TripletOptions>("triplet", options, [...termOptions, "margin", "negatives"]);
  return Object.freeze({
    kind: "triplet-squared",
    ...term("triplet", options),
    margin: number("triplet.margin", or(options.margin, 0.2), { from: 0 }),
    negatives: oneOf("triplet.negatives", or(options.negatives, "distance-weighted"), negativeKinds),
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

function relational(name: string, options: RelationalOptions) {
  object<RelationalOptions>(name, options, [...teacherTermOptions, "delta", "reduction"]);
  return {
    ...term(name, options),
    delta: number(`${name}.delta`, or(options.delta, 1), { over: 0 }),
    reduction: oneOf(`${name}.reduction`, or(options.reduction, "reference"), ["reference", "distinct"]),
  };
}
