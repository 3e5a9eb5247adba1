/** The reporters of a run, none of which holds it up. */

import type { RunEvent } from "../events.ts";
import { invalid } from "../options/check.ts";
import type { Reporter, RunEnding } from "../options/reporter.ts";

/** The reporters of a run. */
export class Reporters {
  readonly #each: Telling[];

  /** @throws {RkdError} for what is no list of reporters */
  constructor(given: unknown, warn: (message: string) => void) {
    if (given !== undefined && !Array.isArray(given)) throw invalid("reporters", "a list of reporters", given);
    this.#each = (given ?? []).map((one: unknown, place: number) => new Telling(reporter(one, place), warn));
  }

  /** Passes an event on. */
  tell(event: RunEvent): void {
    for (const each of this.#each) each.tell(event);
  }

  /** Waits until all is told. */
  async end(how: RunEnding): Promise<void> {
    await Promise.all(this.#each.map((each) => each.end(how)));
  }
}

function reporter(given: unknown, place: number): Reporter {
  const name = `reporters[${place}]`;
  if (typeof given === "function") return { name: given.name || name, event: given as Reporter["event"] };
  if (typeof given === "object" && given !== null && "event" in given && typeof given.event === "function") {
    return given as Reporter;
  }
  throw invalid(name, "a reporter, as csv(), tensorboard() and mlflow() make one, or a function of an event", given);
}

/** One reporter and what it is still to be told. */
class Telling {
  readonly #reporter: Reporter;
  readonly #warn: (message: string) => void;
  readonly #waiting: RunEvent[] = [];
  #working: Promise<void> | undefined;
  #failed = false;

  constructor(to: Reporter, warn: (message: string) => void) {
    this.#reporter = to;
    this.#warn = warn;
  }

  tell(event: RunEvent): void {
    if (this.#failed) return;
    this.#waiting.push(event);
    this.#working ??= this.#work();
  }

  async #work(): Promise<void> {
    await this.#attempt(async () => {
      for (let event = this.#waiting.shift(); event; event = this.#waiting.shift()) await this.#reporter.event(event);
    });
    this.#working = undefined;
  }

  async end(how: RunEnding): Promise<void> {
    while (this.#working) await this.#working;
    if (!this.#failed) await this.#attempt(async () => await this.#reporter.end?.(how));
  }

  async #attempt(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.#failed = true;
      this.#waiting.length = 0;
      const why = error instanceof Error ? error.message : String(error);
      this.#warn(`The reporter ${this.#reporter.name} has ended, and the run goes on without it: ${why}`);
    }
  }
}
