/** The core's session, seen from TypeScript: commands in order, events before their replies, errors as {@link RkdError}. */

import type { BindingError, BindingSession, Reply } from "#native";
import { fromNative } from "../errors.ts";
import type { Event } from "../protocol/protocol.ts";
import { addon } from "./addon.ts";
import { parse } from "./json.ts";

/** A session on a thread of its own. Commands run in order; {@link NativeSession.close} ends the thread. */
export class NativeSession {
  readonly #binding = new (addon().BindingSession)();
  readonly #marks: (() => void)[] = [];
  readonly #pump: Promise<void>;
  #ended = false;

  /** @param onEvent Sees every event before the command that caused it resolves; must not throw. */
  constructor(onEvent: (event: Event) => void) {
    this.#pump = this.#pull(onEvent);
  }

  /** Runs a command whose result is JSON. @throws {RkdError} the core's error; `ERR_INTERNAL` after a panic */
  async call<T>(command: (core: BindingSession) => Promise<Reply<T>>): Promise<T> {
    return parse((await this.send(command)).value);
  }

  /** Runs a command. @throws {RkdError} as {@link NativeSession.call} */
  async send<R extends { readonly error?: BindingError | undefined }>(
    command: (core: BindingSession) => Promise<R>,
  ): Promise<Exclude<R, { readonly error: BindingError }>> {
    const mark = this.#ended ? Promise.resolve() : new Promise<void>((resolve) => this.#marks.push(resolve));
    const reply = await command(this.#binding);
    await mark; // all its events have been seen
    if (reply.error) throw fromNative(reply.error);
    return reply as Exclude<R, { readonly error: BindingError }>;
  }

  /** Stops the running command at the next step boundary. */
  cancel(): void {
    this.#binding.cancel();
  }

  /** Cancels, and resolves when the thread has ended. Idempotent. */
  async close(): Promise<void> {
    this.#binding.close();
    await this.#pump;
  }

  async #pull(onEvent: (event: Event) => void): Promise<void> {
    for (;;) {
      const text = await this.#binding.next();
      if (!text) break;
      const event = parse(text);
      if (event.type === "done") this.#marks.shift()?.();
      else onEvent(event);
    }
    this.#ended = true;
    for (const resolve of this.#marks.splice(0)) resolve();
  }
}
