/** What a reporter is: what tells another program of a run. */

import type { RunEvent } from "../events.ts";

/** Tells another program of a run. `csv()`, `tensorboard()` and `mlflow()` make one. */
export interface Reporter {
  /** What it is called in warnings. */
  readonly name: string;
  /**
   * Gets every event of the run, those of single steps included, in their order and one at a time: the next one comes when
   * the promise is fulfilled. Training does not wait for it, so what is slow had better gather events. An error ends the
   * reporter, with a warning, and not the run.
   */
  event(event: RunEvent): void | Promise<void>;
  /** Called once, after the last event. The run's promise waits for it. */
  end?(how: RunEnding): void | Promise<void>;
}

/** How a run ended: `stopped` by a signal, with a checkpoint to go on from. */
export type RunEnding = "finished" | "stopped" | "failed";

/** What `reporters` takes: a reporter, or just its `event`. */
export type ReporterGiven = Reporter | Reporter["event"];
