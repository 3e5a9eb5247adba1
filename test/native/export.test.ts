/** Exported models: what is written, what it is worth, what transformers.js makes of it, and what is refused. */

import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { env, pipeline } from "@huggingface/transformers";
import { beforeAll, describe, expect, it } from "vitest";
import {
  conv4,
  type DistillOptions,
  distill,
  type ExportOptions,
  type ExportReport,
  embed,
  exportModel,
  imageFolder,
  resnet,
  train,
} from "../../src/index.ts";
import { lines, rkd } from "../support/cli.ts";
import { temporaryFolder } from "../support/folders.ts";
import { KINDS, photos } from "../support/photos.ts";
import { apart, cosine, readVectors } from "../support/vectors.ts";

const folder = temporaryFolder();
const place = (name: string) => join(folder, name);
const data = () => imageFolder(place("photos"), { imageSize: 32, channels: 3, cache: place("cache") });
const run = place("runs/small");

/** Of float32 embeddings of norm 1, between engines: other orders of sums. */
const ROUNDING = 2e-6;

function write(out: string, more: Partial<ExportOptions> = {}): Promise<ExportReport> {
  return Promise.resolve(exportModel({ model: run, to: "onnx", out: place(out), engine: "rten", threads: 2, ...more }));
}

const refusal = (job: Promise<unknown>): Promise<Error & { code?: string }> =>
  job.then(
    () => new Error("nothing was refused"),
    (error) => error,
  );

const files = (out: string) => readdirSync(place(out), { recursive: true, encoding: "utf8" }).sort();

beforeAll(async () => {
  photos(place("photos"), 96, (i) => `kind-${i % KINDS}/${i}.png`);
  await train({
    data: data(),
    backbone: conv4({ width: 8, embedding: 8, normalize: true }),
    batch: { size: 16, perClass: 4 },
    epochs: 2,
    out: run,
    threads: 2,
  });
});

describe("an ONNX file", () => {
  it("is worth what the model is, in every dtype", async () => {
    const report = await write("onnx", { dtype: ["float32", "float16", "int8"], calibrationImages: 40 });
    const names = ["model.onnx", "model_fp16.onnx", "model_quantized.onnx"];
    expect(report.models.map(({ file }) => file)).toEqual(names);
    expect(files("onnx")).toEqual(["README.md", "export.json", ...names, "preprocessor_config.json"].sort());
    expect(report.files.map(({ path }) => path).sort()).toEqual(files("onnx"));
    const [whole, half, quarter] = report.models;
    expect(report.models.every(({ engine }) => engine === "rten")).toBe(true);
    expect(whole?.cosine?.min).toBeGreaterThan(1 - 1e-6);
    expect(whole?.evaluation?.metrics).toEqual(report.student?.metrics);
    expect(half?.cosine?.min).toBeGreaterThan(0.9999);
    expect(quarter?.cosine?.mean).toBeGreaterThan(0.99);
    expect(half?.bytes).toBeLessThan(whole?.bytes ?? 0);
    expect(quarter?.bytes).toBeLessThan(whole?.bytes ?? 0);
    expect(report.missed).toEqual([]);
    const text = readFileSync(join(place("onnx"), "export.json"), "utf8");
    expect(text).not.toContain(folder);
    expect(JSON.parse(text).models[2].cosine).toEqual(quarter?.cosine);
  });

  it("is the same file every time", async () => {
    const bytes = async (out: string) => {
      const report = await write(out, { dtype: ["float32", "int8"], measure: false, calibrationImages: 20 });
      return report.models.map(({ file }) => readFileSync(join(place(out), file), "base64"));
    };
    expect(await bytes("first")).toEqual(await bytes("second"));
  });

  it("takes bytes where it normalises itself", async () => {
    const report = await write("bytes", { input: "bytes" });
    expect(report.models[0]?.cosine?.min).toBeGreaterThan(1 - 1e-6);
    const config = JSON.parse(readFileSync(join(place("bytes"), "preprocessor_config.json"), "utf8"));
    expect(config).toMatchObject({ do_rescale: false, do_normalize: false });
  });

  it("teaches, measured by its own relations", async () => {
    await write("teacher");
    const student: DistillOptions = {
      teacher: join(place("teacher"), "model.onnx"),
      data: data(),
      student: conv4({ width: 4, embedding: 4 }),
      epochs: 1,
      out: place("runs/student"),
      threads: 2,
    };
    const { verdict } = await distill(student);
    expect(verdict.teachers[0]?.embedding).toBe(8);
    // The student's own teacher is the one that its export is compared with.
    const report = await Promise.resolve(
      exportModel({ model: place("runs/student"), to: "onnx", out: place("student"), engine: "rten" }),
    );
    expect(report.student?.fidelity?.map(({ teacher }) => teacher)).toEqual(["teacher"]);
    renameSync(place("teacher"), place("moved"));
    const again = exportModel({ model: place("runs/student"), to: "onnx", out: place("again"), engine: "rten" });
    const warnings: string[] = [];
    for await (const event of again) if (event.type === "warning") warnings.push(event.message);
    expect((await again).student?.fidelity).toBeUndefined();
    expect(warnings.join(" ")).toContain("The teacher teacher is not there any more");
    expect(readFileSync(join(place("again"), "README.md"), "utf8")).toContain("a student of `teacher`");
  });
});

describe("a folder for transformers.js", () => {
  it("gives rkd's vectors, of an image and of several, in every dtype", async () => {
    const out = place("transformers");
    await write("transformers", { to: "transformers", dtype: ["float32", "float16", "int8"], calibrationImages: 40 });
    await embed({ model: run, data: data(), out: place("vectors.npy") });
    const own = readVectors(place("vectors.npy"));
    const ids = [...own.keys()].slice(0, 8);
    const images = ids.map((id) => join(place("photos"), id));
    env.allowRemoteModels = false;
    env.localModelPath = "";
    for (const [dtype, least] of [
      ["fp32", 1 - 1e-6],
      ["fp16", 0.9999],
      ["q8", 0.98],
    ] as const) {
      const extract = await pipeline("image-feature-extraction", out, { dtype });
      const found = await extract(images);
      expect(found.dims).toEqual([ids.length, 8]);
      const rows = found.tolist() as number[][];
      for (const [i, id] of ids.entries()) {
        const vector = own.get(id) ?? [];
        expect(cosine(rows[i] ?? [], vector), `${dtype} ${id}`).toBeGreaterThan(least);
        if (dtype === "fp32") expect(apart(rows[i] ?? [], vector), id).toBeLessThan(10 * ROUNDING);
      }
      await extract.dispose();
    }
    // By itself it takes the first dtype.
    const extract = await pipeline("image-feature-extraction", out);
    const [first = ""] = ids;
    const alone = await extract(join(place("photos"), first));
    expect(apart(alone.data as Float32Array, own.get(first) ?? [])).toBeLessThan(10 * ROUNDING);
    await extract.dispose();
  });

  it("says in its README what it is", async () => {
    const text = readFileSync(join(place("transformers"), "README.md"), "utf8");
    for (const words of [
      "# small",
      "8 numbers, of norm 1",
      "trained by labels",
      "images of `photos`",
      "`onnx/model.onnx`",
      "To be filled in",
    ]) {
      expect(text).toContain(words);
    }
    expect(text).not.toMatch(/undefined|NaN|\{\}/);
    expect(text).not.toContain(folder);
  });

  it("has timm's files beside it where timm has the network", async () => {
    const wide = place("runs/wide");
    await train({
      data: imageFolder(place("photos"), { imageSize: 16, channels: 3, cache: place("cache") }),
      backbone: resnet(18, { stem: "imagenet", embedding: 8 }),
      epochs: 1,
      stepsPerEpoch: 1,
      batch: { size: 8, perClass: 4 },
      out: wide,
      threads: 2,
    });
    const report = await write("both", { model: wide, to: "transformers", measure: false });
    expect(files("both")).toContain("model.safetensors");
    const config = JSON.parse(readFileSync(join(place("both"), "config.json"), "utf8"));
    expect(config).toMatchObject({ architecture: "resnet18", num_classes: 8, model_type: "resnet" });
    expect(report.models).toHaveLength(1);
    const timm = await write("timm", { model: wide, to: "timm" });
    expect(timm.models[0]).toMatchObject({ file: "model.safetensors", engine: "rkd" });
    expect(timm.models[0]?.cosine?.min).toBeGreaterThan(1 - 1e-9);
    expect(files("timm")).toEqual([
      "README.md",
      "config.json",
      "export.json",
      "model.safetensors",
      "preprocessor_config.json",
    ]);
  });
});

describe("weights alone", () => {
  it("are the model's", async () => {
    const report = await write("weights", { to: "safetensors" });
    expect(report.models[0]?.cosine).toEqual({ mean: expect.closeTo(1, 12), min: expect.closeTo(1, 12) });
    const bytes = (file: string) => readFileSync(file, "base64");
    expect(bytes(join(place("weights"), "model.safetensors"))).toBe(bytes(join(run, "model.safetensors")));
  });
});

describe("the folder", () => {
  it("is replaced only where it is an export and may be", async () => {
    await write("folder", { measure: false });
    const refused = await refusal(write("folder", { measure: false }));
    expect(refused).toMatchObject({ code: "ERR_OUTPUT_EXISTS", message: expect.stringContaining("overwrite: true") });
    await write("folder", { measure: false, to: "safetensors", overwrite: true });
    expect(files("folder")).toEqual(["README.md", "export.json", "model.safetensors", "preprocessor_config.json"]);
    mkdirSync(place("mine"));
    writeFileSync(join(place("mine"), "notes.txt"), "mine");
    const foreign = await refusal(write("mine", { overwrite: true }));
    expect(foreign).toMatchObject({ code: "ERR_OUTPUT_EXISTS", message: expect.stringContaining("notes.txt") });
    expect(await refusal(exportModel({ model: run, to: "onnx", out: run, overwrite: true }).then())).toMatchObject({
      code: "ERR_OUTPUT_EXISTS",
    });
    expect(existsSync(join(run, "model.safetensors"))).toBe(true);
  });
});

it("refuses what cannot be, with the reason and the way out", async () => {
  const bare = place("bare.safetensors");
  writeFileSync(bare, readFileSync(join(run, "model.safetensors")));
  const cases: [Partial<ExportOptions>, string, string][] = [
    [{ to: "timm" }, "ERR_INVALID_OPTION", "timm has no such network: expected a ResNet"],
    [{ to: "timm", dtype: "int8" }, "ERR_INVALID_OPTION", "timm has no such network"],
    [{ to: "safetensors", dtype: "float16" }, "ERR_INVALID_OPTION", "expected float32 for safetensors"],
    [{ to: "transformers", input: "bytes" }, "ERR_INVALID_OPTION", "expected floats for transformers"],
    [{ dtype: [] }, "ERR_INVALID_OPTION", "one dtype or more"],
    [{ dtype: ["int8", "int8"] }, "ERR_INVALID_OPTION", "a dtype twice"],
    [{ dtype: "fp16" as "float16" }, "ERR_INVALID_OPTION", '"float32" or "float16" or "int8"'],
    [{ minRecall: 1.5 }, "ERR_INVALID_OPTION", "minRecall"],
    [{ minRecall: 0.5, measure: false }, "ERR_INVALID_OPTION", "nothing is measured"],
    [{ model: bare, dtype: "int8" }, "ERR_INVALID_OPTION", "needed with a model outside a run's folder"],
    [{ model: bare, minCosine: 0.9 }, "ERR_INVALID_OPTION", "needed with a model outside a run's folder"],
    [
      { engine: "onnxruntime", onnxruntime: "/nowhere/libonnxruntime.so" },
      "ERR_NOT_FOUND",
      "/nowhere/libonnxruntime.so",
    ],
  ];
  for (const [at, [options, code, words]] of cases.entries()) {
    const error = await refusal(write(`refused-${at}`, options));
    expect({ code: error.code, message: error.message }, words).toEqual({
      code,
      message: expect.stringContaining(words),
    });
  }
  const out = place("without-data");
  const alone = exportModel({ model: bare, to: "onnx", out });
  const warnings: string[] = [];
  for await (const event of alone) if (event.type === "warning") warnings.push(event.message);
  expect(warnings[0]).toContain("no images to measure");
  expect((await alone).student).toBeNull();
  expect(readFileSync(join(out, "README.md"), "utf8")).toContain("not measured");
});

describe("on the command line", () => {
  const flags = (out: string, ...more: string[]) => ["export", run, "--out", place(out), "--engine", "rten", ...more];

  it("prints a table, and a gate that is missed is exit code 6", async () => {
    const met = await rkd(...flags("met", "--to", "onnx", "--min-cosine", "0.99", "--max-bytes", "100000"));
    expect(met).toMatchObject({ code: 0 });
    expect(met.stdout).toMatch(/model +bytes +cosine +lowest +recall@1/);
    expect(met.stdout).toMatch(/student +[\d,]+ .* rkd\nfloat32 +[\d,]+ +1\.000000 .* rten\n/);
    const missed = await rkd(...flags("missed", "--to", "onnx", "--max-bytes", "1000", "--json"));
    expect(missed.code).toBe(6);
    const end = lines(missed.stdout).at(-1);
    expect(end.type).toBe("end");
    expect(end.missed).toEqual([expect.stringContaining("float32 misses maxBytes 1000")]);
    const words = await rkd(...flags("told", "--to", "onnx", "--max-bytes", "1000"));
    expect(words.stderr).toContain("gate: float32 misses --max-bytes 1000");
  });

  it("names flags in its errors", async () => {
    const missing = await rkd(...flags("x"));
    expect(missing).toMatchObject({ code: 2, stderr: expect.stringContaining("--to: this option is needed") });
    const wrong = await rkd(...flags("x", "--to", "onnx", "--dtype", "float32,fp8"));
    expect(wrong).toMatchObject({ code: 2, stderr: expect.stringContaining("--dtype: invalid value") });
    const lone = await rkd(...flags("x", "--to", "onnx", "--labels", "none"));
    expect(lone).toMatchObject({ code: 2, stderr: expect.stringContaining("--labels") });
  });
});
