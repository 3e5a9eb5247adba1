/** Runs one command in a session of its own. */

import { RkdError } from "../errors.ts";
import { type Commands, NativeSession } from "../native/session.ts";
import { toRunEvent } from "./loop.ts";
import type { RunContext } from "./run.ts";

/** Like `session.call`, with a thread that lives as long as the command. Rejects with the signal's reason. */
export async function runCommand<C extends keyof Commands>(
  command: C,
  input: Commands[C][0],
  { emit, signal }: RunContext,
): Promise<Commands[C][1]> {
  signal.throwIfAborted();
  const session = new NativeSession((event) => emit(toRunEvent(event)));
  const cancel = () => session.cancel();
  signal.addEventListener("abort", cancel, { once: true });
  try {
    return await session.call(command, input);
  } catch (error) {
    throw signal.aborted && error instanceof RkdError && error.code === "ERR_CANCELLED" ? signal.reason : error;
  } finally {
    signal.removeEventListener("abort", cancel);
    await session.close();
  }
}
