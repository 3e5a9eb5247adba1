import { linkSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { checkFileApart, checkFolderApart, type Inputs } from "../../src/artefacts/apart.ts";
import { temporaryFolder } from "../support/folders.ts";

/** A project: data in it, a run, a link to each, and a cache. */
function project() {
  const root = temporaryFolder();
  const at = (...names: string[]) => join(root, ...names);
  for (const name of ["photos/cat", "cache", "run/checkpoint"]) mkdirSync(at(name), { recursive: true });
  writeFileSync(at("photos/cat/1.png"), "a picture");
  writeFileSync(at("photos/old.npy"), "embeddings");
  const plan = { form: 1, rkd: "0.0.0", job: "train", plan: {}, policy: {}, inputs: {} };
  writeFileSync(at("run/plan.json"), JSON.stringify(plan));
  writeFileSync(at("run/model.safetensors"), "a model");
  writeFileSync(at("run/checkpoint/latest.safetensors"), "a checkpoint");
  symlinkSync(at("photos"), at("linked-photos"));
  symlinkSync(at("run"), at("linked-run"));
  linkSync(at("run/model.safetensors"), at("same-model"));
  const data = { source: at("photos"), more: [], cache: at("cache") };
  const inputs = (...files: string[]): Inputs => ({ data, files: files.map((file) => at(file)) });
  return { at, inputs };
}

it.each([
  ["the data", "photos", "folder of the data"],
  ["the data by a link", "linked-photos", "folder of the data"],
  ["a place in the data", "linked-photos/cat/run", "folder of the data"],
  ["what the data lie in", ".", "the data lie in this folder"],
  ["the cache", "cache", "folder of the decoded images"],
  ["a place in the cache", "cache/run", "folder of the decoded images"],
])("no run goes into %s", (_, out, why) => {
  const { at, inputs } = project();
  const refused = expect.objectContaining({ code: "ERR_INVALID_OPTION", message: expect.stringContaining(why) });
  expect(() => checkFolderApart(at(out), inputs())).toThrow(refused);
});

it("no run goes into the root or the home folder", () => {
  const { inputs } = project();
  expect(() => checkFolderApart("/", inputs())).toThrow(/root of the file system/);
  expect(() => checkFolderApart(homedir(), inputs())).toThrow(/your home folder/);
});

it.each(["run/model.safetensors", "same-model", "linked-run/checkpoint/latest.safetensors"])(
  "no run replaces its input %s",
  (input) => {
    const { at, inputs } = project();
    for (const out of ["run", "linked-run"]) {
      expect(() => checkFolderApart(at(out), inputs(input))).toThrow(/an input lies in this folder/);
    }
  },
);

it("a run may go beside all that", () => {
  const { at, inputs } = project();
  for (const out of ["new", "new/deep/er", "run", "photos-2"]) checkFolderApart(at(out), inputs("photos/old.npy"));
  checkFolderApart(at("new"), { files: [], data: { source: "glyphs", more: [], cache: at("cache") } });
});

it.each([
  ["an input", "run/model.safetensors", ["run/model.safetensors"], /this file is an input/],
  ["an input by another name", "same-model", ["run/model.safetensors"], /this file is an input/],
  ["another run's model", "linked-run/model.safetensors", [], /belongs to a run/],
  ["another run's checkpoint", "run/checkpoint/latest.safetensors", [], /belongs to a run/],
  ["a picture", "linked-photos/cat/1.png", [], /one of the data/],
])("embeddings do not replace %s", (_, out, files, why) => {
  const { at, inputs } = project();
  expect(() => checkFileApart(at(out), inputs(...files))).toThrow(why);
});

it("embeddings may replace older ones", () => {
  const { at, inputs } = project();
  for (const out of ["photos/old.npy", "photos/new.npy", "run/new.npy"]) checkFileApart(at(out), inputs());
});
