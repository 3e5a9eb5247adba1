/** Optimisers. All follow PyTorch's definitions and defaults of the same names, except the learning rate. */

import type { Optimizer, OptimizerOptions } from "../protocol/protocol.ts";
import { checked, given } from "./construct.ts";

/** The constants of the optimiser `K`; what is left out has its default. */
export type ConstantsOf<K extends Optimizer["kind"]> = Partial<Omit<Extract<Optimizer, { readonly kind: K }>, "kind">>;

/** Adam with weight decay added to the gradient (Kingma, Ba 2015). @throws {RkdError} on a value out of range */
export function adam(options: ConstantsOf<"adam"> = {}): OptimizerOptions {
  return optimizer("adam", "adam", options);
}

/** Adam with decoupled weight decay (Loshchilov, Hutter 2019). @throws {RkdError} on a value out of range */
export function adamW(options: ConstantsOf<"adam-w"> = {}): OptimizerOptions {
  return optimizer("adam-w", "adamW", options);
}

/** Stochastic gradient descent with momentum. @throws {RkdError} on a value out of range */
export function sgd(options: ConstantsOf<"sgd"> = {}): OptimizerOptions {
  return optimizer("sgd", "sgd", options);
}

/** A rate that is not said is the run's to choose, which knows whether its weights are trained ones. */
function optimizer(
  kind: Optimizer["kind"],
  name: string,
  options: { readonly learningRate?: number },
): OptimizerOptions {
  const all = checked<Optimizer>("optimizer", name, given(name, options, { kind }));
  if (options.learningRate !== undefined) return all;
  const { learningRate: _, ...rest } = all;
  return Object.freeze(rest) as OptimizerOptions;
}
