/// <reference lib="esnext.disposable" preserve="true" />
/** A running job: await it for the result, iterate it for the events, abort or dispose it to stop. */

import type { RunEvent } from "../events.ts";
import { EventStream } from "./event-stream.ts";

/**
 * A job that has started. `await run` gives the result; `for await (const event of run)` gives the events, and throws
 * the run's error where there is one. Leaving the loop early (`break`, `return`, an error in it) stops the run as
 * {@link Run.abort} does; nobody needs to read the events.
 * `await using run = distill(...)` stops it at the end of the block.
 */
export interface Run<Result, Event = RunEvent> extends Promise<Result>, AsyncIterable<Event>, AsyncDisposable {
  /**
   * Stops the run at the next step boundary, after a clean checkpoint.
   * @param reason What the run rejects with. @default an `AbortError`
   */
  abort(reason?: unknown): void;
  /** Aborts, and resolves when the run has ended, however it ended. */
  [Symbol.asyncDispose](): Promise<void>;
}

/** What a job gets to work with. */
export interface RunContext<Event = RunEvent> {
  readonly emit: (event: Event) => void;
  readonly signal: AbortSignal;
}

/**
 * Starts `work` at once, so that relative paths are those of the moment; bad options reject like every other failure.
 */
export function startRun<Result, Event extends { readonly type: string } = RunEvent>(
  work: (context: RunContext<Event>) => Promise<Result>,
  outer: AbortSignal | undefined,
): Run<Result, Event> {
  const events = new EventStream<Event>();
  const controller = new AbortController();
  const forward = () => controller.abort(outer?.reason);
  if (outer instanceof AbortSignal) {
    if (outer.aborted) forward();
    else outer.addEventListener("abort", forward, { once: true });
  }
  const begin = async () => await work({ emit: (event) => events.push(event), signal: controller.signal });
  const working = begin().finally(() => outer instanceof AbortSignal && outer.removeEventListener("abort", forward));
  working.then(
    () => events.finish(),
    (error: unknown) => events.finish({ error }),
  );
  // A promise of its own, so that a failure nobody looks at is an unhandled rejection like any other.
  const result = working.then((value) => value);
  return Object.assign(result, {
    abort: (reason?: unknown) => controller.abort(reason),
    [Symbol.asyncIterator]: () => {
      result.catch(() => {}); // the loop throws it
      return events.read(() => controller.abort());
    },
    [Symbol.asyncDispose]: async () => {
      controller.abort();
      await result.catch(() => {});
    },
  });
}
