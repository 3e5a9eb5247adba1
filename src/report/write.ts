/** Writes the page of a run, or of several, to a file. */

import { join } from "node:path";
import { files, writeWhole } from "../artefacts/run-folder.ts";
import type { NativeSession } from "../native/session.ts";
import type { Document } from "./blocks.ts";
import { comparePage } from "./compare-page.ts";
import { toHtml } from "./html.ts";
import { type RunRecord, readRecord } from "./record.ts";
import { runPage } from "./run-page.ts";
import { type Sample, sampleOf } from "./sample.ts";

/** The document of a run in its folder, with pictures by `session`. */
export async function documentOfRun(run: RunRecord, session: NativeSession): Promise<Document> {
  return runPage(run, await lookedAt(run, session));
}

/** What the pictures are of; or, in a sentence, why there are none. */
async function lookedAt(
  { plan, out, result, log }: RunRecord,
  session: NativeSession,
): Promise<Sample | string | undefined> {
  if (!result) return undefined;
  const images = log.start?.test.images;
  if (images !== undefined && images < 2) return "There are too few test images to look at.";
  try {
    return await sampleOf(plan, out, session);
  } catch (error) {
    return `There are no pictures: ${error instanceof Error ? error.message : String(error)}`;
  }
}

/** Writes the page of the runs in the folders `outs` to `file`. @throws {RkdError} where one is no run, or on the way to disk */
export async function writeReport(outs: readonly string[], file: string, session: NativeSession): Promise<void> {
  const runs = outs.map((out) => readRecord(out));
  const [only] = runs;
  const document = only && runs.length === 1 ? await documentOfRun(only, session) : comparePage(runs);
  writeWhole(file, toHtml(document));
}

/** The page in a run's own folder. */
export function reportIn(out: string): string {
  return join(out, files.report);
}
