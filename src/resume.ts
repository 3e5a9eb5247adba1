/** `resume`: goes on with a run that was aborted or killed. */

import { integer, object, path } from "./options/check.ts";
import type { DistillResult, TrainResult } from "./run/events.ts";
import { type Run, startRun } from "./run/run.ts";
import { resumeJob } from "./run/start.ts";

/** What `resume` takes besides the folder: what cannot change the result. */
export interface ResumeOptions {
  /** CPU threads, 0 is all cores. @default those of the run */
  readonly threads?: number;
  /** Stops the run at the next step boundary, after a clean checkpoint; it rejects with `signal.reason`. */
  readonly signal?: AbortSignal;
}

/**
 * Goes on with the run in `out` from its last checkpoint, with its stored plan, and ends with the same bytes as a run
 * that was never stopped. A finished run is measured again and returns its result.
 * @throws {RkdError} by rejection: `ERR_NOT_FOUND`, `ERR_INVALID_ARTEFACT`, then whatever stops the run
 */
export function resume(out: string | URL, options: ResumeOptions = {}): Run<TrainResult | DistillResult> {
  return startRun((context) => {
    object<ResumeOptions>("options", options, ["threads", "signal"]);
    const { threads } = options;
    if (threads !== undefined) integer("threads", threads, { from: 0, to: 1024 });
    return resumeJob(path("out", out), threads, context);
  }, options?.signal);
}
