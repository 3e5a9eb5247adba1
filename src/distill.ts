/** `distill`: a small network that keeps a teacher's relations. */

import type { DistillResult } from "./events.ts";
import type { DistillOptions } from "./options/run.ts";
import { pageWriter } from "./report/onlooker.ts";
import { type Run, startRun } from "./run/run.ts";
import { startJob } from "./run/start.ts";

/**
 * Trains a student whose embedding space keeps the teacher's distances and angles (Park et al. 2019), and says how much
 * of the teacher survived, and what is wrong where something is (`findings`).
 *
 * ```ts
 * const { verdict, findings } = await distill({ teacher: "runs/teacher", data: imageFolder("photos"), out: "runs/student" });
 * ```
 * What is left out follows from the images: the student from their size, the losses from whether they have labels, the
 * epochs from how many there are.
 * @returns A {@link Run}: await it for the result with its verdict, iterate it for the events.
 * @throws {RkdError} by rejection: bad options before anything is touched, then whatever stops the run
 */
export function distill(options: DistillOptions): Run<DistillResult> {
  return startRun(
    async (context) => (await startJob("distill", options, context, pageWriter)) as DistillResult,
    options?.signal,
  );
}
