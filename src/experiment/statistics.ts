/**
 * Means over seeds, and when a difference is more than their noise.
 *
 * Two rows are compared seed by seed: with one seed both saw the same split of the classes and the same batches, so what
 * the seed does to both cancels in the differences d_1 ... d_n. The difference is *beyond the noise* where the 95 %
 * interval of its mean, mean(d) +- t(n - 1) * deviation(d) / sqrt(n) with Student's t, does not contain 0. Below three seeds
 * nothing is judged: one has no spread, and that of two says little.
 */

/** A figure over the seeds. */
export interface Spread {
  /** Mean of those that are there; nothing where none is. */
  readonly mean: number | null;
  /** Standard deviation (n - 1); nothing below two values. */
  readonly deviation: number | null;
  /** By seed, in the order of the seeds; nothing where there is none. */
  readonly values: readonly (number | null)[];
}

/** How a difference is judged. */
export type Judgement = "higher" | "lower" | "inside the noise" | "too few seeds" | "missing";

/** A row's figure minus another's, seed by seed. */
export interface Difference extends Spread {
  /** Half the 95 % interval of the mean; nothing below three seeds. */
  readonly halfInterval: number | null;
  readonly judgement: Judgement;
}

/** The rule in a sentence, for the reader of a table. */
export const rule =
  "Differences are taken seed by seed; one is called noise unless the 95 % interval of its mean (Student's t over the seeds) leaves out 0. It takes at least three seeds. Each is judged alone: of twenty that are noise, one will look real.";

/** Mean and deviation of `values`. */
export function spreadOf(values: readonly (number | null)[]): Spread {
  const there = values.filter((value) => value !== null);
  if (there.length === 0) return { mean: null, deviation: null, values };
  const mean = there.reduce((sum, value) => sum + value, 0) / there.length;
  const squares = there.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  const deviation = there.length < 2 ? null : Math.sqrt(squares / (there.length - 1));
  return { mean, deviation, values };
}

/** `a` minus `b`, paired by seed, and what can be said of it. */
export function compare(a: Spread, b: Spread): Difference {
  const differences = a.values.map((value, i) => minus(value, b.values[i] ?? null));
  const spread = spreadOf(differences);
  const count = differences.filter((value) => value !== null).length;
  if (spread.mean === null) return { ...spread, halfInterval: null, judgement: "missing" };
  if (spread.deviation === null || count < 3) return { ...spread, halfInterval: null, judgement: "too few seeds" };
  const halfInterval = (studentT(count - 1) * spread.deviation) / Math.sqrt(count);
  const noise = Math.abs(spread.mean) <= halfInterval;
  return { ...spread, halfInterval, judgement: noise ? "inside the noise" : spread.mean > 0 ? "higher" : "lower" };
}

/** What `differences` say of the claim that they are positive, in words. */
export function claimVerdict(differences: readonly Pick<Difference, "mean" | "judgement">[]): string {
  const count = (judgement: Difference["judgement"]) =>
    differences.filter((difference) => difference.judgement === judgement).length;
  const all = differences.length;
  const [held, reversed, noise] = [count("higher"), count("lower"), count("inside the noise")];
  const [few, missing] = [count("too few seeds"), count("missing")];
  if (missing === all) return "not measured";
  if (few + missing === all) {
    const positive = differences.filter(({ mean }) => mean !== null && mean > 0).length;
    return `so in ${positive} of ${few}, not judged: fewer than three seeds do not tell a difference from noise`;
  }
  if (held === all) return "held";
  if (reversed === all) return "did not hold: the opposite was measured";
  if (noise === all)
    return all === 1
      ? "not shown: the difference is inside the noise"
      : "not shown: all differences are inside the noise";
  const parts = [`held in ${held} of ${all}`, `the opposite in ${reversed}`, `inside the noise in ${noise}`];
  const rest = [few > 0 && `too few seeds in ${few}`, missing > 0 && `not measured in ${missing}`];
  return [...parts, ...rest.filter((part) => part !== false)].join(", ");
}

/** The 97.5 % points of Student's t with 1 to 20 degrees of freedom. */
const points = [
  12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145, 2.131, 2.12, 2.11,
  2.101, 2.093, 2.086,
];

/** The point for `freedom` degrees; above 20 the normal point with two corrections (Abramowitz, Stegun 26.7.5). */
export function studentT(freedom: number): number {
  const z = 1.959964;
  const expansion = z + (z ** 3 + z) / (4 * freedom) + (5 * z ** 5 + 16 * z ** 3 + 3 * z) / (96 * freedom ** 2);
  return points[freedom - 1] ?? expansion;
}

function minus(a: number | null, b: number | null): number | null {
  return a === null || b === null ? null : a - b;
}
