/** `resume`: goes on with a run that was aborted or killed. */

import type { DistillResult, TrainResult } from "./events.ts";
import { path } from "./options/check.ts";
import type { ResumeOptions } from "./options/run.ts";
import { pageWriter } from "./report/onlooker.ts";
import { type Run, startRun } from "./run/run.ts";
import { resumeJob } from "./run/start.ts";

/**
 * Goes on with the run in `out` from its last checkpoint, with its stored plan, and ends with the same bytes as a run
 * that was never stopped. A finished run is measured again and returns its result. Where data or teacher have been moved,
 * the options say where they are now. Data that are no longer those of the run are an error that says what has changed.
 * @throws {RkdError} by rejection: `ERR_NOT_FOUND`, `ERR_INVALID_ARTEFACT`, `ERR_INVALID_DATA`, then whatever stops the run
 */
export function resume(out: string | URL, options: ResumeOptions = {}): Run<TrainResult | DistillResult> {
  return startRun((context) => resumeJob(path("out", out), options, context, pageWriter), options?.signal);
}
