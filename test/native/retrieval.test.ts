/** Metrics of given vectors, against loops over all pairs. */

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { runInNewContext } from "node:vm";
import { describe, expect, it } from "vitest";
import {
  embed,
  evaluate,
  mapAtR,
  nearest,
  readVectors,
  recallAtK,
  relationFidelity,
  rPrecision,
  train,
} from "../../src/index.ts";
import { temporaryFolder } from "../support/folders.ts";
import { smallRun } from "../support/small.ts";

/** Numbers that look drawn, in [-1, 1), rounded so that many distances are equal. */
function drawn(rows: number, numbers: number, seed: number): number[][] {
  let state = seed;
  const next = () => {
    state = (state * 1103515245 + 12345) % 2147483648;
    return Math.round((state / 1073741824 - 1) * 4) / 4;
  };
  return Array.from({ length: rows }, () => Array.from({ length: numbers }, next));
}

/** Sums of squares are exact here, so that equal distances are equal; those of `Math.hypot` are not. */
const distance = (a: readonly number[], b: readonly number[]) =>
  Math.sqrt(a.reduce((sum, v, i) => sum + (v - (b[i] ?? 0)) ** 2, 0));

/** The gallery from near to far, without the query itself. */
function ordered(query: readonly number[], gallery: readonly (readonly number[])[], itself = -1) {
  const all = gallery.map((row, index) => ({ index, distance: distance(query, row) }));
  return all.filter(({ index }) => index !== itself).sort((a, b) => a.distance - b.distance || a.index - b.index);
}

const [queries, gallery] = [drawn(40, 3, 1), drawn(90, 3, 2)];
const classes = ["a", "b", "c", "d", "e", "f", "g"];
const labels = gallery.map((_, i) => classes[(i * i) % 6] ?? "");
const asked = queries.map((_, i) => classes[i % 7] ?? ""); // nobody else is a "g"

/** Recall@K, MAP@R and R-precision by definition; of the gallery against itself without queries. */
function defined(rows: number[][], own: readonly string[], apart: boolean) {
  const hits: Record<number, number> = { 1: 0, 3: 0, 200: 0 };
  let [map, precision, withRelevant] = [0, 0, 0];
  rows.forEach((row, i) => {
    const same = ordered(row, gallery, apart ? -1 : i).map(({ index }) => labels[index] === own[i]);
    for (const k of [1, 3, 200]) if (same.slice(0, k).includes(true)) hits[k] = (hits[k] ?? 0) + 1;
    const r = same.filter(Boolean).length;
    if (r === 0) return;
    withRelevant++;
    const before = (k: number) => same.slice(0, k).filter(Boolean).length;
    precision += before(r) / r;
    for (let k = 1; k <= r; k++) if (same[k - 1]) map += before(k) / k / r;
  });
  const share = (value: number) => value / rows.length;
  return {
    recall: Object.fromEntries(Object.entries(hits).map(([k, count]) => [k, share(count)])),
    mapAtR: map / withRelevant,
    rPrecision: precision / withRelevant,
  };
}

describe("nearest", () => {
  it("gives what sorting everything gives, apart and among themselves", async () => {
    const found = await nearest(queries, gallery, 7, { threads: 2 });
    found.forEach((neighbours, i) => {
      const expected = ordered(queries[i] ?? [], gallery).slice(0, 7);
      expect(neighbours.map(({ index }) => index)).toEqual(expected.map(({ index }) => index));
      neighbours.forEach(({ distance }, rank) => {
        expect(distance).toBeCloseTo(expected[rank]?.distance ?? Number.NaN, 12);
      });
    });
    const among = await nearest(gallery, gallery, 5);
    among.forEach((neighbours, i) => {
      const expected = ordered(gallery[i] ?? [], gallery, i).slice(0, 5);
      expect(neighbours.map(({ index }) => index)).toEqual(expected.map(({ index }) => index));
    });
    // Another object with the same numbers is another gallery.
    const [first] = await nearest(gallery, [...gallery], 1);
    expect(first).toEqual([{ index: 0, distance: 0 }]);
    expect((await nearest(queries, gallery.slice(0, 3), 9))[0]).toHaveLength(3);
  });

  it("takes every form of vectors, and names what has ids", async () => {
    const flat = Float32Array.from(gallery.flat());
    const rows = gallery.map((row) => Float32Array.from(row));
    const named = gallery.map((vector, i) => ({ id: `image ${i}`, vector }));
    const ids = named.map(({ id }) => id);
    const plain = await nearest(queries, gallery, 3);
    const withIds = plain.map((all) => all.map((one) => ({ ...one, id: `image ${one.index}` })));
    expect(await nearest(queries, { data: flat, dimension: 3 }, 3)).toEqual(plain);
    expect(await nearest(queries, rows, 3)).toEqual(plain);
    expect(await nearest(queries, named, 3)).toEqual(withIds);
    expect(await nearest(queries, { data: flat, dimension: 3, ids }, 3)).toEqual(withIds);
    // Arrays of another realm, as in Jest.
    const foreign = runInNewContext("new Float32Array(numbers)", { numbers: gallery.flat() });
    expect(await nearest(queries, { data: foreign, dimension: 3 }, 3)).toEqual(plain);
  });

  it.each([
    [[[1, 2], [3]], [[1, 2]], { code: "ERR_INVALID_SHAPE", subject: "queries[1]" }, "expected 2 numbers, received 1"],
    [
      [[1, 2]],
      [[1, 2, 3]],
      { code: "ERR_INVALID_SHAPE", subject: "queries" },
      "expected 3 numbers, as in the gallery, received 2",
    ],
    [[[1, Number.NaN]], [[1, 2]], { code: "ERR_NON_FINITE", subject: "queries" }, "vector 0 is not finite"],
    [
      [[1, 2]],
      [
        [1, 2],
        [1, 1e39],
      ],
      { code: "ERR_NON_FINITE", subject: "gallery" },
      "vector 1 is not finite",
    ],
    [[], [[1, 2]], { code: "ERR_INVALID_DATA", subject: "queries" }, "at least one row"],
    [[1, 2], [[1, 2]], { code: "ERR_INVALID_OPTION", subject: "queries[0]" }, "an array of numbers"],
    [[[]], [[1, 2]], { code: "ERR_INVALID_SHAPE" }, "at least 1 numbers"],
    [{ data: [1, 2], dimension: 2 }, [[1, 2]], { code: "ERR_INVALID_OPTION", subject: "queries" }, "Float32Array"],
    [{ data: new Float32Array(3), dimension: 2 }, [[1, 2]], { subject: "queries.data" }, "rows of 2 numbers"],
  ])("refuses %j beside %j", async (queries, gallery, fields, says) => {
    const error = await nearest(queries as never, gallery as never, 1).catch((error) => error);
    expect(error).toMatchObject(fields);
    expect(error.message).toContain(says);
    await expect(nearest([[1]], [[1]], 0)).rejects.toMatchObject({ subject: "k" });
    for (const none of [null, undefined] as unknown as never[]) {
      await expect(nearest(none, [[1]], 1)).rejects.toMatchObject({ code: "ERR_INVALID_OPTION", subject: "queries" });
      await expect(relationFidelity(none, [[1]])).rejects.toMatchObject({
        code: "ERR_INVALID_OPTION",
        subject: "teacher",
      });
    }
  });
});

describe("retrieval by labels", () => {
  it("equals the definitions, apart and among themselves", async () => {
    const [asking, inside] = [
      { vectors: queries, labels: asked },
      { vectors: gallery, labels },
    ];
    const apart = defined(queries, asked, true);
    expect(await recallAtK(asking, inside, [1, 3, 200])).toEqual(apart.recall);
    expect(await recallAtK(asking, inside, 3)).toBe(apart.recall[3]);
    expect(await mapAtR(asking, inside)).toBeCloseTo(apart.mapAtR, 12);
    expect(await rPrecision(asking, inside)).toBeCloseTo(apart.rPrecision, 12);
    const among = defined(gallery, labels, false);
    expect(await recallAtK(inside, inside, [1, 3, 200], { threads: 1 })).toEqual(among.recall);
    expect(await mapAtR(inside, inside)).toBeCloseTo(among.mapAtR, 12);
    expect(await rPrecision(inside, inside)).toBeCloseTo(among.rPrecision, 12);
    expect(among.mapAtR).not.toBeCloseTo(apart.mapAtR, 2);
    // The same vectors in other objects are among themselves too, as with nearest.
    const again = { vectors: gallery, labels: [...labels] };
    expect(await recallAtK(again, inside, [1, 3, 200])).toEqual(among.recall);
    expect(await mapAtR(again, inside)).toBeCloseTo(among.mapAtR, 12);
    const others = { vectors: gallery, labels: labels.map((label) => `${label}!`) };
    await expect(recallAtK(others, inside, 1)).rejects.toMatchObject({ subject: "queries.labels" });
  });

  it("tells labels that do not fit", async () => {
    const [asking, inside] = [
      { vectors: queries, labels: asked.slice(1) },
      { vectors: gallery, labels },
    ];
    await expect(recallAtK(asking, inside, 1)).rejects.toThrow("queries: there is not one label for each vector");
    const others = { vectors: queries, labels: queries.map(() => "nobody") };
    expect(await recallAtK(others, inside, 1)).toBe(0);
    await expect(mapAtR(others, inside)).rejects.toThrow("no query has a vector of its class to find");
    // A number is the class of its text.
    const [numbers, texts] = [
      labels.map((label) => label.charCodeAt(0)),
      asked.map((label) => `${label.charCodeAt(0)}`),
    ];
    const [asTexts, asNumbers] = [
      { vectors: queries, labels: texts },
      { vectors: gallery, labels: numbers },
    ];
    expect(await recallAtK(asTexts, asNumbers, 1)).toBe(
      await recallAtK({ vectors: queries, labels: asked }, inside, 1),
    );
    await expect(recallAtK(others, inside, [])).rejects.toMatchObject({ subject: "k" });
    await expect(recallAtK(others, inside, [1, 0])).rejects.toMatchObject({ subject: "k[1]" });
  });
});

it("is what evaluate says of the same images", async () => {
  const folder = temporaryFolder();
  const [teacher, student] = [join(folder, "teacher"), join(folder, "student")];
  await train(smallRun(teacher));
  await train(smallRun(student, { epochs: 1 }));
  const { images, parts } = JSON.parse(readFileSync(join(student, "data.json"), "utf8"));
  const isTest = (id: string) => parts[images.indexOf(id)] === "2";
  const { data } = smallRun(student);
  /** The vectors of the test part, and their classes. */
  const testOf = async (model: string) => {
    const out = join(folder, "all.npy");
    await embed({ model, data, out });
    const { classes } = JSON.parse(readFileSync(`${out}.ids.json`, "utf8"));
    const { ids, data: all, dimension } = await readVectors(out);
    const chosen = ids.flatMap((id, i) => (isTest(id) ? [i] : []));
    const vectors = chosen.map((i) => all.slice(i * dimension, (i + 1) * dimension));
    return { vectors, labels: chosen.map((i): string => classes[i]) };
  };
  const [of, by] = [await testOf(student), await testOf(teacher)];
  const { metrics, images: count, fidelity } = await evaluate({ model: student, teacher, ks: [1, 4] });
  expect(of.labels).toHaveLength(count);
  expect(await recallAtK(of, of, [1, 4])).toEqual({ 1: metrics["recall@1"], 4: metrics["recall@4"] });
  expect(await mapAtR(of, of)).toBe(metrics.mapAtR);
  expect(await rPrecision(of, of)).toBe(metrics.rPrecision);
  const { seed } = JSON.parse(readFileSync(join(student, "plan.json"), "utf8")).plan;
  const kept = await relationFidelity(by.vectors, of.vectors, { ks: [1, 4], seed });
  expect(fidelity).toEqual([{ teacher: "teacher", weight: 1, ...kept }]);
  await expect(relationFidelity([[1]], [[1], [2]])).rejects.toMatchObject({ code: "ERR_INVALID_SHAPE" });
  await expect(relationFidelity(by.vectors, of.vectors, { ks: [] })).rejects.toMatchObject({ subject: "ks" });
});

it("tells a file that is whole and not read here from one that is cut short", async () => {
  const stored = (name: string) => fileURLToPath(new URL(`../../crates/core/tests/vectors/${name}`, import.meta.url));
  await expect(readVectors(stored("brotli.parquet"))).rejects.toThrow(/write it with zstd or snappy$/);
  await expect(readVectors(stored("delta.parquet"))).rejects.toThrow(/write them plain or with a dictionary$/);
  const cut = join(temporaryFolder(), "cut.arrow");
  const whole = readFileSync(stored("columns.arrow"));
  writeFileSync(cut, whole.subarray(0, whole.length / 2));
  await expect(readVectors(cut)).rejects.toThrow(/does not end with the mark of an Arrow file\. The file is cut short/);
});
