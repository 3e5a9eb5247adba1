/** The constructor of every kind of loss, and the check of specifications that are written by hand. */

import { invalid, oneOf } from "./check.ts";
import { attentionTransfer, featureRegression, hint, linearHint, softTargetKl } from "./feature-losses.ts";
import {
  angular,
  contrastive,
  correlationCongruence,
  crossEntropy,
  hardDarkRank,
  type Loss,
  liftedStructure,
  lossKinds,
  margin,
  nPairs,
  prototypical,
  rkdAngle,
  rkdDistance,
  similarityPreserving,
  triplet,
  tripletEuclidean,
} from "./losses.ts";

/** By kind, in the order of {@link lossKinds}; each checks the options it is given. */
export const lossConstructors: Readonly<Record<Loss["kind"], (options: never) => Loss>> = {
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

/**
 * Refuses a specification that its constructor would refuse. It stays as it was written: a bare one has defaults of its own.
 * `name` is what errors call it; `known` are options that the caller answers for.
 * @throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`
 */
export function checkLoss(name: string, loss: Loss, known: { readonly studentFeature?: string } = {}): Loss {
  if (typeof loss !== "object" || loss === null) throw invalid(name, "a loss, for example triplet()", loss);
  const { kind, ...options } = loss;
  lossConstructors[oneOf(`${name}.kind`, kind, lossKinds)]({ ...known, ...options } as never);
  return loss;
}
