/** FitNet's two stages. */

import type { Loss } from "../protocol/protocol.ts";
import { integer, invalid, number, object, or } from "./check.ts";

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
