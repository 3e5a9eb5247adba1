/** `evaluate`: how well a stored model retrieves classes it has never seen. */

import { json } from "./native/json.ts";
import type { EvaluateOptions } from "./options/run.ts";
import type { Evaluation, Part } from "./protocol/protocol.ts";
import { withoutSignal, withSession } from "./run/command.ts";
import { type Run, startRun } from "./run/run.ts";

/** What `evaluate` returns. */
export interface EvaluateResult extends Evaluation {
  /** Absolute path of the model. */
  readonly model: string;
  /** The classes that were used. */
  readonly part: Part;
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
  return startRun((context) => {
    const said = json(withoutSignal(options));
    return withSession(context, (session) => session.call((core) => core.evaluateModel(said)));
  }, options?.signal);
}
