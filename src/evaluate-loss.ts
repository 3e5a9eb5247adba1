/** `evaluateLoss`: one loss and its gradient on given features, for tests, notebooks and training loops of your own. */

import { types } from "node:util";
import { fromNative } from "./errors.ts";
import { addon } from "./native/addon.ts";
import { json } from "./native/json.ts";
import { integer, invalid, object, or } from "./options/check.ts";
import type { Loss } from "./protocol/protocol.ts";

/** A row-major tensor. Maps are [n, c, h, w], as in PyTorch. */
export interface TensorInput {
  /** As many numbers as the product of `shape`; computed with as float32. */
  readonly data: Float32Array | Float64Array | readonly number[];
  /** Lengths of the axes; [n, d] for embeddings and logits, [n, c, h, w] for maps. */
  readonly shape: readonly number[];
}

/** What a loss is evaluated on. */
export interface LossInputs {
  /** The student's feature: embeddings, logits (for cross entropy and soft targets) or maps (for hints and attention). */
  readonly student: TensorInput;
  /** The teacher's feature, a row or map for each of the student's; for the losses that compare with a teacher. */
  readonly teacher?: TensorInput;
  /** The class of each row, whole numbers from 0, for the losses that need them. */
  readonly labels?: ArrayLike<number>;
  /**
   * The loss's own parameters: `projection`, [teacher's length, student's], for `linear-hint` and `hint`; `beta`, [1, 1],
   * for `margin` with `learnBeta`.
   */
  readonly parameters?: Readonly<Record<string, TensorInput>>;
}

/** How a loss is computed. */
export interface EvaluateLossOptions {
  /** CPU threads, 0 is all cores. The value has the same bits on any number. @default 0 */
  readonly threads?: number;
  /** Seed of the sampled negatives. @default 0 */
  readonly seed?: number;
}

/** A loss and its gradient. */
export interface LossValue {
  /** The loss, before weighting. */
  readonly value: number;
  /** The gradient of `value` with respect to the student's feature and to each parameter, laid out like the input. */
  readonly gradients: Readonly<Record<string, Float32Array>> & { readonly student: Float32Array };
}

/**
 * Evaluates one loss. Computes on the calling thread: use it for batches, not for data sets.
 *
 * ```ts
 * const { value, gradients } = evaluateLoss(
 *   { kind: "rkd-angle", delta: 1 },
 *   { student: { data, shape: [n, d] }, teacher: { data: teacherData, shape: [n, e] } },
 * );
 * ```
 * @param loss A specification, or what a constructor (`rkdAngle()`) returns; its weight is not applied.
 * @throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`, `ERR_INVALID_SHAPE`, `ERR_NON_FINITE` for inputs that are
 * not finite
 */
export function evaluateLoss(loss: Loss, inputs: LossInputs, options: EvaluateLossOptions = {}): LossValue {
  object<LossInputs>("inputs", inputs, ["student", "teacher", "labels", "parameters"]);
  object<EvaluateLossOptions>("options", options, ["threads", "seed"]);
  const { student, teacher, labels, parameters } = inputs;
  const own = parametersOf(or(parameters, {}));
  const reply = addon().evaluateLoss(json(loss), {
    tensors: {
      ...own,
      student: tensor("student", student),
      ...(teacher && { teacher: tensor("teacher", teacher) }),
    },
    ...(labels !== undefined && { labels: toLabels(labels) }),
    threads: integer("threads", or(options.threads, 0), { from: 0, to: 1024 }),
    seed: integer("seed", or(options.seed, 0), { from: 0 }),
  });
  if (reply.error) throw fromNative(reply.error);
  return { value: reply.value ?? Number.NaN, gradients: reply.gradients as LossValue["gradients"] };
}

function tensor(name: string, value: TensorInput) {
  const { data, shape } = object<TensorInput>(name, value, ["data", "shape"]);
  if (!Array.isArray(shape)) throw invalid(`${name}.shape`, "the lengths of the axes, for example [64, 128]", shape);
  shape.forEach((length, i) => {
    integer(`${name}.shape[${i}]`, length, { from: 0, to: 0xffff_ffff });
  });
  // By what they are, not by their constructors: those of Jest's tests are others.
  const isNumbers = types.isFloat32Array(data) || types.isFloat64Array(data) || Array.isArray(data);
  if (!isNumbers) throw invalid(`${name}.data`, "a Float32Array, Float64Array or array of numbers", data);
  const count = shape.reduce((product, length) => product * length, 1);
  if (data.length !== count) throw invalid(`${name}.data`, `${count} numbers, as the shape says`, data.length);
  return { data: types.isFloat32Array(data) ? data : Float32Array.from(data), shape: [...shape] };
}

function parametersOf(parameters: NonNullable<LossInputs["parameters"]>) {
  if (typeof parameters !== "object" || parameters === null || Array.isArray(parameters)) {
    throw invalid("parameters", "tensors by name, for example { projection }", parameters);
  }
  const own = Object.entries(parameters).map(([name, value]) => [`parameters.${name}`, value] as const);
  return Object.fromEntries(own.map(([name, value]) => [name, tensor(name, value)]));
}

function toLabels(labels: ArrayLike<number>): Uint32Array {
  const isList = typeof labels === "object" && labels !== null && Number.isSafeInteger(labels.length);
  if (!isList) throw invalid("labels", "a list of classes, one whole number for each row", labels);
  return Uint32Array.from(labels, (label, i) => integer(`labels[${i}]`, label, { from: 0, to: 0xffff_ffff }));
}
