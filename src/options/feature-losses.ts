/** The losses that compare a student's features with a teacher's, image by image; and FitNet's two stages. */

import { boolean, integer, invalid, number, object, or } from "./check.ts";
import type { Loss } from "./losses.ts";
import { type TeacherTermOptions, teacherTermOptions, term } from "./term.ts";

/** Options of {@link linearHint} and {@link featureRegression}: what every term has. */
export type FeatureOptions = TeacherTermOptions;

/** A term on features, made by {@link linearHint} or {@link featureRegression}. */
export interface FeatureLoss extends FeatureOptions {
  readonly kind: "linear-hint" | "feature-regression";
}

/** Options of {@link hint}. */
export interface HintOptions extends TeacherTermOptions {
  /** Whether the regressor stays random, as in the code that Park et al. released. @default false: it is learned */
  readonly frozen?: boolean;
}

/** A hint term, made by {@link hint}. */
export interface HintLoss extends HintOptions {
  readonly kind: "hint";
}

/** Options of {@link attentionTransfer}: what every term has, and a tap must be named. */
export interface AttentionTransferOptions extends TeacherTermOptions {
  /** The student's tap: `"blocks.3"` of Conv-4, `"layer3"` of a ResNet. */
  readonly studentFeature: string;
}

/** An attention term, made by {@link attentionTransfer}. */
export interface AttentionTransferLoss extends AttentionTransferOptions {
  readonly kind: "attention-transfer";
}

/** Options of {@link softTargetKl}. */
export interface SoftTargetKlOptions extends TeacherTermOptions {
  /** What logits are divided by, greater than 0. @default 4, that of the experiments of Park et al. */
  readonly temperature?: number;
}

/** A soft-target term, made by {@link softTargetKl}. */
export interface SoftTargetKlLoss extends SoftTargetKlOptions {
  readonly kind: "soft-target-kl";
}

/**
 * Conventional distillation: the squared distance of the teacher's feature from a learned linear map of the student's,
 * mean over images. Reads the embedding.
 * @throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`
 */
export function linearHint(options: FeatureOptions = {}): FeatureLoss {
  object<FeatureOptions>("linearHint", options, teacherTermOptions);
  return Object.freeze({ kind: "linear-hint", ...term("linearHint", options) });
}

/**
 * FitNet's hint (Romero et al. 2015): mean squared error of the teacher's map from the student's through a learned 1x1
 * convolution. Reads the embedding; name taps for maps. Maps of different sizes are averaged to the smaller.
 * @throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`
 */
export function hint(options: HintOptions = {}): HintLoss {
  object<HintOptions>("hint", options, [...teacherTermOptions, "frozen"]);
  const frozen = boolean("hint.frozen", or(options.frozen, false));
  return Object.freeze({ kind: "hint", ...term("hint", options), frozen });
}

/**
 * Attention transfer (Zagoruyko, Komodakis 2017) between two taps, as in the code of Park et al., whose weight is 50.
 * Maps of different sizes are averaged to the smaller.
 * @throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`
 */
export function attentionTransfer(options: AttentionTransferOptions): AttentionTransferLoss {
  object<AttentionTransferOptions>("attentionTransfer", options, teacherTermOptions);
  const { studentFeature } = options;
  if (studentFeature === undefined) {
    throw invalid("attentionTransfer.studentFeature", 'a tap, for example "blocks.3" or "layer3"', studentFeature);
  }
  return Object.freeze({ kind: "attention-transfer", ...term("attentionTransfer", options), studentFeature });
}

/**
 * Soft targets (Hinton et al. 2015): T^2 times the Kullback-Leibler divergence of the student's class probabilities from
 * the teacher's, at temperature T. Reads the logits; the teacher must have been trained with cross entropy on the same
 * classes. The factor T^2 is inside: the weight 16 of Park et al. at T = 4 is weight 1 here.
 * @throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`
 */
export function softTargetKl(options: SoftTargetKlOptions = {}): SoftTargetKlLoss {
  object<SoftTargetKlOptions>("softTargetKl", options, [...teacherTermOptions, "temperature"]);
  const temperature = number("softTargetKl.temperature", or(options.temperature, 4), { over: 0 });
  return Object.freeze({ kind: "soft-target-kl", ...term("softTargetKl", options), temperature });
}

/**
 * Regression of the teacher's feature where the student's has the same shape: the squared distance, mean over images.
 * Reads the embedding.
 * @throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`
 */
export function featureRegression(options: FeatureOptions = {}): FeatureLoss {
  object<FeatureOptions>("featureRegression", options, teacherTermOptions);
  return Object.freeze({ kind: "feature-regression", ...term("featureRegression", options) });
}

/** Options of {@link twoStages}. */
export interface TwoStagesOptions {
  /** The terms of the first stage, with numbers as weights. */
  readonly hints: readonly Loss[];
  /** The terms of the second stage, with numbers as weights. */
  readonly task: readonly Loss[];
  /** Steps of the first stage, at least 1. */
  readonly hintSteps: number;
}

/**
 * FitNet's recipe in one run: only the hints for `hintSteps` steps, then only the task.
 *
 * ```ts
 * losses: twoStages({ hints: [hint({ studentFeature: "layer3" })], task: [triplet()], hintSteps: 4000 })
 * ```
 * @throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`
 */
export function twoStages(options: TwoStagesOptions): Loss[] {
  object<TwoStagesOptions>("twoStages", options, ["hints", "task", "hintSteps"]);
  const start = integer("twoStages.hintSteps", options.hintSteps, { from: 1 });
  const stage = (name: "hints" | "task", first: boolean) => {
    const losses = options[name];
    if (!Array.isArray(losses) || losses.length === 0) throw invalid(`twoStages.${name}`, "at least one loss", losses);
    return losses.map((loss: Loss, i): Loss => {
      const weight = number(`twoStages.${name}[${i}].weight`, or(loss?.weight, 1), { over: 0 });
      const [from, to] = first ? [weight, 0] : [0, weight];
      return Object.freeze({ ...loss, weight: { from, to, start, steps: 0 } });
    });
  };
  return [...stage("hints", true), ...stage("task", false)];
}
