/** Starts a planned job in its folder, new or from a checkpoint. */

import { existsSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { EventLog } from "../artefacts/event-log.ts";
import { checkFree, files, hashFile, prepareFolder, requirePlanFile, writeJson } from "../artefacts/run-folder.ts";
import { RkdError } from "../errors.ts";
import type { Job } from "../plan/build.ts";
import type { DataPlan, PlanFile } from "../plan/plan.ts";
import { version } from "../version.ts";
import type { RunEvent, TrainResult, WeightsEvent } from "./events.ts";
import { runLoop } from "./loop.ts";
import type { RunContext } from "./run.ts";

/** Runs a new job in `out`. */
export async function startJob(job: Job, out: string, overwrite: boolean, context: RunContext): Promise<TrainResult> {
  const folder = resolve(out);
  checkFree(folder, overwrite);
  const teacher = job.plan.teacher?.model;
  if (teacher && dirname(teacher) === folder) {
    const advice = "give the student a folder of its own";
    throw new RkdError("ERR_INVALID_OPTION", "the teacher lies in this folder", {
      subject: "out",
      received: out,
      advice,
    });
  }
  let log: EventLog | undefined;
  const emit = (event: RunEvent) => {
    log?.write(event);
    if (event.type === "weights") recordWeights(folder, event);
    context.emit(event);
  };
  // The folder is touched only once data and networks are known to be good.
  const onOpen = async () => {
    const sources = [teacher, job.plan.weights?.file, ...listsOf(job.plan.data)].filter((file) => file !== undefined);
    const inputs = Object.fromEntries(await Promise.all(sources.map(async (file) => [file, await hashFile(file)])));
    await prepareFolder(folder);
    const { job: kind, plan, policy } = job;
    writeJson(join(folder, files.plan), { form: 1, rkd: version, job: kind, plan, policy, inputs } satisfies PlanFile);
    log = new EventLog(join(folder, files.events));
  };
  try {
    return await runLoop(job, { out: folder, resume: null, onOpen }, { ...context, emit });
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
  const stored = requirePlanFile(folder);
  await checkInputs(stored);
  const checkpoint = join(folder, files.checkpoint);
  // The core takes the one before it where the last is damaged or missing.
  const stopped = [files.checkpoint, files.previousCheckpoint].some((name) => existsSync(join(folder, name)));
  const resume = stopped ? checkpoint : null;
  const log = new EventLog(join(folder, files.events));
  const emit = (event: RunEvent) => {
    log.write(event);
    if (event.type === "weights") recordWeights(folder, event);
    context.emit(event);
  };
  const { job, policy } = stored;
  const plan = threads === undefined ? stored.plan : { ...stored.plan, threads };
  try {
    const onOpen = async () => {};
    return await runLoop({ job, plan, policy, warnings: [] }, { out: folder, resume, onOpen }, { ...context, emit });
  } finally {
    log.close();
  }
}

/** Adds the weights that were found to the folder's plan. The next checkpoint comes later, so no kill can lose them. */
function recordWeights(folder: string, { weights }: WeightsEvent): void {
  const chosenWeights = Object.fromEntries(weights.map(({ name, weight }) => [name, weight]));
  writeJson(join(folder, files.plan), { ...requirePlanFile(folder), chosenWeights } satisfies PlanFile);
}

async function checkInputs({ inputs }: PlanFile): Promise<void> {
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
