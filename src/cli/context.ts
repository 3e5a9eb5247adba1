/** What all commands share: JSON or text, Ctrl-C, and how a run is shown. */

import { existsSync } from "node:fs";
import { join } from "node:path";
import { files } from "../artefacts/run-folder.ts";
import { RkdError } from "../errors.ts";
import type { DistillResult, TrainResult } from "../run/events.ts";
import type { Run } from "../run/run.ts";
import { jsonReporter, textReporter } from "./report.ts";
import { metricsLine, verdictTable } from "./table.ts";

/** Whether output is one JSON object a line. Known before the command line is parsed, so that its errors obey it. */
export const json: boolean = process.argv.includes("--json");

const controller = new AbortController();

/** Aborted by Ctrl-C. */
export const signal: AbortSignal = controller.signal;

/** The reason a run rejects with after Ctrl-C. */
export const interrupted: RkdError = new RkdError("ERR_CANCELLED", "stopped by the user");

/** Ctrl-C: once stops at a checkpoint, twice at once. */
export function onInterrupt(): void {
  if (signal.aborted) process.exit(130);
  process.stderr.write("\nStopping after a checkpoint; press Ctrl-C again to stop at once.\n");
  controller.abort(interrupted);
}

/** Shows the events of a run until it ends. `name` stands before each line. */
export async function watch<R>(run: Run<R>, name?: string): Promise<R> {
  const reporter = json ? jsonReporter() : textReporter(name);
  try {
    for await (const event of run) reporter.event(event);
    return await run;
  } finally {
    reporter.end();
  }
}

/** Shows a run with a folder, and says at the end where things are, or how to go on. */
export async function finish(run: Run<TrainResult | DistillResult>, out: string): Promise<void> {
  let result: TrainResult | DistillResult;
  try {
    result = await watch(run);
  } catch (error) {
    if (error === interrupted && existsSync(join(out, files.plan))) {
      process.stderr.write(`Go on with: rkd resume ${quoted(out)}\n`);
    }
    throw error;
  }
  if (json) return;
  if ("verdict" in result) print(verdictTable(result.verdict));
  else if (result.metrics) print(`test classes: ${metricsLine(result.metrics)}`);
  print(`model: ${result.model}`);
}

/** Writes a line of the result. */
export function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** As a shell takes it. */
function quoted(text: string): string {
  return /^[\w./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
