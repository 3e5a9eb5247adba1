/**
 * The policy loop: which segment comes next, when to evaluate, checkpoint and stop. The core does the segments.
 *
 * ```text
 * open -> (before) -> [ train to the next boundary -> where it is due: evaluate, keep -> checkpoint ]* -> model -> test
 * ```
 * A checkpoint is written only when all decisions up to its step have been made and are in it. So whatever moment a run
 * is killed at, the resumed run decides the same.
 */

import { join } from "node:path";
import { files, writeJson } from "../artefacts/run-folder.ts";
import { RkdError } from "../errors.ts";
import type { DistillResult, EvaluationEvent, Metrics, RunEvent, TrainResult, VerdictRow } from "../events.ts";
import { json } from "../native/json.ts";
import type { NativeSession } from "../native/session.ts";
import { invalid } from "../options/check.ts";
import type { Evaluation, Plan, ResolvedRun, SessionSummary, TeacherPlan } from "../protocol/protocol.ts";
import { isCancelled } from "./command.ts";
import { findingsOf } from "./findings.ts";
import type { FolderLock } from "./folder-lock.ts";
import type { RunContext } from "./run.ts";
import { addEvaluation, addSegment, closeEpoch, freshState, type PolicyState, putDown, takeUp } from "./state.ts";
import { teacherRow, verdictOf, verdictRow } from "./verdict.ts";

/** Where a run starts. */
export interface LoopStart {
  /** The checkpoint to go on from. */
  readonly resume: string | null;
  /** Whether the folder holds a run that goes on, be it from its first step. */
  readonly resumes: boolean;
  /** Called with the data's fingerprint once data and networks are ready, before anything is trained. */
  readonly onOpen: (fingerprint: string) => Promise<void>;
  /** What is opened in place of the run's plan, where a file of it is not yet at its place. */
  readonly opens?: Plan;
  /** Knows where the folder is. */
  readonly lock: FolderLock;
  /** The `data.json` of the run whose split a new run has; its own data's where there is none. */
  readonly record?: string;
  /** Whether it is to go on for more epochs than before. */
  readonly further?: boolean | undefined;
  /** Looks on, where somebody does. */
  readonly onlooker?: Onlooker | undefined;
  /** Trains the same student without its teacher, where that is asked for. */
  readonly baseline?: () => Promise<TrainResult>;
}

/** Who looks on at a run without being a part of it; what goes wrong there becomes a warning. */
export interface Onlooker {
  /** The student of a distillation has not been trained yet; `session` is open with it. */
  before(out: string, session: NativeSession, signal: AbortSignal): Promise<void>;
  /** Everything is written and nothing is open any more; the last event is still to come. */
  finished(out: string, session: NativeSession): Promise<void>;
}

/** Runs a job to its end. @throws {RkdError}, or the signal's reason after a clean checkpoint */
export function runLoop(
  run: ResolvedRun,
  start: LoopStart,
  session: NativeSession,
  { emit, signal }: RunContext,
): Promise<TrainResult> {
  return new Loop(run, start, session, emit, signal).run();
}

class Loop {
  readonly #job: ResolvedRun;
  readonly #start: LoopStart;
  readonly #session: NativeSession;
  readonly #emit: (event: RunEvent) => void;
  readonly #signal: AbortSignal;
  #summary!: SessionSummary;
  #state: PolicyState = freshState();
  #opened = false;
  #step = 0;

  constructor(
    job: ResolvedRun,
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
      const stopped = isCancelled(error) || (this.#signal.aborted && error === this.#signal.reason);
      if (stopped && this.#opened) await this.#checkpoint();
      throw error;
    }
  }

  async #run(): Promise<TrainResult> {
    await this.#open();
    const { totalSteps, stepsPerEpoch } = this.#summary;
    this.#goOn();
    await this.#measureBefore();
    for (;;) {
      this.#signal.throwIfAborted();
      if (this.#step === (this.#state.epochsDone + 1) * stepsPerEpoch) await this.#finishEpoch();
      else if (this.#isDueByStep() && this.#state.judged < this.#step) await this.#evaluateWithin();
      if (this.#step >= totalSteps || this.#state.stoppedEarly) break;
      await this.#segment(Math.min(this.#nextBoundary(), totalSteps));
    }
    return await this.#finish();
  }

  async #open(): Promise<void> {
    const { plan, job, out, acceptChangedData } = this.#job;
    const { resume, resumes, onOpen } = this.#start;
    if (resumes && resume === null) this.#warn("The run was stopped before its first checkpoint, so it starts anew.");
    const record = join(out, files.data);
    // A run that starts anew on changed data that are accepted has nothing to keep to.
    const anew = !resumes || (resume === null && acceptChangedData);
    const start = { checkpoint: resume, record: anew ? (this.#start.record ?? null) : record, acceptChangedData };
    const { summary, policy } = await this.#session.call((core) =>
      core.open(json(this.#start.opens ?? plan), json(start)),
    );
    this.#signal.throwIfAborted();
    if (resume && policy) this.#state = takeUp(policy, this.#job.policy);
    const { step, totalSteps, stepsPerEpoch } = summary;
    if (step > totalSteps) {
      const [done, asked] = [Math.ceil(step / stepsPerEpoch), Math.round(totalSteps / stepsPerEpoch)];
      throw invalid(
        "epochs",
        `at least ${done}, which are done or begun`,
        asked,
        "leave it out to measure the run again",
      );
    }
    await onOpen(summary.data.fingerprint);
    await this.#session.call((core) => core.saveRecord(record));
    this.#summary = summary;
    this.#step = summary.step;
    this.#opened = true;
    const { data, test } = summary;
    this.#emit({ type: "start", job, out, resumed: resume !== null, ...summary, data: data.sentence, plan });
    for (const message of data.notices) this.#warn(message);
    const { keep } = this.#job.policy;
    const chooseBy = this.#job.policy.evaluation.part;
    const what = plan.data.labels === "none" ? "images" : "classes";
    if (keep !== "last" && this.#summary[chooseBy].images === 0) {
      this.#warn(`There are no ${chooseBy} ${what}, so the model will have the last weights, not the best.`);
    }
    if (keep !== "last" && chooseBy === "test") {
      this.#warn(`The test ${what} choose the model, as in the paper's code: its score on them will be too good.`);
    }
    if (test.images === 0) this.#warn(`There are no test ${what}, so there will be no final score.`);
  }

  /** Says where a resumed run has nothing left to do; with more epochs than before it has. */
  #goOn(): void {
    if (this.#start.resume === null) return;
    const { epochsDone } = this.#state;
    const { totalSteps, stepsPerEpoch } = this.#summary;
    if (this.#start.further && this.#state.stoppedEarly) {
      this.#state.stoppedEarly = false;
      this.#state.sinceBest = 0;
    }
    if (this.#step < totalSteps && !this.#state.stoppedEarly) return;
    const of = `${epochsDone} of ${Math.round(totalSteps / stepsPerEpoch)} epochs`;
    const early = this.#state.stoppedEarly ? ", where it ended early" : "";
    this.#warn(
      `There is nothing left to train: the run is finished after ${of}${early}. It is measured again; with more epochs it goes on.`,
    );
  }

  async #measureBefore(): Promise<void> {
    if (this.#job.job !== "distill" || this.#summary.test.images === 0 || this.#state.before) return;
    const before = await this.#evaluate("student", "test");
    this.#state.before = before;
    this.#report("before", "test", before, false);
    await this.#shown((onlooker) => onlooker.before(this.#job.out, this.#session, this.#signal));
  }

  async #segment(until: number): Promise<void> {
    const report = await this.#session.call((core) => core.train(until));
    addSegment(this.#state, report.step - this.#step, report.loss, report.terms);
    this.#state.collapsed = report.collapsed;
    this.#state.seconds += report.seconds;
    this.#state.dataWaitSeconds += report.dataWaitSeconds;
    this.#step = report.step;
    this.#signal.throwIfAborted();
    if (report.cancelled) {
      const advice = "go on with resume(), from the step where all of them stopped";
      throw new RkdError("ERR_CANCELLED", "another process of the run was stopped", { advice });
    }
    const { checkpointEverySteps: every } = this.#job.policy;
    // Where something is to be decided, the checkpoint comes behind it.
    const decides = this.#step % this.#summary.stepsPerEpoch === 0 || this.#isDueByStep();
    if (every !== null && this.#step % every === 0 && !decides) await this.#checkpoint();
  }

  /** The next step at which something is to be decided or written. */
  #nextBoundary(): number {
    const { checkpointEverySteps, evaluation } = this.#job.policy;
    const lengths = [this.#summary.stepsPerEpoch, checkpointEverySteps, evaluation.everySteps];
    const next = (length: number) => (Math.floor(this.#step / length) + 1) * length;
    return Math.min(...lengths.filter((length) => length !== null).map(next));
  }

  /** Whether an evaluation by steps belongs to this step. */
  #isDueByStep(): boolean {
    const { everySteps } = this.#job.policy.evaluation;
    return everySteps !== null && this.#step > 0 && this.#step % everySteps === 0;
  }

  /** An evaluation inside an epoch; where it ends the run, the epoch ends with it. */
  async #evaluateWithin(): Promise<void> {
    const { evaluation, keep, patience } = this.#job.policy;
    if (this.#summary[evaluation.part].images === 0) return;
    const score = await this.#evaluate("student", evaluation.part);
    const best = addEvaluation(this.#state, this.#step, score.metrics);
    if (best && keep !== "last") await this.#session.call((core) => core.keep());
    this.#report("student", evaluation.part, score, best);
    this.#state.stoppedEarly = patience !== null && this.#state.sinceBest >= patience;
    if (this.#state.stoppedEarly) closeEpoch(this.#state, this.#step, null);
    this.#tellEarlyStop();
    await this.#checkpoint();
  }

  #tellEarlyStop(): void {
    const { patience } = this.#job.policy;
    const { stoppedEarly, best, epochsDone: epoch } = this.#state;
    if (stoppedEarly && best && patience !== null)
      this.#emit({ type: "earlyStop", epoch, step: this.#step, patience, best });
  }

  async #finishEpoch(): Promise<void> {
    const { policy } = this.#job;
    const epoch = this.#state.epochsDone + 1;
    const last = this.#step >= this.#summary.totalSteps;
    const { part, everyEpochs } = policy.evaluation;
    const dueByEpoch = everyEpochs !== null && epoch % everyEpochs === 0;
    const due = this.#summary[part].images > 0 && (dueByEpoch || this.#isDueByStep() || last);
    const score = due ? await this.#evaluate("student", part) : null;
    const best = closeEpoch(this.#state, this.#step, score?.metrics ?? null);
    if (best && policy.keep !== "last") await this.#session.call((core) => core.keep());
    if (score) this.#report("student", part, score, best);
    this.#state.stoppedEarly = !last && policy.patience !== null && this.#state.sinceBest >= policy.patience;
    this.#tellEarlyStop();
    await this.#checkpoint();
  }

  async #finish(): Promise<TrainResult> {
    this.#start.lock.check();
    const model = join(this.#job.out, files.model);
    const best = this.#job.policy.keep === "last" ? null : this.#state.best;
    await this.#session.call((core) => core.saveModel(model, best !== null));
    const after = this.#summary.test.images > 0 ? await this.#test(model, this.#job.plan.teachers) : null;
    const epoch = best?.epoch ?? this.#state.epochsDone;
    const step = best?.step ?? this.#step;
    const last = await this.#last(model, step, after);
    const result = await this.#result(model, { epoch, step }, after, last);
    this.#start.lock.check();
    writeJson(join(this.#job.out, files.metrics), result);
    await this.#shown((onlooker) => onlooker.finished(this.#job.out, this.#session));
    this.#emit({ type: "end", result });
    return result;
  }

  /** A stored model, read back from disk: the score is that of the artefact. */
  async #test(
    model: string,
    teachers: readonly TeacherPlan[],
    who: "model" | "baseline" = "model",
  ): Promise<Evaluation> {
    const { data, seed, splitSeed, threads } = this.#job.plan;
    const { ks } = this.#job.policy.evaluation;
    // Images that came while it trained are no reason to lose it: the stored split leaves them out, with a warning.
    const options = json({
      model,
      data,
      seed,
      splitSeed,
      part: "test" as const,
      ks,
      teachers,
      threads,
      acceptChangedData: true,
    });
    const { model: _, part: __, ...found } = await this.#session.call((core) => core.evaluateModel(options));
    this.#report(who, "test", found, false);
    return found;
  }

  /** The last weights beside the best: a file and a score of their own, unless they are the same. */
  async #last(model: string, step: number, after: Evaluation | null): Promise<TrainResult["last"]> {
    const { epochsDone } = this.#state;
    if (this.#job.policy.keep !== "both") return null;
    if (step === this.#step) return { epoch: epochsDone, model, metrics: after?.metrics ?? null };
    const path = join(this.#job.out, files.last);
    await this.#session.call((core) => core.saveModel(path, false));
    if (!after) return { epoch: epochsDone, model: path, metrics: null };
    const { data, teachers } = this.#job.plan;
    const measure = data.labels === "none" ? teachers : [];
    return { epoch: epochsDone, model: path, metrics: (await this.#test(path, measure)).metrics };
  }

  async #result(
    model: string,
    chosen: Pick<TrainResult, "epoch" | "step">,
    after: Evaluation | null,
    last: TrainResult["last"],
  ): Promise<TrainResult | DistillResult> {
    const { history, epochsDone: epochs, seconds, dataWaitSeconds, stoppedEarly, before, collapsed } = this.#state;
    const { student, teachers, device, precision } = this.#summary;
    const dataWaitShare = seconds > 0 ? dataWaitSeconds / seconds : 0;
    const metrics: Metrics | null = after?.metrics ?? null;
    const { job, out } = this.#job;
    const where = { network: student, device, precision };
    const core = { job, out, model, metrics, ...where, ...chosen, epochs, steps: this.#step, seconds };
    const { learningRate } = this.#job.plan.optimizer;
    const testImages = this.#summary.test.images;
    const evidence = { history, collapsed, learningRate, hasTeacher: teachers.length > 0, testImages };
    const prefixes = after?.prefixes && { prefixes: after.prefixes };
    const findings = findingsOf(evidence);
    const result = { ...core, ...prefixes, dataWaitShare, stoppedEarly, last, findings, history };
    if (!after?.fidelity || !before) return result;
    const baseline = await this.#baseline();
    const scores: Evaluation[] = [];
    for (const [place, { name }] of teachers.entries()) {
      const score = await this.#evaluate(place, "test");
      this.#report("teacher", "test", score, false, name);
      scores.push(score);
    }
    const rows = [verdictRow(student, before), verdictRow(student, after)] as const;
    const taught = after.fidelity.flatMap((fidelity, place) => {
      const [teacher, score] = [teachers[place], scores[place]];
      return teacher && score ? [teacherRow(teacher, score, fidelity)] : [];
    });
    const found = verdictOf(this.#job.plan.data.labels, taught, ...rows, baseline);
    const { prefixes: own } = after;
    const of = own?.map(({ embedding, metrics }) => verdictRow({ ...student, embedding }, { ...after, metrics }));
    const verdict = of ? { ...found, prefixes: of } : found;
    return { ...result, findings: findingsOf({ ...evidence, verdict }), verdict };
  }

  /** The row of the same student without its teacher. */
  async #baseline(): Promise<VerdictRow | null> {
    const result = await this.#start.baseline?.();
    return result ? verdictRow(result.network, await this.#test(result.model, [], "baseline")) : null;
  }

  /** The student, or the teacher at a place of the plan. */
  #evaluate(who: "student" | number, part: "validation" | "test"): Promise<Evaluation> {
    const teacher = who === "student" ? null : who;
    return this.#session.call((core) => core.evaluate(teacher, part, this.#job.policy.evaluation.ks));
  }

  #report(
    who: EvaluationEvent["who"],
    part: EvaluationEvent["part"],
    evaluation: Evaluation,
    best: boolean,
    teacher?: string,
  ): void {
    const at = { epoch: this.#state.epochsDone, step: this.#step };
    const which = teacher === undefined ? {} : { teacher };
    this.#emit({ type: "evaluation", who, ...which, part, ...at, best, ...evaluation });
  }

  /** Where the folder has been moved, the checkpoint follows it, and then the run ends. */
  async #checkpoint(): Promise<void> {
    const { lock } = this.#start;
    const path = join(lock.place(), files.checkpoint);
    const kept = putDown(this.#state, this.#job.policy);
    await this.#session.call((core) => core.saveCheckpoint(path, kept));
    this.#emit({ type: "checkpoint", step: this.#step, path });
    lock.check();
  }

  /** A run is not lost because of who looks on. */
  async #shown(look: (onlooker: Onlooker) => Promise<void>): Promise<void> {
    const { onlooker } = this.#start;
    if (!onlooker) return;
    try {
      await look(onlooker);
    } catch (error) {
      this.#signal.throwIfAborted();
      this.#warn(`The report was not written: ${error instanceof Error ? error.message : String(error)}`);
    }
  }

  #warn(message: string): void {
    this.#emit({ type: "warning", message });
  }
}
