/** A teacher's vectors out of an iterable, the rows of a database for example: into a `.npy` file with its ids beside it. */

import { closeSync, fsyncSync, openSync, readFileSync, writeSync } from "node:fs";
import { RkdError } from "../errors.ts";
import { withErrors, writeAll } from "./run-folder.ts";

/** What a teacher has said of one image. */
export interface Embedding {
  /** Which image: its path in the data set, its name, or whatever else {@link Embeddings} are joined by. */
  readonly id: string | number | bigint;
  /** Finite numbers, as many in every row. */
  readonly vector: ArrayLike<number> | Iterable<number>;
}

/** A teacher whose vectors are the rows of an iterable, which is walked once, from its first row to its last. */
export interface Embeddings {
  /** The rows; all of them need not be in memory at any moment. */
  readonly embeddings: Iterable<Embedding> | AsyncIterable<Embedding>;
  /** Whether images without a row may be any number of the images. They are left out. @default false: at most one in ten */
  readonly allowMissing?: boolean;
  /** What the teacher is called, as of other teachers. @default "teacher" */
  readonly name?: string;
  /** Its weight among several teachers. @default 1 */
  readonly weight?: number;
}

/** Bytes of the head of a `.npy` file of version 1. */
const HEAD_BYTES = 128;
/** Bytes after which rows are written. */
const BLOCK_BYTES = 1 << 20;

/**
 * Writes the rows to `file`, and their ids as a JSON list to `ids`. Errors are about the teacher of that `option`.
 * @throws {RkdError} `ERR_INVALID_DATA` that names the row; `ERR_IO`; what the iterable throws, and the signal's reason
 */
export async function writeEmbeddings(
  rows: Embeddings["embeddings"],
  file: string,
  ids: string,
  signal: AbortSignal,
  option = "teacher",
): Promise<void> {
  const vectors = new Output(file);
  const names = new Output(ids);
  try {
    vectors.add(Buffer.alloc(HEAD_BYTES));
    let [count, dimension] = [0, 0];
    for await (const row of rows) {
      signal.throwIfAborted();
      const { id, vector } = checked(row, (...what) => refusal(option, count, ...what));
      if (count === 0) dimension = vector.length;
      if (vector.length !== dimension) {
        throw refusal(
          option,
          count,
          id,
          "vectors of different lengths",
          `${dimension} numbers, as before`,
          `${vector.length}`,
        );
      }
      vectors.add(Buffer.from(vector.buffer));
      names.add(Buffer.from((count === 0 ? "[" : ",\n") + JSON.stringify(id)));
      count += 1;
    }
    if (count === 0) {
      throw new RkdError("ERR_INVALID_DATA", "there are no rows", {
        subject: `${option}.embeddings`,
        advice: "look at the query; an iterator can be walked only once, so each run needs a new one",
      });
    }
    names.add(Buffer.from("]\n"));
    vectors.finish(headOf(count, dimension));
    names.finish();
  } finally {
    vectors.close();
    names.close();
  }
}

/** A row whose every part has been looked at. */
function checked(row: Embedding, refuse: Refuse): { readonly id: string; readonly vector: Float32Array } {
  if (typeof row !== "object" || row === null) {
    throw refuse(undefined, "this is no row", "an object { id, vector }", typeof row);
  }
  const given: unknown = row.id;
  const vector: unknown = row.vector;
  const named = typeof given === "string" || typeof given === "number" || typeof given === "bigint";
  const id = named ? String(given) : "";
  if (id === "") {
    const advice = `name the columns, for example { id: row.path, vector: row.embedding }; the row has ${Object.keys(row).join(", ") || "none"}`;
    throw refuse(undefined, "the row has no id", "a text or a number", given === "" ? '""' : typeof given, advice);
  }
  if (typeof vector === "string") {
    const advice = "parse it: JSON.parse(row.vector)";
    throw refuse(id, "the vector is a text", "numbers", JSON.stringify(vector.slice(0, 20)), advice);
  }
  if (vector instanceof Uint8Array || vector instanceof ArrayBuffer) {
    const advice =
      "of float32 numbers make new Float32Array(new Uint8Array(bytes).buffer), of small ones Array.from(bytes)";
    throw refuse(id, "the vector is bytes", "numbers", `${vector.byteLength} bytes`, advice);
  }
  const countable = typeof vector === "object" && vector !== null;
  if (!countable || !(Symbol.iterator in vector || "length" in vector)) {
    throw refuse(id, "the row has no vector", "an array of numbers", vector === null ? "null" : typeof vector);
  }
  const numbers = Array.from(vector as ArrayLike<unknown> | Iterable<unknown>);
  if (numbers.length === 0) throw refuse(id, "the vector is empty", "at least one number", "none");
  const floats = new Float32Array(numbers.length);
  for (let place = 0; place < numbers.length; place++) {
    const number = numbers[place];
    floats[place] = typeof number === "number" ? number : Number.NaN;
    if (Number.isFinite(floats[place])) continue;
    throw refuse(
      id,
      "a number of the vector is not finite",
      "finite float32 numbers",
      `${String(number)} at place ${place}`,
    );
  }
  return { id, vector: floats };
}

/** Says what is wrong with the row in hand. */
type Refuse = (
  id: string | undefined,
  message: string,
  expected: string,
  received: string,
  advice?: string,
) => RkdError;

function refusal(
  option: string,
  count: number,
  id: string | undefined,
  message: string,
  expected: string,
  received: string,
  advice?: string,
): RkdError {
  const subject = `${option}.embeddings: row ${count + 1}${id === undefined ? "" : ` (${JSON.stringify(id.slice(0, 60))})`}`;
  return new RkdError("ERR_INVALID_DATA", message, { subject, expected, received, advice });
}

/** The head of NumPy's array file. */
function headOf(rows: number, numbers: number): Buffer {
  const shape = `{'descr': '<f4', 'fortran_order': False, 'shape': (${rows}, ${numbers}), }`;
  const length = HEAD_BYTES - 10;
  return Buffer.from(`\x93NUMPY\x01\x00${String.fromCharCode(length)}\x00${shape.padEnd(length - 1)}\n`, "latin1");
}

/** A file that is written in blocks. */
class Output {
  readonly #file: string;
  readonly #descriptor: number;
  #waiting: Buffer[] = [];
  #bytes = 0;

  constructor(file: string) {
    this.#file = file;
    this.#descriptor = withErrors(file, () => openSync(file, "w"));
  }

  add(bytes: Buffer): void {
    this.#waiting.push(bytes);
    this.#bytes += bytes.length;
    if (this.#bytes >= BLOCK_BYTES) this.#write();
  }

  /** Writes what waits, then `head` over the beginning, and syncs. */
  finish(head?: Buffer): void {
    this.#write();
    withErrors(this.#file, () => {
      if (head) writeSync(this.#descriptor, head, 0, head.length, 0);
      fsyncSync(this.#descriptor);
    });
  }

  close(): void {
    closeSync(this.#descriptor);
  }

  #write(): void {
    withErrors(this.#file, () => writeAll(this.#descriptor, Buffer.concat(this.#waiting)));
    this.#waiting = [];
    this.#bytes = 0;
  }
}

/** Reads what {@link writeEmbeddings} wrote; nothing where the two files are not of each other. @throws {RkdError} */
export function readEmbeddings(
  file: string,
  ids: string,
): { readonly ids: readonly string[]; readonly values: Float32Array } | undefined {
  const bytes = withErrors(file, () => readFileSync(file)).subarray(HEAD_BYTES);
  const names: readonly string[] = JSON.parse(withErrors(ids, () => readFileSync(ids, "utf8")));
  const values = new Float32Array(Uint8Array.from(bytes).buffer); // a buffer of its own, at a multiple of 4
  return values.length % names.length === 0 ? { ids: names, values } : undefined;
}
