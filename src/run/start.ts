/** Starts a job in its folder, new or from a checkpoint. */

import { existsSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { EventLog } from "../artefacts/event-log.ts";
import { checkFree, files, hashFile, prepareFolder, requirePlanFile, writeJson } from "../artefacts/run-folder.ts";
import { RkdError } from "../errors.ts";
import { json } from "../native/json.ts";
import type { DistillOptions, TrainOptions } from "../options/run.ts";
import type { DataPlan, JobKind, PlanFile } from "../protocol/protocol.ts";
import { version } from "../version.ts";
import { withoutSignal, withSession } from "./command.ts";
import type { RunEvent, TrainResult, WeightsEvent } from "./events.ts";
import { runLoop } from "./loop.ts";
import type { RunContext } from "./run.ts";

/** Runs a new job in the folder that its options name. */
export async function startJob(
  job: JobKind,
  options: TrainOptions | DistillOptions,
  context: RunContext,
): Promise<TrainResult> {
  let log: EventLog | undefined;
  let folder = "";
  const emit = (event: RunEvent) => {
    log?.write(event);
    if (event.type === "weights") recordWeights(folder, event);
    context.emit(event);
  };
  try {
    return await withSession({ ...context, emit }, async (session) => {
      const said = json(withoutSignal(options));
      const run = await session.call((core) => core.resolve(job, said));
      folder = run.out;
      checkFree(folder, run.overwrite);
      const teacher = run.plan.teacher?.model;
      if (teacher && dirname(teacher) === folder) {
        const advice = "give the student a folder of its own";
        const received = options.out;
        throw new RkdError("ERR_INVALID_OPTION", "the teacher lies in this folder", {
          subject: "out",
          received,
          advice,
        });
      }
      // The folder is touched only once data and networks are known to be good.
      const onOpen = async () => {
        const { plan, policy } = run;
        const sources = [teacher, plan.weights?.file, ...listsOf(plan.data)].filter((file) => file !== undefined);
        const inputs = Object.fromEntries(await Promise.all(sources.map(async (file) => [file, await hashFile(file)])));
        await prepareFolder(folder);
        writeJson(join(folder, files.plan), { form: 1, rkd: version, job, plan, policy, inputs } satisfies PlanFile);
        log = new EventLog(join(folder, files.events));
      };
      return await runLoop(run, { resume: null, onOpen }, session, { ...context, emit });
    });
  } finally {
    log?.close();
  }
}

/** The lists of classes that a split was made from. */
function listsOf({ split }: DataPlan): string[] {
  return split.kind === "lists" ? [split.train, split.validation, split.test].filter((file) => file !== null) : [];
}

/** Goes on with the run in `out`; one that was killed before its first checkpoint starts anew. */
export async function resumeJob(out: string, threads: number | undefined, context: RunContext): Promise<TrainResult> {
  const folder = resolve(out);
  const { job, plan, policy, inputs } = requirePlanFile(folder);
  await checkInputs(inputs);
  const checkpoint = join(folder, files.checkpoint);
  const resume = existsSync(checkpoint) ? checkpoint : null;
  const log = new EventLog(join(folder, files.events));
  const emit = (event: RunEvent) => {
    log.write(event);
    if (event.type === "weights") recordWeights(folder, event);
    context.emit(event);
  };
  try {
    return await withSession({ ...context, emit }, async (session) => {
      const run = await session.call((core) => core.resolveStored(job, json(plan), json(policy), folder, threads));
      return await runLoop(run, { resume, onOpen: async () => {} }, session, { ...context, emit });
    });
  } finally {
    log.close();
  }
}

/** Adds the weights that were found to the folder's plan. The next checkpoint comes later, so no kill can lose them. */
function recordWeights(folder: string, { weights }: WeightsEvent): void {
  const chosenWeights = Object.fromEntries(weights.map(({ name, weight }) => [name, weight]));
  writeJson(join(folder, files.plan), { ...requirePlanFile(folder), chosenWeights } satisfies PlanFile);
}

async function checkInputs(inputs: PlanFile["inputs"]): Promise<void> {
  for (const [file, expected] of Object.entries(inputs)) {
    const received = await hashFile(file);
    if (received === expected) continue;
    throw new RkdError("ERR_INVALID_ARTEFACT", "the file has changed since the run was started", {
      subject: file,
      expected: `SHA-256 ${expected.slice(0, 16)}...`,
      received: `${received.slice(0, 16)}...`,
      advice: "put the old file back, or start the run anew",
    });
  }
}
