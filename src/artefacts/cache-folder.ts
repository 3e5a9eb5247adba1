/** The folder of decoded images and of what teachers have said of them: what lies in it, and what may go. */

import { closeSync, futimesSync, openSync, readdirSync, readSync, rmSync, type Stats, statSync } from "node:fs";
import { join } from "node:path";
import { RkdError } from "../errors.ts";
import { withErrors } from "./run-folder.ts";

/** A file of the cache. */
export interface CacheEntry {
  /** Absolute path. */
  readonly path: string;
  /** Decoded images, or the features of a teacher. */
  readonly kind: "images" | "features";
  readonly bytes: number;
  /** When it was last written or read, as far as the file system notes that. */
  readonly used: Date;
  /** Images, or rows of features. */
  readonly count: number;
  /** What the file says of itself. */
  readonly about: string;
}

/** What may go: files for which all of it is true. */
export interface Pruning {
  /** Milliseconds without use. */
  readonly olderThan?: number | undefined;
  /** Bytes. */
  readonly largerThan?: number | undefined;
}

/** A file that was used so recently, in milliseconds, is left: a run that is about to start may count on it. */
export const RECENT = 60 * 60 * 1000;

/** The first bytes of our files; nothing else is ever removed, whatever its name. */
const kinds = { RKDCACHE: "images", RKDSAID1: "features" } as const;
const HEAD_BYTES = 64;
/** The longest list of images that is read for what it says. */
const MAX_LIST_BYTES = 64 << 20;

/** The files of the cache in `folder`, those used last first; none where there is no such folder. */
export function cacheEntries(folder: string): CacheEntry[] {
  let names: string[];
  try {
    names = readdirSync(folder);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === "ENOENT") return [];
    throw new RkdError("ERR_IO", "the folder cannot be read", { subject: folder, cause });
  }
  const entries = names.map((name) => entryOf(join(folder, name))).filter((entry) => entry !== undefined);
  return entries.sort((a, b) => b.used.getTime() - a.used.getTime());
}

/** Those of `entries` that `pruning` means and that nobody has used just now. */
export function pruned(entries: readonly CacheEntry[], { olderThan = 0, largerThan = 0 }: Pruning): CacheEntry[] {
  const now = Date.now();
  return entries.filter(({ used, bytes }) => {
    const age = now - used.getTime();
    return age > Math.max(olderThan, RECENT) && bytes > largerThan;
  });
}

/** Removes a file of the cache. @throws {RkdError} `ERR_PERMISSION_DENIED`, `ERR_IO`: on Windows while a run reads it */
export function removeEntry({ path }: CacheEntry): void {
  // Whoever has it open reads on: the system keeps an open file's content.
  withErrors(path, () => rmSync(path));
}

/** What the file at `path` is; nothing where it is none of ours. */
function entryOf(path: string): CacheEntry | undefined {
  let descriptor: number;
  let stat: Stats;
  try {
    stat = statSync(path);
    if (!stat.isFile()) return undefined;
    descriptor = openSync(path, "r");
  } catch {
    return undefined; // it has just gone, or is not ours to read
  }
  try {
    const head = read(descriptor, 0, HEAD_BYTES);
    const kind = kinds[head.toString("latin1", 0, 8) as keyof typeof kinds];
    if (!kind || head.length < HEAD_BYTES) return undefined;
    const [first, second] = [Number(head.readBigUInt64LE(8)), Number(head.readBigUInt64LE(16))];
    const used = new Date(Math.max(stat.mtimeMs, stat.atimeMs));
    const entry = { path, kind, bytes: stat.size, used };
    if (kind === "features") return { ...entry, count: second, about: `vectors of ${first} numbers` };
    return { ...entry, ...imagesIn(descriptor, HEAD_BYTES + first, second) };
  } catch {
    return undefined;
  } finally {
    keepTimes(descriptor, stat);
    closeSync(descriptor);
  }
}

/** Looking at a file is no use of it. */
function keepTimes(descriptor: number, { atimeMs, mtimeMs }: Stats): void {
  try {
    futimesSync(descriptor, atimeMs / 1000, mtimeMs / 1000);
  } catch {
    // It is another user's: then it counts as used now, and stays.
  }
}

/** What the list at the end of a file of images says. */
function imagesIn(descriptor: number, at: number, length: number): Pick<CacheEntry, "count" | "about"> {
  if (length > MAX_LIST_BYTES) return { count: 0, about: "a long list of images" };
  try {
    const list = JSON.parse(read(descriptor, at, length).toString());
    const [ids, classes]: [string[], string[]] = [list.ids, list.classes];
    const labels = classes.length > 0 ? `${classes.length} classes` : "no labels";
    return { count: ids.length, about: `${list.name ?? `${ids[0]}, ...`}, ${labels}` };
  } catch {
    return { count: 0, about: "a damaged file" };
  }
}

function read(descriptor: number, at: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  return bytes.subarray(0, readSync(descriptor, bytes, 0, length, at));
}
