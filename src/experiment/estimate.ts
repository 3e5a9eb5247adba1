/**
 * How long an experiment will take.
 *
 * Runs are of one *kind* where they have the same data, networks, batch and number of steps; the terms of the loss cost
 * little beside the networks and are not told apart. The time of a kind is, in this order: the mean of its finished runs;
 * what a trial of a few steps says, times what trials have been wrong by so far; the mean of all finished runs.
 */

import { existsSync, lstatSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { files, isRun, withErrors } from "../artefacts/run-folder.ts";
import type { RunEvent, StartEvent } from "../events.ts";
import type { Backbone } from "../protocol/protocol.ts";
import { start } from "./cell-run.ts";
import type { PlannedRun } from "./matrix.ts";

/** Steps of a trial. */
const TRIAL_STEPS = 4;

/** What is known about the time of runs. */
export class Clock {
  readonly #trials: ReadonlyMap<string, number>;
  readonly #finished = new Map<string, number[]>();

  /** @param trials Estimated seconds by kind. */
  constructor(trials: ReadonlyMap<string, number>) {
    this.#trials = trials;
  }

  /** A run of this kind took so long, from start to end. */
  add(kind: string, seconds: number): void {
    this.#finished.set(kind, [...(this.#finished.get(kind) ?? []), seconds]);
  }

  /** Seconds of all `kinds` together; nothing where there is nothing to go by. */
  seconds(kinds: readonly string[]): number | null {
    const each = kinds.map((kind) => this.#of(kind));
    return each.reduce<number | null>((sum, part) => (sum === null || part === null ? null : sum + part), 0);
  }

  #of(kind: string): number | null {
    const finished = this.#finished.get(kind);
    if (finished) return mean(finished);
    const trial = this.#trials.get(kind);
    if (trial !== undefined) return trial * this.#correction();
    const all = [...this.#finished.values()].flat();
    return all.length > 0 ? mean(all) : null;
  }

  /** Finished time over estimated time, of the kinds that have both. */
  #correction(): number {
    const both = [...this.#finished].filter(([kind]) => this.#trials.has(kind));
    const estimated = both.reduce((sum, [kind, times]) => sum + times.length * (this.#trials.get(kind) ?? 0), 0);
    const real = both.reduce((sum, [, times]) => sum + times.reduce((a, b) => a + b, 0), 0);
    return estimated > 0 ? real / estimated : 1;
  }
}

/** The kind of a run, see the head of this file. */
export function kindOf(run: PlannedRun): string {
  const { epochs, stepsPerEpoch, batch, evaluation, teacherFeatures } = { teacherFeatures: null, ...optionsOf(run) };
  return JSON.stringify([networksOf(run), { epochs, stepsPerEpoch, batch, evaluation, teacherFeatures }]);
}

/** Where trials run. */
interface TrialContext {
  readonly threads: number;
  readonly signal: AbortSignal;
  /** Told before each trial. */
  readonly watch: (run: PlannedRun) => void;
}

/** What a trial measured. */
interface Trial {
  /** The folder of its run. */
  readonly folder: string;
  readonly secondsPerStep: number;
  /** Of an evaluation after an epoch, and of all those that come once. */
  readonly secondsPerEvaluation: number;
  readonly secondsOnce: number;
  /** Batches that show as many images as the training part has. */
  readonly stepsOfAll: number;
}

/**
 * Says how long each kind among `runs` will take, from a trial of a few steps for every pair of networks, data and batch.
 * Teachers that are not trained yet are taken from their own trials. Leaves nothing behind but the cache of decoded images.
 */
export async function tryKinds(
  runs: readonly PlannedRun[],
  out: string,
  context: TrialContext,
): Promise<ReadonlyMap<string, number>> {
  const folder = withErrors(out, () => mkdtempSync(join(out, "trials-")));
  const trials = new Map<string, Trial>();
  const attempt = async (run: PlannedRun): Promise<Trial> => {
    const key = stepOf(run);
    const known = trials.get(key);
    if (known) return known;
    const stand = new Map<string, string>();
    for (const each of run.after) {
      const trained = existsSync(join(each.folder, files.model));
      stand.set(each.folder, trained ? each.folder : (await attempt(each)).folder);
    }
    context.watch(run);
    const trial = await trySteps(run, join(folder, String(trials.size)), stand, context);
    trials.set(key, trial);
    return trial;
  };
  try {
    const seconds = new Map<string, number>();
    for (const run of runs) seconds.set(kindOf(run), extrapolate(run, await attempt(run)));
    return seconds;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Removes the trials of a killed experiment in `out`: folders of runs and of nothing else. */
export function removeAbandonedTrials(out: string): void {
  for (const name of readdirSync(out).filter((each) => /^trials-\w{6}$/.test(each))) {
    const folder = join(out, name);
    if (!lstatSync(folder).isDirectory()) continue;
    const runs = readdirSync(folder).map((each) => join(folder, each));
    if (runs.every(isRun)) rmSync(folder, { recursive: true });
  }
}

/** What decides the time of a step and of an evaluation. */
function stepOf(run: PlannedRun): string {
  const { batch, teacherFeatures } = { teacherFeatures: null, ...optionsOf(run) };
  return JSON.stringify([networksOf(run), batch, teacherFeatures]);
}

/** The data and the networks of a run and of those it builds on. */
function networksOf(run: PlannedRun): string {
  const { data, backbone, student } = { backbone: undefined, student: undefined, ...optionsOf(run) };
  const { source, imageSize, channels } = typeof data === "string" || data instanceof URL ? { source: data } : data;
  const { embedding: _, normalize: __, ...network }: Partial<Backbone> = backbone ?? student ?? {};
  return JSON.stringify([source, imageSize, channels, network, run.after.map(networksOf)]);
}

function optionsOf({ cell }: PlannedRun) {
  return cell.train ?? cell.distill;
}

/** Runs a few steps in `folder`. `stand` has a folder for each one that the run names. */
async function trySteps(
  run: PlannedRun,
  folder: string,
  stand: ReadonlyMap<string, string>,
  { threads, signal }: TrialContext,
): Promise<Trial> {
  const short = { ...optionsOf(run), epochs: 1, stepsPerEpoch: TRIAL_STEPS };
  const options = JSON.parse(JSON.stringify(short), (_, part) =>
    typeof part === "string" ? (stand.get(part) ?? part) : part,
  );
  const cell = (run.cell.train ? { train: options } : { distill: options }) as PlannedRun["cell"];
  let opened: StartEvent | undefined;
  let last = performance.now();
  const evaluations = { epoch: 0, once: 0 };
  const going = start(cell, { out: folder, overwrite: true, seed: run.seed, threads, signal });
  for await (const event of going as AsyncIterable<RunEvent>) {
    const now = performance.now();
    if (event.type === "start") opened = event;
    if (event.type === "evaluation") evaluations[event.who === "student" ? "epoch" : "once"] += (now - last) / 1000;
    if (event.type !== "data") last = now;
  }
  const { seconds, steps } = await going;
  return {
    folder,
    secondsPerStep: seconds / steps,
    secondsPerEvaluation: evaluations.epoch,
    secondsOnce: evaluations.once,
    stepsOfAll: Math.ceil((opened?.train.images ?? 0) / (opened?.plan.batch.size ?? 1)),
  };
}

function extrapolate(run: PlannedRun, trial: Trial): number {
  const { epochs = 20, stepsPerEpoch, evaluation } = optionsOf(run);
  const steps = epochs * (stepsPerEpoch ?? trial.stepsOfAll);
  const evaluations = Math.ceil(epochs / (evaluation?.everyEpochs ?? 1));
  return steps * trial.secondsPerStep + evaluations * trial.secondsPerEvaluation + trial.secondsOnce;
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
