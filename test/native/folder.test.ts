/** The folder of a run: one run at a time in it, and what happens where somebody takes it away. */

import { execFileSync, spawn } from "node:child_process";
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { describe, expect, it } from "vitest";
import { type RunEvent, resume, train } from "../../src/index.ts";
import type { Run } from "../../src/run/run.ts";
import { lines, rkd, smallFlags, start } from "../support/cli.ts";
import { temporaryFolder } from "../support/folders.ts";
import { smallRun } from "../support/small.ts";

const bytes = (out: string) => readFileSync(join(out, "model.safetensors")).toString("base64");

/** Calls `then` at the run's first event of this type; the run itself goes on. */
async function at(run: Run<unknown>, type: RunEvent["type"], then: () => void): Promise<void> {
  let done = false;
  for await (const event of run) {
    if (event.type === type && !done) {
      done = true;
      then();
    }
  }
}

describe("two runs in one folder", () => {
  const inUse = {
    code: "ERR_OUTPUT_EXISTS",
    message: expect.stringMatching(new RegExp(`in use by process ${process.pid} on .+ since 2`)),
  };

  it("are one run and one refusal, from the first moment", async () => {
    const out = join(temporaryFolder(), "run");
    const runs = await Promise.allSettled([3, 4].map((seed) => train(smallRun(out, { seed }))));
    const [winner, loser] = runs[0]?.status === "fulfilled" ? [3, runs[1]] : [4, runs[0]];
    expect(loser).toMatchObject({ status: "rejected", reason: inUse });
    expect(runs.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
    expect(JSON.parse(readFileSync(join(out, "plan.json"), "utf8")).plan.seed).toBe(winner);
    expect(readdirSync(out).filter((name) => name.startsWith("."))).toEqual([]);
  });

  it("are refused while the first one trains, overwrite and resume too", async () => {
    const folder = temporaryFolder();
    const out = join(folder, "run");
    symlinkSync(out, join(folder, "link"));
    const first = train(smallRun(out, { stepsPerEpoch: 200 }));
    const second: Promise<unknown>[] = [];
    await at(first, "step", () => {
      second.push(resume(out), resume(join(folder, "link")), train(smallRun(out, { overwrite: true })));
      for (const each of second) each.catch(() => {});
    });
    await first;
    for (const each of second) await expect(each).rejects.toMatchObject(inUse);
    const starts = readFileSync(join(out, "events.jsonl"), "utf8").match(/"type":"start"/g);
    expect(starts).toHaveLength(1);
  });

  it("are told apart between processes, and a killed one is in nobody's way", async () => {
    const out = join(temporaryFolder(), "run");
    const first = start(["train", ...smallFlags(out), "--steps-per-epoch", "20000", "--json"]);
    await new Promise<void>((resolve) => {
      first.stdout?.on("data", (chunk) => String(chunk).includes('"step"') && resolve());
      first.on("close", () => resolve());
    });
    const second = await rkd("train", ...smallFlags(out), "--overwrite");
    expect(second.stderr).toContain(`in use by process ${first.pid} on`);
    expect(second.code).toBe(2);
    expect((await rkd("resume", out)).code).toBe(2);
    first.kill("SIGKILL");
    await first.done;
    const third = await rkd("train", ...smallFlags(out), "--overwrite");
    expect(third.code, third.stderr).toBe(0);
  });

  it("leaves no folder where the data are no good", async () => {
    const folder = temporaryFolder();
    mkdirSync(join(folder, "empty"));
    const run = train({ ...smallRun(join(folder, "new", "run")), data: join(folder, "empty") });
    await expect(run).rejects.toMatchObject({ code: "ERR_INVALID_DATA" });
    expect(existsSync(join(folder, "new"))).toBe(false);
  });
});

describe("a folder that goes away during the run", () => {
  const long = { stepsPerEpoch: 3000, epochs: 1 };

  it.runIf(process.platform === "linux")("is followed where it was moved, and the run goes on from there", async () => {
    const folder = temporaryFolder();
    await train(smallRun(join(folder, "whole"), long));
    const [out, moved] = [join(folder, "run"), join(folder, "moved")];
    const run = train(smallRun(out, long));
    const watched = at(run, "step", () => renameSync(out, moved));
    const failure = { code: "ERR_NOT_FOUND", message: expect.stringContaining(`moved during the run, to ${moved}`) };
    await expect(run).rejects.toMatchObject(failure);
    await expect(watched).rejects.toMatchObject(failure);
    expect(existsSync(out)).toBe(false);
    expect(existsSync(join(moved, "metrics.json"))).toBe(false);
    const going = resume(moved);
    let first: number | undefined;
    for await (const event of going) if (event.type === "start") first = event.step;
    expect(first).toBeGreaterThan(0);
    expect(bytes(moved)).toBe(bytes(join(folder, "whole")));
  });

  it("is an error where it was removed, and is not made again", async () => {
    const out = join(temporaryFolder(), "run");
    const run = train(smallRun(out, long));
    const watched = at(run, "step", () => rmSync(out, { recursive: true }));
    const failure = { code: "ERR_NOT_FOUND", message: expect.stringContaining("removed during the run") };
    await expect(run).rejects.toMatchObject(failure);
    await expect(watched).rejects.toMatchObject(failure);
    expect(existsSync(out)).toBe(false);
  });
});

it("keeps to the folder of the moment it was called", async () => {
  const folder = temporaryFolder();
  const library = pathToFileURL(join(import.meta.dirname, "../../dist/index.js")).href;
  const program = `
    import { conv4, train } from ${JSON.stringify(library)};
    const run = train({ data: "glyphs:classes=20,writers=8", backbone: conv4({ width: 4, embedding: 8 }),
      batch: { size: 16 }, stepsPerEpoch: 2, epochs: 1, out: "run" });
    process.chdir("/");
    await run;`;
  execFileSync(process.execPath, ["--input-type=module", "-e", program], { cwd: folder });
  expect(existsSync(join(folder, "run", "model.safetensors"))).toBe(true);
});

it("says that a run without a checkpoint starts anew, and removes what was left aside", async () => {
  const out = join(temporaryFolder(), "run");
  await train(smallRun(out, { epochs: 1 }));
  const model = bytes(out);
  for (const name of ["checkpoint", "metrics.json", "model.safetensors"]) rmSync(join(out, name), { recursive: true });
  writeFileSync(join(out, "model.safetensors.99.0.tmp"), "half");
  const warnings: string[] = [];
  for await (const event of resume(out)) if (event.type === "warning") warnings.push(event.message);
  expect(warnings).toContainEqual(expect.stringContaining("starts anew"));
  expect(bytes(out)).toBe(model);
  expect(existsSync(join(out, "model.safetensors.99.0.tmp"))).toBe(false);
});

describe.skipIf(process.platform === "win32")("a disk that is full", () => {
  /** Ends with the exit code; no file may become larger than `kib`. */
  const limited = (kib: number, args: readonly string[]) =>
    new Promise<{ code: number | null; text: string }>((resolve) => {
      const child = spawn("bash", ["-c", `ulimit -f ${kib}; exec "$@"`, "bash", ...args]);
      let text = "";
      for (const stream of [child.stdout, child.stderr]) {
        stream.on("data", (chunk) => {
          text += chunk;
        });
      }
      child.on("close", (code) => resolve({ code, text }));
    });

  it("stops the run with an error of its own, not the process, and the run goes on later", async () => {
    const folder = temporaryFolder();
    await train(smallRun(join(folder, "whole"), { stepsPerEpoch: 400 }));
    const out = join(folder, "run");
    const run = train(smallRun(out, { stepsPerEpoch: 400 }));
    for await (const event of run) if (event.type === "checkpoint") break;
    await expect(run).rejects.toMatchObject({ name: "AbortError" });
    const events = join(out, "events.jsonl");
    const kib = 256;
    appendFileSync(events, `${" ".repeat(kib * 1024 - statSync(events).size - 600)}\n`);
    const library = pathToFileURL(join(import.meta.dirname, "../../dist/index.js")).href;
    const program = `
      import { resume } from ${JSON.stringify(library)};
      await resume(process.argv[1]).catch((error) => console.log("caught", error.code, error.message));
      console.log("alive");`;
    const node = [process.execPath, "--input-type=module", "-e", program, out];
    const { code, text } = await limited(kib, node);
    expect(text).toMatch(/^caught ERR_IO .*events\.jsonl.*\nalive\n$/);
    expect(code).toBe(0);
    expect(existsSync(join(out, "model.safetensors"))).toBe(false);
    await resume(out);
    expect(bytes(out)).toBe(bytes(join(folder, "whole")));
  });

  it("keeps the checkpoint before, where the next one does not fit", async () => {
    const folder = temporaryFolder();
    await train(smallRun(join(folder, "first"), { epochs: 1 })); // now the images are decoded
    const out = join(folder, "run");
    const command = join(import.meta.dirname, "../../bin/rkd.mjs");
    const args = [process.execPath, command, "train", ...smallFlags(out), "--steps-per-epoch", "60", "--json"];
    const { code, text } = await limited(16, args); // enough for all but a checkpoint
    expect(code, text).toBe(3);
    const failure = lines(text.split("\nrkd:")[0] ?? "").at(-1);
    expect(failure).toMatchObject({ type: "error", code: "ERR_IO" });
    expect(readdirSync(out, { recursive: true }).filter((name) => String(name).endsWith(".tmp"))).toEqual([]);
    const going = await rkd("resume", out);
    expect(going.code, going.stderr).toBe(0);
  });
});
