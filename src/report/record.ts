/** What a run has left in its folder, read for a page: while it runs, too. */

import { closeSync, existsSync, openSync, readFileSync, readSync, statSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { files, requirePlanFile, withErrors } from "../artefacts/run-folder.ts";
import { RkdError } from "../errors.ts";
import type { DistillResult, EvaluationEvent, RunEvent, StartEvent, TrainResult } from "../events.ts";
import { printable } from "../printable.ts";
import type { PlanFile } from "../protocol/protocol.ts";

/** What is read of a log at once. */
const BLOCK_BYTES = 1 << 24;

/** Steps that are kept; of a longer run every second, every fourth, ... */
const MOST_STEPS = 20_000;

/** A run as its folder tells of it. */
export interface RunRecord {
  /** Absolute path of its folder. */
  readonly out: string;
  /** The folder's name. */
  readonly name: string;
  readonly plan: PlanFile;
  /** What it came to; nothing before its end. */
  readonly result: TrainResult | DistillResult | undefined;
  readonly log: RunLog;
}

/** What `events.jsonl` tells. */
interface RunLog {
  readonly start: StartEvent | undefined;
  readonly steps: readonly StepRow[];
  readonly evaluations: readonly EvaluationEvent[];
  /** Warnings, and the alarm of a collapse, each once. */
  readonly warnings: readonly string[];
  /** When the first and the last event came. */
  readonly from: Date | undefined;
  readonly to: Date | undefined;
  /** When training began, or went on. */
  readonly startedAt: Date | undefined;
  /** What the last event was. */
  readonly last: RunEvent["type"] | undefined;
}

/** What a page shows of a step. */
export interface StepRow {
  readonly step: number;
  readonly loss: number;
  readonly learningRate: number;
  readonly gradientNorm: number;
  readonly imagesPerSecond: number;
  readonly dataWaitShare: number;
  readonly terms: readonly { readonly name: string; readonly value: number }[];
}

/** The run in the folder `out`. @throws {RkdError} `ERR_NOT_FOUND`, `ERR_INVALID_ARTEFACT` */
export function readRecord(out: string): RunRecord {
  return new RecordReader(out).read();
}

/** Reads a run's folder again and again, and of its log only what is new. */
export class RecordReader {
  readonly #out: string;
  readonly #log = new LogReader();
  #at = 0;

  constructor(out: string) {
    this.#out = resolve(out);
  }

  /** The run as it is now. @throws {RkdError} `ERR_NOT_FOUND`, `ERR_INVALID_ARTEFACT` */
  read(): RunRecord {
    const plan = requirePlanFile(this.#out);
    this.#readLog(join(this.#out, files.events));
    return { out: this.#out, name: basename(this.#out), plan, result: resultIn(this.#out), log: this.#log.log() };
  }

  #readLog(file: string): void {
    if (!existsSync(file)) return;
    const { size } = withErrors(file, () => statSync(file));
    // A run that has been replaced begins a new log.
    if (size < this.#at) {
      this.#at = 0;
      this.#log.forget();
    }
    if (size === this.#at) return;
    const descriptor = withErrors(file, () => openSync(file, "r"));
    try {
      for (;;) {
        const block = Buffer.alloc(Math.min(BLOCK_BYTES, size - this.#at));
        const read = withErrors(file, () => readSync(descriptor, block, 0, block.length, this.#at));
        // A line, or a letter of several bytes, may still be half written.
        const end = block.subarray(0, read).lastIndexOf(0x0a) + 1;
        if (end === 0) break;
        this.#at += end;
        for (const line of block.toString("utf8", 0, end).split("\n")) this.#log.add(line);
      }
    } finally {
      closeSync(descriptor);
    }
  }
}

function resultIn(out: string): TrainResult | DistillResult | undefined {
  const file = join(out, files.metrics);
  if (!existsSync(file)) return undefined;
  const advice = "measure the run again: resume() of a finished run does";
  let found: Partial<TrainResult> | null;
  try {
    found = JSON.parse(readFileSync(file, "utf8"));
  } catch (cause) {
    throw new RkdError("ERR_INVALID_ARTEFACT", "the file is damaged", { subject: file, advice, cause });
  }
  const lacks = inEveryResult.find((name) => found?.[name] === undefined);
  if (lacks === undefined) return found as TrainResult;
  throw new RkdError("ERR_INVALID_ARTEFACT", "this is no result of a run", {
    subject: file,
    expected: `an object with ${inEveryResult.join(", ")}`,
    received: `one without ${lacks}`,
    advice,
  });
}

/** What every result has. */
const inEveryResult = ["job", "metrics", "network", "epochs", "steps", "findings", "history"] as const;

/** Gathers events. */
class LogReader {
  #start: StartEvent | undefined;
  #steps: StepRow[] = [];
  /** Of so many steps one is kept. */
  #stride = 1;
  #latest: StepRow | undefined;
  #evaluations: EvaluationEvent[] = [];
  #warnings = new Set<string>();
  #times: Date[] = [];
  #startedAt: Date | undefined;
  #last: RunEvent["type"] | undefined;

  /** Takes a line; one that a kill has cut off is no event. */
  add(line: string): void {
    let event: RunEvent & { readonly time?: string };
    try {
      event = JSON.parse(line);
    } catch {
      return;
    }
    if (event.time) this.#times = [this.#times[0] ?? new Date(event.time), new Date(event.time)];
    this.#last = event.type;
    switch (event.type) {
      case "start":
        this.#start = event;
        this.#startedAt = this.#times.at(-1);
        // What came after the checkpoint that a run goes on from happens again.
        this.#steps = this.#steps.filter(({ step }) => step <= event.step);
        this.#latest = this.#steps.at(-1);
        this.#evaluations = this.#evaluations.filter(({ step }) => step <= event.step);
        break;
      case "step": {
        const { step, loss, learningRate, gradientNorm, imagesPerSecond, dataWaitShare } = event;
        const terms = event.terms.map(({ name, value }) => ({ name, value }));
        this.#latest = { step, loss, learningRate, gradientNorm, imagesPerSecond, dataWaitShare, terms };
        if (step % this.#stride === 0) this.#steps.push(this.#latest);
        if (this.#steps.length > MOST_STEPS) {
          this.#stride *= 2;
          this.#steps = this.#steps.filter((row) => row.step % this.#stride === 0);
        }
        break;
      }
      case "evaluation":
        this.#evaluations.push(event);
        break;
      case "warning":
      case "collapse":
        this.#warnings.add(printable(event.message));
        break;
      default: // nothing of the others is shown
    }
  }

  forget(): void {
    [this.#start, this.#steps, this.#evaluations, this.#times, this.#last] = [undefined, [], [], [], undefined];
    [this.#startedAt, this.#latest, this.#stride] = [undefined, undefined, 1];
    this.#warnings.clear();
  }

  log(): RunLog {
    return {
      start: this.#start,
      steps: this.#latest && this.#latest !== this.#steps.at(-1) ? [...this.#steps, this.#latest] : this.#steps,
      evaluations: this.#evaluations,
      warnings: [...this.#warnings],
      from: this.#times[0],
      to: this.#times[1],
      startedAt: this.#startedAt,
      last: this.#last,
    };
  }
}
