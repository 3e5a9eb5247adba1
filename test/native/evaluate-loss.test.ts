/** The losses, through the whole stack, against PyTorch's values; `RKD_GOLDEN` names another folder of them. */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import {
  attentionTransfer,
  evaluateLoss,
  hardDarkRank,
  hint,
  type Loss,
  type LossInputs,
  linearHint,
  margin,
  prototypical,
  RkdError,
  rkdAngle,
  rkdDistance,
  softTargetKl,
  type TensorInput,
  triplet,
} from "../../src/index.ts";
import { lossKinds } from "../../src/protocol/protocol.ts";

interface GoldenCase {
  readonly name: string;
  readonly loss: string;
  readonly params: Record<string, number>;
  readonly inputs: Record<string, TensorInput>;
  readonly labels?: number[];
  readonly expected: Record<string, TensorInput> & { readonly value: number };
}

const folder = process.env.RKD_GOLDEN ?? "test/golden";
const golden: { losses: GoldenCase[] } = JSON.parse(readFileSync(join(folder, "losses.json"), "utf8"));
const cases = golden.losses.filter(({ loss }) => (lossKinds as readonly string[]).includes(loss));
const camel = (name: string) => name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());

/** Shares of the largest entry; the README beside the golden values says why some are wider. */
function tolerance(name: string): number {
  return /far from the origin|near-duplicate/.test(name) ? 1e-4 : 1e-5;
}

/** One tensor under another. */
function stack(above?: TensorInput, below?: TensorInput): TensorInput {
  const [rows = 0, ...rest] = above?.shape ?? [];
  return { data: [...(above?.data ?? []), ...(below?.data ?? [])], shape: [rows + (below?.shape[0] ?? 0), ...rest] };
}

/** The inputs of a case. Anchors and positives are stacked, with labels by which the pair selector finds them again. */
function inputsOf({ inputs, labels }: GoldenCase): LossInputs {
  const { student, teacher, projection, anchors, positives } = inputs;
  const parameters = projection && { parameters: { projection } };
  if (student) return { student, ...(teacher && { teacher }), ...(labels && { labels }), ...parameters };
  const stacked = stack(anchors, positives);
  const count = anchors?.shape[0] ?? 0;
  return { student: stacked, labels: Array.from({ length: 2 * count }, (_, i) => i % count) };
}

describe("golden values", () => {
  it("has cases of every kind", () => {
    // Plain regression is a linear hint through the identity; the core's tests say so.
    const kinds = new Set(cases.map(({ loss }) => loss)).add("feature-regression");
    expect(kinds).toEqual(new Set(lossKinds));
  });

  it.each(cases.map((one) => [one.name, one] as const))("%s", (name, one) => {
    const { loss, params, expected } = one;
    const options = Object.fromEntries(Object.entries(params).map(([key, value]) => [camel(key), value]));
    // The golden values are of all negatives, where a loss chooses some.
    const all = ["triplet-squared", "triplet-euclidean", "contrastive", "margin"].includes(loss) && {
      negatives: "all",
    };
    const { value, gradients } = evaluateLoss({ kind: loss, ...all, ...options } as unknown as Loss, inputsOf(one));
    const zero = name.includes("zero at");
    expect(Math.abs(value - expected.value)).toBeLessThanOrEqual(
      zero ? 1e-10 : tolerance(name) * Math.max(Math.abs(expected.value), 1e-12),
    );
    const { gradient_anchors, gradient_positives, gradient_projection } = expected;
    const gradient_student = expected.gradient_student ?? stack(gradient_anchors, gradient_positives);
    expect(Object.keys(gradients).sort()).toEqual(gradient_projection ? ["projection", "student"] : ["student"]);
    for (const [input, tensor] of Object.entries({ student: gradient_student, projection: gradient_projection })) {
      if (!tensor) continue;
      const wanted = Array.from(tensor.data);
      const largest = Math.max(...wanted.map(Math.abs));
      const found = gradients[input];
      expect(found).toBeInstanceOf(Float32Array);
      expect(found).toHaveLength(wanted.length);
      const worst = Math.max(...wanted.map((entry, i) => Math.abs(entry - (found?.[i] ?? Number.NaN))));
      expect(worst).toBeLessThanOrEqual(zero ? 1e-5 : tolerance(name) * Math.max(largest, 1e-12));
    }
  });
});

const matrix = (rows: number, columns: number, at: (i: number) => number): TensorInput => ({
  data: Float32Array.from({ length: rows * columns }, (_, i) => at(i)),
  shape: [rows, columns],
});
const student = matrix(12, 5, (i) => Math.sin(i * 1.7));
const teacher = matrix(12, 7, (i) => Math.cos(i * 2.3));
const labels = Array.from({ length: 12 }, (_, i) => Math.floor(i / 3));

describe("evaluateLoss", () => {
  it("has the same bits on any number of threads", () => {
    // Threads take 8 rows at a time, and angles 128 vertices after each other: several of both.
    const inputs = {
      student: matrix(300, 5, (i) => Math.sin(i * 1.7)),
      teacher: matrix(300, 7, (i) => Math.cos(i * 2.3)),
    };
    for (const loss of [rkdDistance(), rkdAngle()]) {
      const one = evaluateLoss(loss, inputs, { threads: 1 });
      const three = evaluateLoss(loss, inputs, { threads: 3 });
      expect(three).toEqual(one);
    }
  });

  it("leaves the weight to the total", () => {
    const value = (weight: number) => evaluateLoss(rkdAngle({ weight }), { student, teacher }).value;
    expect(value(5)).toBe(value(1));
  });

  it("normalises rows where the term says so, and pulls the gradient back through it", () => {
    const unit = ({ data, shape: [n = 0, d = 0] }: TensorInput) =>
      matrix(n, d, (i) => (data[i] ?? 0) / Math.hypot(...data.slice(i - (i % d), i - (i % d) + d)));
    const plain = evaluateLoss(rkdDistance(), { student: unit(student), teacher: unit(teacher) });
    const { value, gradients } = evaluateLoss(rkdDistance({ normalize: true }), { student, teacher });
    expect(value).toBeCloseTo(plain.value, 6);
    expect(value).not.toBeCloseTo(evaluateLoss(rkdDistance(), { student, teacher }).value, 6);
    // Nothing along a row: its length does not count.
    const along = [0, 1, 2, 3, 4].map((k) => (student.data[k] ?? 0) * (gradients.student[k] ?? 0));
    expect(along.reduce((sum, x) => sum + x)).toBeCloseTo(0, 7);
    expect(Math.hypot(...gradients.student.subarray(0, 5))).toBeGreaterThan(1e-4);
  });

  it("samples by its seed", () => {
    const value = (seed: number) => evaluateLoss(triplet({ negatives: "random" }), { student, labels }, { seed }).value;
    expect(value(1)).toBe(value(1));
    expect(new Set([1, 2, 3, 4, 5].map(value)).size).toBeGreaterThan(1);
  });

  it("gives the gradient of a learned boundary", () => {
    const unit = matrix(12, 5, (i) => Math.sin(i * 1.7) / 1.6);
    const at = (beta: number) =>
      evaluateLoss(margin({ learnBeta: true, negatives: "all" }), {
        student: unit,
        labels,
        parameters: { beta: { data: [beta], shape: [1, 1] } },
      });
    const slope = at(1.2).gradients.beta?.[0] ?? Number.NaN;
    expect(slope).not.toBe(0);
    expect((at(1.2001).value - at(1.1999).value) / 0.0002).toBeCloseTo(slope, 2);
  });

  it("draws other negatives where the released code's weights underflow", () => {
    // Rows of 512 numbers and norms of about 1: classes are tight, so every anchor has a positive near it.
    const place = (i: number) => Math.sin(i * i) + 3 * Math.sin(Math.floor(i / 1536) + (i % 512) ** 2);
    const wide = matrix(12, 512, (i) => place(i) / 50);
    const value = (uniformWhenUnderflow: boolean) =>
      evaluateLoss(margin({ negatives: "distance-weighted", uniformWhenUnderflow }), { student: wide, labels }).value;
    expect(value(true)).not.toBe(value(false));
  });

  it("takes plain numbers and Float64Array, and a part of a larger buffer", () => {
    const { value } = evaluateLoss(rkdAngle(), { student, teacher });
    const plain = { ...student, data: Array.from(student.data) };
    const double = { ...student, data: Float64Array.from(student.data) };
    const padded = Float32Array.from([9, 9, ...student.data, 9]);
    const part = { ...student, data: padded.subarray(2, 62) };
    for (const other of [plain, double, part])
      expect(evaluateLoss(rkdAngle(), { student: other, teacher }).value).toBe(value);
  });

  // biome-ignore lint/suspicious/noExplicitAny: wrong types are the point
  const bad: [string, any, any, RegExp][] = [
    ["no such kind", { kind: "rkd-angel" }, { student, teacher }, /loss\.kind.+Did you mean "rkd-angle"/],
    ["no loss", null, { student }, /a loss, for example/],
    ["a shape that does not fit", rkdAngle(), { student: { ...student, shape: [12, 6] }, teacher }, /72 numbers.+60/],
    ["a negative length", rkdAngle(), { student: { ...student, shape: [-1, -60] }, teacher }, /student\.shape\[0\]/],
    ["no numbers", rkdAngle(), { student: { data: "abc", shape: [1, 3] }, teacher }, /student\.data/],
    ["a fractional label", triplet(), { student, labels: labels.map((l) => l + 0.5) }, /labels\[0\]/],
    ["no projection", linearHint(), { student, teacher }, /parameters\.projection.+\[7, 5\]/],
    ["a projection that does not fit", hint(), { student, teacher, parameters: { projection: teacher } }, /\[7, 5\]/],
    [
      "a parameter that the loss does not learn",
      rkdAngle(),
      { student, teacher, parameters: { projection: teacher } },
      /parameters\.projection: .+none/,
    ],
    [
      "a mistyped parameter",
      hint(),
      { student, teacher, parameters: { projektion: teacher } },
      /parameters\.projektion: .+expected parameters\.projection/,
    ],
    ["no parameters", hint(), { student, teacher, parameters: null }, /parameters: .+tensors by name/],
    [
      "a boundary for each class",
      margin({ learnBeta: true }),
      { student, labels, parameters: { beta: matrix(4, 1, () => 1.2) } },
      /one boundary.+\[1, 1\].+\[4, 1\]/,
    ],
    ["a negative label", triplet(), { student, labels: labels.map((l) => -l) }, /labels\[3\]/],
    ["labels that are no list", triplet(), { student, labels: null }, /labels: .+a list of classes/],
    ["one label for all", triplet(), { student, labels: 3 }, /labels: .+a list of classes/],
    [
      "a shape beyond all numbers",
      rkdAngle(),
      { student: { data: [], shape: [4294967295, 4294967295, 4294967295, 0] }, teacher },
      /student: the numbers do not fit the shape/,
    ],
    [
      "an episode beyond all batches",
      prototypical({ supportCount: 2 ** 52, way: 2 ** 52 }),
      { student },
      /not an episode/,
    ],
    ["rows where maps belong", attentionTransfer({ studentFeature: "blocks.3" }), { student, teacher }, /map/],
    ["no teacher", rkdAngle(), { student }, /compares with a teacher/],
    ["no teacher for a hint", hint(), { student }, /compares with a teacher/],
    ["no teacher for soft targets", softTargetKl(), { student }, /compares with a teacher/],
    ["another number of teacher rows", rkdAngle(), { student, teacher: matrix(11, 7, Math.sin) }, /1[12]/],
    ["no labels", triplet(), { student }, /labels/],
    ["another number of labels", triplet(), { student, labels: [0, 1] }, /labels|rows/],
    ["NaN", rkdAngle(), { student: matrix(12, 5, () => Number.NaN), teacher }, /finite|NaN/i],
    ["an option of another type", { kind: "rkd-angle", delta: "1" }, { student, teacher }, /loss\.delta: .+"1"/],
    ["an option that is not a number", { kind: "rkd-angle", delta: Number.NaN }, { student, teacher }, /received NaN/],
    ["an option that does not exist", { kind: "rkd-angle", deltas: 1 }, { student, teacher }, /deltas/],
    ["features beyond float32", hardDarkRank(), { student: matrix(12, 5, (i) => 1e30 * i), teacher }, /normalise/i],
    ["rows that are no episode", prototypical({ supportCount: 2, way: 5 }), { student }, /episode/],
    ["an option out of range", { kind: "rkd-angle", delta: -1 }, { student, teacher }, /delta/],
  ];
  it.each(lossKinds)("refuses rows that are not finite, and names them: %s", (kind) => {
    const loss = { kind, ...(kind === "prototypical" && { supportCount: 2, way: 3 }) } as Loss;
    for (const [name, value] of [
      ["student", Number.NaN],
      ["teacher", Number.POSITIVE_INFINITY],
    ] as const) {
      const broken = matrix(12, 5, (i) => (i === 37 ? value : Math.sin(i)));
      const call = () => evaluateLoss(loss, { student, teacher: student, labels, [name]: broken });
      expect(call).toThrow(`${name}: row 7, column 2 is not a finite number`);
      expect(call).toThrow(expect.objectContaining({ code: "ERR_NON_FINITE" }));
    }
  });

  it.each(bad)("refuses %s", (_, loss, inputs, message) => {
    expect(() => evaluateLoss(loss, inputs)).toThrow(RkdError);
    expect(() => evaluateLoss(loss, inputs)).toThrow(message);
  });
});
