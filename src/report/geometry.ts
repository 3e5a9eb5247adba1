/**
 * The geometry of a few hundred embeddings, for pictures of it: distances, angles, neighbours, groups, a plane.
 *
 * n rows, d numbers in each. What is measured of a run is measured in the core; nothing here goes into a score.
 */

/** Rows of equal length. */
export interface Rows {
  /** `[n, d]`, row-major. */
  readonly values: Float32Array;
  readonly n: number;
}

/** The length of each row. */
function dimension({ values, n }: Rows): number {
  return n === 0 ? 0 : values.length / n;
}

/** Euclidean distances `[n, n]`, divided by the mean of those that are not 0, as RKD compares them. */
export function distancesOf(rows: Rows): Float32Array {
  const [{ values, n }, d] = [rows, dimension(rows)];
  const distances = new Float32Array(n * n);
  let [sum, count] = [0, 0];
  for (let i = 0; i < n; i++) {
    for (let j = i + 1; j < n; j++) {
      const distance = Math.sqrt(square(values, d, i, j));
      distances[i * n + j] = distance;
      distances[j * n + i] = distance;
      if (distance > 0) [sum, count] = [sum + distance, count + 1];
    }
  }
  const mean = count > 0 ? sum / count : 1;
  return distances.map((distance) => distance / mean);
}

/** The angle at `vertex` between the directions to `a` and `b`, in degrees, by the law of cosines; 0 where one is missing. */
export function angleAt(distances: Float32Array, n: number, vertex: number, a: number, b: number): number {
  const [p, q, r] = [at(distances, vertex * n + a), at(distances, vertex * n + b), at(distances, a * n + b)];
  if (p === 0 || q === 0) return 0;
  const cosine = (p * p + q * q - r * r) / (2 * p * q);
  return (Math.acos(Math.min(1, Math.max(-1, cosine))) * 180) / Math.PI;
}

/** The `k` rows that are nearest to row `i`, nearest first, without itself; of equal ones the first. */
export function nearestTo(rows: Rows, i: number, k: number): number[] {
  const [{ values, n }, d] = [rows, dimension(rows)];
  const squares = Float64Array.from({ length: n }, (_, j) => square(values, d, i, j));
  const others = Array.from({ length: n }, (_, j) => j).filter((j) => j !== i);
  return others.sort((a, b) => at(squares, a) - at(squares, b) || a - b).slice(0, k);
}

/** The squared distance of two rows. */
function square(values: Float32Array, d: number, i: number, j: number): number {
  let sum = 0;
  for (let k = 0; k < d; k++) {
    const difference = at(values, i * d + k) - at(values, j * d + k);
    sum += difference * difference;
  }
  return sum;
}

/** A plane through the rows. */
export interface Plane {
  readonly points: readonly (readonly [x: number, y: number])[];
  /** Share of the variance that the plane has, in [0, 1]. */
  readonly explained: number;
}

/** The rows on their first two principal components, the largest extent scaled to 1. */
export function projectionOf(rows: Rows): Plane {
  const [{ values, n }, d] = [rows, dimension(rows)];
  const means = Float64Array.from({ length: d }, (_, k) => {
    let sum = 0;
    for (let i = 0; i < n; i++) sum += at(values, i * d + k);
    return sum / Math.max(n, 1);
  });
  const centred = Float64Array.from(values, (value, place) => value - at(means, place % d));
  let variance = 0;
  for (const value of centred) variance += value * value;
  const first = component(centred, n, d, undefined);
  const second = component(centred, n, d, first.direction);
  const scale = Math.max(...first.scores.map(Math.abs), ...second.scores.map(Math.abs), 1e-12);
  const points = first.scores.map((x, i) => [x / scale, at(second.scores, i) / scale] as const);
  return { points, explained: variance > 0 ? (first.power + second.power) / variance : 0 };
}

/** Steps of the power method; enough for a picture. */
const ITERATIONS = 60;

/** The direction of the largest variance that is at right angles to `before`. */
function component(centred: Float64Array, n: number, d: number, before: Float64Array | undefined) {
  let direction = Float64Array.from({ length: d }, (_, k) => Math.cos(k * 1.7 + (before ? 1 : 0)) + 0.1);
  let scores: number[] = [];
  for (let step = 0; step < ITERATIONS; step++) {
    scores = Array.from({ length: n }, (_, i) => {
      let sum = 0;
      for (let k = 0; k < d; k++) sum += at(centred, i * d + k) * at(direction, k);
      return sum;
    });
    const next = new Float64Array(d);
    for (let i = 0; i < n; i++) {
      const score = at(scores, i);
      for (let k = 0; k < d; k++) next[k] = at(next, k) + score * at(centred, i * d + k);
    }
    if (before) remove(next, before);
    const length = Math.hypot(...next);
    if (length === 0) break;
    direction = next.map((value) => value / length);
  }
  return { direction, scores, power: scores.reduce((sum, score) => sum + score * score, 0) };
}

function remove(from: Float64Array, direction: Float64Array): void {
  const along = from.reduce((sum, value, k) => sum + value * at(direction, k), 0);
  for (let k = 0; k < from.length; k++) from[k] = at(from, k) - along * at(direction, k);
}

/** At most `count` groups of near rows: each begins at the row farthest from the groups before, and takes what is nearest. */
export function groupsOf(distances: Float32Array, n: number, count: number): number[] {
  const seeds = n > 0 ? [0] : [];
  const nearestSeed = new Float64Array(n).fill(Number.POSITIVE_INFINITY);
  const groups = new Array<number>(n).fill(0);
  for (let group = 0; group < seeds.length; group++) {
    const seed = seeds[group] ?? 0;
    let [farthest, far] = [-1, 0];
    for (let i = 0; i < n; i++) {
      const distance = at(distances, seed * n + i);
      if (distance < at(nearestSeed, i)) [nearestSeed[i], groups[i]] = [distance, group];
      if (at(nearestSeed, i) > far) [farthest, far] = [i, at(nearestSeed, i)];
    }
    if (seeds.length < count && farthest >= 0) seeds.push(farthest);
  }
  return groups;
}

/** How many pairs have both distances in each of `size` x `size` steps from 0 to `most`; x is `a`, rows are from below. */
export function densityOf(a: Float32Array, b: Float32Array, n: number, size: number, most: number): number[] {
  const counts = new Array<number>(size * size).fill(0);
  const step = (value: number) => Math.min(size - 1, Math.floor((value / most) * size));
  for (let i = 0; i < n; i++) {
    for (let j = i + 1; j < n; j++) {
      const place = step(at(b, i * n + j)) * size + step(at(a, i * n + j));
      counts[place] = (counts[place] ?? 0) + 1;
    }
  }
  return counts;
}

/** The pairs whose distances differ most, no image in two of them. */
export function farthestPairs(a: Float32Array, b: Float32Array, n: number, count: number): [number, number][] {
  const pairs: { readonly pair: [number, number]; readonly gap: number }[] = [];
  for (let i = 0; i < n; i++) {
    for (let j = i + 1; j < n; j++) {
      pairs.push({ pair: [i, j], gap: Math.abs(at(a, i * n + j) - at(b, i * n + j)) });
    }
  }
  return apart(pairs, count);
}

/** The triples, of those that are looked at, whose angles at the middle image differ most, no image in two of them. */
export function farthestTriples(
  a: Float32Array,
  b: Float32Array,
  n: number,
  count: number,
): [number, number, number][] {
  const triples: { readonly pair: [number, number, number]; readonly gap: number }[] = [];
  // A stride that shares no factor with most n walks through triples of all kinds, the same in every report.
  for (let t = 0; t < TRIPLES && n >= 3; t++) {
    const [i, j, k] = [t % n, (t * 7919 + 1) % n, (t * 104_729 + 2 + Math.floor(t / n)) % n];
    if (i === j || j === k || i === k) continue;
    triples.push({ pair: [i, j, k], gap: Math.abs(angleAt(a, n, j, i, k) - angleAt(b, n, j, i, k)) });
  }
  return apart(triples, count);
}

/** Triples that are looked at. */
export const TRIPLES = 50_000;

function apart<T extends number[]>(all: { readonly pair: T; readonly gap: number }[], count: number): T[] {
  const used = new Set<number>();
  const found: T[] = [];
  for (const { pair } of all.sort((x, y) => y.gap - x.gap)) {
    if (found.length >= count) break;
    if (pair.some((place) => used.has(place))) continue;
    for (const place of pair) used.add(place);
    found.push(pair);
  }
  return found;
}

/** A number that is there: `noUncheckedIndexedAccess` cannot know it. */
function at(values: ArrayLike<number>, place: number): number {
  return values[place] as number;
}
