/** `evaluate`: how well a stored model retrieves classes it has never seen. */

import type { Json } from "#native";
import { json } from "./native/json.ts";
import type { EvaluateOptions } from "./options/run.ts";
import type * as protocol from "./protocol/protocol.ts";
import type { Evaluation, Part } from "./protocol/protocol.ts";
import { withoutSignal, withSession } from "./run/command.ts";
import { rowsOf, withTeacherFiles } from "./run/embeddings.ts";
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
 * its classifier knows the classes; with `fewShot` also N-way K-shot accuracies with their 95 % intervals, with teachers
 * how well the relations of each are kept.
 *
 * With the data a run was trained on, the split is the run's own, so `"test"` means classes the model has never seen.
 * @throws {RkdError} by rejection: bad options, `ERR_NOT_FOUND`, `ERR_INVALID_ARTEFACT`, bad data
 */
export function evaluate(options: EvaluateOptions): Run<EvaluateResult> {
  return startRun((context) => {
    const rows = rowsOf(options);
    const measure = (given: EvaluateOptions) => {
      const said = json(withoutSignal(given)) as Json<protocol.EvaluateOptions>;
      return withSession(context, (session) => session.call((core) => core.evaluateModel(said)));
    };
    return withTeacherFiles(options, rows, context.signal, measure);
  }, options?.signal);
}
