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
import { json } from "../native/json.ts";
import type { NativeSession } from "../native/session.ts";
import type { DistillOptions, ResumeOptions, TrainOptions } from "../options/run.ts";
import type * as protocol from "../protocol/protocol.ts";
import type { Job, Plan, PlanFile, ResolvedRun, TeacherPlan, VectorOptions } from "../protocol/protocol.ts";
import { version } from "../version.ts";
import { withoutSignal, withSession } from "./command.ts";
import { type Rows, rowsOf, withTeacherFiles, withTeachers } from "./embeddings.ts";
import type { RunEvent, TrainResult, WeightsEvent } from "./events.ts";
import { FolderLock } from "./folder-lock.ts";
import { type LoopStart, runLoop } from "./loop.ts";
import type { RunContext } from "./run.ts";

/** Runs a new job in the folder that its options name. */
export async function startJob(
  job: Job,
  options: TrainOptions | DistillOptions,
  context: RunContext,
): Promise<TrainResult> {
  const rows = rowsOf(options as Partial<DistillOptions> | undefined);
  return await withFolder(context, async (session, folder) => {
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
      const planFile = { form: 1, rkd: version, job, plan, policy, inputs: hashes, fingerprint } as const;
      await prepareFolder(out, overwrite, planFile, written);
      folder.openLog();
      for (const message of run.warnings) folder.context.emit({ type: "warning", message });
    };
    const start = { resume: null, resumes: false, onOpen, lock, ...baselineOf(run, context, folder) };
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
  if (rows.length === 0) return await resolve(options);
  const run = await withTeacherFiles(rows, undefined, (given) =>
    resolve(withTeachers(options as DistillOptions, given)),
  );
  let { teachers } = run.plan;
  for (const { place, files } of rows) {
    const given = teachers[place] as TeacherPlan;
    teachers = teachers.with(place, { ...given, model: join(run.out, files[0]) });
  }
  return { ...run, plan: { ...run.plan, teachers } };
}

/** Goes on with the run in `out`; one that was killed before its first checkpoint starts anew. */
export async function resumeJob(out: string, options: ResumeOptions, context: RunContext): Promise<TrainResult> {
  const place = resolve(out);
  const teacher = placesOf(requirePlanFile(place).plan, place, options?.teacher);
  const said = json({ ...withoutSignal(options), ...(teacher !== undefined && { teacher }) });
  return await withFolder(context, async (session, folder) => {
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
    const start = { resume, resumes: true, onOpen, lock, ...baselineOf(run, context, folder) };
    return await runLoop(run, start, session, folder.context);
  });
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
  return await withFolder(context, async (session, folder) => {
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

/** The plan as it is stored, with the places where data and teachers are now. */
function movedPlan(stored: Plan, { data: { source, more }, teachers }: Plan): Plan {
  const data = typeof stored.data === "object" ? { ...stored.data, source, more } : source; // a person may write the source alone
  return { ...stored, data: data as Plan["data"], teachers };
}

/** Runs `work` with a session and a folder that only this process may write to once it is held. */
async function withFolder<R>(
  context: RunContext,
  work: (session: NativeSession, folder: RunFolder) => Promise<R>,
): Promise<R> {
  const folder = new RunFolder(context);
  try {
    return await withSession(folder.context, (session) => work(session, folder));
  } finally {
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

  constructor(context: RunContext) {
    this.#outer = context;
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
    this.#outer.emit(event);
  }

  #attempt(record: () => void): void {
    try {
      record();
    } catch (error) {
      this.#trouble.abort(error);
    }
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
