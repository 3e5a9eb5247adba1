/** Starts a planned job in its folder, new or from a checkpoint. */

import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { checkFolderApart } from "../artefacts/apart.ts";
import { EventLog } from "../artefacts/event-log.ts";
import { FolderLock } from "../artefacts/folder-lock.ts";
import {
  checkFree,
  files,
  hashFile,
  prepareFolder,
  requirePlanFile,
  tidyFolder,
  writeJson,
} from "../artefacts/run-folder.ts";
import { RkdError } from "../errors.ts";
import type { Job } from "../plan/build.ts";
import { listsOf } from "../plan/data.ts";
import type { PlanFile } from "../plan/plan.ts";
import { version } from "../version.ts";
import type { RunEvent, TrainResult, WeightsEvent } from "./events.ts";
import { runLoop } from "./loop.ts";
import type { RunContext } from "./run.ts";

/** Runs a new job in `out`. */
export async function startJob(job: Job, out: string, overwrite: boolean, context: RunContext): Promise<TrainResult> {
  const folder = resolve(out);
  const { data, teacher, weights } = job.plan;
  const inputs = [teacher?.model, weights?.file, ...listsOf(data)].filter((file) => file !== undefined);
  const check = () => {
    checkFree(folder, overwrite);
    checkFolderApart(folder, { data, files: inputs });
  };
  check();
  return await inFolder(folder, context, async (run) => {
    check(); // nobody can change it any more
    // The folder's content is touched only once data and networks are known to be good.
    const onOpen = async () => {
      const hashes = Object.fromEntries(await Promise.all(inputs.map(async (file) => [file, await hashFile(file)])));
      const { job: kind, plan, policy } = job;
      await prepareFolder(folder, overwrite, { form: 1, rkd: version, job: kind, plan, policy, inputs: hashes });
      run.openLog();
    };
    return await runLoop(job, { out: folder, resume: null, onOpen, lock: run.lock }, run.context);
  });
}

/** Goes on with the run in `out`; one that was killed before its first checkpoint starts anew. */
export async function resumeJob(out: string, threads: number | undefined, context: RunContext): Promise<TrainResult> {
  const folder = resolve(out);
  requirePlanFile(folder);
  return await inFolder(folder, context, async (run) => {
    const stored = requirePlanFile(folder);
    await checkInputs(stored);
    await tidyFolder(folder);
    const checkpoint = join(folder, files.checkpoint);
    const resume = existsSync(checkpoint) ? checkpoint : null;
    run.openLog();
    const { job, policy } = stored;
    const plan = threads === undefined ? stored.plan : { ...stored.plan, threads };
    const warnings = resume === null ? ["The run was stopped before its first checkpoint, so it starts anew."] : [];
    const onOpen = async () => {};
    return await runLoop({ job, plan, policy, warnings }, { out: folder, resume, onOpen, lock: run.lock }, run.context);
  });
}

/** What a job gets while it holds its folder. */
interface HeldFolder {
  readonly lock: FolderLock;
  /** Its events go to the log too; its signal stops the run as well where the folder can no longer be written. */
  readonly context: RunContext;
  /** Begins to write `events.jsonl`. */
  openLog(): void;
}

/** Milliseconds between two looks whether the folder is still there. */
const LOOK_INTERVAL = 1000;

/** Runs `work` while this process alone may write to `folder`. What goes wrong with an event's record stops the run. */
async function inFolder<R>(folder: string, context: RunContext, work: (held: HeldFolder) => Promise<R>): Promise<R> {
  const lock = new FolderLock(folder);
  const trouble = new AbortController();
  let log: EventLog | undefined;
  const attempt = (record: () => void) => {
    try {
      record();
    } catch (error) {
      trouble.abort(error);
    }
  };
  const emit = (event: RunEvent) => {
    attempt(() => {
      log?.write(event);
      if (event.type === "weights") recordWeights(folder, event);
    });
    context.emit(event);
  };
  const looking = setInterval(() => attempt(() => lock.check()), LOOK_INTERVAL);
  looking.unref();
  try {
    if (!lock.exclusive) {
      const message = `The file system of ${folder} has no locks: let no other process run in this folder.`;
      emit({ type: "warning", message });
    }
    const openLog = () => {
      log = new EventLog(join(folder, files.events));
    };
    const signal = AbortSignal.any([context.signal, trouble.signal]);
    return await work({ lock, context: { emit, signal }, openLog });
  } finally {
    clearInterval(looking);
    log?.close();
    lock.release();
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
