// Made from the Rust types by `npm run protocol`. Do not edit: a test fails where this is stale.

/** The constructors of the losses. Each returns the specification that plans and `evaluateLoss` take. */

import type { LossOptions } from "../protocol/protocol.ts";
import { type LossConstructor, lossConstructor } from "./construct.ts";

/**
 * RKD-D: keeps the teacher's pairwise distances, each side divided by its own mean (Park et al. 2019, equations 3-5).
 * @throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`
 */
export const rkdDistance: LossConstructor<"rkd-distance"> = lossConstructor("rkd-distance", "rkdDistance");

/**
 * RKD-A: keeps the teacher's angles at every vertex of every triple (Park et al. 2019, equations 6 and 7).
 * @throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`
 */
export const rkdAngle: LossConstructor<"rkd-angle"> = lossConstructor("rkd-angle", "rkdAngle");

/**
 * Hard DarkRank (Chen et al. 2018) as in the authors' released code: the likelihood that the student's scores
 * `-alpha * distance ** beta` give to the teacher's order of the nearest items. Meant for embeddings of norm 1.
 * @throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`
 */
export const hardDarkRank: LossConstructor<"hard-dark-rank"> = lossConstructor("hard-dark-rank", "hardDarkRank");

/**
 * Similarity-preserving distillation (Tung, Mori 2019): keeps the teacher's matrix of inner products of items, every row
 * of it divided by its norm. Reads the embedding.
 * @throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`
 */
export const similarityPreserving: LossConstructor<"similarity-preserving"> = lossConstructor("similarity-preserving", "similarityPreserving");

/**
 * Correlation congruence (Peng et al. 2019): keeps the teacher's matrix of a kernel between items. Reads the embedding.
 * @throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`
 */
export const correlationCongruence: LossConstructor<"correlation-congruence"> = lossConstructor("correlation-congruence", "correlationCongruence");

/**
 * Triplet loss as in the paper: squared distances, margin 0.2, distance-weighted negatives.
 * @throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`
 */
export const triplet: LossConstructor<"triplet-squared"> = lossConstructor("triplet-squared", "triplet");

/**
 * Triplet loss as in the authors' released code: plain distances, margin 0.2, distance-weighted negatives.
 * @throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`
 */
export const tripletEuclidean: LossConstructor<"triplet-euclidean"> = lossConstructor("triplet-euclidean", "tripletEuclidean");

/**
 * Contrastive loss (Hadsell et al. 2006) over the pairs of triplets, as in the authors' released code.
 * @throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`
 */
export const contrastive: LossConstructor<"contrastive"> = lossConstructor("contrastive", "contrastive");

/**
 * Lifted structure (Oh Song et al. 2016, equation 4): every positive pair against all negatives of both its ends.
 * @throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`
 */
export const liftedStructure: LossConstructor<"lifted-structure"> = lossConstructor("lifted-structure", "liftedStructure");

/**
 * Multi-class N-pair loss (Sohn 2016) on the first two rows of each class in the batch, the anchor and the positive.
 * Inner products want embeddings that are not normalised; batches of two images a class (`batch.perClass`) waste none.
 * @throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`
 */
export const nPairs: LossConstructor<"n-pairs"> = lossConstructor("n-pairs", "nPairs");

/**
 * Angular loss (Wang et al. 2017, equation 8) on the same pairs as {@link nPairs}, which the paper adds to it.
 * @throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`
 */
export const angular: LossConstructor<"angular"> = lossConstructor("angular", "angular");

/**
 * Margin loss (Wu et al. 2017): positives nearer than `beta - alpha`, negatives farther than `beta + alpha`.
 * @throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`
 */
export const margin: LossConstructor<"margin"> = lossConstructor("margin", "margin");

/**
 * Cross entropy of a linear classifier on the embedding. Reads the logits.
 * @throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`
 */
export const crossEntropy: LossConstructor<"cross-entropy"> = lossConstructor("cross-entropy", "crossEntropy");

/**
 * Prototypical networks (Snell et al. 2017). The rows are an episode: first `supportCount` support rows of each class,
 * class by class, then as many queries of each class, class by class. A run makes such batches with `batch: { episode }`.
 * @throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`
 */
export const prototypical: LossConstructor<"prototypical"> = lossConstructor("prototypical", "prototypical");

/**
 * Conventional distillation: the squared distance of the teacher's feature from a learned linear map of the student's,
 * mean over images. Reads the embedding.
 * @throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`
 */
export const linearHint: LossConstructor<"linear-hint"> = lossConstructor("linear-hint", "linearHint");

/**
 * FitNet's hint (Romero et al. 2015): mean squared error of the teacher's map from the student's through a learned 1x1
 * convolution. Reads the embedding; name taps for maps. Maps of different sizes are averaged to the smaller.
 * @throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`
 */
export const hint: LossConstructor<"hint"> = lossConstructor("hint", "hint");

/**
 * Attention transfer (Zagoruyko, Komodakis 2017) between two taps, as in the code of Park et al., whose weight is 50.
 * Maps of different sizes are averaged to the smaller.
 * @throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`
 */
export const attentionTransfer: LossConstructor<"attention-transfer"> = lossConstructor("attention-transfer", "attentionTransfer");

/**
 * Soft targets (Hinton et al. 2015): T^2 times the Kullback-Leibler divergence of the student's class probabilities from
 * the teacher's, at temperature T. Reads the logits; the teacher must have been trained with cross entropy on the same
 * classes. The factor T^2 is inside: the weight 16 of Park et al. at T = 4 is weight 1 here.
 * @throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`
 */
export const softTargetKl: LossConstructor<"soft-target-kl"> = lossConstructor("soft-target-kl", "softTargetKl");

/**
 * Regression of the teacher's feature where the student's has the same shape: the squared distance, mean over images.
 * Reads the embedding.
 * @throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`
 */
export const featureRegression: LossConstructor<"feature-regression"> = lossConstructor("feature-regression", "featureRegression");

/** By kind, in the order of the registry. */
export const lossConstructors: { readonly [K in keyof LossOptions]: LossConstructor<K> } = {
  "rkd-distance": rkdDistance,
  "rkd-angle": rkdAngle,
  "hard-dark-rank": hardDarkRank,
  "similarity-preserving": similarityPreserving,
  "correlation-congruence": correlationCongruence,
  "triplet-squared": triplet,
  "triplet-euclidean": tripletEuclidean,
  contrastive,
  "lifted-structure": liftedStructure,
  "n-pairs": nPairs,
  angular,
  margin,
  "cross-entropy": crossEntropy,
  prototypical,
  "linear-hint": linearHint,
  hint,
  "attention-transfer": attentionTransfer,
  "soft-target-kl": softTargetKl,
  "feature-regression": featureRegression,
};
