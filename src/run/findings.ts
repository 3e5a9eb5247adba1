/** What is wrong with a finished run: its numbers in plain words, each with the likely cause and what to try. */

import type { EpochRecord, Finding, Metrics, Verdict } from "../events.ts";
import { isCorrelation, score } from "./figures.ts";
import { goalOf } from "./state.ts";

/** What is looked at. */
export interface Evidence {
  readonly history: readonly EpochRecord[];
  /** Whether the alarm for embeddings that run together has rung. */
  readonly collapsed: boolean;
  readonly learningRate: number;
  readonly hasTeacher: boolean;
  /** Of a distillation with test images. */
  readonly verdict?: Verdict;
  /** How many test images there are. */
  readonly testImages: number;
}

/** The findings, the gravest first. */
export function findingsOf({ history, collapsed, learningRate, hasTeacher, verdict, testImages }: Evidence): Finding[] {
  const findings: Finding[] = [];
  const add = (kind: Finding["kind"], message: string) => findings.push({ kind, message });
  const rate = `the learning rate, ${learningRate}: try a tenth of it or less, or more warm-up steps`;
  if (isDead(history)) {
    add(
      "dead-gradient",
      `The gradient is dead: the last epochs changed nothing, though the loss is not small. The usual cause is ${rate}.`,
    );
  } else if (isStuck(history, hasTeacher)) {
    add("no-progress", `Nothing was learnt: the loss ended no lower than it began. The usual cause is ${rate}.`);
  }
  if (collapsed) {
    add(
      "collapse",
      "The student's embeddings ran together in one point on the way. Try a smaller learning rate, more warm-up steps, or " +
        "negatives that are less hard.",
    );
  }
  if (!verdict) return findings;
  const { studentBefore, studentAfter, baseline } = verdict;
  const below = (before: Metrics) => {
    // Of few test images two may have the same goal, or nearly: there the next one tells.
    for (const name of [goalOf(studentAfter.metrics), "mapAtR", "distanceRankCorrelation"]) {
      const [now, was] = [studentAfter.metrics[name] ?? Number.NaN, before[name] ?? Number.NaN];
      if (was - now > chance(name, was, testImages))
        return `its ${name} is ${score(name, now)}, and ${score(name, was)}`;
      if (now > was) return undefined;
    }
    return undefined;
  };
  const start = below(studentBefore.metrics);
  if (start) {
    add(
      "below-start",
      `The student is worse than before training: ${start} at the start. The likely cause is a learning rate that is too ` +
        "large, above all for weights that were trained before, or a teacher that does not know such images: compare its row.",
    );
  }
  const alone = baseline && below(baseline.metrics);
  if (alone) {
    const better = teacherIsBetter(verdict)
      ? ""
      : " The teacher itself is no better than that, so it has nothing to give.";
    add(
      "below-baseline",
      `The student is worse than the same student without a teacher: ${alone} there.${better} Try more epochs, a smaller ` +
        "weight of the teacher's terms beside a loss of labels, or a better teacher; a second seed shows what is chance.",
    );
  }
  return findings;
}

/** Epochs from which on a history says something. */
const FEWEST_EPOCHS = 3;

/** Share of a term's largest gradient below which it has none. */
const NO_GRADIENT = 1e-4;

/** Share of the first epoch's loss below which a gradient is small because there is little left to learn. */
const LEARNT = 0.1;

/**
 * Whether the last two epochs learnt nothing. RKD does not change where all embeddings are made larger, and a leap of the
 * weights makes them so large that no later step moves them: the loss stands where it was, and the gradient is 0 beside what
 * it was.
 */
function isDead(history: readonly EpochRecord[]): boolean {
  const [first] = history;
  const last = history.slice(-2);
  if (!first || history.length < FEWEST_EPOCHS) return false;
  const largest = new Map<string, number>();
  for (const { name, gradientNorm } of history.flatMap(({ terms }) => terms)) {
    largest.set(name, Math.max(largest.get(name) ?? 0, gradientNorm));
  }
  return last.every(
    ({ loss, terms }) =>
      terms.length > 0 &&
      loss > LEARNT * first.loss &&
      terms.every(({ name, gradientNorm }) => gradientNorm <= NO_GRADIENT * (largest.get(name) ?? 0)),
  );
}

/**
 * Whether the terms of the last epoch are in all no lower than those of the first, in which even a bad start is averaged. A
 * loss of labels alone may look so because its negatives get harder: there the validation must say the same.
 */
function isStuck(history: readonly EpochRecord[], hasTeacher: boolean): boolean {
  const [first, last] = [history[0], history.at(-1)];
  if (!first || !last || history.length < FEWEST_EPOCHS) return false;
  // Weights may follow a course, and terms come and go: what both epochs have, by the weights of the last.
  const both = last.terms.flatMap(({ name, weight, value }) =>
    first.terms.filter((term) => term.name === name).map((term) => weight * (value - term.value)),
  );
  if (both.length === 0 || both.reduce((sum, rise) => sum + rise, 0) < 0) return false;
  if (hasTeacher) return true;
  if (!first.validation || !last.validation) return false;
  const goal = goalOf(last.validation);
  return (last.validation[goal] ?? 0) <= (first.validation[goal] ?? 0);
}

/** Whether any teacher is. */
function teacherIsBetter({ teachers, baseline, studentAfter }: Verdict): boolean {
  const goal = goalOf(studentAfter.metrics);
  return teachers.some(({ metrics }) => (metrics[goal] ?? 0) > (baseline?.metrics[goal] ?? 0));
}

/** Standard errors that a difference must exceed. */
const STANDARD_ERRORS = 2;

/** What chance alone may make of a metric of so many images: of a share its standard errors, of a correlation those of none. */
function chance(name: string, value: number, images: number): number {
  const variance = isCorrelation(name) ? 1 : value * (1 - value);
  return STANDARD_ERRORS * Math.sqrt(variance / images);
}
