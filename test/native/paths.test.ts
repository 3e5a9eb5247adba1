/** Paths as people write them: `file:` URLs as texts and objects, `~`, and addresses of other machines. */

import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { describe, expect, it } from "vitest";
import {
  conv4,
  distill,
  embed,
  evaluate,
  experiment,
  imageFolder,
  reproduce,
  resume,
  train,
  triplet,
} from "../../src/index.ts";
import { path } from "../../src/options/check.ts";
import { temporaryFolder } from "../support/folders.ts";
import { planTrain } from "../support/plan.ts";
import { smallRun } from "../support/small.ts";

describe("a URL object is a path", () => {
  it("in every function, out and in", async () => {
    const folder = join(temporaryFolder(), "with space, ä and %20");
    mkdirSync(folder);
    const url = (name: string) => pathToFileURL(join(folder, name));
    const small = { epochs: 1, stepsPerEpoch: 2 };
    await train(smallRun("", { ...small, out: url("teacher") }));
    const { data, batch = {} } = smallRun("");
    const common = { ...small, data, batch, student: conv4({ width: 4, embedding: 4 }), out: url("student") };
    await distill({ ...common, teacher: url("teacher"), weights: null });
    const { images } = await evaluate({ model: url("student"), teacher: url("teacher") });
    expect(images).toBeGreaterThan(0);
    await embed({ model: url("student/model.safetensors"), data, out: url("vectors.npy") });
    expect(existsSync(join(folder, "vectors.npy"))).toBe(true);
    expect(await resume(url("student"))).toMatchObject({ out: join(folder, "student") });
  });

  it("of images, lists and the cache", async () => {
    const folder = temporaryFolder();
    for (const name of ["a", "b"]) {
      mkdirSync(join(folder, "images", name), { recursive: true });
      writeFileSync(join(folder, "images", name, "1.png"), "");
      writeFileSync(join(folder, `${name}.txt`), `${name}\n`);
    }
    const [images, train, test] = ["images", "a.txt", "b.txt"].map((name) => pathToFileURL(join(folder, name))) as [
      URL,
      URL,
      URL,
    ];
    const data = imageFolder(images, { split: { kind: "lists", train, test }, cache: pathToFileURL(folder) });
    const { plan } = await planTrain({ ...smallRun(join(folder, "run")), data });
    expect(plan.data).toMatchObject({ source: join(folder, "images"), cache: folder });
    expect(plan.data.split).toMatchObject({ train: join(folder, "a.txt"), test: join(folder, "b.txt") });
    const { plan: other } = await planTrain({ ...smallRun(join(folder, "run")), data: images });
    expect(other.data.source).toBe(join(folder, "images"));
  });

  it("in an experiment", async () => {
    const folder = temporaryFolder();
    const { out: _, ...small } = smallRun("", { epochs: 1, stepsPerEpoch: 2 });
    const cell = () => ({ train: { ...small, losses: [triplet()] } });
    const options = { name: "urls", rows: ["triplet"], columns: ["small"], seeds: 1, estimate: false, cell };
    await experiment({ ...options, out: pathToFileURL(join(folder, "table")) });
    expect(existsSync(join(folder, "table", "table.md"))).toBe(true);
  });
});

it("a path that begins with ~ begins at home", async () => {
  expect(path("out", "~/runs/teacher")).toBe(join(homedir(), "runs", "teacher"));
  const { out } = await planTrain(smallRun("~/runs/teacher"));
  expect(out).toBe(join(homedir(), "runs", "teacher"));
});

it.each(["https://example.org/photos.zip", "s3://bucket/photos", "hf://datasets/cars", new URL("http://a.example")])(
  "nothing is downloaded from %s",
  async (address) => {
    const message = /a path on this machine, received .+\. Nothing is downloaded: fetch it/;
    await expect(train({ ...smallRun("never-made"), data: address })).rejects.toThrow(message);
    await expect(train({ ...smallRun("never-made"), weights: address })).rejects.toThrow(message);
    await expect(train({ ...smallRun("never-made"), out: address })).rejects.toThrow(message);
    await expect(resume(address)).rejects.toThrow(message);
    await expect(evaluate({ model: address })).rejects.toThrow(message);
    await expect(reproduce("ablation", { data: [address], out: "never-made" })).rejects.toThrow(message);
    expect(() => imageFolder(address)).toThrow(message);
    expect(existsSync("never-made")).toBe(false);
  },
);
