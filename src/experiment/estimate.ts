/**
 * How long an experiment will take.
 *
 * Runs are of one *kind* where they have the same data, networks, batch and number of steps; the terms of the loss cost
 * little beside the networks and are not told apart. The time of a kind is, in this order: the mean of its finished runs;
 * what a trial of a few steps says, times what trials have been wrong by so far; the mean of all finished runs.
 */

import { rmSync } from "node:fs";
import { join, resolve } from "node:path";
import type { Backbone } from "../options/backbone.ts";
import { toData } from "../plan/data.ts";
import type { RunEvent, StartEvent } from "../run/events.ts";
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

/**
 * Runs a few steps of every kind among `runs` and says how long each kind will take. Teachers that are not trained yet are
 * taken from their own trials. Leaves nothing behind but the cache of decoded images.
 */
export async function tryKinds(
  runs: readonly PlannedRun[],
  out: string,
  context: { readonly threads: number; readonly signal: AbortSignal; readonly watch: (run: PlannedRun) => void },
): Promise<ReadonlyMap<string, number>> {
  const folder = join(resolve(out), "trials");
  const seconds = new Map<string, number>();
  const models = new Map<string, string>(); // a run's networks -> a trial's folder
  const attempt = async (run: PlannedRun): Promise<string> => {
    const before = models.get(networksOf(run));
    if (before && seconds.has(kindOf(run))) return before;
    const stand = new Map<string, string>();
    for (const each of run.after) stand.set(each.folder, runs.includes(each) ? await attempt(each) : each.folder);
    context.watch(run);
    const trial = join(folder, String(seconds.size));
    seconds.set(kindOf(run), await trySteps(run, trial, stand, context));
    models.set(networksOf(run), trial);
    return trial;
  };
  try {
    for (const run of runs) await attempt(run);
    return seconds;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** The data and the networks of a run and of those it builds on: what a step costs. */
function networksOf(run: PlannedRun): string {
  const { data, backbone, student } = { backbone: undefined, student: undefined, ...optionsOf(run) };
  const { source, imageSize, channels } = toData(data);
  const { embedding: _, normalize: __, ...network } = (backbone ?? student) as Backbone;
  return JSON.stringify([source, imageSize, channels, network, run.after.map(networksOf)]);
}

function optionsOf({ cell }: PlannedRun) {
  return cell.train ?? cell.distill;
}

/** Runs a few steps in `trial` and extrapolates. `stand` has a folder for each one that the run names. */
async function trySteps(
  run: PlannedRun,
  trial: string,
  stand: ReadonlyMap<string, string>,
  { threads, signal }: { readonly threads: number; readonly signal: AbortSignal },
): Promise<number> {
  const short = { ...optionsOf(run), epochs: 1, stepsPerEpoch: TRIAL_STEPS };
  const options = JSON.parse(JSON.stringify(short), (_, part) =>
    typeof part === "string" ? (stand.get(part) ?? part) : part,
  );
  const cell = (run.cell.train ? { train: options } : { distill: options }) as PlannedRun["cell"];
  let opened: StartEvent | undefined;
  let last = performance.now();
  const evaluations = { epoch: 0, once: 0 };
  const going = start(cell, { out: trial, overwrite: true, seed: run.seed, threads, signal });
  for await (const event of going as AsyncIterable<RunEvent>) {
    const now = performance.now();
    if (event.type === "start") opened = event;
    if (event.type === "evaluation") evaluations[event.who === "student" ? "epoch" : "once"] += (now - last) / 1000;
    last = now;
  }
  const { seconds, steps } = await going;
  const { epochs = 20, stepsPerEpoch, evaluation } = optionsOf(run);
  const perEpoch = stepsPerEpoch ?? Math.ceil((opened?.train.images ?? 0) / (opened?.plan.batch.size ?? 1));
  const measured = Math.ceil(epochs / (evaluation?.everyEpochs ?? 1));
  return (seconds / steps) * perEpoch * epochs + evaluations.epoch * measured + evaluations.once;
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
