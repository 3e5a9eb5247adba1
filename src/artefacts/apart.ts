/** What a job writes must not be what it reads: compared as the system knows files, not by their names. */

import { type BigIntStats, existsSync, realpathSync, statSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, extname, join, resolve } from "node:path";
import { RkdError } from "../errors.ts";
import type { DataPlan } from "../protocol/protocol.ts";
import { isRun, runFiles } from "./run-folder.ts";

/** What a job reads. */
export interface Inputs {
  readonly data: Pick<DataPlan, "source" | "more" | "cache">;
  /** A teacher, weights, a model, lists: absolute paths. */
  readonly files: readonly string[];
}

/**
 * Sees to it that a run in the folder `out` can destroy none of its inputs, and that the folder is a run's alone.
 * @throws {RkdError} `ERR_INVALID_OPTION` that names what is in danger
 */
export function checkFolderApart(out: string, { data, files }: Inputs): void {
  const refuse = (why: string) => clash(out, why, "give the run a folder of its own");
  const own = identityOf(out);
  const above = chainOf(out);
  const [home, cache] = [homeFolder(), data.cache];
  if (dirname(out) === out) throw refuse("this is the root of the file system");
  if (own !== undefined && home !== undefined && own === identityOf(home)) throw refuse("this is your home folder");
  if (above.includes(identityOf(cache) ?? "")) throw refuse("this is the folder of the decoded images, or in it");
  for (const source of sourcesOf(data)) {
    if (!statOf(source)?.isDirectory()) continue;
    if (above.includes(identityOf(source) ?? "")) throw refuse(`this is the folder of the data, or in it (${source})`);
    if (own !== undefined && chainOf(source).includes(own)) throw refuse(`the data lie in this folder (${source})`);
  }
  const written = new Set(runFiles.map((name) => identityOf(join(out, name))));
  for (const file of [...files, ...sourcesOf(data)]) {
    const identity = identityOf(file);
    if (identity !== undefined && written.has(identity)) throw refuse(`an input lies in this folder (${file})`);
  }
}

/** Endings of the files that `embed` writes, none of which is an image or may be a list of such. */
const embeddings = [".npy", ".safetensors", ".json", ".parquet", ".arrow", ".feather", ".ipc"];

/**
 * Sees to it that writing the file `out` destroys no input, and no file of a run.
 * @throws {RkdError} `ERR_INVALID_OPTION` or `ERR_OUTPUT_EXISTS`
 */
export function checkFileApart(out: string, { data, files }: Inputs): void {
  const identity = identityOf(out);
  if (identity === undefined) return;
  const refuse = (why: string) => clash(out, why, "choose another file");
  const input = [...files, ...sourcesOf(data)].find((file) => identityOf(file) === identity);
  if (input !== undefined) throw refuse(`this file is an input (${input})`);
  const around = dirname(realpathSync(out));
  const ofRun = [around, dirname(around)].find(
    (folder) => isRun(folder) && runFiles.some((name) => identityOf(join(folder, name)) === identity),
  );
  if (ofRun !== undefined) {
    const advice = "choose another file";
    throw new RkdError("ERR_OUTPUT_EXISTS", "this file belongs to a run", { subject: out, advice });
  }
  const above = chainOf(out);
  const source = sourcesOf(data).find((folder) => above.includes(identityOf(folder) ?? ""));
  if (source !== undefined && statOf(out)?.isFile() && !embeddings.includes(extname(out).toLowerCase())) {
    throw refuse(`this file is one of the data (${source})`);
  }
}

function clash(out: string, why: string, advice: string): RkdError {
  return new RkdError("ERR_INVALID_OPTION", why, { subject: "out", received: out, advice });
}

/** The lists of classes that a split was made from. */
export function listsOf({ split }: DataPlan): string[] {
  return split.kind === "lists" ? [split.train, split.validation, split.test].filter((file) => file !== null) : [];
}

/** Paths of files and folders; of a pattern the folder before its first sign. */
function sourcesOf({ source, more }: Inputs["data"]): string[] {
  const paths = [source, ...more].filter((path) => resolve(path) === path); // not "glyphs"
  return paths.map((path) => (existsSync(path) ? path : dirname(`${path.replace(/[*?[{].*$/s, "")}.`)));
}

/** The user's home; nothing where the system knows none. */
function homeFolder(): string | undefined {
  try {
    return homedir();
  } catch {
    return undefined; // HOME is not set, and the user is in no list of users
  }
}

/** Identities of `path` and of every folder above it, as far as they are there. */
function chainOf(path: string): string[] {
  let there = path;
  while (!existsSync(there) && dirname(there) !== there) there = dirname(there);
  const chain: string[] = [];
  try {
    there = realpathSync(there);
  } catch {
    return chain;
  }
  for (let last = ""; there !== last; last = there, there = dirname(there)) chain.push(identityOf(there) ?? "unknown");
  return chain;
}

/** Equal for two names of one file or folder. */
function identityOf(path: string): string | undefined {
  const stat = statOf(path);
  return stat && `${stat.dev}:${stat.ino}`;
}

function statOf(path: string): BigIntStats | undefined {
  try {
    return statSync(path, { bigint: true });
  } catch {
    return undefined; // what cannot be looked at is told of where it is read or written
  }
}
