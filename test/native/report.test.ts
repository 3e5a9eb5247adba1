/** What runs leave for people and other programs: every step, a page, reporters; and going on beyond the planned end. */

import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { RunEvent } from "../../src/events.ts";
import { constant, conv4, glyphs, report, resume, train } from "../../src/index.ts";
import { json } from "../../src/native/json.ts";
import { NativeSession } from "../../src/native/session.ts";
import { lines } from "../support/cli.ts";
import { distilled } from "../support/distilled.ts";
import { temporaryFolder } from "../support/folders.ts";
import { smallRun } from "../support/small.ts";

const log = (out: string) => lines(readFileSync(join(out, "events.jsonl"), "utf8"));
const stepsOf = (events: readonly { type: string; step?: number }[]) =>
  events.filter(({ type }) => type === "step").map(({ step }) => step);

it("the log and reporters have every step, whoever iterates the run at most 20 in a second and always the last", async () => {
  const out = join(temporaryFolder(), "run");
  const told: RunEvent[] = [];
  const run = train(smallRun(out, { stepsPerEpoch: 40, reporters: [(event) => void told.push(event)] }));
  const seen: RunEvent[] = [];
  for await (const event of run) seen.push(event);
  const every = Array.from({ length: 80 }, (_, i) => i + 1);
  expect(stepsOf(log(out))).toEqual(every);
  expect(stepsOf(told)).toEqual(every);
  const thinned = stepsOf(seen);
  expect(thinned.at(-1)).toBe(80);
  expect(thinned.every((step, i) => i === 0 || (step ?? 0) > (thinned[i - 1] ?? 0))).toBe(true);
  expect(told.at(-1)?.type).toBe("end");
});

describe("the page of a run", () => {
  it("is written at the end, with the student before training where there is a teacher", async () => {
    const out = await distilled(temporaryFolder(), "classes");
    const html = readFileSync(join(out, "report.html"), "utf8");
    expect(html).toContain("student before");
    expect(html).not.toMatch(/\b(src|href)="(?!data:|#)/);
    rmSync(join(out, "report.html"));
    const written = await report(out);
    expect(written).toBe(join(out, "report.html"));
    expect(readFileSync(written, "utf8")).toBe(html);
  });

  it("says what is missing where the teacher has gone, and has the rest", async () => {
    const folder = temporaryFolder();
    const out = await distilled(folder, "none");
    rmSync(join(folder, "teacher"), { recursive: true });
    const html = readFileSync(await report(out), "utf8");
    expect(html).toContain("it cannot be asked any more");
    expect(html).toContain("The embedding space");
  });

  it("is left out where nobody wants it, and a failure of it is a warning", async () => {
    const folder = temporaryFolder();
    await train(smallRun(join(folder, "none"), { report: false }));
    expect(existsSync(join(folder, "none", "report.html"))).toBe(false);
    const out = join(folder, "odd");
    const run = train(smallRun(out));
    const warnings: string[] = [];
    for await (const event of run) {
      // A folder in its place cannot be replaced by a file.
      if (event.type === "step" && !existsSync(join(out, "report.html"))) {
        const { mkdirSync } = await import("node:fs");
        mkdirSync(join(out, "report.html"));
      }
      if (event.type === "warning") warnings.push(event.message);
    }
    expect((await run).steps).toBe(12);
    expect(warnings).toContainEqual(expect.stringMatching(/^The report was not written: .*report\.html/));
  });

  it("of a run that has not ended says so", async () => {
    const out = join(temporaryFolder(), "run");
    const run = train(smallRun(out, { epochs: 50 }));
    await expect(async () => {
      for await (const event of run) if (event.type === "checkpoint") run.abort(new Error("enough"));
    }).rejects.toThrow("enough");
    expect(readFileSync(await report(out), "utf8")).toContain("The run has not ended");
  });

  it("needs runs, and a file for several", async () => {
    const folder = temporaryFolder();
    await expect(report(folder)).rejects.toMatchObject({ code: "ERR_NOT_FOUND" });
    await expect(report([folder, folder])).rejects.toMatchObject({ code: "ERR_INVALID_OPTION", subject: "out" });
    await expect(report([])).rejects.toMatchObject({ code: "ERR_INVALID_OPTION", subject: "runs" });
  });

  it("bears a damaged log and damaged names", async () => {
    const out = join(temporaryFolder(), "run");
    await train(smallRun(out));
    const file = join(out, "events.jsonl");
    writeFileSync(file, `not json\n${readFileSync(file, "utf8")}{"type":"step","st`);
    expect(readFileSync(await report(out), "utf8")).toContain("Verdict");
  });
});

it("a sample of a large part has ten images of each class that is in it, and the same for every network", async () => {
  const folder = temporaryFolder();
  const data = glyphs({ classes: 20, writers: 12, split: { kind: "classes", validation: 0.1, test: 0.3 } });
  const seen = [];
  for (const width of [4, 6]) {
    const out = join(folder, `${width}`);
    await train(smallRun(out, { data, backbone: conv4({ width, embedding: 8 }), report: false }));
    const session = new NativeSession(() => {});
    const { value } = await session.send((core) => core.lookAt(json({ model: out, part: "test" }), 25));
    await session.close();
    expect(value?.of).toBe(72);
    expect(value?.student.byteLength).toBe(25 * 8 * 4);
    seen.push(value?.images.map(({ id, class: name }) => ({ id, name })) ?? []);
  }
  expect(seen[1]).toEqual(seen[0]);
  const counts = new Map<string, number>();
  for (const { name } of seen[0] ?? []) counts.set(name, (counts.get(name) ?? 0) + 1);
  expect([...counts.values()].sort((a, b) => a - b)).toEqual([5, 10, 10]);
});

describe("resume with more epochs", () => {
  const model = (out: string) => readFileSync(join(out, "model.safetensors")).toString("base64");

  it("goes on beyond the planned end to the bytes of a run that was planned so", async () => {
    const folder = temporaryFolder();
    const [whole, grown] = [join(folder, "whole"), join(folder, "grown")];
    await train(smallRun(whole, { epochs: 4, schedule: constant() }));
    await train(smallRun(grown, { epochs: 2, schedule: constant() }));
    const { epochs } = await resume(grown, { epochs: 4 });
    expect(epochs).toBe(4);
    expect(model(grown)).toBe(model(whole));
    expect(JSON.parse(readFileSync(join(grown, "plan.json"), "utf8")).plan.epochs).toBe(4);
  });

  it("is refused where the learning rate ends with the epochs, and nothing changes", async () => {
    const out = join(temporaryFolder(), "run");
    await train(smallRun(out));
    const before = model(out);
    await expect(resume(out, { epochs: 4 })).rejects.toMatchObject({
      code: "ERR_INVALID_OPTION",
      subject: "epochs",
      message: expect.stringContaining(
        "expected 2, as planned: the learning rate of a cosine schedule ends with them, received 4",
      ),
    });
    expect(model(out)).toBe(before);
  });

  it("without them says of a finished run that there is nothing left", async () => {
    const out = join(temporaryFolder(), "run");
    await train(smallRun(out));
    const warnings: string[] = [];
    for await (const event of resume(out)) if (event.type === "warning") warnings.push(event.message);
    expect(warnings).toContainEqual(
      expect.stringContaining("There is nothing left to train: the run is finished after 2 of 2 epochs"),
    );
  });
});

it("an early stop is an event, and more epochs go on after it", async () => {
  const out = join(temporaryFolder(), "run");
  const stops: RunEvent[] = [];
  const run = train(smallRun(out, { epochs: 40, patience: 2, schedule: constant() }));
  for await (const event of run) if (event.type === "earlyStop") stops.push(event);
  const { epochs, epoch, stoppedEarly } = await run;
  expect(stoppedEarly).toBe(true);
  expect(stops).toMatchObject([{ epoch: epochs, patience: 2, best: { epoch } }]);
  const further = await resume(out, { epochs: 41 });
  expect(further.epochs).toBeGreaterThan(epochs);
});
