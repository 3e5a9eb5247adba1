/** Optimisers. All follow PyTorch's definitions and defaults of the same names, except the learning rate. */

import { boolean, invalid, number, object, or } from "./check.ts";

interface Common {
  /** Step size, greater than 0. @default 1e-3; {@link sgd} 0.05 */
  readonly learningRate?: number;
  /** L2 factor, at least 0. @default 0; {@link adamW} 0.01 */
  readonly weightDecay?: number;
}

/** Options of {@link adam} and {@link adamW}. */
export interface AdamOptions extends Common {
  /** Decay of the mean of gradients, in [0, 1). @default 0.9 */
  readonly beta1?: number;
  /** Decay of the mean of squares, in [0, 1). @default 0.999 */
  readonly beta2?: number;
  /** Added to the root, greater than 0. @default 1e-8 */
  readonly epsilon?: number;
}

/** Options of {@link sgd}. */
export interface SgdOptions extends Common {
  /** In [0, 1); 0 is plain gradient descent. @default 0.9 */
  readonly momentum?: number;
  /** Nesterov's form; needs a momentum. @default false */
  readonly nesterov?: boolean;
}

/** An optimiser with every constant filled in, as the plan holds it. */
export type Optimizer =
  | (Required<AdamOptions> & { readonly kind: "adam" | "adam-w" })
  | (Required<SgdOptions> & { readonly kind: "sgd" });

/** Adam with weight decay added to the gradient (Kingma, Ba 2015). @throws {RkdError} on a value out of range */
export function adam(options: AdamOptions = {}): Optimizer {
  return Object.freeze({ kind: "adam", ...adaptive("adam", options, 0) });
}

/** Adam with decoupled weight decay (Loshchilov, Hutter 2019). @throws {RkdError} on a value out of range */
export function adamW(options: AdamOptions = {}): Optimizer {
  return Object.freeze({ kind: "adam-w", ...adaptive("adamW", options, 0.01) });
}

/** Stochastic gradient descent with momentum. @throws {RkdError} on a value out of range */
export function sgd(options: SgdOptions = {}): Optimizer {
  object<SgdOptions>("sgd", options, ["learningRate", "weightDecay", "momentum", "nesterov"]);
  const momentum = number("sgd.momentum", or(options.momentum, 0.9), { from: 0, under: 1 });
  const nesterov = boolean("sgd.nesterov", or(options.nesterov, false));
  if (nesterov && momentum === 0) throw invalid("sgd.nesterov", "a momentum greater than 0 with nesterov", momentum);
  return Object.freeze({ kind: "sgd", ...common("sgd", options, 0.05, 0), momentum, nesterov });
}

function adaptive(name: string, options: AdamOptions, weightDecay: number): Required<AdamOptions> {
  object<AdamOptions>(name, options, ["learningRate", "weightDecay", "beta1", "beta2", "epsilon"]);
  return {
    ...common(name, options, 1e-3, weightDecay),
    beta1: number(`${name}.beta1`, or(options.beta1, 0.9), { from: 0, under: 1 }),
    beta2: number(`${name}.beta2`, or(options.beta2, 0.999), { from: 0, under: 1 }),
    epsilon: number(`${name}.epsilon`, or(options.epsilon, 1e-8), { over: 0 }),
  };
}

function common(name: string, options: Common, learningRate: number, weightDecay: number): Required<Common> {
  return {
    learningRate: number(`${name}.learningRate`, or(options.learningRate, learningRate), { over: 0 }),
    weightDecay: number(`${name}.weightDecay`, or(options.weightDecay, weightDecay), { from: 0 }),
  };
}
