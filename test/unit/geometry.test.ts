import { describe, expect, it } from "vitest";
import {
  angleAt,
  densityOf,
  distancesOf,
  farthestPairs,
  farthestTriples,
  groupsOf,
  nearestTo,
  projectionOf,
} from "../../src/report/geometry.ts";

const rows = (...points: readonly (readonly number[])[]) => ({
  values: Float32Array.from(points.flat()),
  n: points.length,
});
/** A right triangle of the sides 3, 4 and 5, whose mean is 4. */
const triangle = distancesOf(rows([0, 0], [3, 0], [0, 4]));

describe("distances", () => {
  it("are Euclidean, and divided by their mean", () => {
    const expected = [0, 3, 4, 3, 0, 5, 4, 5, 0].map((side) => side / 4);
    expect([...triangle]).toEqual(expected.map((side) => expect.closeTo(side, 6)));
  });

  it("of equal rows are 0, not NaN", () => {
    expect([...distancesOf(rows([1, 2], [1, 2], [1, 2]))]).toEqual(new Array(9).fill(0));
    expect([...distancesOf(rows())]).toEqual([]);
  });
});

it("angles are in degrees at the vertex, and 0 where a side is missing", () => {
  expect(angleAt(triangle, 3, 0, 1, 2)).toBeCloseTo(90, 4);
  expect(angleAt(triangle, 3, 1, 0, 2)).toBeCloseTo((Math.atan2(4, 3) * 180) / Math.PI, 4);
  expect(angleAt(triangle, 3, 0, 0, 2)).toBe(0);
});

it("neighbours come from near to far, without the row itself", () => {
  const corners = rows([0, 0], [3, 0], [0, 4]);
  expect(nearestTo(corners, 1, 5)).toEqual([0, 2]);
  expect(nearestTo(corners, 2, 1)).toEqual([0]);
  expect(nearestTo(rows([5], [5], [5]), 1, 2)).toEqual([0, 2]);
});

it("the plane is that of the largest variance, whatever the offset", () => {
  const line = Array.from({ length: 40 }, (_, i) => [100 + 3 * i, 7 + ((i * 17) % 5), 50]);
  const { points, explained } = projectionOf(rows(...line));
  const along = points.map(([x]) => x);
  const rising = along.every((x, i) => i === 0 || x > (along[i - 1] ?? 0));
  const falling = along.every((x, i) => i === 0 || x < (along[i - 1] ?? 0));
  expect(rising || falling).toBe(true);
  expect(Math.max(...points.flat().map(Math.abs))).toBeCloseTo(1, 6);
  expect(explained).toBeCloseTo(1, 6);
  expect(
    projectionOf(rows([1, 1], [1, 1]))
      .points.flat()
      .every(Number.isFinite),
  ).toBe(true);
});

it("groups hold together what is near", () => {
  const near = rows([0, 0], [9, 9], [0.1, 0], [9.1, 9], [0, 0.1], [-9, 9]);
  const groups = groupsOf(distancesOf(near), near.n, 3);
  const of = (i: number) => groups[i];
  expect([of(2), of(4), of(3)]).toEqual([of(0), of(0), of(1)]);
  expect(new Set(groups).size).toBe(3);
  expect(new Set(groupsOf(distancesOf(near), near.n, 100)).size).toBe(6);
});

it("the density counts every pair once, the largest in the last step", () => {
  const counts = densityOf(triangle, triangle, 3, 4, 1.25);
  expect(counts.reduce((sum, count) => sum + count, 0)).toBe(3);
  expect(counts[15]).toBe(2); // 4 and 5 quarters
  expect(counts[2 * 4 + 2]).toBe(1);
});

it("the pairs and triples that differ most are found, and no row is in two of them", () => {
  const a = rows([0, 0], [1, 0], [2, 0], [3, 0], [4, 0], [5, 0]);
  const b = rows([0, 0], [1, 0], [2, 0], [3, 0], [4, 0], [50, 0]);
  const [first, ...others] = farthestPairs(distancesOf(a), distancesOf(b), 6, 3);
  expect(first).toContain(5);
  expect(new Set([first, ...others].flat()).size).toBe(6);
  const bent = rows([0, 0], [1, 0], [2, 0], [3, 0], [4, 0], [2, 9]);
  const triples = farthestTriples(distancesOf(a), distancesOf(bent), 6, 2);
  expect(triples[0]).toContain(5);
  expect(new Set(triples.flat()).size).toBe(3 * triples.length);
  expect(farthestTriples(distancesOf(rows([0], [1])), distancesOf(rows([0], [1])), 2, 2)).toEqual([]);
});
