/** Optimisers. All follow PyTorch's definitions and defaults of the same names, except the learning rate. */

import type { Optimizer } from "../protocol/protocol.ts";
import { checked, given } from "./construct.ts";

/** The constants of the optimiser `K`; what is left out has its default. */
export type ConstantsOf<K extends Optimizer["kind"]> = Partial<Omit<Extract<Optimizer, { readonly kind: K }>, "kind">>;

/** Adam with weight decay added to the gradient (Kingma, Ba 2015). @throws {RkdError} on a value out of range */
export function adam(options: ConstantsOf<"adam"> = {}): Optimizer {
  return checked("optimizer", "adam", given("adam", options, { kind: "adam" }));
}

/** Adam with decoupled weight decay (Loshchilov, Hutter 2019). @throws {RkdError} on a value out of range */
export function adamW(options: ConstantsOf<"adam-w"> = {}): Optimizer {
  return checked("optimizer", "adamW", given("adamW", options, { kind: "adam-w" }));
}

/** Stochastic gradient descent with momentum. @throws {RkdError} on a value out of range */
export function sgd(options: ConstantsOf<"sgd"> = {}): Optimizer {
  return checked("optimizer", "sgd", given("sgd", options, { kind: "sgd" }));
}
