/** `events.jsonl`: every event of a run, one JSON object a line, with the time it came. */

import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { withErrors, writeAll } from "./run-folder.ts";

/** What a line holds, told apart by its type. */
interface Event {
  readonly type: string;
}

/** Appends events; a resumed run goes on in the same file. */
export class EventLog {
  readonly #file: string;
  #descriptor: number | undefined;

  /** @throws {RkdError} where the file cannot be written */
  constructor(file: string) {
    this.#file = file;
    this.#descriptor = withErrors(file, () => openSync(file, "a+"));
    if (this.#isCut()) this.#append("\n"); // a killed run may have left half a line
  }

  /**
   * Adds one line. At most 20 step events come in a second, so this does not hold up the event loop.
   * @throws {RkdError} once, where the disk is full, for example; later events are not written
   */
  write<E extends Event>(event: E): void {
    this.#append(`${JSON.stringify({ time: new Date().toISOString(), ...event })}\n`);
  }

  /** Idempotent. */
  close(): void {
    if (this.#descriptor !== undefined) closeSync(this.#descriptor);
    this.#descriptor = undefined;
  }

  #append(text: string): void {
    const descriptor = this.#descriptor;
    if (descriptor === undefined) return;
    try {
      withErrors(this.#file, () => writeAll(descriptor, text));
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Whether the last line has no end. */
  #isCut(): boolean {
    const descriptor = this.#descriptor as number;
    return withErrors(this.#file, () => {
      const { size } = fstatSync(descriptor);
      const last = Buffer.alloc(1);
      return size > 0 && readSync(descriptor, last, 0, 1, size - 1) === 1 && last.toString() !== "\n";
    });
  }
}
