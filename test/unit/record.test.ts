import { appendFileSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { RecordReader } from "../../src/report/record.ts";
import { temporaryFolder } from "../support/folders.ts";

function folder(): { readonly out: string; readonly log: (...events: object[]) => void } {
  const out = join(temporaryFolder(), "run");
  mkdirSync(out);
  writeFileSync(join(out, "plan.json"), JSON.stringify({ form: 1, rkd: "0", job: "train", plan: { teachers: [] } }));
  const log = (...events: object[]) =>
    appendFileSync(join(out, "events.jsonl"), events.map((event) => `${JSON.stringify(event)}\n`).join(""));
  return { out, log };
}

const step = (number: number, loss = 1) => ({ type: "step", step: number, loss, terms: [] });
const steps = (reader: RecordReader) => reader.read().log.steps.map(({ step: number, loss }) => [number, loss]);

it("reads what is new, and no half of a line", () => {
  const { out, log } = folder();
  const reader = new RecordReader(out);
  expect(steps(reader)).toEqual([]);
  log(step(1), step(2));
  appendFileSync(join(out, "events.jsonl"), '{"type":"step","step":3,"lo');
  expect(steps(reader).map(([number]) => number)).toEqual([1, 2]);
  appendFileSync(join(out, "events.jsonl"), 'ss":5,"terms":[]}\n');
  expect(steps(reader).at(-1)).toEqual([3, 5]);
});

it("forgets what came after the checkpoint that a run goes on from, and a run that was replaced", () => {
  const { out, log } = folder();
  const reader = new RecordReader(out);
  log({ type: "start", step: 0 }, step(1), step(2), step(3), { type: "start", step: 2 }, step(3, 7));
  expect(steps(reader)).toEqual([
    [1, 1],
    [2, 1],
    [3, 7],
  ]);
  writeFileSync(join(out, "events.jsonl"), "");
  log(step(1, 9));
  expect(steps(reader)).toEqual([[1, 9]]);
});

it("keeps a bounded number of steps, the last among them", () => {
  const { out, log } = folder();
  log(...Array.from({ length: 50_001 }, (_, i) => step(i + 1)));
  const kept = steps(new RecordReader(out)).map(([number]) => number ?? 0);
  expect(kept.length).toBeGreaterThan(10_000);
  expect(kept.length).toBeLessThanOrEqual(20_001);
  expect(kept.at(-1)).toBe(50_001);
  expect(kept.every((number, i) => i === 0 || number > (kept[i - 1] ?? 0))).toBe(true);
});
