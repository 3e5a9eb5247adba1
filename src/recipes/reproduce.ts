/** `reproduce`: one experiment of the paper, at a scale, on the user's data. */

import type { ExperimentEvent } from "../experiment/events.ts";
import { experiment } from "../experiment/experiment.ts";
import type { ExperimentResult } from "../experiment/result.ts";
import { type Run, startRun } from "../run/run.ts";
import { planReproduce, type ReproduceOptions } from "./plan.ts";

/**
 * Repeats one experiment of the paper (Park et al. 2019) and writes its tables beside the paper's.
 * @param name One of {@link recipeNames}.
 * @throws {RkdError} by rejection, as {@link experiment}
 */
export function reproduce(name: string, options: ReproduceOptions = {}): Run<ExperimentResult, ExperimentEvent> {
  return startRun<ExperimentResult, ExperimentEvent>(async ({ emit, signal }) => {
    const run = experiment({ ...(await planReproduce(name, options, signal)), signal });
    for await (const event of run) emit(event);
    return await run;
  }, options?.signal);
}
