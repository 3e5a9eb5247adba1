import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { expect, it } from "vitest";
import { makeFolder } from "../../src/artefacts/make-folder.ts";
import {
  checkFree,
  hasBaseline,
  hashFile,
  prepareFolder,
  readPlanFile,
  removeAbandoned,
  requirePlanFile,
  writeJson,
} from "../../src/artefacts/run-folder.ts";
import type { PlanFile } from "../../src/protocol/protocol.ts";
import { temporaryFolder } from "../support/folders.ts";

it("writes JSON whole, and leaves nothing aside", () => {
  const folder = temporaryFolder();
  const file = join(folder, "metrics.json");
  writeJson(file, { a: 1 });
  writeJson(file, { a: 2 });
  expect(JSON.parse(readFileSync(file, "utf8"))).toEqual({ a: 2 });
  expect(readdirSync(folder)).toEqual(["metrics.json"]);
});

const plan = { form: 1, rkd: "0.0.0", job: "train", plan: {}, policy: {}, inputs: {} } as unknown as PlanFile;

/** A folder with these files in it, by their content. */
function folderOf(contents: Readonly<Record<string, string>>): string {
  const folder = temporaryFolder();
  for (const [name, text] of Object.entries(contents)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), text);
  }
  return folder;
}

/** Every file below `folder` with its content. */
function contentsOf(folder: string): Record<string, string> {
  const entries = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const named = entries.map(({ parentPath, name }) => join(parentPath, name));
  return Object.fromEntries(named.map((file) => [relative(folder, file), readFileSync(file, "utf8")]));
}

it("clears an earlier run and nothing else", async () => {
  const own = [
    "data.json",
    "metrics.json",
    "model.safetensors",
    "last.safetensors",
    "events.jsonl",
    "checkpoint/latest.safetensors",
  ];
  const others = { "mine.txt": "a", "checkpoint/mine.txt": "b", "model.safetensors.bak": "c" };
  const run = Object.fromEntries(own.map((name) => [name, "old"]));
  const folder = folderOf({ "plan.json": JSON.stringify(plan), ...run, ...others });
  expect(() => checkFree(folder, false)).toThrow(/already holds a run \(plan\.json\)/);
  await expect(prepareFolder(folder, false, plan)).rejects.toMatchObject({ code: "ERR_OUTPUT_EXISTS" });
  await prepareFolder(folder, true, plan);
  const { "plan.json": text, ...rest } = contentsOf(folder);
  expect(rest).toEqual(others);
  expect(JSON.parse(text ?? "")).toEqual(plan);
});

it("clears the baseline of a run that has one, and no other run in a folder of that name", async () => {
  const inner = {
    "baseline/plan.json": JSON.stringify(plan),
    "baseline/metrics.json": "old",
    "baseline/mine.txt": "a",
  };
  const claiming = { ...plan, policy: { baseline: true } };
  const own = folderOf({ "plan.json": JSON.stringify(claiming), ...inner });
  expect(hasBaseline(own)).toBe(true);
  await prepareFolder(own, true, plan);
  const { "plan.json": _, ...rest } = contentsOf(own);
  expect(rest).toEqual({ "baseline/mine.txt": "a" });
  const other = folderOf({ "plan.json": JSON.stringify(plan), ...inner });
  expect(hasBaseline(other)).toBe(false);
  await prepareFolder(other, true, plan);
  const { "plan.json": __, ...kept } = contentsOf(other);
  expect(kept).toEqual(inner);
});

it("offers to go on with an unfinished run", () => {
  const folder = folderOf({ "plan.json": JSON.stringify(plan) });
  expect(() => checkFree(folder, false)).toThrow(/go on with that run by resume\(\)/);
});

const strangers: Record<string, string>[] = [
  ...["data.json", "metrics.json", "model.safetensors", "last.safetensors", "events.jsonl"].map((name) => ({
    [name]: "mine",
  })),
  { "checkpoint/latest.safetensors": "mine" },
  { "checkpoint/one.png": "a class of this name" },
  { "plan.json": '{"format_version":"1.2","planned_values":{}}', "model.safetensors": "mine" },
  { "plan.json": '{"form":1,"plan":{},"policy":{}}' },
  { "plan.json": JSON.stringify(plan).slice(0, 40), "events.jsonl": "mine" },
  { "plan.json": JSON.stringify(plan), "model.safetensors/mine.txt": "a folder" },
  { "plan.json": JSON.stringify(plan), checkpoint: "a file" },
];

it.each(strangers)("touches nothing where rkd did not write it: %j", async (contents) => {
  const folder = folderOf(contents);
  for (const overwrite of [false, true]) {
    const refused = expect.objectContaining({ code: "ERR_OUTPUT_EXISTS", subject: folder });
    expect(() => checkFree(folder, overwrite)).toThrow(refused);
    await expect(prepareFolder(folder, overwrite, plan)).rejects.toThrow(refused);
  }
  expect(contentsOf(folder)).toEqual(contents);
});

it("says what is in the way of a folder", async () => {
  const file = join(temporaryFolder(), "file");
  writeFileSync(file, "");
  await expect(prepareFolder(join(file, "run"), false, plan)).rejects.toMatchObject({
    code: "ERR_NOT_FOUND",
    subject: join(file, "run"),
  });
  expect(() => writeJson(join(file, "plan.json"), {})).toThrow(/file stands where a folder has to be/);
  await expect(prepareFolder(file, false, plan)).rejects.toThrow(/file stands where a folder has to be/);
});

it("makes a folder and those above it, or says why not", () => {
  const folder = temporaryFolder();
  expect(makeFolder(join(folder, "a", "b"))).toBe(join(folder, "a"));
  expect(makeFolder(join(folder, "a", "b"))).toBeUndefined();
  symlinkSync(join(folder, "nowhere"), join(folder, "link"));
  expect(() => makeFolder(join(folder, "link"))).toThrow(/EEXIST/);
  // Where Node's own way never ends.
  if (existsSync("/proc/self")) expect(() => makeFolder("/proc/rkd/run")).toThrow(/ENOENT/);
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

it("removes what killed processes left aside, and nothing else", async () => {
  const left = ["plan.json.12.tmp", "model.safetensors.12.3.tmp", "checkpoint/latest.safetensors.12.tmp"];
  const others = ["plan.json.tmp", "notes.12.tmp", "model.safetensors.1x.tmp", "checkpoint/mine.12.tmp"];
  const contents = Object.fromEntries([...left, ...others].map((name) => [name, "half"]));
  const folder = folderOf({ "plan.json": JSON.stringify(plan), ...contents });
  await removeAbandoned(folder);
  expect(Object.keys(contentsOf(folder)).sort()).toEqual(["plan.json", ...others].sort());
});

/** Runs a program in which no file may become larger than 4 KiB. */
function withSmallFiles(program: string, folder: string): string {
  const module = JSON.stringify(join(import.meta.dirname, "../../dist/artefacts"));
  const code = `const at = ${module}; ${program}`;
  const shell = 'ulimit -f 4; exec "$0" --input-type=module -e "$1" "$2"';
  return execFileSync("bash", ["-c", shell, process.execPath, code, folder], { encoding: "utf8" });
}

it("writes every byte or says why not, and keeps the old file", () => {
  const folder = folderOf({ "plan.json": '"old"' });
  const program = `
    const { writeJson } = await import(at + "/run-folder.js");
    const { EventLog } = await import(at + "/event-log.js");
    const folder = process.argv[1];
    const attempt = (work) => { try { work(); return "done"; } catch (error) { return error.code; } };
    const log = new EventLog(folder + "/events.jsonl");
    const warning = () => log.write({ type: "warning", message: "x".repeat(3000) });
    console.log([attempt(() => writeJson(folder + "/plan.json", "y".repeat(9000))),
      attempt(warning), attempt(warning), attempt(warning)].join(" "));`;
  expect(withSmallFiles(program, folder).trim()).toBe("ERR_IO done ERR_IO done");
  expect(readFileSync(join(folder, "plan.json"), "utf8")).toBe('"old"');
  expect(readdirSync(folder).sort()).toEqual(["events.jsonl", "plan.json"]);
});
