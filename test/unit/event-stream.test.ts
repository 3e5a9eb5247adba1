import { expect, it } from "vitest";
import type { RunEvent } from "../../src/events.ts";
import { EventStream, LIMIT } from "../../src/run/event-stream.ts";

const warning = (message: string): RunEvent => ({ type: "warning", message });
const progress = (done: number): RunEvent => ({ type: "data", phase: "decode", done, total: 1e6 });

async function all(stream: EventStream<RunEvent>): Promise<RunEvent[]> {
  const events: RunEvent[] = [];
  for await (const event of { [Symbol.asyncIterator]: () => stream.read() }) events.push(event);
  return events;
}

it("gives the first reader what came before it, and later ones what comes after", async () => {
  const stream = new EventStream<RunEvent>();
  stream.push(warning("a"));
  const first = all(stream);
  const second = all(stream);
  stream.push(warning("b"));
  stream.finish();
  expect((await first).map((event) => (event as { message: string }).message)).toEqual(["a", "b"]);
  expect(await second).toHaveLength(1);
});

it("keeps every warning and a bounded number of progress events when nobody reads", async () => {
  const stream = new EventStream<RunEvent>();
  for (let i = 0; i < 50_000; i++) {
    stream.push(progress(i));
    if (i % 1000 === 0) stream.push(warning(`at ${i}`));
  }
  stream.finish();
  const events = await all(stream);
  expect(events.length).toBeLessThanOrEqual(1024);
  expect(events.filter(({ type }) => type === "warning")).toHaveLength(50);
  expect(events.at(-1)).toEqual(progress(49_999));
});

it("treats the events of a run inside another one alike", async () => {
  const stream = new EventStream<RunEvent>();
  const inside = (event: RunEvent): RunEvent => ({ type: "baseline", event });
  for (let i = 0; i < 50_000; i++) stream.push(inside(progress(i)));
  stream.push(inside(warning("kept")));
  for (let i = 0; i < 2000; i++) stream.push(inside(progress(i)));
  stream.finish();
  const events = await all(stream);
  expect(events.length).toBeLessThanOrEqual(1024);
  expect(events).toContainEqual(inside(warning("kept")));
});

it("loses no decision of a usual run", async () => {
  const stream = new EventStream<RunEvent>();
  for (let step = 0; step < 3000; step++) stream.push({ type: "checkpoint", step, path: "x" });
  stream.finish();
  expect(await all(stream)).toHaveLength(3000);
});

it("is bounded where a run decides in every step and nobody reads", async () => {
  const stream = new EventStream<RunEvent>();
  stream.push(warning("first"));
  for (let step = 0; step < LIMIT + 3000; step++) {
    stream.push(progress(step));
    stream.push({ type: "checkpoint", step, path: "x" });
  }
  stream.push(warning("last"));
  stream.finish();
  const events = await all(stream);
  expect(events.length).toBeLessThanOrEqual(LIMIT);
  expect(events.at(0)).toEqual(warning("first"));
  expect(events.at(-1)).toEqual(warning("last"));
  expect(events.at(-2)).toEqual({ type: "checkpoint", step: LIMIT + 2999, path: "x" });
});

it("throws the run's error once, after the events before it", async () => {
  const stream = new EventStream<RunEvent>();
  stream.push(warning("a"));
  stream.finish({ error: new Error("stopped") });
  const reader = stream.read();
  expect((await reader.next()).value).toEqual(warning("a"));
  await expect(reader.next()).rejects.toThrow("stopped");
  expect(await reader.next()).toEqual({ value: undefined, done: true });
});

it("wakes a waiting reader that leaves", async () => {
  const stream = new EventStream<RunEvent>();
  const reader = stream.read();
  const waiting = reader.next();
  await reader.return?.();
  expect(await waiting).toEqual({ value: undefined, done: true });
});
