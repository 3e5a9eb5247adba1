/** The plan of the weights a network begins with, and of what learns. */

import { resolve } from "node:path";
import { invalid, number, object, oneOf, or, text } from "../options/check.ts";
import type { TuningOptions, Weights } from "../options/weights.ts";
import { findModel } from "./model.ts";
import type { Plan, TuningPlan, WeightsPlan } from "./plan.ts";

/** The names of the options. */
export const tuningKeys = ["weights", "freeze", "learningRates", "batchNorm"] as const;

const weightsKeys = ["file", "key", "except", "normalization"] as const;

/** The part of the plan that belongs to `options`. */
export function planTuning(options: TuningOptions): Pick<Plan, "weights" | "tuning"> {
  const tuning: TuningPlan = {
    freeze: patterns("freeze", or(options.freeze, [])),
    learningRates: factors(or(options.learningRates, {})),
    batchNorm: oneOf("batchNorm", or(options.batchNorm, "batch"), ["batch", "running"]),
  };
  return { weights: options.weights === undefined ? null : planWeights(options.weights), tuning };
}

function planWeights(weights: string | Weights): WeightsPlan {
  const given = typeof weights === "string" ? { file: weights } : weights;
  const { file, key, except, normalization } = object<Weights>("weights", given, weightsKeys);
  return {
    file: resolve(findModel("weights", file).file),
    key: key === undefined ? null : text("weights.key", key),
    except: patterns("weights.except", or(except, [])),
    normalization: normalization === undefined ? null : planNormalization(normalization),
  };
}

function planNormalization(normalization: NonNullable<Weights["normalization"]>): WeightsPlan["normalization"] {
  const name = "weights.normalization";
  const { mean, std } = object<NonNullable<Weights["normalization"]>>(name, normalization, ["mean", "std"]);
  return { mean: numbers(`${name}.mean`, mean, {}), std: numbers(`${name}.std`, std, { over: 0 }) };
}

function numbers(name: string, values: unknown, range: { readonly over?: number }): readonly number[] {
  if (!Array.isArray(values)) throw invalid(name, "a list of one number a channel", values);
  return values.map((value, i) => number(`${name}[${i}]`, value, range));
}

function patterns(name: string, given: unknown): readonly string[] {
  if (!Array.isArray(given)) throw invalid(name, 'a list of patterns, for example ["layer1"]', given);
  return given.map((pattern, i) => text(`${name}[${i}]`, pattern));
}

function factors(given: unknown): Readonly<Record<string, number>> {
  if (typeof given !== "object" || given === null || Array.isArray(given)) {
    throw invalid("learningRates", "factors by pattern, for example { fc: 10 }", given);
  }
  const entries = Object.entries(given).map(([pattern, factor]) => {
    const name = `learningRates[${JSON.stringify(pattern)}]`;
    return [pattern, number(name, factor, { over: 0 })] as const;
  });
  return Object.fromEntries(entries);
}
