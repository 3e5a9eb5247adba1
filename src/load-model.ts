/// <reference lib="esnext.disposable" preserve="true" />
/** `loadModel`: a finished model that embeds images as they come, off the main thread. */

import { resolve } from "node:path";
import { types } from "node:util";
import type { BindingImage, BindingModel, BindingRowsReply } from "#native";
import { fromNative, RkdError } from "./errors.ts";
import { addon } from "./native/addon.ts";
import { json, parse } from "./native/json.ts";
import { integer, invalid, object, path } from "./options/check.ts";
import type * as protocol from "./protocol/protocol.ts";
import { withoutSignal } from "./run/command.ts";

/** What `loadModel` takes besides the model. */
export type LoadModelOptions = Omit<protocol.LoadModelOptions, "model">;

/** Pixels as bytes 0 to 255, row by row from the top, the channels of a pixel side by side. */
export interface RawImage {
  /** `height * width * channels` bytes. */
  readonly data: Uint8Array | Uint8ClampedArray;
  /** Pixels of a row, at least 1. */
  readonly width: number;
  /** Rows, at least 1. */
  readonly height: number;
  /** 1 (grey), 3 (RGB) or 4 (RGBA, composited on white); a canvas's `ImageData` says none and has 4. @default 4 */
  readonly channels?: 1 | 3 | 4;
}

/**
 * An image: the path or `file:` URL of a file, the content of one (PNG, JPEG, WebP, BMP, GIF, TIFF, PNM) as bytes or
 * `Blob`, or raw pixels.
 */
export type ImageInput = string | URL | Uint8Array | ArrayBuffer | Blob | RawImage;

/** What one call of `embed` takes besides its images. */
export interface EmbedCallOptions {
  /** Ends the call: what waits is not embedded any more, and the promise rejects with `signal.reason`. */
  readonly signal?: AbortSignal;
}

/**
 * A model in memory. Any number of calls may run at once; calls that wait at the same time share forward passes, and the rows
 * have the same bits as those of the function `embed`, whatever else is in their pass and on any number of threads.
 */
export interface Model extends protocol.LoadedModel, AsyncDisposable {
  /**
   * Embeds an image, or several in their order.
   * @returns The embedding, `dimension` numbers; of several a list of them.
   * @throws {RkdError} by rejection: `ERR_INVALID_OPTION` for what is no image input, `ERR_NOT_FOUND`,
   * `ERR_PERMISSION_DENIED` and `ERR_IO` of a file, `ERR_INVALID_DATA` for a damaged image or one of another kind,
   * `ERR_NON_FINITE` where the model gives no finite numbers, `ERR_CLOSED` after `close`; the signal's reason
   */
  embed(image: ImageInput, options?: EmbedCallOptions): Promise<Float32Array>;
  embed(images: readonly ImageInput[], options?: EmbedCallOptions): Promise<Float32Array[]>;
  /** Takes no further call, and resolves when those that run are done and the memory is free. Idempotent. */
  close(): Promise<void>;
}

/**
 * Loads a model: the folder of a finished run, a `model.safetensors`, an ONNX file, or an exported folder that holds one.
 * Loading the same file with the same options again, in any worker thread, gives a second handle of the model that is there.
 *
 * ```ts
 * await using model = await loadModel("runs/small");
 * const vector = await model.embed("photo.jpg");
 * ```
 * @throws {RkdError} by rejection: bad options, `ERR_NOT_FOUND`, `ERR_INVALID_ARTEFACT`, `ERR_NATIVE_LOAD`
 */
export async function loadModel(location: string | URL, options: LoadModelOptions = {}): Promise<Model> {
  object<LoadModelOptions>("options", options, ["threads", "batch", "onnx"]);
  const binding = new (addon().BindingModel)();
  const reply = await binding.open(json({ ...options, model: location }));
  if (reply.error) throw fromNative(reply.error);
  return new OpenModel(binding, parse(reply.value));
}

/** Pieces of one call that are with the addon at once: one is computed while the next is read. */
const PIECES_AHEAD = 2;

class OpenModel implements Model {
  readonly #binding: BindingModel;
  readonly #running = new Set<Promise<unknown>>();
  #calls = 0;
  #closing: Promise<void> | undefined;
  readonly file: string;
  readonly engine: string;
  readonly hash: string;
  readonly dimension: number;
  readonly imageSize: number;
  readonly channels: number;
  readonly normalization: protocol.Normalization;
  readonly parameters: number;
  readonly threads: number;
  readonly batch: number;
  readonly warnings: readonly string[];

  constructor(binding: BindingModel, about: protocol.LoadedModel) {
    this.#binding = binding;
    this.file = about.file;
    this.engine = about.engine;
    this.hash = about.hash;
    this.dimension = about.dimension;
    this.imageSize = about.imageSize;
    this.channels = about.channels;
    this.normalization = about.normalization;
    this.parameters = about.parameters;
    this.threads = about.threads;
    this.batch = about.batch;
    this.warnings = about.warnings;
  }

  embed(image: ImageInput, options?: EmbedCallOptions): Promise<Float32Array>;
  embed(images: readonly ImageInput[], options?: EmbedCallOptions): Promise<Float32Array[]>;
  embed(given: ImageInput | readonly ImageInput[], options: EmbedCallOptions = {}) {
    const running = this.#embed(given, options);
    this.#running.add(running);
    const done = () => this.#running.delete(running);
    running.then(done, done);
    // A promise of its own, so that a failure nobody looks at is an unhandled rejection like any other.
    return running.then((rows) => rows as Float32Array & Float32Array[]);
  }

  close(): Promise<void> {
    this.#closing ??= Promise.allSettled(this.#running).then(async () => {
      await this.#binding.close();
    });
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #embed(given: ImageInput | readonly ImageInput[], options: EmbedCallOptions) {
    object<EmbedCallOptions>("options", options, ["signal"]);
    withoutSignal(options);
    const { signal } = options;
    signal?.throwIfAborted();
    if (this.#closing) {
      const advice = "load it again with loadModel";
      throw new RkdError("ERR_CLOSED", "the model is closed", { subject: this.file, advice });
    }
    const call = this.#calls++;
    if (!signal) return this.#rows(call, given, undefined);
    let abort = () => {};
    const aborted = new Promise<never>((_, reject) => {
      abort = () => {
        this.#binding.cancel(call);
        reject(signal.reason);
      };
      signal.addEventListener("abort", abort, { once: true });
    });
    try {
      return await Promise.race([this.#rows(call, given, signal), aborted]);
    } finally {
      signal.removeEventListener("abort", abort);
    }
  }

  async #rows(call: number, given: ImageInput | readonly ImageInput[], signal: AbortSignal | undefined) {
    if (!Array.isArray(given)) {
      const input = inputOf("image", given as ImageInput);
      const image = input instanceof Blob ? await ready(input) : input;
      signal?.throwIfAborted();
      return checked(await this.#binding.embed(call, [image]), () => "image");
    }
    const images: readonly ImageInput[] = given;
    const rows: Float32Array[] = [];
    // Relative paths are those of this moment, and a slip is told before anything is computed.
    const inputs = images.map((image, place) => inputOf(`images[${place}]`, image));
    const started: Promise<readonly Float32Array[]>[] = [];
    for (let first = 0; first < inputs.length; first += this.batch) {
      if (started.length >= PIECES_AHEAD) rows.push(...((await started.shift()) ?? []));
      const piece = this.#piece(call, inputs.slice(first, first + this.batch), first, signal);
      piece.catch(() => {}); // it is awaited later
      started.push(piece);
    }
    for (const piece of started) rows.push(...(await piece));
    return rows;
  }

  async #piece(call: number, inputs: readonly Input[], first: number, signal: AbortSignal | undefined) {
    const images = await Promise.all(inputs.map(ready));
    signal?.throwIfAborted();
    const reply = await this.#binding.embed(call, images);
    const all = checked(reply, (place) => `images[${first + place}]`);
    return inputs.map((_, place) => all.slice(place * this.dimension, (place + 1) * this.dimension));
  }
}

/** The rows of a reply; errors of an image that has no path name its place. */
function checked({ rows, error, place }: BindingRowsReply, name: (place: number) => string): Float32Array {
  if (rows && !error) return rows;
  if (!error) throw new RkdError("ERR_INTERNAL", "a reply has neither rows nor an error");
  throw fromNative(place === undefined || error.subject ? error : { ...error, subject: name(place) });
}

/** An image as the addon takes it, or what has to be waited for. */
type Input = BindingImage | Blob;

async function ready(input: Input): Promise<BindingImage> {
  return input instanceof Blob ? { bytes: new Uint8Array(await input.arrayBuffer()) } : input;
}

function inputOf(name: string, given: ImageInput): Input {
  if (typeof given === "string" || given instanceof URL) return { file: fileOf(name, given) };
  // By what they are, not by their constructors: those of Jest's tests are others.
  if (types.isUint8Array(given)) return { bytes: given };
  if (types.isAnyArrayBuffer(given)) return { bytes: new Uint8Array(given) };
  if (given instanceof Blob) return given;
  if (typeof given !== "object" || given === null || !("data" in given)) {
    const expected =
      "a path, a file: URL, the bytes of an image file (Uint8Array, ArrayBuffer, Blob) or { data, width, height, channels }";
    throw invalid(name, expected, given);
  }
  return rawOf(name, given);
}

function fileOf(name: string, given: string | URL): string {
  const remote = given instanceof URL ? given.protocol !== "file:" : /^(https?|data):/.test(given);
  if (remote) {
    const received = given instanceof URL ? given.href : given;
    const advice = "fetch it first: embed(await (await fetch(url)).arrayBuffer())";
    throw invalid(name, "a path or a file: URL", received, advice);
  }
  return resolve(path(name, given));
}

function rawOf(name: string, given: RawImage): BindingImage {
  const { data, width, height, channels = 4 } = given;
  if (!types.isUint8Array(data) && !types.isUint8ClampedArray(data)) {
    const kind = Object.prototype.toString.call(data).slice(8, -1);
    const advice = "of floats from 0 to 1 make Uint8Array.from(data, (value) => Math.round(255 * value))";
    throw invalid(`${name}.data`, "bytes 0 to 255 in a Uint8Array or Uint8ClampedArray", `a ${kind}`, advice);
  }
  integer(`${name}.width`, width, { from: 1, to: 0xffff_ffff });
  integer(`${name}.height`, height, { from: 1, to: 0xffff_ffff });
  if (channels !== 1 && channels !== 3 && channels !== 4) {
    throw invalid(`${name}.channels`, "1 (grey), 3 (RGB) or 4 (RGBA)", channels);
  }
  if (data.length !== width * height * channels) {
    const expected = `${width * height * channels} bytes, ${width} x ${height} pixels of ${channels} channels`;
    throw invalid(`${name}.data`, expected, data.length);
  }
  return { bytes: new Uint8Array(data.buffer, data.byteOffset, data.length), width, height, channels };
}
