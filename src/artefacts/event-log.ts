/** `events.jsonl`: every event of a run, one JSON object a line, with the time it came. */

import { closeSync, existsSync, openSync, readFileSync, writeSync } from "node:fs";
import { withErrors } from "./run-folder.ts";

/** What a line holds, told apart by its type. */
interface Event {
  readonly type: string;
}

/** Appends events; a resumed run goes on in the same file. */
export class EventLog {
  #descriptor: number | undefined;

  constructor(file: string) {
    const text = withErrors(file, () => (existsSync(file) ? readFileSync(file, "utf8") : ""));
    const cut = text !== "" && !text.endsWith("\n");
    this.#descriptor = withErrors(file, () => openSync(file, "a"));
    if (cut) writeSync(this.#descriptor, "\n"); // a killed run may have left half a line
  }

  /** Adds one line. At most 20 step events come in a second, so this does not hold up the event loop. */
  write<E extends Event>(event: E): void {
    if (this.#descriptor === undefined) return;
    writeSync(this.#descriptor, `${JSON.stringify({ time: new Date().toISOString(), ...event })}\n`);
  }

  /** Idempotent. */
  close(): void {
    if (this.#descriptor !== undefined) closeSync(this.#descriptor);
    this.#descriptor = undefined;
  }
}
