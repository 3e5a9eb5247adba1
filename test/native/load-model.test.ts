/** A loaded model: the same bits as `embed`, from whatever form of image, beside whatever else is asked of it. */

import { spawn } from "node:child_process";
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { beforeAll, describe, expect, it } from "vitest";
import { embed, type ImageInput, loadModel, readVectors, train } from "../../src/index.ts";
import { outcome } from "../support/cli.ts";
import { temporaryFolder } from "../support/folders.ts";
import { smallRun } from "../support/small.ts";
import { waves } from "../support/waves.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const onnx = (name: string) => join(root, "crates/core/tests/onnx", name);
const folder = temporaryFolder();
const run = join(folder, "run");
const photos = join(folder, "photos");
const COUNT = 70; // more than one pass of 64
const file = (i: number) => join(photos, `${String(i).padStart(2, "0")}.pgm`);
const files = Array.from({ length: COUNT }, (_, i) => file(i));
/** What the function `embed` makes of each file, in their order. */
let expected: Float32Array[] = [];

beforeAll(async () => {
  waves(photos, COUNT, (i) => `${String(i).padStart(2, "0")}.pgm`);
  // One that has to be resized and cropped.
  const wide = Buffer.from(Array.from({ length: 3 * 50 * 33 }, (_, i) => (i * 31) % 256));
  writeFileSync(file(3), Buffer.concat([Buffer.from("P6 50 33 255\n"), wide]));
  await train(smallRun(run));
  await embed({ model: run, data: photos, out: join(folder, "photos.npy") });
  const { ids, data, dimension } = await readVectors(join(folder, "photos.npy"));
  expect(ids).toEqual(files.map((path) => relative(photos, path)));
  expected = ids.map((_, i) => data.slice(i * dimension, (i + 1) * dimension));
});

it("loads the only ONNX file of a folder, names several, and refuses sizes beyond 1 to 1024", async () => {
  const place = join(folder, "exported");
  mkdirSync(join(place, "onnx"), { recursive: true });
  copyFileSync(onnx("bytes.onnx"), join(place, "onnx/model_quantized.onnx"));
  await using model = await loadModel(place);
  expect(model.file).toBe(join(place, "onnx/model_quantized.onnx"));
  copyFileSync(onnx("bytes.onnx"), join(place, "model_fp16.onnx"));
  await expect(loadModel(place)).rejects.toMatchObject({
    code: "ERR_INVALID_OPTION",
    received: `${join(place, "model_fp16.onnx")}, ${join(place, "onnx/model_quantized.onnx")}`,
  });
  for (const imageSize of [0, 1025, 5e9]) {
    await expect(loadModel(onnx("plain.onnx"), { onnx: { imageSize } })).rejects.toMatchObject({
      code: "ERR_INVALID_OPTION",
      subject: "onnx.imageSize",
      expected: "a whole number at least 1 and at most 1024",
    });
  }
});

describe("the rows of a loaded model", () => {
  it.each([
    { threads: 1, batch: 1 },
    { threads: 2, batch: 7 },
    { threads: 3, batch: 64 },
  ])("have the bits of embed, alone and beside others, with %j", async (options) => {
    await using model = await loadModel(run, options);
    expect(model).toMatchObject({ dimension: 8, imageSize: 28, channels: 1, engine: "rkd", ...options });
    expect(await model.embed(files)).toEqual(expected);
    for (const i of [0, 3, 69]) expect(await model.embed(file(i))).toEqual(expected[i]);
    // Many calls at once, in another order, of one image and of several.
    const order = files.map((_, i) => (i * 29) % COUNT);
    const singles = order.map((i) => model.embed(file(i)));
    const pairs = order.map((i) => model.embed([file(i), file((i + 1) % COUNT)]));
    expect(await Promise.all(singles)).toEqual(order.map((i) => expected[i]));
    expect(await Promise.all(pairs)).toEqual(order.map((i) => [expected[i], expected[(i + 1) % COUNT]]));
  });

  it("are the same from every form of an image", async () => {
    await using model = await loadModel(pathToFileURL(join(run, "model.safetensors")));
    const path = file(5);
    const bytes = readFileSync(path);
    const grey = bytes.subarray(bytes.length - 28 * 28);
    const repeated = (rest: number[]) => Uint8ClampedArray.from([...grey].flatMap((v) => [v, v, v, ...rest]));
    const forms: ImageInput[] = [
      path,
      relative(process.cwd(), path),
      pathToFileURL(path),
      pathToFileURL(path).href,
      bytes,
      new Uint8Array(bytes),
      new Uint8Array(bytes).buffer,
      new Blob([new Uint8Array(bytes)]),
      { data: grey, width: 28, height: 28, channels: 1 },
      { data: repeated([]), width: 28, height: 28, channels: 3 },
      { data: repeated([255]), width: 28, height: 28 },
    ];
    for (const form of forms) expect(await model.embed(form)).toEqual(expected[5]);
    expect(await model.embed(forms)).toEqual(forms.map(() => expected[5]));
    expect(await model.embed([])).toEqual([]);
    // What is written into the bytes afterwards does not matter.
    const mine = new Uint8Array(bytes);
    const promise = model.embed(mine);
    mine.fill(0);
    expect(await promise).toEqual(expected[5]);
  });

  it("come from ONNX files and exported folders too", async () => {
    const { plain } = JSON.parse(readFileSync(onnx("expected.json"), "utf8"));
    const options = { onnx: { imageSize: 16, engine: "rten" as const } };
    const image = {
      data: Uint8Array.from({ length: 768 }, (_, i) => 7 * i),
      width: 16,
      height: 16,
      channels: 3 as const,
    };
    mkdirSync(join(folder, "exported", "onnx"), { recursive: true });
    copyFileSync(onnx("plain.onnx"), join(folder, "exported", "onnx", "model.onnx"));
    for (const place of [onnx("plain.onnx"), join(folder, "exported")]) {
      await using model = await loadModel(place, options);
      expect(model).toMatchObject({ engine: "rten", dimension: plain.length, imageSize: 16, channels: 3 });
      expect(model.warnings.join()).toContain("The model does not say how its images are normalised");
      const row = await model.embed(image);
      for (const [i, value] of row.entries()) expect(value).toBeCloseTo(plain[i], 5);
    }
  });
});

describe("a loaded model", () => {
  it("says what is wrong with an image, and embeds the others", async () => {
    await using model = await loadModel(run);
    writeFileSync(join(folder, "empty.png"), "");
    const cut = readFileSync(file(1)).subarray(0, 100);
    const bad: [unknown, string, ...string[]][] = [
      [join(folder, "nowhere.jpg"), "ERR_NOT_FOUND", "nowhere.jpg", "Check the path"],
      [folder, "ERR_INVALID_DATA", "it is a folder"],
      [
        join(folder, "empty.png"),
        "ERR_INVALID_DATA",
        "empty.png: this image cannot be embedded: it is empty (0 bytes)",
      ],
      [
        Buffer.from("hello"),
        "ERR_INVALID_DATA",
        'image: this image cannot be embedded: it is no image: its content starts with "hello"',
      ],
      [cut, "ERR_INVALID_DATA", "damaged"],
      [new Blob([]), "ERR_INVALID_DATA", "it is empty"],
      ["https://example.org/a.jpg", "ERR_INVALID_OPTION", "image: invalid value", "await fetch(url)"],
      [new URL("https://example.org/a.jpg"), "ERR_INVALID_OPTION", "await fetch(url)"],
      [7, "ERR_INVALID_OPTION", "expected a path"],
      [null, "ERR_INVALID_OPTION", "expected a path"],
      [
        { data: new Float32Array(12), width: 2, height: 2, channels: 3 },
        "ERR_INVALID_OPTION",
        "image.data",
        "a Float32Array",
        "Math.round(255 * value)",
      ],
      [
        { data: new Uint8Array(8), width: 2, height: 2, channels: 2 },
        "ERR_INVALID_OPTION",
        "image.channels",
        "received 2",
      ],
      [
        { data: new Uint8Array(11), width: 2, height: 2, channels: 3 },
        "ERR_INVALID_OPTION",
        "expected 12 bytes, 2 x 2 pixels of 3 channels, received 11",
      ],
      [{ data: new Uint8Array(12), width: 2.5, height: 2, channels: 3 }, "ERR_INVALID_OPTION", "image.width"],
      [{ data: new Uint8Array(12), width: Number.NaN, height: 2, channels: 3 }, "ERR_INVALID_OPTION", "image.width"],
    ];
    const good = model.embed(file(0));
    for (const [image, code, ...parts] of bad) {
      const error = await model.embed(image as ImageInput).then(
        () => new Error("nothing was refused"),
        (error) => error,
      );
      expect(error).toMatchObject({ code });
      for (const part of parts) expect(error.message).toContain(part);
    }
    await expect(model.embed([file(0), Buffer.from("hello")])).rejects.toThrow(
      "images[1]: this image cannot be embedded",
    );
    expect(await good).toEqual(expected[0]);
    await expect(model.embed(file(0), { signl: 1 } as object)).rejects.toMatchObject({ code: "ERR_UNKNOWN_OPTION" });
  });

  it("ends a call that is aborted with the signal's reason, and no other", async () => {
    await using model = await loadModel(run, { batch: 2 });
    const reason = new Error("enough");
    await expect(model.embed(file(0), { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    await expect(model.embed(file(0), { signal: AbortSignal.abort() })).rejects.toMatchObject({ name: "AbortError" });
    const controller = new AbortController();
    const many = model.embed([...files, ...files, ...files], { signal: controller.signal });
    const other = model.embed(files);
    controller.abort(reason);
    await expect(many).rejects.toBe(reason);
    expect(await other).toEqual(expected);
    const late = new AbortController();
    expect(await model.embed(file(1), { signal: late.signal })).toEqual(expected[1]);
    late.abort();
  });

  it("is closed when its calls are done, and leaves other handles alone", async () => {
    const [model, other] = [await loadModel(run), await loadModel(run)];
    const running = [model.embed(files), model.embed(file(2))];
    const closing = model.close();
    await expect(model.embed(file(0))).rejects.toMatchObject({ code: "ERR_CLOSED" });
    expect(await Promise.all(running)).toEqual([expected, expected[2]]);
    await closing;
    await model.close();
    expect(await other.embed(file(1))).toEqual(expected[1]);
    await other.close();
    const again = await loadModel(run);
    expect(await again.embed(file(1))).toEqual(expected[1]);
    await again.close();
  });

  it("is not loaded from what is no model", async () => {
    const bad: [() => Promise<unknown>, object, string][] = [
      [() => loadModel(join(folder, "none")), { code: "ERR_NOT_FOUND" }, "give the folder of a finished run"],
      [() => loadModel(join(folder, "photos.npy")), { code: "ERR_INVALID_ARTEFACT" }, "stored vectors are no model"],
      [() => loadModel(file(0)), { code: "ERR_INVALID_ARTEFACT" }, "this is no file that rkd wrote"],
      [() => loadModel(run, { batch: 0 }), { subject: "batch" }, "at least 1 and at most 4096"],
      [() => loadModel(run, { threads: -1 }), { subject: "threads" }, "received -1"],
      [() => loadModel(run, { thread: 1 } as object), { code: "ERR_UNKNOWN_OPTION" }, 'did you mean "threads"'],
      [
        () => loadModel(onnx("plain.onnx"), { onnx: { output: "logit" } }),
        { subject: "onnx.output" },
        "no tensor of this name",
      ],
      [() => loadModel(onnx("text.onnx")), { code: "ERR_INVALID_ARTEFACT" }, "does not take images"],
    ];
    for (const [load, fields, says] of bad) {
      const error = await load().then(
        () => new Error("it was loaded"),
        (error) => error,
      );
      expect(error).toMatchObject(fields);
      expect(error.message.toLowerCase()).toContain(says.toLowerCase());
    }
  });

  it("serves worker threads, whose end leaves it alone", async () => {
    const script = fileURLToPath(new URL("../support/model-workers.mjs", import.meta.url));
    const child = spawn(process.execPath, [script, run, file(4)]);
    const { code, stdout, stderr } = await outcome(child);
    expect(code, stderr).toBe(0);
    const rows: number[][] = JSON.parse(stdout);
    expect(rows).toEqual(rows.map(() => [...(expected[4] ?? [])]));
  });
});
