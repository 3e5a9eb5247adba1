/** The folder of a run: its files, written whole or not at all. */

import { createHash } from "node:crypto";
import {
  closeSync,
  createReadStream,
  fsyncSync,
  lstatSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  type Stats,
  statSync,
  writeSync,
} from "node:fs";
import { mkdir, readdir, rm, rmdir } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { RkdError, type RkdErrorCode } from "../errors.ts";
import type { PlanFile } from "../protocol/protocol.ts";

/** Names in a run's folder. */
export const files = {
  plan: "plan.json",
  /** Every image with its part: what later jobs compare their data with. */
  data: "data.json",
  events: "events.jsonl",
  metrics: "metrics.json",
  report: "report.html",
  /** Embeddings of test images by the student with its initial weights, which the report shows, and their ids. */
  before: "before.npy",
  beforeIds: "before.npy.ids.json",
  model: "model.safetensors",
  /** The last weights, where the model has the best ones and both are kept. */
  last: "last.safetensors",
  /** The folder of the same student without a teacher, a run of its own. */
  baseline: "baseline",
  checkpoints: "checkpoint",
  checkpoint: join("checkpoint", "latest.safetensors"),
  /** The checkpoint before the last: taken where the last is damaged. */
  previousCheckpoint: join("checkpoint", "previous.safetensors"),
  /** One that is whole and does not yet stand in the last one's place: a kill can leave it. */
  nextCheckpoint: join("checkpoint", "next.safetensors"),
} as const;

/** Teachers of a run that may be given as rows. */
export const MOST_ROWS = 8;

/** The vectors of a teacher that was given as rows, and their ids: of the first such teacher, the second, ... */
export const rowsFiles: readonly (readonly [vectors: string, ids: string])[] = Array.from(
  { length: MOST_ROWS },
  (_, place) => {
    const name = place === 0 ? "teacher.npy" : `teacher-${place + 1}.npy`;
    return [name, `${name}.ids.json`] as const;
  },
);

/** What a run leaves in its folder beside its plan; nothing else is ever removed. */
const own = [
  files.data,
  files.events,
  files.metrics,
  files.report,
  files.before,
  files.beforeIds,
  ...rowsFiles.flat(),
  files.model,
  files.last,
  files.checkpoint,
  files.previousCheckpoint,
  files.nextCheckpoint,
] as const;

/** Every file of a run, by its path in the folder. */
export const runFiles: readonly string[] = [files.plan, ...own];

/**
 * Sees to it that a new run may use the folder `out`. Files that bear a run's names are those of a run only where a
 * `plan.json` of rkd stands beside them; all others are somebody's own, and stay, whatever `overwrite` says.
 * @throws {RkdError} `ERR_OUTPUT_EXISTS` where `out` holds a run that may not be replaced, or such files
 */
export function checkFree(out: string, overwrite: boolean): void {
  const held = [files.plan, ...own, files.checkpoints].find((name) => exists(join(out, name)));
  if (!held) return;
  const foreign = (name: string, why: string) =>
    new RkdError("ERR_OUTPUT_EXISTS", `the folder holds ${name}, ${why}`, {
      subject: out,
      advice: "choose another folder, or move that away yourself",
    });
  if (!isRun(out)) throw foreign(held, `and no ${files.plan} that says that rkd wrote it`);
  const odd = runFiles.find((name) => isOdd(join(out, name), false));
  if (odd) throw foreign(odd, "which is no file");
  if (isOdd(join(out, files.checkpoints), true)) throw foreign(files.checkpoints, "which is no folder");
  if (overwrite) return;
  const resumable = !exists(join(out, files.metrics));
  throw new RkdError("ERR_OUTPUT_EXISTS", `the folder already holds a run (${held})`, {
    subject: out,
    advice: `choose another folder, ${resumable ? "go on with that run by resume(), " : ""}or allow it to be replaced by overwrite: true`,
  });
}

/** Whether the run in `out` has a baseline, so that the run in that folder is its own. */
export function hasBaseline(out: string): boolean {
  return isRun(out) && readPlanFile(out)?.policy?.baseline === true;
}

/**
 * Readies the folder, which must be there and locked, for a new run: without an earlier run in it; other files stay.
 * `plan` takes the place of the old one last, so that at no moment files of a run stand there that no plan claims; then
 * come the files that were written aside for it: those of `whole`.
 * @throws {RkdError} as {@link checkFree} does, before anything is touched
 */
export async function prepareFolder(
  out: string,
  overwrite: boolean,
  plan: PlanFile,
  whole: readonly string[] = [],
): Promise<void> {
  checkFree(out, overwrite);
  const folders = hasBaseline(out) ? [join(out, files.baseline), out] : [out];
  await onDisk(out, async () => {
    for (const folder of folders) for (const name of own) await rm(join(folder, name), { force: true });
    if (folders.length > 1) await removeBaseline(join(out, files.baseline));
  });
  writeJson(join(out, files.plan), plan);
  for (const name of whole) withErrors(out, () => renameSync(aside(join(out, name)), join(out, name)));
  await tidyFolder(out);
}

/** What is left of a baseline whose run is gone: its plan, and its folders where nothing else is in them. */
async function removeBaseline(folder: string): Promise<void> {
  await rm(join(folder, files.plan), { force: true });
  for (const empty of [join(folder, files.checkpoints), folder]) {
    await rmdir(empty).catch((cause: NodeJS.ErrnoException) => {
      if (!["ENOENT", "ENOTEMPTY", "EEXIST"].includes(cause.code ?? "")) throw cause;
    });
  }
}

/** Readies the folder of a run, whose lock must be held: with a place for checkpoints, without what kills left aside. */
export async function tidyFolder(out: string): Promise<void> {
  const checkpoints = join(out, files.checkpoints);
  // Not with the folder above it: where that has just been moved away, it is not to be made again.
  if (!exists(checkpoints)) await onDisk(out, () => mkdir(checkpoints));
  await removeAbandoned(out);
}

/** Removes what killed processes left aside of the files `whole` in a folder whose lock must be held. */
export async function removeAbandoned(out: string, whole = runFiles): Promise<void> {
  for (const folder of new Set(whole.map((name) => dirname(join(out, name))))) {
    const names = await onDisk(folder, () => readdir(folder));
    const left = names.filter((name) => {
      const [, of = ""] = /^(.+?)\.\d+(\.\d+)?\.tmp$/.exec(name) ?? [];
      return whole.includes(relative(out, join(folder, of)));
    });
    for (const name of left) await onDisk(folder, () => rm(join(folder, name), { force: true }));
  }
}

/** Whether a `plan.json` in the folder says that rkd wrote it. */
export function isRun(out: string): boolean {
  try {
    return typeof readPlanFile(out)?.rkd === "string";
  } catch {
    return false;
  }
}

function exists(path: string): boolean {
  return statOf(path, lstatSync) !== undefined;
}

/** Whether something else than a file, or a folder, stands there. */
function isOdd(path: string, folder: boolean): boolean {
  const found = statOf(path, statSync);
  return found !== undefined && (folder ? !found.isDirectory() : !found.isFile());
}

/** Nothing where there is none, or where a part of the path is no folder. */
function statOf(path: string, stat: (path: string) => Stats): Stats | undefined {
  try {
    return stat(path);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") return undefined;
    throw fromSystem(path, cause);
  }
}

/** Writes JSON, whole or not at all. */
export function writeJson(file: string, value: unknown): void {
  writeWhole(file, `${JSON.stringify(value, null, 2)}\n`);
}

/** Where this process writes `file` before it takes its place. */
export function aside(file: string): string {
  return `${file}.${process.pid}.tmp`;
}

/** Writes a text aside, syncs it and renames it: a kill at any moment leaves the old file or the new one. */
export function writeWhole(file: string, text: string): void {
  const beside = aside(file);
  withErrors(file, () => {
    try {
      const descriptor = openSync(beside, "w");
      try {
        writeAll(descriptor, text);
        fsyncSync(descriptor);
      } finally {
        closeSync(descriptor);
      }
      renameSync(beside, file);
    } catch (error) {
      rmSync(beside, { force: true });
      throw error;
    }
    syncFolder(dirname(file));
  });
}

/** Writes every byte: a write near a quota or a size limit may take only some, and says so by nothing but its result. */
export function writeAll(descriptor: number, text: string | Buffer): void {
  const bytes = typeof text === "string" ? Buffer.from(text) : text;
  for (let done = 0; done < bytes.length; ) done += writeSync(descriptor, bytes, done);
}

/** Makes a rename durable; Windows has no such call on folders. */
function syncFolder(folder: string): void {
  if (process.platform === "win32") return;
  const descriptor = openSync(folder, "r");
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

/** The `plan.json` of a run, or nothing where the folder has none. @throws {RkdError} `ERR_INVALID_ARTEFACT` */
export function readPlanFile(out: string): PlanFile | undefined {
  const file = join(out, files.plan);
  // A pipe without a writer would wait for ever.
  if (!statOf(file, statSync)?.isFile()) return undefined;
  const refuse = (received: string, cause?: unknown) =>
    new RkdError("ERR_INVALID_ARTEFACT", "not a plan of this version", {
      subject: file,
      expected: "a plan.json of form 1",
      received,
      advice: "start the run anew, or use the version of rkd that wrote the file",
      cause,
    });
  let parsed: Partial<PlanFile> | null;
  try {
    parsed = JSON.parse(readFileSync(file, "utf8"));
  } catch (cause) {
    throw refuse("a damaged file", cause);
  }
  if (parsed?.form !== 1) throw refuse(`form ${parsed?.form}`);
  // What a person may leave out: the core fills in what a policy lacks.
  const { job, plan, policy = {}, inputs = {}, fingerprint, report, ...rest } = parsed;
  if (job !== "train" && job !== "distill") throw refuse(`job ${JSON.stringify(job)}`);
  if (typeof plan !== "object" || plan === null) throw refuse("no plan");
  const hashes = typeof inputs === "object" && inputs !== null ? Object.values(inputs) : [0];
  if (!hashes.every((hash) => typeof hash === "string")) throw refuse("inputs that are not hashes");
  if (report !== undefined && typeof report !== "boolean") throw refuse(`report ${JSON.stringify(report)}`);
  const known = { ...(typeof fingerprint === "string" && { fingerprint }), ...(report !== undefined && { report }) };
  return { rkd: "", ...rest, form: 1, job, plan, policy: policy as PlanFile["policy"], inputs, ...known };
}

/** The plan of the run that `resume(out)` means. @throws {RkdError} `ERR_NOT_FOUND` */
export function requirePlanFile(out: string): PlanFile {
  const found = readPlanFile(out);
  if (found) return found;
  throw new RkdError("ERR_NOT_FOUND", "there is no run in this folder", {
    subject: out,
    advice: "give the folder that the run was started in, its out; a run killed while reading its data starts anew",
  });
}

/** SHA-256 of a file, in hexadecimal. */
export async function hashFile(file: string): Promise<string> {
  const hash = createHash("sha256");
  await onDisk(file, async () => {
    for await (const chunk of createReadStream(file)) hash.update(chunk as Buffer);
  });
  return hash.digest("hex");
}

async function onDisk<T>(subject: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    throw fromSystem(subject, cause);
  }
}

/** Runs file system calls; their errors come out as {@link RkdError}. */
export function withErrors<T>(subject: string, work: () => T): T {
  try {
    return work();
  } catch (cause) {
    throw fromSystem(subject, cause);
  }
}

function fromSystem(subject: string, cause: unknown): RkdError {
  if (cause instanceof RkdError) return cause;
  const { code = "", message } = cause as NodeJS.ErrnoException;
  const { kind, advice } = told.find(({ codes }) => codes.includes(code)) ?? unforeseen;
  return new RkdError(kind, `reading or writing failed: ${message}`, { subject, advice, cause });
}

/** What errors of the system are, and what to do. */
const told: readonly { codes: readonly string[]; kind: RkdErrorCode; advice: string }[] = [
  {
    codes: ["EACCES", "EPERM", "EROFS"],
    kind: "ERR_PERMISSION_DENIED",
    advice: "give this user the right to it, or choose another path",
  },
  {
    codes: ["ERR_ACCESS_DENIED"],
    kind: "ERR_PERMISSION_DENIED",
    advice: "let Node do it: --allow-fs-read and --allow-fs-write with the folder, beside --permission",
  },
  {
    codes: ["EEXIST", "ENOTDIR"],
    kind: "ERR_NOT_FOUND",
    advice: "a file stands where a folder has to be: give another path",
  },
  {
    codes: ["ENOENT"],
    kind: "ERR_NOT_FOUND",
    advice: "check the path: every part but the last must be a folder",
  },
  { codes: ["EISDIR", "ENOTEMPTY"], kind: "ERR_IO", advice: "a folder stands there: give the path of a file" },
];
const unforeseen = {
  kind: "ERR_IO",
  advice: "see the cause; a full disk or a broken mount are the usual ones",
} as const;
