/**
 * The one queue of events, for any number of readers, none of which can hold up the run or make memory grow.
 *
 * Events before the first reader are kept for it. A reader that falls behind loses the oldest progress events (the next
 * ones say the same and newer); one that falls behind by far more, as nobody does who reads, the oldest evaluations and
 * checkpoints, of which a run that evaluates every step has as many as steps. `events.jsonl` has them all. What is left,
 * start, end, warnings, weights and collapse, a run has few of.
 */

/** What streams carry; those of a run inside another one wrapped. */
interface Event {
  readonly type: string;
  readonly event?: Event;
}

/** What an event says, be it wrapped. */
function kindOf({ type, event }: Event): string {
  return event ? kindOf(event) : type;
}

/** The kinds that may be lost: the next one says the same and newer. */
const droppable: readonly string[] = ["step", "data", "progress"];

/** The kinds that a run may have as many of as steps. */
const many: readonly string[] = ["evaluation", "checkpoint"];

/** Events up to which one reader keeps progress; about a minute of step events. */
const CAPACITY = 1024;

/** Events kept for one reader: some MB. */
export const LIMIT = 16_384;

/** The writing side. */
export class EventStream<E extends Event> {
  readonly #readers = new Set<Reader<E>>();
  #backlog: Reader<E> | undefined = new Reader();
  #end: { readonly error?: unknown } | undefined;

  /** Gives the event to all readers. */
  push(event: E): void {
    this.#backlog?.push(event);
    for (const reader of this.#readers) reader.push(event);
  }

  /** No event will come any more; with an error, readers throw it. */
  finish(end: { readonly error?: unknown } = {}): void {
    this.#end = end;
    this.#backlog?.finish(end);
    for (const reader of this.#readers) reader.finish(end);
  }

  /** A new reader; the first one gets what has been missed. `onLeave` is called where it leaves before the end. */
  read(onLeave: () => void = () => {}): AsyncIterator<E, undefined> {
    const reader = this.#backlog ?? new Reader<E>();
    this.#backlog = undefined;
    this.#readers.add(reader);
    if (this.#end) reader.finish(this.#end);
    reader.onLeave = () => {
      this.#readers.delete(reader);
      if (!this.#end) onLeave();
    };
    return reader;
  }
}

class Reader<E extends Event> implements AsyncIterator<E, undefined> {
  readonly #events: E[] = [];
  /** How many of them are progress, and a place before which there is none: nobody searches thousands at each event. */
  #progress = 0;
  #from = 0;
  readonly #waiting: (() => void)[] = [];
  #end: { readonly error?: unknown } | undefined;
  onLeave: () => void = () => {};

  push(event: E): void {
    if (this.#events.length >= CAPACITY && this.#progress > 0) this.#dropProgress();
    else if (this.#events.length >= LIMIT) this.#dropDecision();
    this.#events.push(event);
    if (droppable.includes(kindOf(event))) this.#progress++;
    this.#waiting.shift()?.();
  }

  #dropProgress(): void {
    for (;;) {
      const oldest = this.#events[this.#from];
      if (!oldest || droppable.includes(kindOf(oldest))) break;
      this.#from++;
    }
    this.#events.splice(this.#from, 1);
    this.#progress--;
  }

  #dropDecision(): void {
    const oldest = this.#events.findIndex((event) => many.includes(kindOf(event)));
    if (oldest < 0) return;
    this.#events.splice(oldest, 1);
    if (oldest < this.#from) this.#from--;
  }

  finish(end: { readonly error?: unknown }): void {
    this.#end ??= end;
    for (const wake of this.#waiting.splice(0)) wake();
  }

  async next(): Promise<IteratorResult<E, undefined>> {
    for (;;) {
      const value = this.#events.shift();
      if (value) {
        this.#from = Math.max(0, this.#from - 1);
        if (droppable.includes(kindOf(value))) this.#progress--;
        return { value, done: false };
      }
      if (this.#end) {
        const { error } = this.#end;
        this.#end = {}; // an error is thrown once
        if (error !== undefined) throw error;
        return { value: undefined, done: true };
      }
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  async return(): Promise<IteratorResult<E, undefined>> {
    this.onLeave();
    this.#events.length = 0;
    this.#progress = 0;
    this.#from = 0;
    this.finish({});
    this.#end = {};
    return { value: undefined, done: true };
  }
}
