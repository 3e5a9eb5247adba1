/** The folder of a run: its files, written whole or not at all. */

import { createHash } from "node:crypto";
import {
  closeSync,
  createReadStream,
  existsSync,
  fsyncSync,
  openSync,
  readFileSync,
  renameSync,
  writeSync,
} from "node:fs";
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { RkdError } from "../errors.ts";
import type { PlanFile } from "../plan/plan.ts";

/** Names in a run's folder. */
export const files = {
  plan: "plan.json",
  events: "events.jsonl",
  metrics: "metrics.json",
  model: "model.safetensors",
  /** The last weights, where the model has the best ones and both are kept. */
  last: "last.safetensors",
  checkpoints: "checkpoint",
  checkpoint: join("checkpoint", "latest.safetensors"),
  /** The checkpoint before the last: taken where the last is damaged. */
  previousCheckpoint: join("checkpoint", "previous.safetensors"),
} as const;

/** @throws {RkdError} `ERR_OUTPUT_EXISTS` where `out` holds a run that may not be replaced */
export function checkFree(out: string, overwrite: boolean): void {
  const held = [files.plan, files.model, files.metrics, files.checkpoint].find((name) => existsSync(join(out, name)));
  if (!held || overwrite) return;
  const resumable = existsSync(join(out, files.plan)) && !existsSync(join(out, files.metrics));
  throw new RkdError("ERR_OUTPUT_EXISTS", `the folder already holds a run (${held})`, {
    subject: out,
    advice: `choose another folder, ${resumable ? "go on with that run (resume), " : ""}or allow it to be replaced (overwrite)`,
  });
}

/** Makes the folder, without an earlier run in it; other files stay. */
export async function prepareFolder(out: string): Promise<void> {
  await onDisk(out, async () => {
    await mkdir(out, { recursive: true });
    const ours = [files.plan, files.events, files.metrics, files.model, files.last, files.checkpoints];
    for (const name of ours) await rm(join(out, name), { recursive: true, force: true });
    await mkdir(join(out, files.checkpoints));
  });
}

/** Writes JSON, whole or not at all. */
export function writeJson(file: string, value: unknown): void {
  writeWhole(file, `${JSON.stringify(value, null, 2)}\n`);
}

/** Writes a text aside, syncs it and renames it: a kill at any moment leaves the old file or the new one. */
export function writeWhole(file: string, text: string): void {
  const aside = `${file}.aside`;
  withErrors(file, () => {
    const descriptor = openSync(aside, "w");
    try {
      writeSync(descriptor, text);
      fsyncSync(descriptor);
    } finally {
      closeSync(descriptor);
    }
    renameSync(aside, file);
  });
}

/** The `plan.json` of a run, or nothing where the folder has none. @throws {RkdError} `ERR_INVALID_ARTEFACT` */
export function readPlanFile(out: string): PlanFile | undefined {
  const file = join(out, files.plan);
  if (!existsSync(file)) return undefined;
  const refuse = (received: string, cause?: unknown) =>
    new RkdError("ERR_INVALID_ARTEFACT", "not a plan of this version", {
      subject: file,
      expected: "a plan.json of form 1",
      received,
      advice: "start the run anew, or use the version of rkd that wrote the file",
      cause,
    });
  let parsed: PlanFile;
  try {
    parsed = JSON.parse(readFileSync(file, "utf8"));
  } catch (cause) {
    throw refuse("a damaged file", cause);
  }
  if (parsed?.form !== 1 || !parsed.plan || !parsed.policy) throw refuse(`form ${parsed?.form}`);
  return parsed;
}

/** The plan of the run that `resume(out)` means. @throws {RkdError} `ERR_NOT_FOUND` */
export function requirePlanFile(out: string): PlanFile {
  const found = readPlanFile(out);
  if (found) return found;
  throw new RkdError("ERR_NOT_FOUND", "there is no run in this folder", {
    subject: out,
    advice: "give the folder that the run was started with (--out); a run killed while reading its data starts anew",
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
  const { code, message } = cause as NodeJS.ErrnoException;
  const rights = code === "EACCES" || code === "EPERM" || code === "EROFS";
  const missing = code === "ENOENT" || code === "ENOTDIR" || code === "EEXIST";
  const kind = rights ? "ERR_PERMISSION_DENIED" : missing ? "ERR_NOT_FOUND" : "ERR_IO";
  const advice = rights
    ? "give this user the right to it, or choose another path"
    : missing
      ? "check the path: every part but the last must be a folder"
      : "see the cause; a full disk or a broken mount are the usual ones";
  return new RkdError(kind, `reading or writing failed: ${message}`, { subject, advice, cause });
}
