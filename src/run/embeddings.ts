/** A teacher that is given as rows becomes a file of vectors, which the core reads like any other. */

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Embeddings, writeEmbeddings } from "../artefacts/embeddings.ts";
import { files, withErrors } from "../artefacts/run-folder.ts";
import { boolean, invalid, object } from "../options/check.ts";
import type { Teacher } from "../protocol/protocol.ts";

/** The rows that `teacher` is, if it is any. @throws {RkdError} for an option that is none, and for what is no iterable */
export function rowsOf(teacher: unknown): Embeddings | undefined {
  if (typeof teacher !== "object" || teacher === null || !("embeddings" in teacher)) return undefined;
  const given = object<Embeddings>("teacher", teacher, ["embeddings", "allowMissing"]);
  const { embeddings: rows, allowMissing } = given;
  if (typeof rows !== "object" || rows === null || !(Symbol.iterator in rows || Symbol.asyncIterator in rows)) {
    const advice = "call the function that makes it, or give an array of { id, vector }";
    throw invalid("teacher.embeddings", "an iterable of rows { id, vector }, async or not", rows, advice);
  }
  if (allowMissing !== undefined) boolean("teacher.allowMissing", allowMissing);
  return given;
}

/** Does `work` with the teacher as a file, which is there for so long. Its rows are in it where `signal` is given. */
export async function withTeacherFile<T>(
  { embeddings, allowMissing = false }: Embeddings,
  signal: AbortSignal | undefined,
  work: (teacher: Teacher) => Promise<T>,
): Promise<T> {
  const folder = withErrors(tmpdir(), () => mkdtempSync(join(tmpdir(), "rkd-teacher-")));
  const model = join(folder, files.teacher);
  try {
    if (signal) await writeEmbeddings(embeddings, model, join(folder, files.teacherIds), signal);
    else withErrors(model, () => writeFileSync(model, ""));
    return await work({ model, vectors: { allowMissing } });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
