/** `evaluate`: how well a stored model retrieves classes it has never seen. */

import { RkdError } from "./errors.ts";
import { integer, invalid, object, oneOf, or } from "./options/check.ts";
import type { Data } from "./options/data.ts";
import type { EvaluateOptions, FewShot } from "./options/run.ts";
import { checkKs, checkThreads, planEpisode } from "./plan/build.ts";
import { planData, toData } from "./plan/data.ts";
import { findModel, type StoredModel } from "./plan/model.ts";
import type { DataPlan, FewShotPlan } from "./plan/plan.ts";
import { runCommand } from "./run/command.ts";
import type { Evaluation } from "./run/events.ts";
import { type Run, startRun } from "./run/run.ts";

/** What `evaluate` returns. */
export interface EvaluateResult extends Evaluation {
  /** Absolute path of the model. */
  readonly model: string;
  /** The classes that were used. */
  readonly part: "train" | "validation" | "test";
}

/**
 * Recall@K, kNN accuracy, MAP@R and R-precision of a stored model, exact, over one part of the data; top-K accuracy where
 * its classifier knows the classes; with `fewShot` also N-way K-shot accuracies with their 95 % intervals, with a teacher
 * how well its relations are kept.
 *
 * With the data a run was trained on, the split is the run's own, so `"test"` means classes the model has never seen.
 * @throws {RkdError} by rejection: bad options, `ERR_NOT_FOUND`, `ERR_INVALID_ARTEFACT`, bad data
 */
export function evaluate(options: EvaluateOptions): Run<EvaluateResult> {
  return startRun(async (context) => {
    object<EvaluateOptions>("options", options, [
      "model",
      "data",
      "part",
      "ks",
      "fewShot",
      "teacher",
      "threads",
      "seed",
      "signal",
    ]);
    const stored = findModel("model", options.model);
    const part = oneOf("part", or(options.part, "test"), ["train", "validation", "test"]);
    const ks = checkKs("ks", options.ks);
    const seed = integer("seed", or(options.seed, stored.run?.plan.seed ?? 1), { from: 0 });
    const data = dataOf(stored, options.data);
    const fewShot = planFewShot(options.fewShot);
    const teacher = options.teacher === undefined ? null : findModel("teacher", options.teacher).file;
    const plan = { model: stored.file, data, seed, part, ks, fewShot, teacher, threads: checkThreads(options.threads) };
    const evaluation = await runCommand("evaluateModel", { plan }, context);
    return { model: stored.file, part, ...evaluation };
  }, options?.signal);
}

function planFewShot(given: readonly FewShot[] | undefined): FewShotPlan[] {
  if (given === undefined) return [];
  if (!Array.isArray(given)) throw invalid("fewShot", "a list of episodes, for example [{ way: 5, shots: 1 }]", given);
  return given.map((one: FewShot, i) => {
    const name = `fewShot[${i}]`;
    const { way, shots, queries, episodes } = object<FewShot>(name, one, ["way", "shots", "queries", "episodes"]);
    const shape = planEpisode(name, { way, shots, queries: or(queries, 15) });
    return { ...shape, episodes: integer(`${name}.episodes`, or(episodes, 1000), { from: 2, to: 1_000_000 }) };
  });
}

/** The data of an evaluation or embedding: what the options leave open is the run's. */
export function dataOf(stored: StoredModel, given: Data | string | undefined): DataPlan {
  const own = stored.run?.plan.data;
  if (given === undefined) {
    if (own) return own;
    throw new RkdError("ERR_INVALID_OPTION", "this option is needed with a model outside a run's folder", {
      subject: "data",
    });
  }
  const data = toData(given);
  const plan = planData(data, stored.input);
  const same = own !== undefined && own.source === plan.source && data.split === undefined;
  return same ? { ...plan, split: own.split, rotations: data.rotations ?? own.rotations } : plan;
}
