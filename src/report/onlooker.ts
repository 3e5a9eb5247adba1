/** What writes the page of a run at its end, and on the way keeps what no later moment can tell. */

import { renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { writeEmbeddings } from "../artefacts/embeddings.ts";
import { aside, files, withErrors } from "../artefacts/run-folder.ts";
import type { Onlooker } from "../run/loop.ts";
import { rowsOf, SAMPLE } from "./sample.ts";
import { reportIn, writeReport } from "./write.ts";

/** It. */
export const pageWriter: Onlooker = {
  async before(out, session, signal) {
    const { value } = await session.send((core) => core.look("test", SAMPLE));
    if (!value) return;
    const [file, ids] = [files.before, files.beforeIds].map((name) => join(out, name)) as [string, string];
    try {
      await writeEmbeddings(rowsOf(value), aside(file), aside(ids), signal);
      for (const each of [file, ids]) withErrors(each, () => renameSync(aside(each), each));
    } finally {
      for (const each of [file, ids]) rmSync(aside(each), { force: true });
    }
  },
  async finished(out, session) {
    await writeReport([out], reportIn(out), session);
  },
};
