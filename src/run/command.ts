/** A session for one job: its thread lives as long as the job. */

import { RkdError } from "../errors.ts";
import type { RunEvent } from "../events.ts";
import { NativeSession } from "../native/session.ts";
import { invalid } from "../options/check.ts";
import type { Event } from "../protocol/protocol.ts";
import type { RunContext } from "./run.ts";

/** Does `work` in a session of its own. Rejects with the signal's reason where that stopped it. */
export async function withSession<T>(
  { emit, signal }: RunContext,
  work: (session: NativeSession) => Promise<T>,
): Promise<T> {
  signal.throwIfAborted();
  const session = new NativeSession((event) => emit(toRunEvent(event)));
  const cancel = () => session.cancel();
  signal.addEventListener("abort", cancel, { once: true });
  try {
    return await work(session);
  } catch (error) {
    throw signal.aborted && isCancelled(error) ? signal.reason : error;
  } finally {
    signal.removeEventListener("abort", cancel);
    await session.close();
  }
}

/** Whether it is the core's error for a command that was stopped. */
export function isCancelled(error: unknown): boolean {
  return error instanceof RkdError && error.code === "ERR_CANCELLED";
}

/** The options that the core reads: all but the signal, which is JavaScript's. @throws {RkdError} for what is no signal */
export function withoutSignal<T extends { readonly signal?: AbortSignal }>(options: T): Omit<T, "signal"> {
  if (typeof options !== "object" || options === null || Array.isArray(options)) return options;
  const { signal, ...rest } = options;
  if (signal !== undefined && !(signal instanceof AbortSignal)) throw invalid("signal", "an AbortSignal", signal);
  return rest;
}

/** The core's events that belong to the data come out under one type. */
function toRunEvent(event: Event): RunEvent {
  switch (event.type) {
    case "decode":
    case "teacherFeatures":
    case "embed":
    case "merge":
    case "calibrate": {
      const { type: phase, ...rest } = event;
      return { type: "data", phase, ...rest };
    }
    default:
      return event;
  }
}
