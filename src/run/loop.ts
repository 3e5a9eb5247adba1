/**
 * The policy loop: which segment comes next, when to evaluate, checkpoint and stop. The core does the segments.
 *
 * ```text
 * open -> (before) -> [ train to the next boundary -> at an epoch's end: evaluate, keep -> checkpoint ]* -> model -> test
 * ```
 * A checkpoint is written only when all decisions up to its step have been made and are in it. So whatever moment a run
 * is killed at, the resumed run decides the same.
 */

import { join } from "node:path";
import type { FolderLock } from "../artefacts/folder-lock.ts";
import { files, writeJson } from "../artefacts/run-folder.ts";
import { RkdError } from "../errors.ts";
import { NativeSession, type SegmentReport, type SessionSummary } from "../native/session.ts";
import type { Job } from "../plan/build.ts";
import type { DistillResult, Evaluation, EvaluationEvent, Metrics, RunEvent, TrainResult } from "./events.ts";
import type { RunContext } from "./run.ts";
import { addSegment, closeEpoch, freshState, type PolicyState } from "./state.ts";
import { verdictOf, verdictRow } from "./verdict.ts";

/** Where a run starts. */
export interface LoopStart {
  /** Absolute path of the run's folder. */
  readonly out: string;
  /** The checkpoint to go on from. */
  readonly resume: string | null;
  /** Called once data and networks are ready, before anything is trained. */
  readonly onOpen: () => Promise<void>;
  /** Knows where the folder is. */
  readonly lock: FolderLock;
}

/** Runs a job to its end. @throws {RkdError}, or the signal's reason after a clean checkpoint */
export async function runLoop(job: Job, start: LoopStart, { emit, signal }: RunContext): Promise<TrainResult> {
  signal.throwIfAborted();
  const session = new NativeSession((event) => emit(toRunEvent(event)));
  const cancel = () => session.cancel();
  signal.addEventListener("abort", cancel, { once: true });
  try {
    return await new Loop(job, start, session, emit, signal).run();
  } catch (error) {
    if (signal.aborted && isCancelled(error)) throw signal.reason;
    throw error;
  } finally {
    signal.removeEventListener("abort", cancel);
    await session.close();
  }
}

class Loop {
  readonly #job: Job;
  readonly #start: LoopStart;
  readonly #session: NativeSession;
  readonly #emit: (event: RunEvent) => void;
  readonly #signal: AbortSignal;
  #summary!: SessionSummary;
  #state: PolicyState = freshState();
  #opened = false;
  #step = 0;

  constructor(
    job: Job,
    start: LoopStart,
    session: NativeSession,
    emit: (event: RunEvent) => void,
    signal: AbortSignal,
  ) {
    this.#job = job;
    this.#start = start;
    this.#session = session;
    this.#emit = emit;
    this.#signal = signal;
  }

  /** Everything; where the signal stops it, a checkpoint of the last step boundary is written first. */
  async run(): Promise<TrainResult> {
    try {
      return await this.#run();
    } catch (error) {
      const stopped = this.#signal.aborted && (error === this.#signal.reason || isCancelled(error));
      if (stopped && this.#opened) await this.#checkpoint();
      throw error;
    }
  }

  async #run(): Promise<TrainResult> {
    await this.#open();
    const { totalSteps, stepsPerEpoch } = this.#summary;
    await this.#measureBefore();
    for (;;) {
      this.#signal.throwIfAborted();
      if (this.#step === (this.#state.epochsDone + 1) * stepsPerEpoch) await this.#finishEpoch();
      if (this.#step >= totalSteps || this.#state.stoppedEarly) break;
      await this.#segment(Math.min(this.#nextBoundary(), totalSteps));
    }
    return await this.#finish();
  }

  async #open(): Promise<void> {
    const { plan, warnings, job } = this.#job;
    const { out, resume, onOpen } = this.#start;
    for (const message of warnings) this.#emit({ type: "warning", message });
    const { summary, policy } = await this.#session.call("open", { plan, resume });
    this.#signal.throwIfAborted();
    await onOpen();
    this.#summary = summary;
    this.#step = summary.step;
    if (resume && policy) this.#state = JSON.parse(policy) as PolicyState;
    this.#opened = true;
    const { data, train, validation, test, student, teacher, totalSteps, stepsPerEpoch, threads } = summary;
    const sizes = { train, validation, test, student, teacher, totalSteps, stepsPerEpoch, threads };
    const { instructionSet } = summary;
    const resumed = resume !== null;
    this.#emit({
      type: "start",
      job,
      out,
      resumed,
      step: this.#step,
      data: data.sentence,
      ...sizes,
      instructionSet,
      plan,
    });
    for (const message of [...summary.data.warnings, ...brokenImages(summary.data.broken)]) this.#warn(message);
    const { keep, chooseBy } = this.#job.policy;
    if (keep !== "last" && this.#summary[chooseBy].images === 0) {
      this.#warn(`There are no ${chooseBy} classes, so the model will have the last weights, not the best.`);
    }
    if (keep !== "last" && chooseBy === "test") {
      this.#warn("The test classes choose the model, as in the paper's code: its score on them will be too good.");
    }
    if (test.images === 0) this.#warn("There are no test classes, so there will be no final score.");
  }

  async #measureBefore(): Promise<void> {
    if (this.#job.job !== "distill" || this.#summary.test.images === 0 || this.#state.before) return;
    const before = await this.#evaluate("student", "test");
    this.#state.before = before;
    this.#report("before", "test", before, false);
  }

  async #segment(until: number): Promise<void> {
    const report: SegmentReport = await this.#session.call("train", { untilStep: until });
    addSegment(this.#state, report.step - this.#step, report.loss, report.terms);
    this.#state.seconds += report.seconds;
    this.#state.dataWaitSeconds += report.dataWaitSeconds;
    this.#step = report.step;
    this.#signal.throwIfAborted();
    const { checkpointEverySteps: every } = this.#job.policy;
    const epochEnd = this.#step % this.#summary.stepsPerEpoch === 0;
    if (every !== null && this.#step % every === 0 && !epochEnd) await this.#checkpoint();
  }

  /** The next step at which something is to be decided. */
  #nextBoundary(): number {
    const { stepsPerEpoch } = this.#summary;
    const { checkpointEverySteps: every } = this.#job.policy;
    const epochEnd = (Math.floor(this.#step / stepsPerEpoch) + 1) * stepsPerEpoch;
    return every === null ? epochEnd : Math.min(epochEnd, (Math.floor(this.#step / every) + 1) * every);
  }

  async #finishEpoch(): Promise<void> {
    const { policy } = this.#job;
    const epoch = this.#state.epochsDone + 1;
    const last = this.#step >= this.#summary.totalSteps;
    const part = policy.chooseBy;
    const due = this.#summary[part].images > 0 && (epoch % policy.evaluateEveryEpochs === 0 || last);
    const score = due ? await this.#evaluate("student", part) : null;
    const best = closeEpoch(this.#state, score?.metrics ?? null);
    if (best && policy.keep !== "last") await this.#session.call("keep", {});
    if (score) this.#report("student", part, score, best);
    this.#state.stoppedEarly = !last && policy.patience !== null && this.#state.sinceBest >= policy.patience;
    await this.#checkpoint();
  }

  async #finish(): Promise<TrainResult> {
    this.#start.lock.check();
    const model = join(this.#start.out, files.model);
    const best = this.#job.policy.keep === "last" ? null : this.#state.best;
    await this.#session.call("saveModel", { path: model, best: best !== null });
    const after = this.#summary.test.images > 0 ? await this.#test(model, this.#job.plan.teacher?.model ?? null) : null;
    const epoch = best?.epoch ?? this.#state.epochsDone;
    const last = await this.#last(model, epoch, after);
    const result = await this.#result(model, epoch, after, last);
    this.#start.lock.check();
    writeJson(join(this.#start.out, files.metrics), result);
    this.#emit({ type: "end", result });
    return result;
  }

  /** A stored model, read back from disk: the score is that of the artefact. */
  async #test(model: string, teacher: string | null): Promise<Evaluation> {
    const { data, seed, threads } = this.#job.plan;
    const { ks } = this.#job.policy;
    const plan = { model, data, seed, part: "test", ks, teacher, threads } as const;
    const after = await this.#session.call("evaluateModel", { plan });
    this.#report("model", "test", after, false);
    return after;
  }

  /** The last weights beside the best: a file and a score of their own, unless they are the same. */
  async #last(model: string, epoch: number, after: Evaluation | null): Promise<TrainResult["last"]> {
    const { epochsDone } = this.#state;
    if (this.#job.policy.keep !== "both" || !after) return null;
    if (epoch === epochsDone) return { epoch, model, metrics: after.metrics };
    const path = join(this.#start.out, files.last);
    await this.#session.call("saveModel", { path, best: false });
    return { epoch: epochsDone, model: path, metrics: (await this.#test(path, null)).metrics };
  }

  async #result(
    model: string,
    epoch: number,
    after: Evaluation | null,
    last: TrainResult["last"],
  ): Promise<TrainResult | DistillResult> {
    const { history, epochsDone: epochs, seconds, dataWaitSeconds, stoppedEarly, before } = this.#state;
    const { student, teacher } = this.#summary;
    const dataWaitShare = seconds > 0 ? dataWaitSeconds / seconds : 0;
    const metrics: Metrics | null = after?.metrics ?? null;
    const { out } = this.#start;
    const steps = this.#step;
    const core = { job: this.#job.job, out, model, metrics, network: student, epoch, epochs, steps, seconds };
    const result = { ...core, dataWaitShare, stoppedEarly, last, history };
    if (!teacher || !after?.fidelity || !before) return result;
    const teacherScore = await this.#evaluate("teacher", "test");
    this.#report("teacher", "test", teacherScore, false);
    const rows = [verdictRow(teacher, teacherScore), verdictRow(student, before), verdictRow(student, after)] as const;
    return { ...result, verdict: verdictOf(...rows, after.fidelity) };
  }

  #evaluate(who: "student" | "teacher", part: "validation" | "test"): Promise<Evaluation> {
    return this.#session.call("evaluate", { who, part, ks: this.#job.policy.ks });
  }

  #report(who: EvaluationEvent["who"], part: EvaluationEvent["part"], evaluation: Evaluation, best: boolean): void {
    this.#emit({ type: "evaluation", who, part, epoch: this.#state.epochsDone, best, ...evaluation });
  }

  /** Where the folder has been moved, the checkpoint follows it, and then the run ends. */
  async #checkpoint(): Promise<void> {
    const { lock } = this.#start;
    const path = join(lock.place(), files.checkpoint);
    await this.#session.call("saveCheckpoint", { path, policy: JSON.stringify(this.#state) });
    this.#emit({ type: "checkpoint", step: this.#step, path });
    lock.check();
  }

  #warn(message: string): void {
    this.#emit({ type: "warning", message });
  }
}

/** Counts the images that could not be used, and names the first few. */
function brokenImages(broken: SessionSummary["data"]["broken"]): string[] {
  if (broken.length === 0) return [];
  const some = broken.slice(0, 5).map(({ path, reason }) => `${path} (${reason})`);
  const rest = broken.length > some.length ? `, and ${broken.length - some.length} more` : "";
  const count = broken.length === 1 ? "1 image" : `${broken.length} images`;
  return [`${count} could not be used: ${some.join(", ")}${rest}.`];
}

function isCancelled(error: unknown): boolean {
  return error instanceof RkdError && error.code === "ERR_CANCELLED";
}

/** The core's events that belong to the data come out under one type. */
export function toRunEvent(event: Parameters<ConstructorParameters<typeof NativeSession>[0]>[0]): RunEvent {
  switch (event.type) {
    case "decode":
    case "teacherFeatures":
    case "embed": {
      const { type: phase, ...rest } = event;
      return { type: "data", phase, ...rest };
    }
    default:
      return event;
  }
}
