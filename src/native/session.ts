/** The core's session, seen from TypeScript: typed commands, events in order, errors as {@link RkdError}. */

import { fromNative } from "../errors.ts";
import type { DataPlan, FewShotPlan, Plan } from "../plan/plan.ts";
import type {
  CollapseEvent,
  Evaluation,
  NetworkSummary,
  PartSize,
  StepEvent,
  TermValue,
  WarningEvent,
  WeightsEvent,
} from "../run/events.ts";
import { addon } from "./addon.ts";

/** What `open` found: the core's `SessionSummary`. */
export interface SessionSummary {
  readonly data: DatasetSummary;
  readonly train: PartSize;
  readonly validation: PartSize;
  readonly test: PartSize;
  readonly student: NetworkSummary;
  readonly teacher: NetworkSummary | null;
  readonly stepsPerEpoch: number;
  readonly totalSteps: number;
  readonly step: number;
  readonly device: Plan["device"];
  readonly threads: number;
  readonly instructionSet: string;
}

/** What a data source turned out to be: the core's `DatasetSummary`. */
interface DatasetSummary {
  readonly kind: string;
  readonly sentence: string;
  readonly images: number;
  readonly classes: number;
  readonly broken: readonly { readonly path: string; readonly reason: string }[];
  readonly warnings: readonly string[];
}

/** What a call of `train` did: the core's `SegmentReport`. */
export interface SegmentReport {
  readonly step: number;
  readonly cancelled: boolean;
  readonly seconds: number;
  readonly dataWaitSeconds: number;
  readonly images: number;
  readonly loss: number;
  readonly terms: readonly TermMean[];
}

/** One term over the steps in which it was computed: the core's `TermMean`. */
export interface TermMean extends TermValue {
  readonly steps: number;
}

/** A part of the data. */
type Part = "train" | "validation" | "test";

/** Every command with what it takes and returns; crates/node/src/command.rs is the other side. */
export interface Commands {
  open: [{ plan: Plan; resume: string | null }, { summary: SessionSummary; policy: string | null }];
  train: [{ untilStep: number }, SegmentReport];
  evaluate: [{ who: "student" | "teacher"; part: Part; ks: readonly number[] }, Evaluation];
  keep: [object, null];
  /** The policy is text, not JSON: numbers that another program parsed and printed might not be the same bits. */
  saveCheckpoint: [{ path: string; policy: string }, null];
  saveModel: [{ path: string; best: boolean }, null];
  evaluateModel: [
    {
      plan: {
        model: string;
        data: DataPlan;
        seed: number;
        part: Part;
        ks: readonly number[];
        fewShot?: readonly FewShotPlan[];
        teacher: string | null;
        threads: number;
      };
    },
    Evaluation,
  ];
  neighbours: [
    {
      plan: {
        model: string;
        data: DataPlan;
        seed: number;
        part: Part;
        queries: number;
        k: number;
        threads: number;
      };
    },
    readonly { readonly query: PictureReport; readonly neighbours: readonly PictureReport[] }[],
  ];
  survey: [{ plan: DataPlan }, DataSurvey];
  embed: [{ plan: { model: string; data: DataPlan; out: string; format: string; threads: number } }, EmbedReport];
  workloads: [object, readonly string[]];
  bench: [{ plan: BenchPlan }, BenchReport];
  profile: [{ plan: BenchPlan }, ProfileReport];
  /** Only in builds with debug assertions, for tests. */
  panic: [{ message: string }, never];
}

/** One image: the core's `Picture`; `png` is hexadecimal. */
export interface PictureReport {
  readonly id: string;
  readonly class: string;
  readonly png: string;
}

/** What a data source holds by its names and lists: the core's `Survey`. */
interface DataSurvey {
  readonly kind: string;
  readonly name: string | null;
  readonly sentence: string;
  readonly images: number;
  readonly classes: number;
  readonly parts: readonly { readonly part: Part; readonly images: number; readonly classes: number }[];
  readonly sharedClasses: boolean;
  readonly broken: readonly { readonly path: string; readonly reason: string }[];
  readonly warnings: readonly string[];
}

/** What `embed` wrote: the core's `EmbedReport`. */
export interface EmbedReport {
  /** The file. */
  readonly out: string;
  /** Rows of the matrix. */
  readonly images: number;
  /** Columns of the matrix. */
  readonly embedding: number;
  /** Mean time of the network's forward pass for one image. */
  readonly millisecondsPerImage: number;
}

/** What to measure: the core's `BenchPlan`. */
interface BenchPlan {
  readonly workload: string;
  readonly seconds: number;
  readonly threads: number;
}

/** Times of one workload: the core's `BenchReport`, with the field names of bench/pytorch_steps.py. */
export interface BenchReport {
  readonly workload: string;
  /** Median of a step. */
  readonly step_ms: number;
  readonly best_ms: number;
  readonly layout: string;
  readonly threads: number;
  /** Steps measured. */
  readonly runs: number;
  /** Peak memory above that before the work; null where the system does not say. */
  readonly peak_mib: number | null;
  /** Of convolutions and linear layers by their definition; null without a network. */
  readonly gflops: number | null;
  /** What the processor's multiply-adds could do. */
  readonly peak_gflops: number;
  readonly peak_share: number | null;
  readonly instruction_set: string;
  /** The cargo profile of the addon: `release`, as published, or `dev`, as built from source. */
  readonly profile: string;
  readonly rkd: string;
}

/** Where the time of a step goes: the core's `ProfileReport`. */
export interface ProfileReport {
  readonly workload: string;
  /** Median of a step. */
  readonly step_ms: number;
  /** Of it, outside all records. */
  readonly outside_ms: number;
  readonly threads: number;
  /** Steps measured. */
  readonly runs: number;
  readonly peak_gflops: number;
  readonly instruction_set: string;
  /** The cargo profile of the addon: `release`, as published, or `dev`, as built from source. */
  readonly profile: string;
  /** By what it is for, longest first. */
  readonly parts: readonly (ProfileCost & { readonly part: string })[];
  /** By layer and operation, longest first. */
  readonly records: readonly (ProfileCost & {
    readonly layer: string;
    readonly operation: string;
    readonly part: string;
    /** Of the operation's first tensor. */
    readonly shape: readonly number[];
  })[];
}

/** What calls cost in a step. */
export interface ProfileCost {
  readonly calls: number;
  readonly ms: number;
  /** By definition; 0 where they are not counted. */
  readonly flops: number;
  /** Of the tensors read and written, each once. */
  readonly bytes: number;
}

/** An event of the core: `Event` of crates/core/src/train/event.rs. */
export type NativeEvent =
  | { readonly type: "decode"; readonly done: number; readonly total: number; readonly imagesPerSecond: number }
  | { readonly type: "teacherFeatures" | "embed"; readonly done: number; readonly total: number }
  | CollapseEvent
  | StepEvent
  | WarningEvent
  | WeightsEvent;

/** A session on a thread of its own. Commands run in order; {@link NativeSession.close} ends the thread. */
export class NativeSession {
  readonly #binding = new (addon().BindingSession)();
  readonly #marks: (() => void)[] = [];
  readonly #pump: Promise<void>;
  #ended = false;

  /** @param onEvent Sees every event before the command that caused it resolves; must not throw. */
  constructor(onEvent: (event: NativeEvent) => void) {
    this.#pump = this.#pull(onEvent);
  }

  /** Runs one command. @throws {RkdError} the core's error; `ERR_INTERNAL` after a panic */
  async call<C extends keyof Commands>(command: C, input: Commands[C][0]): Promise<Commands[C][1]> {
    const mark = this.#ended ? Promise.resolve() : new Promise<void>((resolve) => this.#marks.push(resolve));
    const reply = await this.#binding.send(JSON.stringify({ command, ...input }));
    await mark; // all its events have been seen
    if (reply.error) throw fromNative(reply.error);
    return JSON.parse(reply.value ?? "null");
  }

  /** Stops the running command at the next step boundary. */
  cancel(): void {
    this.#binding.cancel();
  }

  /** Cancels, and resolves when the thread has ended. Idempotent. */
  async close(): Promise<void> {
    this.#binding.close();
    await this.#pump;
  }

  async #pull(onEvent: (event: NativeEvent) => void): Promise<void> {
    for (;;) {
      const text = await this.#binding.next();
      if (!text) break;
      const event: NativeEvent | { type: "done" } = JSON.parse(text);
      if (event.type === "done") this.#marks.shift()?.();
      else onEvent(event);
    }
    this.#ended = true;
    for (const resolve of this.#marks.splice(0)) resolve();
  }
}
