/** A teacher that is given as rows becomes a file of vectors, which the core reads like any other. */

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Embeddings, writeEmbeddings } from "../artefacts/embeddings.ts";
import { MOST_ROWS, rowsFiles, withErrors } from "../artefacts/run-folder.ts";
import { boolean, invalid, object } from "../options/check.ts";
import type { Teacher } from "../protocol/protocol.ts";

/** A teacher that is given as rows, and its place among the teachers. */
export interface Rows extends Embeddings {
  readonly place: number;
  /** The option that gives it. */
  readonly option: string;
  /** The files that they become in a run's folder: vectors and ids. */
  readonly files: readonly [vectors: string, ids: string];
}

/** Options that name teachers. */
interface WithTeachers {
  readonly teacher?: unknown;
  readonly teachers?: unknown;
}

/** The teachers that are given as rows. @throws {RkdError} for too many, and for what is none and should be */
export function rowsOf(options: WithTeachers | undefined): readonly Rows[] {
  const { teacher, teachers } = options ?? {};
  if (isRows(teacher)) return [checked("teacher", teacher, 0, 0)];
  const all = (Array.isArray(teachers) ? teachers : []).flatMap((given, place) =>
    isRows(given) ? [{ given, place }] : [],
  );
  const beyond = all[MOST_ROWS];
  if (beyond) {
    const advice = "write them to files of vectors first, for example .npy, and give those";
    const option = `teachers[${beyond.place}].embeddings`;
    throw invalid(option, `rows of ${MOST_ROWS} teachers at most`, `${all.length}`, advice);
  }
  return all.map(({ given, place }, number) => checked(`teachers[${place}]`, given, place, number));
}

/** The options with `teachers` in place of those that are given as rows, in their order. */
function withTeachers<T extends WithTeachers>(options: T, teachers: readonly Teacher[]): T {
  const rest = teachers.values();
  const inPlace = (given: unknown) => (isRows(given) ? rest.next().value : given);
  if (isRows(options.teacher)) return { ...options, teacher: inPlace(options.teacher) };
  if (!Array.isArray(options.teachers)) return options;
  return { ...options, teachers: options.teachers.map(inPlace) };
}

function isRows(teacher: unknown): teacher is object {
  return typeof teacher === "object" && teacher !== null && "embeddings" in teacher;
}

function checked(option: string, teacher: object, place: number, number: number): Rows {
  const given = object<Embeddings>(option, teacher, ["embeddings", "allowMissing", "name", "weight"]);
  const { embeddings: rows, allowMissing } = given;
  if (typeof rows !== "object" || rows === null || !(Symbol.iterator in rows || Symbol.asyncIterator in rows)) {
    const advice = "call the function that makes it, or give an array of { id, vector }";
    throw invalid(`${option}.embeddings`, "an iterable of rows { id, vector }, async or not", rows, advice);
  }
  if (allowMissing !== undefined) boolean(`${option}.allowMissing`, allowMissing);
  return { ...given, place, option, files: rowsFiles[number] as Rows["files"] };
}

/**
 * Does `work` with the options that have files in place of the teachers that are given as `rows`; the files are there for so
 * long. Their rows are in them where `signal` is given.
 */
export async function withTeacherFiles<O extends object, T>(
  options: O,
  rows: readonly Rows[],
  signal: AbortSignal | undefined,
  work: (options: O) => Promise<T>,
): Promise<T> {
  if (rows.length === 0) return await work(options);
  const folder = withErrors(tmpdir(), () => mkdtempSync(join(tmpdir(), "rkd-teacher-")));
  try {
    const teachers: Teacher[] = [];
    for (const { embeddings, allowMissing = false, name, weight, files, option } of rows) {
      const [model, ids] = files.map((file) => join(folder, file)) as [string, string];
      if (signal) await writeEmbeddings(embeddings, model, ids, signal, option);
      else withErrors(model, () => writeFileSync(model, ""));
      const named = { ...(name !== undefined && { name }), ...(weight !== undefined && { weight }) };
      teachers.push({ model, vectors: { allowMissing }, ...named });
    }
    return await work(withTeachers<O & WithTeachers>(options, teachers));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
