/** Exact retrieval and fidelity of given vectors, off the main thread: the product's own metrics as plain functions. */

import { resolve } from "node:path";
import { types } from "node:util";
import type { BindingVectors } from "#native";
import { fromNative, RkdError } from "./errors.ts";
import { addon } from "./native/addon.ts";
import { json, parse } from "./native/json.ts";
import { integer, invalid, object, or, path } from "./options/check.ts";
import type { Fidelity, FidelityOptions, Retrieval, VectorOptions } from "./protocol/protocol.ts";

/** Vectors side by side in one array. */
export interface VectorTable {
  /** Row by row; as many numbers as vectors times `dimension`. */
  readonly data: Float32Array;
  /** Numbers of a vector, at least 1. */
  readonly dimension: number;
  /** What each vector is called, where they have names. */
  readonly ids?: readonly string[];
}

/** Vectors of one length: a table, a list of rows (what `model.embed` gives), or rows with ids (those of a database). */
export type Vectors =
  | VectorTable
  | readonly ArrayLike<number>[]
  | readonly { readonly id: string | number | bigint; readonly vector: ArrayLike<number> }[];

/** Vectors with the class of each. */
export interface LabelledVectors {
  /** The vectors. */
  readonly vectors: Vectors;
  /** A class for each, whatever names the classes; a number is the class of its text. */
  readonly labels: ArrayLike<string | number>;
}

/** A vector of a gallery that was found. */
export interface Neighbour {
  /** Its place in the gallery, from 0. */
  readonly index: number;
  /** Its id, where the gallery has ids. */
  readonly id?: string;
  /** Its Euclidean distance from the query. */
  readonly distance: number;
}

/** How metrics are computed. */
export interface RetrievalOptions {
  /** CPU threads, 0 to 1024; 0 is all cores. The result has the same bits on any number. @default 0 */
  readonly threads?: number;
}

/**
 * The `k` vectors of `gallery` that are nearest to each query, nearest first, by exact Euclidean distances; of equally near
 * ones the first in the gallery comes first. Of unit vectors that is the order of cosine similarity, `1 - distance ** 2 / 2`.
 * Where `gallery` is the very object `queries`, each vector is set against the others.
 *
 * ```ts
 * const [found] = await nearest([await model.embed("photo.jpg")], await readVectors("vectors.npy"), 10);
 * ```
 * @returns For each query its neighbours; fewer than `k` where the gallery has no more.
 * @throws {RkdError} by rejection: `ERR_INVALID_OPTION`, `ERR_INVALID_SHAPE` for vectors of different lengths,
 * `ERR_INVALID_DATA` for too few, `ERR_NON_FINITE` for one with numbers that are not finite
 */
export async function nearest(
  queries: Vectors,
  gallery: Vectors,
  k: number,
  options: RetrievalOptions = {},
): Promise<Neighbour[][]> {
  const threads = threadsOf(options);
  const count = integer("k", k, { from: 1, to: 0xffff_ffff });
  const inside = tableOf("gallery", gallery);
  const outside = queries === gallery ? undefined : tableOf("queries", queries);
  const reply = await addon().nearest(outside ?? null, inside, count, threads);
  if (reply.error) throw fromNative(reply.error);
  const { indices = new Uint32Array(), distances = new Float64Array() } = reply;
  const asked = outside ?? inside;
  const each = indices.length / (asked.data.length / asked.dimension);
  const ids = inside.ids;
  const neighbour = (place: number): Neighbour => {
    const index = indices[place] ?? 0;
    const id = ids?.[index];
    return { index, ...(id !== undefined && { id }), distance: distances[place] ?? Number.NaN };
  };
  return Array.from({ length: asked.data.length / asked.dimension }, (_, query) =>
    Array.from({ length: each }, (_, rank) => neighbour(query * each + rank)),
  );
}

/**
 * Recall@K: the share of queries with a vector of their class among the `k` nearest of the gallery, exact. A query whose class
 * the gallery lacks counts as missed. Where both sides have the very same object `vectors`, each is set against the others.
 * @param k One K, or several.
 * @returns The recall in `[0, 1]`; of several K by K.
 * @throws {RkdError} by rejection: as {@link nearest}; `ERR_INVALID_SHAPE` for another number of labels than of vectors
 */
export function recallAtK(
  queries: LabelledVectors,
  gallery: LabelledVectors,
  k: number,
  options?: RetrievalOptions,
): Promise<number>;
export function recallAtK(
  queries: LabelledVectors,
  gallery: LabelledVectors,
  k: readonly number[],
  options?: RetrievalOptions,
): Promise<Record<number, number>>;
export async function recallAtK(
  queries: LabelledVectors,
  gallery: LabelledVectors,
  k: number | readonly number[],
  options: RetrievalOptions = {},
): Promise<number | Record<number, number>> {
  const several = Array.isArray(k);
  const given: readonly unknown[] = several ? k : [k];
  if (given.length === 0) throw invalid("k", "a whole number, or a list of such", k);
  const ks = given.map((one, place) => integer(several ? `k[${place}]` : "k", one, { from: 1, to: 0xffff_ffff }));
  const { recall } = await measured(queries, gallery, ks, options);
  return several ? Object.fromEntries(recall) : (recall[0]?.[1] ?? Number.NaN);
}

/**
 * MAP@R (Musgrave et al. 2020): the mean over queries of the average precision at R, the number of vectors of the query's class
 * in the gallery; queries without any are left out.
 * @returns The mean in `[0, 1]`.
 * @throws {RkdError} by rejection: as {@link recallAtK}; `ERR_INVALID_DATA` where no query has one of its class
 */
export async function mapAtR(
  queries: LabelledVectors,
  gallery: LabelledVectors,
  options: RetrievalOptions = {},
): Promise<number> {
  return withRelevant(await measured(queries, gallery, [1], options)).mapAtR;
}

/**
 * R-precision: the mean over queries of the share of the first R that are of the query's class, R as of {@link mapAtR}.
 * @returns The mean in `[0, 1]`.
 * @throws {RkdError} by rejection: as {@link mapAtR}
 */
export async function rPrecision(
  queries: LabelledVectors,
  gallery: LabelledVectors,
  options: RetrievalOptions = {},
): Promise<number> {
  return withRelevant(await measured(queries, gallery, [1], options)).rPrecision;
}

/**
 * How well `student` keeps the relations of `teacher`, the vectors of the same items in the same order, of any two lengths: rank
 * correlations of distances and angles, the share of nearest neighbours in common, and how often the teacher's nearest is among
 * the student's.
 * @throws {RkdError} by rejection: as {@link nearest}; `ERR_INVALID_SHAPE` for different numbers of items
 */
export async function relationFidelity(
  teacher: Vectors,
  student: Vectors,
  options: FidelityOptions = {},
): Promise<Fidelity> {
  const sides = [tableOf("teacher", teacher), tableOf("student", student)] as const;
  const reply = await addon().relationFidelity(...sides, json(options));
  if (reply.error) throw fromNative(reply.error);
  return parse(reply.value);
}

/** Vectors with their ids, as {@link readVectors} gives them. */
export interface StoredVectors extends VectorTable {
  readonly ids: readonly string[];
  /** The file of the model that made them, where `embed` has noted it: not in CSV and JSON Lines. */
  readonly model?: string;
  /** What {@link loadModel} calls the `hash` of that model, where it is noted. */
  readonly modelHash?: string;
  /** What a user should know of the reading, in full sentences. */
  readonly warnings: readonly string[];
}

/**
 * Reads stored vectors, those that `embed` writes for example: `.npy` with its ids beside it, `.npz`, `.safetensors`, `.csv`,
 * `.jsonl`, Parquet or Arrow IPC.
 * @throws {RkdError} by rejection: `ERR_NOT_FOUND`, `ERR_INVALID_ARTEFACT`, `ERR_INVALID_DATA`, `ERR_INVALID_OPTION`
 */
export async function readVectors(file: string | URL, options: Partial<VectorOptions> = {}): Promise<StoredVectors> {
  const reply = await addon().readVectors(resolve(path("file", file)), json(options));
  if (reply.error) throw fromNative(reply.error);
  const { ids = [], data = new Float32Array(), dimension = 0, warnings = [], model, modelHash } = reply;
  const noted = { ...(model !== undefined && { model }), ...(modelHash !== undefined && { modelHash }) };
  return { ids, data, dimension, ...noted, warnings };
}

function threadsOf(options: RetrievalOptions): number {
  object<RetrievalOptions>("options", options, ["threads"]);
  return integer("threads", or(options.threads, 0), { from: 0, to: 1024 });
}

async function measured(
  queries: LabelledVectors,
  gallery: LabelledVectors,
  ks: readonly number[],
  options: RetrievalOptions,
): Promise<Retrieval> {
  const threads = threadsOf(options);
  const classes = new Map<string, number>();
  const inside = labelledOf("gallery", gallery, classes);
  const outside = queries === gallery ? inside : labelledOf("queries", queries, classes);
  const same = queries.vectors === gallery.vectors;
  if (same && outside.labels?.some((label, place) => label !== inside.labels?.[place])) {
    const advice = "give a copy of the vectors where each may find itself";
    throw invalid("queries.labels", "the labels of the gallery, whose vectors are the same object", "others", advice);
  }
  const reply = await addon().retrieval(same ? null : outside, inside, ks, threads);
  if (reply.error) throw fromNative(reply.error);
  return parse(reply.value);
}

function withRelevant(found: Retrieval): Retrieval {
  if (found.queriesWithRelevant > 0) return found;
  throw new RkdError("ERR_INVALID_DATA", "no query has a vector of its class to find", {
    expected: "at least one query whose class the gallery has",
    received: `${found.queries} queries without`,
    advice: "look at the labels of both sides: they must name the same classes in the same way",
  });
}

function labelledOf(name: string, given: LabelledVectors, classes: Map<string, number>): BindingVectors {
  const { vectors, labels } = object<LabelledVectors>(name, given, ["vectors", "labels"]);
  const isList = typeof labels === "object" && labels !== null && Number.isSafeInteger(labels.length);
  if (!isList) throw invalid(`${name}.labels`, "a list with the class of each vector", labels);
  const numbers = Uint32Array.from(labels, (label: unknown, place) => {
    if (typeof label !== "string" && !Number.isFinite(label)) {
      throw invalid(`${name}.labels[${place}]`, "a text or a number", label);
    }
    const known = classes.get(String(label)) ?? classes.size;
    classes.set(String(label), known);
    return known;
  });
  return { ...tableOf(`${name}.vectors`, vectors), labels: numbers };
}

/** The vectors as one array, with their ids where they have such. */
function tableOf(name: string, given: Vectors): VectorTable {
  if (Array.isArray(given)) return tableOfRows(name, given);
  const { data, dimension, ids } = (given ?? {}) as VectorTable;
  if (!types.isFloat32Array(data)) {
    throw invalid(name, "a list of rows, or { data, dimension } with a Float32Array", given);
  }
  integer(`${name}.dimension`, dimension, { from: 1, to: 0xffff_ffff });
  if (data.length % dimension !== 0) {
    throw invalid(`${name}.data`, `rows of ${dimension} numbers`, data.length);
  }
  if (ids !== undefined && ids.length !== data.length / dimension) {
    throw invalid(`${name}.ids`, `${data.length / dimension} ids, as there are vectors`, ids.length);
  }
  return { data, dimension, ...(ids && { ids }) };
}

function tableOfRows(name: string, rows: readonly unknown[]): VectorTable {
  if (rows.length === 0) {
    throw new RkdError("ERR_INVALID_DATA", "there are no vectors", {
      subject: name,
      expected: "at least one row",
      received: "none",
    });
  }
  const named = typeof rows[0] === "object" && rows[0] !== null && "vector" in rows[0];
  let table: Float32Array | undefined;
  let dimension = 0;
  rows.forEach((row, place) => {
    const vector = named ? (row as { vector?: unknown } | null)?.vector : row;
    if (!isNumbers(vector)) throw invalid(`${name}[${place}]`, named ? "{ id, vector }" : "an array of numbers", row);
    dimension ||= vector.length;
    if (vector.length !== dimension || dimension === 0) {
      throw new RkdError("ERR_INVALID_SHAPE", "the vectors have different lengths", {
        subject: `${name}[${place}]`,
        expected: `${dimension || "at least 1"} numbers`,
        received: String(vector.length),
      });
    }
    table ??= new Float32Array(rows.length * dimension);
    table.set(vector, place * dimension);
  });
  const data = table ?? new Float32Array();
  if (!named) return { data, dimension };
  return { data, dimension, ids: rows.map((row) => String((row as { id?: unknown }).id)) };
}

function isNumbers(value: unknown): value is ArrayLike<number> {
  return typeof value === "object" && value !== null && Number.isSafeInteger((value as ArrayLike<number>).length);
}
