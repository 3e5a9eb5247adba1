/** A teacher that is given as rows becomes a file of vectors, which the core reads like any other. */

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Embeddings, writeEmbeddings } from "../artefacts/embeddings.ts";
import { files, withErrors } from "../artefacts/run-folder.ts";
import { boolean, invalid, object } from "../options/check.ts";
import type { Teacher } from "../protocol/protocol.ts";

/** A teacher that is given as rows, and its place among the teachers. */
export interface Rows extends Embeddings {
  readonly place: number;
}

/** Options that name teachers. */
interface WithTeachers {
  readonly teacher?: unknown;
  readonly teachers?: unknown;
}

/** The teacher that is given as rows, if any is. @throws {RkdError} for a second one, and for what is none and should be */
export function rowsOf(options: WithTeachers | undefined): Rows | undefined {
  const { teacher, teachers } = options ?? {};
  const all = Array.isArray(teachers) ? teachers : [];
  if (isRows(teacher)) return checked("teacher", teacher, 0);
  const [first, second] = all.flatMap((given, place) => (isRows(given) ? [{ given, place }] : []));
  if (second) {
    const advice = "write them to a file of vectors first, for example a .npy, and give that";
    throw invalid(`teachers[${second.place}].embeddings`, "rows of one teacher only", "rows of a second one", advice);
  }
  return first && checked(`teachers[${first.place}]`, first.given, first.place);
}

/** The options with `teacher` in place of the one that is given as rows. */
export function withTeacher<T extends WithTeachers>(options: T, teacher: Teacher): T {
  if (isRows(options.teacher)) return { ...options, teacher };
  const all = options.teachers as readonly unknown[];
  return { ...options, teachers: all.map((given) => (isRows(given) ? teacher : given)) };
}

function isRows(teacher: unknown): teacher is object {
  return typeof teacher === "object" && teacher !== null && "embeddings" in teacher;
}

function checked(option: string, teacher: object, place: number): Rows {
  const given = object<Embeddings>(option, teacher, ["embeddings", "allowMissing", "name", "weight"]);
  const { embeddings: rows, allowMissing } = given;
  if (typeof rows !== "object" || rows === null || !(Symbol.iterator in rows || Symbol.asyncIterator in rows)) {
    const advice = "call the function that makes it, or give an array of { id, vector }";
    throw invalid(`${option}.embeddings`, "an iterable of rows { id, vector }, async or not", rows, advice);
  }
  if (allowMissing !== undefined) boolean(`${option}.allowMissing`, allowMissing);
  return { ...given, place };
}

/** Does `work` with the teacher as a file, which is there for so long. Its rows are in it where `signal` is given. */
export async function withTeacherFile<T>(
  { embeddings, allowMissing = false, name, weight }: Embeddings,
  signal: AbortSignal | undefined,
  work: (teacher: Teacher) => Promise<T>,
): Promise<T> {
  const folder = withErrors(tmpdir(), () => mkdtempSync(join(tmpdir(), "rkd-teacher-")));
  const model = join(folder, files.teacher);
  try {
    if (signal) await writeEmbeddings(embeddings, model, join(folder, files.teacherIds), signal);
    else withErrors(model, () => writeFileSync(model, ""));
    const named = { ...(name !== undefined && { name }), ...(weight !== undefined && { weight }) };
    return await work({ model, vectors: { allowMissing }, ...named });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
