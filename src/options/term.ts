/** What every term of the total loss has: its weight, and the features it reads. */

import { boolean, integer, invalid, number, object, or, text } from "./check.ts";

/**
 * Factor of a term in the sum: a number, a {@link WeightCourse}, or `"auto"`. Auto measures, in the first 20 steps, how
 * large each term's gradient is, and makes this one's as large as that of the first term whose weight is a number; the
 * outcome is an event and stands in `plan.json` as `chosenWeights`.
 */
export type Weight = number | WeightCourse | "auto";

/** A weight that changes once, in a straight line. Where it is 0 the term is not computed. */
export interface WeightCourse {
  /** The weight up to step `start`, at least 0. */
  readonly from: number;
  /** The weight from step `start + steps` on, at least 0. */
  readonly to: number;
  /** The first step, counted from 0, that may differ. @default 0 */
  readonly start?: number;
  /** Steps on the way; 0 is a jump. @default 0 */
  readonly steps?: number;
}

/** Options of every term. */
export interface TermOptions {
  /** Factor in the sum, at least 0; a term of weight 0 is not computed. @default 1 */
  readonly weight?: Weight;
  /**
   * The student's feature that the term reads: `"embedding"`, `"pooled"` (before the embedding layer), `"logits"`, or a
   * tap, the name of a map inside the network (`"blocks.3"` of Conv-4, `"layer3"` of a ResNet). A loss on rows takes a
   * map as one long row. @default the loss's own, said at each
   */
  readonly studentFeature?: string;
  /**
   * Whether the loss sees rows divided by their L2 norm, those of the teacher too, a map being one long row. The network's
   * output stays as it is: that is the backbone's `normalize`. @default false
   */
  readonly normalize?: boolean;
}

/** Options of the terms that compare with a teacher. */
export interface TeacherTermOptions extends TermOptions {
  /** The teacher's feature that the term reads. @default that of the student */
  readonly teacherFeature?: string;
}

/** The options of {@link TermOptions} and {@link TeacherTermOptions}, for the check of unknown ones. */
export const termOptions = ["weight", "studentFeature", "normalize"] as const;
export const teacherTermOptions = [...termOptions, "teacherFeature"] as const;

/** Checks what every term has; `name` is the constructor. */
export function term(name: string, options: TeacherTermOptions) {
  const { studentFeature, teacherFeature } = options;
  return {
    weight: checkWeight(`${name}.weight`, or(options.weight, 1)),
    normalize: boolean(`${name}.normalize`, or(options.normalize, false)),
    ...(studentFeature !== undefined && { studentFeature: text(`${name}.studentFeature`, studentFeature) }),
    ...(teacherFeature !== undefined && { teacherFeature: text(`${name}.teacherFeature`, teacherFeature) }),
  };
}

/** Checks a weight and fills in its defaults. */
export function checkWeight(name: string, weight: Weight): Weight {
  if (weight === "auto" || typeof weight === "number")
    return weight === "auto" ? weight : number(name, weight, { from: 0 });
  if (typeof weight !== "object" || weight === null) {
    throw invalid(name, 'a number, at least 0, a course { from, to, start, steps } or "auto"', weight);
  }
  const { from, to, start, steps } = object<WeightCourse>(name, weight, ["from", "to", "start", "steps"]);
  return {
    from: number(`${name}.from`, from, { from: 0 }),
    to: number(`${name}.to`, to, { from: 0 }),
    start: integer(`${name}.start`, or(start, 0), { from: 0 }),
    steps: integer(`${name}.steps`, or(steps, 0), { from: 0 }),
  };
}
