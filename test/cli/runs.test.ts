/** `report`, `compare`, `runs`, `watch`, `--config` and `--reporter`: what people do around runs. */

import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { lines, rkd, smallFlags, start } from "../support/cli.ts";
import { temporaryFolder } from "../support/folders.ts";

const folder = temporaryFolder();
const [one, two] = [join(folder, "one"), join(folder, "deep", "two")];

beforeAll(async () => {
  const { code, stderr } = await rkd("train", ...smallFlags(one), "--reporter", "csv", "--reporter", "tensorboard");
  expect(code, stderr).toBe(0);
  const other = await rkd("train", ...smallFlags(two), "--seed", "2", "--split-seed", "1", "--no-report");
  expect(other.code, other.stderr).toBe(0);
});

it("a run says where its page is, and reporters have written", async () => {
  expect(existsSync(join(one, "report.html"))).toBe(true);
  expect(existsSync(join(one, "scalars.csv"))).toBe(true);
  expect(existsSync(join(one, "tensorboard"))).toBe(true);
  expect(existsSync(join(two, "report.html"))).toBe(false);
});

it("report writes a page, of several to a file that is named", async () => {
  expect(await rkd("report", two)).toMatchObject({ code: 0, stdout: `${join(two, "report.html")}\n` });
  const out = join(folder, "both.html");
  expect(await rkd("report", one, two, "--out", out)).toMatchObject({ code: 0, stdout: `${out}\n` });
  expect(readFileSync(out, "utf8")).toContain("What differs in their plans");
  const missing = await rkd("report", one, two);
  expect(missing).toMatchObject({
    code: 2,
    stderr: expect.stringContaining("--out: invalid value: expected the file to write"),
  });
  expect((await rkd("report", folder)).code).toBe(3);
  const onFolder = await rkd("report", one, "--out", folder);
  expect(onFolder).toMatchObject({
    code: 3,
    stderr: expect.stringContaining("A folder stands there: give the path of a file"),
  });
});

it("a metrics.json that is no result is told, by report, compare and runs alike", async () => {
  const place = join(folder, "junk", "run");
  cpSync(one, place, { recursive: true });
  writeFileSync(join(place, "metrics.json"), '{"a":1}');
  const told = expect.stringContaining(
    "metrics.json: this is no result of a run: expected an object with job, metrics",
  );
  for (const command of [
    ["report", place],
    ["compare", place, two],
  ]) {
    const { code, stderr } = await rkd(...command);
    expect({ code, stderr }).toEqual({ code: 3, stderr: told });
  }
  expect(await rkd("runs", join(folder, "junk"))).toMatchObject({ code: 0, stderr: told });
});

it("compare shows scores, and only what differs", async () => {
  const { code, stdout } = await rkd("compare", one, two);
  expect(code).toBe(0);
  const rows = stdout.split("\n").map((line) => line.split(/ {2,}/).map((cell) => cell.trim()));
  expect(rows).toContainEqual(["seed", "1", "2"]);
  expect(rows.find(([name]) => name === "recall@1")).toHaveLength(3);
  expect(stdout).not.toContain("epochs  2");
  expect((await rkd("compare", one)).code).toBe(2);
  const printed = lines((await rkd("compare", one, two, "--json")).stdout);
  expect(printed.map(({ run, plan }) => [run, plan.plan.seed])).toEqual([
    [one, 1],
    [two, 2],
  ]);
});

it("runs has a line for each run, the newest first", async () => {
  const { code, stdout } = await rkd("runs", folder);
  expect(code).toBe(0);
  const [, , first, second] = stdout.split("\n");
  expect(first).toMatch(
    /^deep\/two +\d{4}-\d\d-\d\d \d\d:\d\d +finished +- +conv4 +recall@1 [\d.]+ % +[\d,]+ +\d+ KiB$/,
  );
  expect(second).toMatch(/^one /);
  const listed = lines((await rkd("runs", folder, "--json")).stdout);
  expect(listed).toMatchObject([
    { run: "deep/two", state: "finished", metric: "recall@1", teachers: [] },
    { run: "one", state: "finished" },
  ]);
  const none = await rkd("runs", join(folder, "one", "checkpoint"));
  expect(none).toMatchObject({ code: 0, stdout: "", stderr: expect.stringContaining("There is no run in") });
});

it("runs leaves out a run that it cannot read, with a word", async () => {
  const place = join(temporaryFolder(), "mixed");
  cpSync(one, join(place, "good"), { recursive: true });
  cpSync(one, join(place, "old"), { recursive: true });
  const plan = JSON.parse(readFileSync(join(place, "old", "plan.json"), "utf8"));
  delete plan.plan.teachers;
  writeFileSync(join(place, "old", "plan.json"), JSON.stringify(plan));
  const { code, stdout, stderr } = await rkd("runs", place);
  expect({ code, stderr }).toMatchObject({ code: 0, stderr: expect.stringContaining("left out: old: ") });
  expect(stdout).toContain("good");
  expect(stdout).not.toContain("old");
});

it("watch serves the page until it is stopped", async () => {
  const watching = start(["watch", one]);
  const url = await new Promise<string>((resolve) =>
    watching.stdout?.on("data", (chunk) => resolve(String(chunk).trim())),
  );
  expect(url).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/$/);
  expect(await (await fetch(url)).text()).toContain("<h1>one: conv4 that learned from labels</h1>");
  watching.kill("SIGINT");
  expect((await watching.done).code).toBe(130);
});

describe("--config", () => {
  const write = (name: string, text: string) => {
    const file = join(folder, name);
    writeFileSync(file, text);
    return file;
  };
  const options = (out: string) => ({
    data: "glyphs:classes=20,writers=8",
    backbone: { kind: "conv4", width: 4, embedding: 8 },
    batch: { size: 16 },
    epochs: 1,
    stepsPerEpoch: 3,
    threads: 1,
    out,
  });

  it("gives what flags do not say, and flags come before it", async () => {
    const out = join(folder, "configured");
    const file = write("rkd.config.mjs", `export default ${JSON.stringify(options(out))};`);
    const { code, stderr } = await rkd("train", "--config", file, "--epochs", "2", "--lr", "0.002", "--no-report");
    expect(code, stderr).toBe(0);
    const { plan } = JSON.parse(readFileSync(join(out, "plan.json"), "utf8"));
    expect(plan).toMatchObject({
      epochs: 2,
      stepsPerEpoch: 3,
      batch: { size: 16 },
      optimizer: { learningRate: 0.002 },
    });
    expect(plan.backbone).toMatchObject({ kind: "conv4", width: 4, embedding: 8 });
  });

  it("may be a promise, and leave something open", async () => {
    const out = join(folder, "promised");
    const file = write(
      "promise.mjs",
      `setInterval(() => {}, 1000);\nexport default Promise.resolve(${JSON.stringify(options(out))});`,
    );
    const { code, stderr } = await rkd("train", "--config", file, "--no-report");
    expect(code, stderr).toBe(0);
    expect(existsSync(join(out, "model.safetensors"))).toBe(true);
  });

  it("names a teacher, in place of the flag", async () => {
    const out = join(folder, "configured-student");
    const { backbone: student, ...rest } = options(out);
    const file = write("student.mjs", `export default ${JSON.stringify({ ...rest, student, teacher: one })};`);
    const { code, stderr } = await rkd("distill", "--config", file, "--no-report");
    expect(code, stderr).toBe(0);
    expect(JSON.parse(readFileSync(join(out, "metrics.json"), "utf8")).verdict.teachers).toHaveLength(1);
  });

  it.each([
    ["none.mjs", undefined, 3, /none\.mjs: there is no such file/],
    [
      "empty.mjs",
      "export const a = 1;",
      2,
      /empty\.mjs: this is no configuration: expected an object as the default export/,
    ],
    ["broken.mjs", "export default {", 2, /broken\.mjs: the module cannot be loaded: /],
    [
      "odd.mjs",
      "export default { data: 'glyphs', out: 'x', epohcs: 3, backbone: { kind: 'conv4' } };",
      2,
      /^rkd: epohcs: there is no such option: .*Did you mean "epochs"\?/,
    ],
    [
      "flat.mjs",
      "export default { data: 'glyphs', out: 'x', imageSize: 32 };",
      2,
      /flat\.mjs: there is no option imageSize here\. It belongs to the data: data: \{ source: "photos", imageSize: \.\.\. \}/,
    ],
    ["open.mjs", "setInterval(() => {}, 1000); export default [];", 2, /open\.mjs: this is no configuration/],
    ["never.mjs", "await new Promise(() => {}); export default {};", 2, /waits for something that never comes/],
  ] as const)("%s is told what is wrong with it", async (name, text, expected, message) => {
    const file = text === undefined ? join(folder, name) : write(name, text);
    const { code, stderr } = await rkd("train", "--config", file);
    expect({ code, stderr }).toEqual({ code: expected, stderr: expect.stringMatching(message) });
  });

  it("in TypeScript runs where Node reads it, and says what is needed where not", async () => {
    const out = join(folder, "typed");
    mkdirSync(folder, { recursive: true });
    const file = write(
      "rkd.config.ts",
      `const out: string = ${JSON.stringify(out)};\nexport default { ...${JSON.stringify(options(out))}, out };`,
    );
    const { code, stderr } = await rkd("train", "--config", file, "--no-report");
    const reads = (process.features as { typescript?: unknown }).typescript;
    if (reads) expect(code, stderr).toBe(0);
    else expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringContaining("use Node 22.18 or later") });
  });
});

it.each([
  ["excel", /--reporter: .*"csv" or "tensorboard" or "mlflow", received "excel"/],
  ["csv:x", /--reporter: .*csv without a colon/],
  ["mlflow:nowhere", /begins with http/],
])("--reporter %s is refused before anything is done", async (given, message) => {
  const out = join(folder, "refused");
  const { code, stderr } = await rkd("train", ...smallFlags(out), "--reporter", given);
  expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringMatching(message) });
  expect(existsSync(out)).toBe(false);
});
