/** Starts a job in its folder, new or from a checkpoint. */

import { existsSync, rmSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import type { Json } from "#native";
import { checkFolderApart, listsOf } from "../artefacts/apart.ts";
import { writeEmbeddings } from "../artefacts/embeddings.ts";
import { EventLog } from "../artefacts/event-log.ts";
import {
  aside,
  checkFree,
  files,
  hasBaseline,
  hashFile,
  isRun,
  prepareFolder,
  requirePlanFile,
  rowsFiles,
  tidyFolder,
  writeJson,
} from "../artefacts/run-folder.ts";
import { RkdError } from "../errors.ts";
import type { RunEvent, StepEvent, TrainResult, WeightsEvent } from "../events.ts";
import { json } from "../native/json.ts";
import type { NativeSession } from "../native/session.ts";
import { boolean } from "../options/check.ts";
import type { RunEnding } from "../options/reporter.ts";
import type { DistillOptions, ResumeOptions, Shown, TrainOptions } from "../options/run.ts";
import type * as protocol from "../protocol/protocol.ts";
import type { Job, Plan, PlanFile, ResolvedRun, TeacherPlan, VectorOptions } from "../protocol/protocol.ts";
import { version } from "../version.ts";
import { isCancelled, withoutSignal, withSession } from "./command.ts";
import { type Rows, rowsOf, withTeacherFiles } from "./embeddings.ts";
import { FolderLock } from "./folder-lock.ts";
import { type LoopStart, type Onlooker, runLoop } from "./loop.ts";
import { onFirstRank } from "./ranks.ts";
import { Reporters } from "./reporter.ts";
import type { RunContext } from "./run.ts";

/** Runs a new job in the folder that its options name; `page` writes its report. */
export async function startJob(
  job: Job,
  given: TrainOptions | DistillOptions,
  context: RunContext,
  page: Onlooker,
): Promise<TrainResult> {
  const { options } = apart(given);
  const rows = rowsOf(options as Partial<DistillOptions> | undefined);
  // Rows come from their database once; what is made of them is the first process's to say.
  const own = rows.length > 0 ? null : json(withoutSignal(options));
  const started = { job, distributed: options?.distributed, options: own };
  return await onFirstRank(started, context, () => startAlone(job, given, context, page));
}

/** {@link startJob} in the process that leads. */
async function startAlone(
  job: Job,
  given: TrainOptions | DistillOptions,
  context: RunContext,
  page: Onlooker,
): Promise<TrainResult> {
  const { options, shown } = apart(given);
  const rows = rowsOf(options as Partial<DistillOptions> | undefined);
  return await withFolder(context, shown, async (session, folder) => {
    const run = await planJob(session, job, options, rows);
    const { out, overwrite, plan, policy } = run;
    const { data } = plan;
    const inputs = inputsOf(plan, rows);
    const check = () => {
      checkFree(out, overwrite);
      // The folder inside is ours where the run that is replaced had one.
      if (run.baseline) checkFree(join(out, files.baseline), overwrite && hasBaseline(out));
      checkFolderApart(out, { data, files: inputs });
      if (run.baseline || hasBaseline(out)) checkFolderApart(join(out, files.baseline), { data, files: inputs });
    };
    check();
    const lock = folder.hold(out);
    check(); // nobody can change it any more
    const written = rows.flatMap((teacher) => teacher.files);
    const beside = ({ files }: Rows) => files.map((name) => aside(join(out, name))) as [string, string];
    // The folder's content is touched only once data and networks are known to be good.
    const onOpen = async (fingerprint: string) => {
      const hashes: Record<string, string> = { ...(await hashesOf(inputs)) };
      for (const teacher of rows) hashes[join(out, teacher.files[0])] = await hashFile(beside(teacher)[0]);
      const unshown = shown.report ? {} : { report: false };
      const planFile = { form: 1, rkd: version, job, plan, policy, inputs: hashes, fingerprint, ...unshown } as const;
      await prepareFolder(out, overwrite, planFile, written);
      folder.openLog();
      for (const message of run.warnings) folder.context.emit({ type: "warning", message });
    };
    const onlooker = shown.report ? page : undefined;
    const start = { resume: null, resumes: false, onOpen, lock, onlooker, ...baselineOf(run, context, folder) };
    try {
      let { teachers } = plan;
      for (const teacher of rows) {
        const [model, ids] = beside(teacher);
        await writeEmbeddings(teacher.embeddings, model, ids, folder.context.signal, teacher.option);
        const given = teachers[teacher.place] as TeacherPlan;
        teachers = teachers.with(teacher.place, { ...given, model, vectors: { ...asWritten, ...given.vectors, ids } });
      }
      return await runLoop(run, { ...start, opens: { ...plan, teachers } }, session, folder.context);
    } finally {
      for (const name of written) rmSync(aside(join(out, name)), { force: true });
    }
  });
}

/** How a run is shown where nothing is said. */
const plain: Required<Shown> = { report: true, reporters: [] };

/** How a file of vectors is read that says all by itself. */
const asWritten: VectorOptions = { ids: null, idColumn: null, vectorColumn: null, allowMissing: false };

/** The plan of a new job. Of teachers that are given as rows it does not depend on what they are. */
async function planJob(
  session: NativeSession,
  job: Job,
  options: TrainOptions | DistillOptions,
  rows: readonly Rows[],
): Promise<ResolvedRun> {
  const resolve = (given: TrainOptions | DistillOptions) => {
    const said = json(withoutSignal(given)) as Json<protocol.RunOptions>;
    return session.call((core) => core.resolve(job, said));
  };
  const run = await withTeacherFiles(options, rows, undefined, resolve);
  let { teachers } = run.plan;
  for (const { place, files } of rows) {
    const given = teachers[place] as TeacherPlan;
    teachers = teachers.with(place, { ...given, model: join(run.out, files[0]) });
  }
  return { ...run, plan: { ...run.plan, teachers } };
}

/** Goes on with the run in `out`; one that was killed before its first checkpoint starts anew. */
export async function resumeJob(
  out: string,
  given: ResumeOptions,
  context: RunContext,
  page: Onlooker,
): Promise<TrainResult> {
  // The folder may be the first process's alone.
  const started = { job: "train", distributed: given?.distributed, options: null } as const;
  return await onFirstRank(started, context, () => resumeAlone(out, given, context, page));
}

/** {@link resumeJob} in the process that leads. */
async function resumeAlone(
  out: string,
  given: ResumeOptions,
  context: RunContext,
  page: Onlooker,
): Promise<TrainResult> {
  const place = resolve(out);
  const { plan, report } = requirePlanFile(place);
  const { options, shown } = apart(given, report);
  const teacher = placesOf(plan, place, options?.teacher);
  const said = json({ ...withoutSignal(options), ...(teacher !== undefined && { teacher }) });
  return await withFolder(context, shown, async (session, folder) => {
    const lock = folder.hold(place);
    const stored = requirePlanFile(place);
    const run = await session.call((core) =>
      core.resolveStored(stored.job, json(stored.plan), json(stored.policy), place, said),
    );
    const inputs = await checkInputs(inputsOf(run.plan), stored.inputs);
    await tidyFolder(place);
    const resume = checkpointIn(place);
    folder.openLog();
    const onOpen = async (fingerprint: string) => {
      const moved = movedPlan(stored.plan, run.plan);
      const changed = { ...requirePlanFile(place), plan: moved, inputs, fingerprint };
      if (json(changed) !== json(stored)) writeJson(join(place, files.plan), changed);
    };
    const onlooker = shown.report ? page : undefined;
    const further = run.plan.epochs > (stored.plan.epochs ?? 0);
    const start = { resume, resumes: true, further, onOpen, lock, onlooker, ...baselineOf(run, context, folder) };
    return await runLoop(run, start, session, folder.context);
  });
}

/** What the core does not read, apart from what it does; `usual` is whether a report is written where nothing is said. @throws {RkdError} */
function apart<T extends Shown>(given: T, usual = true): { readonly options: T; readonly shown: Required<Shown> } {
  if (typeof given !== "object" || given === null || Array.isArray(given)) return { options: given, shown: plain };
  const { report = usual, reporters = [], ...options } = given;
  return { options: options as T, shown: { report: boolean("report", report), reporters } };
}

/** Where teachers are: as said; and rows that the run has written down are in its folder, wherever that is now. */
function placesOf({ teachers = [] }: Plan, place: string, said: ResumeOptions["teacher"]): ResumeOptions["teacher"] {
  const here = (model: string) => join(place, basename(model));
  const isOwn = (model: string) => rowsFiles.some(([name]) => name === basename(model)) && existsSync(here(model));
  const written = teachers.filter(({ model }) => isOwn(model));
  const [first] = written;
  if (!first) return said;
  const own = Object.fromEntries(written.map(({ name, model }) => [name, here(model)]));
  if (said === undefined) return teachers.length === 1 ? here(first.model) : own;
  const byName = typeof said === "object" && !(said instanceof URL);
  return byName ? { ...own, ...said } : said;
}

/** The checkpoint to go on from. The core takes the one before it where the last is damaged or missing. */
function checkpointIn(place: string): string | null {
  const stopped = [files.checkpoint, files.previousCheckpoint].some((name) => existsSync(join(place, name)));
  return stopped ? join(place, files.checkpoint) : null;
}

/** How the baseline of `run` is trained, where it has one. */
function baselineOf(
  run: ResolvedRun,
  { emit }: RunContext,
  { context: { signal } }: RunFolder,
): Pick<LoopStart, "baseline"> {
  const { baseline: plan } = run;
  if (!plan) return {};
  const context: RunContext = { emit: (event) => emit({ type: "baseline", event }), signal };
  return { baseline: () => runBaseline(run, plan, context) };
}

/**
 * Trains the student of `run` by `plan`, without its teacher, in a folder of its own inside the run's, or goes on with it
 * there. It has the split of `run`, and is a run like any other but that it belongs to the one around it.
 */
async function runBaseline(run: ResolvedRun, plan: Plan, context: RunContext): Promise<TrainResult> {
  const out = join(run.out, files.baseline);
  const policy = { ...run.policy, baseline: false };
  const alone: ResolvedRun = { ...run, job: "train", out, plan, policy, baseline: null };
  // The run around it is what is shown.
  return await withFolder(context, { report: false, reporters: [] }, async (session, folder) => {
    const lock = folder.hold(out);
    const resumes = isRun(out);
    if (resumes) {
      await tidyFolder(out);
      folder.openLog();
    }
    const onOpen = async (fingerprint: string) => {
      if (resumes) return;
      const inputs = await hashesOf(inputsOf(plan));
      await prepareFolder(out, false, { form: 1, rkd: version, job: "train", plan, policy, inputs, fingerprint });
      folder.openLog();
    };
    const start = { resume: checkpointIn(out), resumes, onOpen, lock, record: join(run.out, files.data) };
    return await runLoop(alone, start, session, folder.context);
  });
}

/** The hash of each file. */
async function hashesOf(inputs: readonly string[]): Promise<PlanFile["inputs"]> {
  return Object.fromEntries(await Promise.all(inputs.map(async (file) => [file, await hashFile(file)] as const)));
}

/** What a run reads beside its images, all of whose bytes count; without `rows`, which it writes. */
function inputsOf({ data, teachers, weights }: Plan, rows: readonly Rows[] = []): string[] {
  const others = teachers.filter((_, place) => !rows.some((teacher) => teacher.place === place));
  const models = others.map(({ model }) => model);
  return [...models, ...(weights ? [weights.file] : []), ...listsOf(data)];
}

/** The plan as it is stored, with the places where data and teachers are now, and the epochs that it goes on for. */
function movedPlan(stored: Plan, { data: { source, more }, teachers, epochs }: Plan): Plan {
  const data = typeof stored.data === "object" ? { ...stored.data, source, more } : source; // a person may write the source alone
  return { ...stored, data: data as Plan["data"], teachers, epochs };
}

/** Runs `work` with a session and a folder that only this process may write to once it is held. */
async function withFolder<R>(
  context: RunContext,
  { reporters }: Shown,
  work: (session: NativeSession, folder: RunFolder) => Promise<R>,
): Promise<R> {
  const folder = new RunFolder(context, reporters);
  let how: RunEnding = "failed";
  try {
    const result = await withSession(folder.context, (session) => work(session, folder));
    how = "finished";
    return result;
  } catch (error) {
    const { aborted, reason } = context.signal;
    if (aborted && (error === reason || isCancelled(error))) how = "stopped";
    throw error;
  } finally {
    await folder.reporters.end(how);
    folder.release();
  }
}

/** Milliseconds between two looks whether the folder is still there. */
const LOOK_INTERVAL = 1000;

/** A job's folder: its lock, its log, and what goes wrong with an event's record, which stops the run. */
class RunFolder {
  /** Events go to the log too; the signal stops the run as well where the folder can no longer be written. */
  readonly context: RunContext;
  readonly #outer: RunContext;
  readonly #trouble = new AbortController();
  #path = "";
  #lock: FolderLock | undefined;
  #log: EventLog | undefined;
  /** Warnings from before there is a log: they go into it first. */
  readonly #early: RunEvent[] = [];
  /** Each is told once: the final evaluation looks at the same images again. */
  readonly #warned = new Set<string>();
  #looking: NodeJS.Timeout | undefined;
  readonly reporters: Reporters;
  readonly #steps: StepThinner;

  constructor(context: RunContext, reporters: unknown) {
    this.#outer = context;
    this.reporters = new Reporters(reporters, (message) => this.context.emit({ type: "warning", message }));
    this.#steps = new StepThinner((event) => this.#outer.emit(event));
    const signal = AbortSignal.any([context.signal, this.#trouble.signal]);
    this.context = { emit: (event) => this.#emit(event), signal };
  }

  /** Takes the lock of `folder`. @throws {RkdError} `ERR_OUTPUT_EXISTS` that says which process has it */
  hold(folder: string): FolderLock {
    const lock = new FolderLock(folder);
    this.#path = folder;
    this.#lock = lock;
    this.#looking = setInterval(() => this.#attempt(() => lock.check()), LOOK_INTERVAL);
    this.#looking.unref();
    if (!lock.exclusive) {
      const message = `The file system of ${folder} has no locks: let no other process run in this folder.`;
      this.context.emit({ type: "warning", message });
    }
    return lock;
  }

  /** Begins to write `events.jsonl`. */
  openLog(): void {
    const log = new EventLog(join(this.#path, files.events));
    for (const event of this.#early.splice(0)) log.write(event);
    this.#log = log;
  }

  release(): void {
    clearInterval(this.#looking);
    this.#log?.close();
    this.#lock?.release();
  }

  #emit(event: RunEvent): void {
    if (event.type === "warning") {
      if (this.#warned.has(event.message)) return;
      this.#warned.add(event.message);
      if (!this.#log) this.#early.push(event);
    }
    this.#attempt(() => {
      this.#log?.write(event);
      if (event.type === "weights") recordWeights(this.#path, event);
    });
    this.reporters.tell(event);
    this.#steps.pass(event);
  }

  #attempt(record: () => void): void {
    try {
      record();
    } catch (error) {
      this.#trouble.abort(error);
    }
  }
}

/** Shortest time between two step events for those who watch a run; its log and its reporters have every step. */
const STEP_INTERVAL_MS = 50;

/** Passes on the first step event of each interval, with the rates since the one before, and all other events. */
class StepThinner {
  readonly #emit: (event: RunEvent) => void;
  #last = Number.NEGATIVE_INFINITY;
  /** Of the steps since: seconds for an image of each, added up, and the parts of that which were waiting. */
  #since = { steps: 0, seconds: 0, waited: 0, waitedForRanks: 0 };
  #kept: StepEvent | undefined;

  constructor(emit: (event: RunEvent) => void) {
    this.#emit = emit;
  }

  pass(event: RunEvent): void {
    if (event.type !== "step") {
      this.#flush(); // the step before a decision is seen before it
      this.#emit(event);
      return;
    }
    const seconds = 1 / Math.max(event.imagesPerSecond, 1e-9);
    this.#since.steps += 1;
    this.#since.seconds += seconds;
    this.#since.waited += seconds * event.dataWaitShare;
    this.#since.waitedForRanks += seconds * event.rankWaitShare;
    this.#kept = event;
    if (performance.now() - this.#last >= STEP_INTERVAL_MS) this.#flush();
  }

  #flush(): void {
    const [event, { steps, seconds, waited, waitedForRanks }] = [this.#kept, this.#since];
    if (!event) return;
    this.#kept = undefined;
    this.#since = { steps: 0, seconds: 0, waited: 0, waitedForRanks: 0 };
    this.#last = performance.now();
    const shares = { dataWaitShare: waited / seconds, rankWaitShare: waitedForRanks / seconds };
    this.#emit({ ...event, imagesPerSecond: steps / seconds, ...shares });
  }
}

/** Adds the weights that were found to the folder's plan. The next checkpoint comes later, so no kill can lose them. */
function recordWeights(folder: string, { weights }: WeightsEvent): void {
  const chosenWeights = Object.fromEntries(weights.map(({ name, weight }) => [name, weight]));
  writeJson(join(folder, files.plan), { ...requirePlanFile(folder), chosenWeights } satisfies PlanFile);
}

/**
 * The hashes of the files that a run goes on with: those that it was started with, wherever they lie now.
 * @throws {RkdError} `ERR_NOT_FOUND`, and `ERR_INVALID_ARTEFACT` for a file that was none of them
 */
async function checkInputs(inputs: readonly string[], stored: PlanFile["inputs"]): Promise<PlanFile["inputs"]> {
  const found: Record<string, string> = {};
  for (const file of inputs) {
    const received = await hashFile(file);
    const before = stored[file] === undefined ? Object.values(stored) : [stored[file]];
    // A plan that a person wrote has no hashes.
    if (before.length > 0 && !before.includes(received)) {
      throw new RkdError("ERR_INVALID_ARTEFACT", "the file has changed since the run was started", {
        subject: file,
        expected: `SHA-256 ${before.map((hash) => `${hash.slice(0, 16)}...`).join(" or ")}`,
        received: `${received.slice(0, 16)}...`,
        advice: "put the old file back, or start the run anew",
      });
    }
    found[file] = received;
  }
  return found;
}
