/** Learning-rate schedules, as a factor of the optimiser's rate. Lengths are in steps (batches). */

import { integer, invalid, number, object, or } from "./check.ts";

interface WarmUp {
  /** Steps over which the rate grows linearly from 0, at least 0. @default 0 */
  readonly warmupSteps?: number;
}

/** Options of {@link constant}. */
export type ConstantOptions = WarmUp;

/** Options of {@link cosine}. */
export interface CosineOptions extends WarmUp {
  /** The last factor, in [0, 1]. @default 0 */
  readonly minimum?: number;
}

/** Options of {@link step}. */
export interface StepOptions extends WarmUp {
  /** Steps, counted from 0 and rising, from which on the rate is multiplied once more. */
  readonly milestones: readonly number[];
  /** The factor at each milestone, in (0, 1]. @default 0.1 */
  readonly factor?: number;
}

/** A schedule with every constant filled in, as the plan holds it. */
export type Schedule =
  | (Required<ConstantOptions> & { readonly kind: "constant" })
  | (Required<CosineOptions> & { readonly kind: "cosine" })
  | (Required<StepOptions> & { readonly kind: "step" });

/** The same rate all along, after the warm-up. @throws {RkdError} on a value out of range */
export function constant(options: ConstantOptions = {}): Schedule {
  object<ConstantOptions>("constant", options, ["warmupSteps"]);
  return Object.freeze({ kind: "constant", ...warmUp("constant", options) });
}

/** Half a cosine from 1 to `minimum` over the whole run (Loshchilov, Hutter 2017). @throws {RkdError} on a value out of range */
export function cosine(options: CosineOptions = {}): Schedule {
  object<CosineOptions>("cosine", options, ["warmupSteps", "minimum"]);
  const minimum = number("cosine.minimum", or(options.minimum, 0), { from: 0, to: 1 });
  return Object.freeze({ kind: "cosine", ...warmUp("cosine", options), minimum });
}

/** Multiplied by `factor` at every milestone. @throws {RkdError} on a value out of range */
export function step(options: StepOptions): Schedule {
  object<StepOptions>("step", options, ["warmupSteps", "milestones", "factor"]);
  const { milestones } = options;
  if (!Array.isArray(milestones) || milestones.length === 0) {
    throw invalid("step.milestones", "a list of steps, for example [1000, 2000]", milestones);
  }
  milestones.forEach((milestone, i) => {
    integer(`step.milestones[${i}]`, milestone, { from: i === 0 ? 0 : milestones[i - 1] + 1 });
  });
  const factor = number("step.factor", or(options.factor, 0.1), { over: 0, to: 1 });
  return Object.freeze({ kind: "step", ...warmUp("step", options), milestones: [...milestones], factor });
}

function warmUp(name: string, { warmupSteps }: WarmUp): Required<WarmUp> {
  return { warmupSteps: integer(`${name}.warmupSteps`, or(warmupSteps, 0), { from: 0 }) };
}
