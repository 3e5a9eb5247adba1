/** What the policy remembers between two segments. It travels in the checkpoint, so that a resumed run decides alike. */

import type { TermMean } from "../native/session.ts";
import type { EpochRecord, Evaluation, Metrics } from "./events.ts";

/** JSON, and nothing that depends on the machine but times. */
export interface PolicyState {
  /** Epochs that are finished and judged. */
  epochsDone: number;
  readonly history: EpochRecord[];
  /** The best validation so far. */
  best: { readonly epoch: number; readonly score: number } | null;
  /** Evaluations since the best. */
  sinceBest: number;
  stoppedEarly: boolean;
  /** The student with its initial weights on the test classes. */
  before: Evaluation | null;
  seconds: number;
  dataWaitSeconds: number;
  /** Sums over the steps of the epoch in progress. */
  epoch: { steps: number; loss: number; terms: TermMean[] };
}

/** The state of a run before its first step. */
export function freshState(): PolicyState {
  return {
    epochsDone: 0,
    history: [],
    best: null,
    sinceBest: 0,
    stoppedEarly: false,
    before: null,
    seconds: 0,
    dataWaitSeconds: 0,
    epoch: { steps: 0, loss: 0, terms: [] },
  };
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

/** Ends an epoch. Returns whether its validation is a new best; an earlier one wins a tie. */
export function closeEpoch(state: PolicyState, validation: Metrics | null): boolean {
  const { steps, loss, terms } = state.epoch;
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
  });
  state.epoch = { steps: 0, loss: 0, terms: [] };
  if (!validation) return false;
  const score = scoreOf(validation);
  const better = state.best === null || score > state.best.score;
  if (better) state.best = { epoch: state.epochsDone, score };
  state.sinceBest = better ? 0 : state.sinceBest + 1;
  return better;
}

/** Recall@K of the smallest K that was asked for. */
function scoreOf(metrics: Metrics): number {
  const ks = Object.keys(metrics)
    .filter((name) => name.startsWith("recall@"))
    .map((name) => Number(name.slice("recall@".length)));
  return metrics[`recall@${Math.min(...ks)}`] ?? 0;
}
