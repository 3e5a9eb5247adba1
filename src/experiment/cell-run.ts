/** Brings one run of the experiment to its end: read if it is finished, gone on with if it was stopped, else started. */

import { createReadStream, existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { makeFolder } from "../artefacts/make-folder.ts";
import { files, readPlanFile, removeAbandoned, withErrors, writeJson } from "../artefacts/run-folder.ts";
import { distill } from "../distill.ts";
import { RkdError } from "../errors.ts";
import { evaluate } from "../evaluate.ts";
import type { Metrics, RunEvent, StartEvent, TrainResult } from "../events.ts";
import type { DistillOptions, TrainOptions } from "../options/run.ts";
import type { Evaluation, PlanFile } from "../protocol/protocol.ts";
import { resume } from "../resume.ts";
import { FolderLock } from "../run/folder-lock.ts";
import type { Run } from "../run/run.ts";
import { train } from "../train.ts";
import { version } from "../version.ts";
import type { PlannedRun } from "./matrix.ts";
import type { Measure } from "./options.ts";

/** The content of `result.json` in a cell's folder: written whole, when everything about the cell is known. */
export interface CellResult {
  readonly form: 1;
  /** The version of rkd that finished it. */
  readonly rkd: string;
  /** When it was finished, ISO 8601. */
  readonly date: string;
  /** Wall-clock time with evaluations; nothing where the run was stopped in between. */
  readonly wallSeconds: number | null;
  /** What the run found when it started; nothing where it never got there. */
  readonly start: Omit<StartEvent, "type" | "out" | "resumed" | "step"> | null;
  /** What the run returned; nothing where it diverged. */
  readonly run: TrainResult | null;
  /** What the run of the same student without a teacher returned, where there is one; read from its own folder. */
  readonly baseline?: TrainResult;
  /** Why there is no result: a loss, gradient or parameter stopped being finite. */
  readonly failed: string | null;
  readonly measures: Readonly<Record<string, MeasureResult>>;
}

/** What a measure found. */
interface MeasureResult {
  /** The measure as JSON. */
  readonly what: string;
  readonly metrics: Metrics;
  readonly intervals: Metrics;
  /** Of the last weights, where the run kept them beside the chosen ones; not there in results of older versions. */
  readonly last?: Metrics | null;
}

/** What a run gets from the experiment. */
export interface CellRunContext {
  readonly threads: number;
  readonly signal: AbortSignal;
  /** Sees the run's events. */
  readonly watch: (event: RunEvent) => void;
}

const RESULT = "result.json";

/** The result of a run with all its measures, or nothing where there is still something to do. */
export function finishedResult({ folder, measures }: PlannedRun): CellResult | undefined {
  const result = readResult(folder);
  if (!result) return undefined;
  const lacks = [...measures].some(([name, measure]) => !answers(result.measures[name], measure));
  return lacks && !result.failed ? undefined : result;
}

/** Does what is left of a run. @throws {RkdError}, or the signal's reason */
export async function runCell(planned: PlannedRun, context: CellRunContext): Promise<CellResult> {
  const { folder, measures } = planned;
  const begun = performance.now();
  const whole = !existsSync(join(folder, files.plan));
  const before = readResult(folder);
  const outcome = before ?? (await outcomeOf(planned, context));
  const done: Record<string, CellResult["measures"][string]> = { ...before?.measures };
  for (const [name, measure] of outcome.run ? measures : []) {
    if (!answers(done[name], measure)) done[name] = await measureBoth(planned, outcome.run, measure, context);
  }
  const result: Omit<CellResult, "baseline"> = {
    form: 1,
    rkd: version,
    date: new Date().toISOString(),
    wallSeconds: whole ? (performance.now() - begun) / 1000 : (before?.wallSeconds ?? null),
    start: before?.start ?? (await startOf(folder)),
    run: outcome.run,
    failed: outcome.failed,
    measures: done,
  };
  makeFolder(folder);
  await removeAbandoned(folder, [RESULT]);
  writeJson(join(folder, RESULT), result);
  return withBaseline(folder, result);
}

/** The stored plan of a run. */
export function planOf({ folder }: PlannedRun): PlanFile | undefined {
  return readPlanFile(folder);
}

type Outcome = Pick<CellResult, "run" | "failed">;

async function outcomeOf(planned: PlannedRun, context: CellRunContext): Promise<Outcome> {
  const broken = planned.after.find(({ folder }) => readResult(folder)?.failed);
  if (broken) return { run: null, failed: `the run it builds on diverged: ${broken.folder}` };
  try {
    return { run: await trained(planned, context), failed: null };
  } catch (error) {
    if (error instanceof RkdError && error.code === "ERR_NON_FINITE") return { run: null, failed: error.message };
    throw error;
  }
}

async function trained({ folder, cell, seed }: PlannedRun, context: CellRunContext): Promise<TrainResult> {
  const metrics = join(folder, files.metrics);
  if (existsSync(metrics)) {
    await tidied(folder);
    return readJson<TrainResult>(metrics);
  }
  const { threads, signal } = context;
  if (existsSync(join(folder, files.plan)))
    return await watched(resume(folder, { threads, signal, report: false }), context);
  // The experiment has a page of its own, about all of them.
  const managed = { out: folder, seed, threads, signal, report: false };
  return await watched(start(cell, managed), context);
}

/** A run that was killed after its last file has left its lock, and no start of it follows that would take it away. */
async function tidied(folder: string): Promise<void> {
  const lock = new FolderLock(folder);
  try {
    await removeAbandoned(folder);
  } finally {
    lock.release();
  }
}

/** Starts the run that a cell describes. */
export function start(
  cell: PlannedRun["cell"],
  managed: Pick<TrainOptions, "out" | "overwrite" | "seed" | "threads" | "signal" | "report">,
): Run<TrainResult> {
  if (cell.train) return train({ ...cell.train, ...managed } satisfies TrainOptions);
  return distill({ ...cell.distill, ...managed } satisfies DistillOptions);
}

/** Whether a stored result is that of `measure`, and whole. */
function answers(result: MeasureResult | undefined, measure: Measure): boolean {
  return result?.what === JSON.stringify(measure) && result.last !== undefined;
}

/** Measures the chosen weights, and the last ones. */
async function measureBoth(
  { folder, seed, cell }: PlannedRun,
  run: TrainResult | null,
  measure: Measure,
  context: CellRunContext,
): Promise<MeasureResult> {
  const { threads, signal } = context;
  const { data } = cell.train ?? cell.distill;
  const of = (model: string): Promise<Evaluation> =>
    watched(evaluate({ data, ...measure, model, seed, threads, signal }), context);
  const { metrics, intervals = {} } = await of(folder);
  const file = join(folder, files.last);
  // Where the best weights are the last ones there is one file, and one score.
  const last = run?.last ? (existsSync(file) ? (await of(file)).metrics : metrics) : null;
  return { what: JSON.stringify(measure), metrics, intervals, last };
}

async function watched<R>(run: Run<R>, { watch }: CellRunContext): Promise<R> {
  for await (const event of run) watch(event);
  return await run;
}

/** The first `start` among the events of the run. */
async function startOf(folder: string): Promise<CellResult["start"]> {
  const file = join(folder, files.events);
  if (!existsSync(file)) return null;
  for await (const line of createInterface(createReadStream(file))) {
    if (!line.includes('"type":"start"')) continue;
    const { type: _, out: __, resumed: ___, step: ____, ...facts } = JSON.parse(line) as StartEvent;
    return facts;
  }
  return null;
}

function readResult(folder: string): CellResult | undefined {
  const file = join(folder, RESULT);
  return existsSync(file) ? withBaseline(folder, readJson<CellResult>(file)) : undefined;
}

function withBaseline(folder: string, result: CellResult): CellResult {
  const metrics = join(folder, files.baseline, files.metrics);
  return existsSync(metrics) ? { ...result, baseline: readJson<TrainResult>(metrics) } : result;
}

function readJson<T>(file: string): T {
  try {
    return JSON.parse(withErrors(file, () => readFileSync(file, "utf8"))) as T;
  } catch (cause) {
    if (cause instanceof RkdError) throw cause;
    const advice = "remove this file, and the cell is finished anew";
    throw new RkdError("ERR_INVALID_ARTEFACT", "not a JSON file", { subject: file, advice, cause });
  }
}
