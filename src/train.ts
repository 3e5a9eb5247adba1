/** `train`: a network from images and labels, for example a teacher. */

import type { TrainResult } from "./events.ts";
import type { TrainOptions } from "./options/run.ts";
import { pageWriter } from "./report/onlooker.ts";
import { type Run, startRun } from "./run/run.ts";
import { startJob } from "./run/start.ts";

/**
 * Trains a network and writes it, its scores and its plan to `options.out`.
 *
 * ```ts
 * const run = train({ data: glyphs(), backbone: conv4({ embedding: 64 }), epochs: 3, out: "runs/teacher" });
 * for await (const event of run) if (event.type === "step") console.log(event.step, event.loss);
 * const { metrics } = await run;
 * ```
 * @returns A {@link Run}: await it for the result, iterate it for the events.
 * @throws {RkdError} by rejection: bad options before anything is touched, then whatever stops the run
 */
export function train(options: TrainOptions): Run<TrainResult> {
  return startRun((context) => startJob("train", options, context, pageWriter), options?.signal);
}
