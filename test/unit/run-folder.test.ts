import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import {
  checkFree,
  hashFile,
  prepareFolder,
  readPlanFile,
  requirePlanFile,
  writeJson,
} from "../../src/artefacts/run-folder.ts";
import { temporaryFolder } from "../support/folders.ts";

it("writes JSON whole, and leaves nothing aside", () => {
  const folder = temporaryFolder();
  const file = join(folder, "metrics.json");
  writeJson(file, { a: 1 });
  writeJson(file, { a: 2 });
  expect(JSON.parse(readFileSync(file, "utf8"))).toEqual({ a: 2 });
  expect(readdirSync(folder)).toEqual(["metrics.json"]);
});

it("clears an earlier run and nothing else", async () => {
  const folder = temporaryFolder();
  for (const name of ["plan.json", "metrics.json", "model.safetensors", "mine.txt"])
    writeFileSync(join(folder, name), "");
  expect(() => checkFree(folder, false)).toThrow(/already holds a run \(plan\.json\)/);
  checkFree(folder, true);
  await prepareFolder(folder);
  expect(readdirSync(folder).sort()).toEqual(["checkpoint", "mine.txt"]);
});

it("offers to go on with an unfinished run", () => {
  const folder = temporaryFolder();
  writeFileSync(join(folder, "plan.json"), "");
  expect(() => checkFree(folder, false)).toThrow(/go on with that run \(resume\)/);
});

it("says what is in the way of a folder", async () => {
  const file = join(temporaryFolder(), "file");
  writeFileSync(file, "");
  await expect(prepareFolder(join(file, "run"))).rejects.toMatchObject({
    code: "ERR_NOT_FOUND",
    subject: join(file, "run"),
  });
  expect(() => writeJson(join(file, "plan.json"), {})).toThrow(/every part but the last must be a folder/);
});

it.each(["", "[]", "{}", '{"form":2}', '{"form":1}', "\0"])("refuses %j as plan.json", (text) => {
  const folder = temporaryFolder();
  writeFileSync(join(folder, "plan.json"), text);
  expect(() => readPlanFile(folder)).toThrow(expect.objectContaining({ code: "ERR_INVALID_ARTEFACT" }));
});

it.each(['"job":3', '"job":"train"', '"job":"train","plan":4', '"job":"train","plan":{},"inputs":{"a":5}'])(
  "refuses a plan.json of %s",
  (part) => {
    const folder = temporaryFolder();
    writeFileSync(join(folder, "plan.json"), `{"form":1,${part}}`);
    expect(() => readPlanFile(folder)).toThrow(expect.objectContaining({ code: "ERR_INVALID_ARTEFACT" }));
  },
);

it("takes a plan.json by hand without policy and inputs", () => {
  const folder = temporaryFolder();
  writeFileSync(join(folder, "plan.json"), '{"form":1,"job":"train","plan":{"data":"glyphs"}}');
  expect(readPlanFile(folder)).toMatchObject({ job: "train", policy: {}, inputs: {} });
});

it("tells a folder without a run from a damaged one", () => {
  const folder = temporaryFolder();
  mkdirSync(join(folder, "checkpoint"));
  expect(readPlanFile(folder)).toBeUndefined();
  expect(() => requirePlanFile(folder)).toThrow(expect.objectContaining({ code: "ERR_NOT_FOUND" }));
  expect(existsSync(join(folder, "plan.json"))).toBe(false);
});

it("hashes as sha256sum does", async () => {
  const file = join(temporaryFolder(), "abc");
  writeFileSync(file, "abc");
  expect(await hashFile(file)).toBe("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
});
