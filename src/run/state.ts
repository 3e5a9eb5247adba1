/** What the policy remembers between two segments. It travels in the checkpoint, so that a resumed run decides alike. */

import { RkdError } from "../errors.ts";
import type { EpochRecord, Metrics, StepRecord } from "../events.ts";
import type { Evaluation, Policy, TermMean } from "../protocol/protocol.ts";

/** JSON, and nothing that depends on the machine but times. */
export interface PolicyState {
  /** Epochs that are finished and judged. */
  epochsDone: number;
  readonly history: EpochRecord[];
  /** The best validation so far. */
  best: { readonly epoch: number; readonly step: number; readonly score: number } | null;
  /** Evaluations since the best. */
  sinceBest: number;
  stoppedEarly: boolean;
  /** The step up to which everything is decided. */
  judged: number;
  /** Whether the embeddings have run together. */
  collapsed: boolean;
  /** The student with its initial weights on the test images. */
  before: Evaluation | null;
  seconds: number;
  dataWaitSeconds: number;
  /** Sums over the steps of the epoch in progress. */
  epoch: EpochSums;
}

interface EpochSums {
  steps: number;
  loss: number;
  terms: TermMean[];
  within: StepRecord[];
}

/** The state of a run before its first step. */
export function freshState(): PolicyState {
  return {
    epochsDone: 0,
    history: [],
    best: null,
    sinceBest: 0,
    stoppedEarly: false,
    judged: 0,
    collapsed: false,
    before: null,
    seconds: 0,
    dataWaitSeconds: 0,
    epoch: { steps: 0, loss: 0, terms: [], within: [] },
  };
}

/** The text of a checkpoint: the state, with the policy that it was judged by. */
export function putDown(state: PolicyState, policy: Policy): string {
  return JSON.stringify({ policy, state });
}

/**
 * The state in the text of a checkpoint, for a run that goes on by `policy`.
 * @throws {RkdError} `ERR_INVALID_ARTEFACT` where what was measured so far, or which weights were kept, is not what `policy`
 * asks for: a best epoch by one measure says nothing beside scores by another
 */
export function takeUp(text: string, policy: Policy): PolicyState {
  const before = JSON.parse(text) as { readonly policy: Policy; readonly state: PolicyState };
  const refuse = (name: string, expected: unknown, received: unknown) =>
    new RkdError("ERR_INVALID_ARTEFACT", "plan.json asks for something else than the checkpoint has measured", {
      subject: `policy.${name}`,
      expected: JSON.stringify(expected),
      received: JSON.stringify(received),
      advice: "set it back, or start the run anew",
    });
  // When something is measured may change, what and how not.
  const { everyEpochs: _, everySteps: __, ...measured } = before.policy.evaluation;
  for (const [name, expected] of Object.entries(measured)) {
    const received = policy.evaluation[name as keyof typeof measured];
    if (JSON.stringify(received) !== JSON.stringify(expected)) throw refuse(`evaluation.${name}`, expected, received);
  }
  if (before.policy.keep === "last" && policy.keep !== "last" && before.state.best !== null) {
    throw refuse("keep", before.policy.keep, policy.keep);
  }
  return before.state;
}

/** Adds a segment of `steps` steps with their mean loss and terms. */
export function addSegment(state: PolicyState, steps: number, loss: number, terms: readonly TermMean[]): void {
  if (steps === 0) return;
  const { epoch } = state;
  epoch.loss += loss * steps;
  for (const term of terms) {
    const at = epoch.terms.findIndex(({ name }) => name === term.name);
    const sum = epoch.terms[at] ?? { steps: 0, value: 0, gradientNorm: 0 };
    epoch.terms.splice(at < 0 ? epoch.terms.length : at, 1, {
      ...term,
      steps: sum.steps + term.steps,
      value: sum.value + term.value * term.steps,
      gradientNorm: sum.gradientNorm + term.gradientNorm * term.steps,
    });
  }
  epoch.steps += steps;
}

/** Ends an epoch after `step` steps in all. Returns whether its validation is a new best. */
export function closeEpoch(state: PolicyState, step: number, validation: Metrics | null): boolean {
  const { steps, loss, terms, within } = state.epoch;
  const better = judge(state, step, validation);
  state.epochsDone += 1;
  state.history.push({
    epoch: state.epochsDone,
    loss: loss / Math.max(steps, 1),
    terms: terms.map(({ steps, value, gradientNorm, ...term }) => ({
      ...term,
      value: value / steps,
      gradientNorm: gradientNorm / steps,
    })),
    validation,
    ...(within.length > 0 && { within }),
  });
  state.epoch = freshState().epoch;
  return better;
}

/** Notes an evaluation inside an epoch. Returns whether it is a new best. */
export function addEvaluation(state: PolicyState, step: number, validation: Metrics): boolean {
  state.epoch.within.push({ step, validation });
  return judge(state, step, validation);
}

/** An earlier evaluation wins a tie. */
function judge(state: PolicyState, step: number, validation: Metrics | null): boolean {
  state.judged = step;
  if (!validation) return false;
  const score = scoreOf(validation);
  const better = state.best === null || score > state.best.score;
  if (better) state.best = { epoch: state.epochsDone + 1, step, score };
  state.sinceBest = better ? 0 : state.sinceBest + 1;
  return better;
}

/** The score by which weights are the best. */
function scoreOf(metrics: Metrics): number {
  return metrics[goalOf(metrics)] ?? 0;
}

/**
 * The metric that training is for, at the smallest K: the accuracy of a classifier where there is one, else recall; without
 * labels the share of nearest neighbours in common with the teacher.
 */
export function goalOf(metrics: Metrics): string {
  if (metrics.neighbourOverlap !== undefined) return "neighbourOverlap";
  const goal = Object.keys(metrics).some((name) => name.startsWith("top@")) ? "top@" : "recall@";
  const ks = Object.keys(metrics)
    .filter((name) => name.startsWith(goal))
    .map((name) => Number(name.slice(goal.length)));
  return `${goal}${Math.min(...ks)}`;
}
