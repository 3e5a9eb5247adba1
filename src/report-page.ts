/** `report`: a page about a run, or about several side by side. */

import { resolve } from "node:path";
import { invalid, path } from "./options/check.ts";
import { reportIn, writeReport } from "./report/write.ts";
import { withSession } from "./run/command.ts";
import { type Run, startRun } from "./run/run.ts";

/** What `report` takes beside the runs. */
export interface ReportOptions {
  /** The file to write. @default `report.html` in the folder of the only run; of several it is needed */
  readonly out?: string | URL;
  /** Stops it. */
  readonly signal?: AbortSignal;
}

/**
 * Writes a page about the run in a folder, or about several side by side, and returns its path. It is one file that asks for
 * nothing else. A run that has not ended has a page too, without pictures.
 * @throws {RkdError} by rejection: `ERR_NOT_FOUND` where there is no run, `ERR_INVALID_ARTEFACT`, `ERR_IO`
 */
export function report(
  runs: string | URL | readonly (string | URL)[],
  { out, signal }: ReportOptions = {},
): Run<string> {
  return startRun(async (context) => {
    const outs = (Array.isArray(runs) ? runs : [runs]).map((run) => resolve(path("runs", run)));
    const [only] = outs;
    if (only === undefined) throw invalid("runs", "the folder of a run, or several", runs);
    if (out === undefined && outs.length > 1) {
      throw invalid("out", "the file to write", out, "a page of several runs belongs to none of their folders");
    }
    const file = out === undefined ? reportIn(only) : resolve(path("out", out));
    await withSession(context, (session) => writeReport(outs, file, session));
    return file;
  }, signal);
}
