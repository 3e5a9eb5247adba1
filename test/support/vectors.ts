/** Vectors that `embed` wrote, and how near two are. */

import { readFileSync } from "node:fs";

/** The rows of a `.npy` of float32, by the ids beside it. */
export function readVectors(file: string): ReadonlyMap<string, Float32Array> {
  const bytes = readFileSync(file);
  const start = 10 + bytes.readUInt16LE(8);
  const shape = /'shape': \((\d+), (\d+)\b/.exec(bytes.toString("latin1", 10, start)) ?? [];
  const [count, length] = [Number(shape[1]), Number(shape[2])];
  const values = new Float32Array(bytes.buffer.slice(bytes.byteOffset + start, bytes.byteOffset + bytes.length));
  const { ids } = JSON.parse(readFileSync(`${file}.ids.json`, "utf8"));
  const row = (i: number) => [ids[i], values.subarray(i * length, (i + 1) * length)] as const;
  return new Map(Array.from({ length: count }, (_, i) => row(i)));
}

/** The largest difference of two numbers at one place. */
export function apart(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) return Number.POSITIVE_INFINITY;
  return Math.max(...Array.from(a, (value, i) => Math.abs(value - (b[i] ?? Number.NaN))));
}

/** The cosine of the angle between two vectors. */
export function cosine(a: ArrayLike<number>, b: ArrayLike<number>): number {
  const dot = (x: ArrayLike<number>, y: ArrayLike<number>) =>
    Array.from(x, (value, i) => value * (y[i] ?? Number.NaN)).reduce((sum, product) => sum + product, 0);
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
}
