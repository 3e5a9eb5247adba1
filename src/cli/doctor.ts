/** `rkd doctor`: what this installation is, and what is wrong with it. `rkd doctor data PATH`: the same of a data set. */

import { accessSync, constants, existsSync } from "node:fs";
import { availableParallelism, cpus, totalmem } from "node:os";
import { dirname } from "node:path";
import { RkdError } from "../errors.ts";
import { addon } from "../native/addon.ts";
import { json as toJson } from "../native/json.ts";
import type { NativeSession } from "../native/session.ts";
import { oneOf } from "../options/check.ts";
import { withSession } from "../run/command.ts";
import { version } from "../version.ts";
import { json, print, signal } from "./context.ts";
import { needed } from "./options.ts";
import { writeJsonLine } from "./report.ts";
import { table } from "./table.ts";

/** Looks at the installation, or at the data at `path`. */
export async function doctor(topic?: string, path?: string): Promise<void> {
  if (topic === undefined) return installation();
  oneOf("doctor", topic, ["data"]);
  await data(needed("doctor data <path>", path));
}

/** Prints what a source is, what is in its parts, and what is missing. Exits with success where it can be used. */
async function data(source: string): Promise<void> {
  const look = (session: NativeSession) => session.call((core) => core.survey(toJson(source)));
  const { data: plan, ...survey } = await withSession({ emit: () => {}, signal }, look);
  if (json) return writeJsonLine({ type: "end", ...survey, split: plan.split });
  const { sentence, parts, images, classes, sharedClasses, broken, warnings } = survey;
  print(sentence);
  const of = (count: number) => (survey.labels === "none" ? "-" : String(count));
  const row = (name: string, images: number, classes: number) => [name, String(images), of(classes)];
  const rows = [...parts.map((part) => row(part.part, part.images, part.classes)), row("all", images, classes)];
  print(table(["part", "images", "classes"], rows));
  if (sharedClasses)
    print("its parts share classes: its own split measures classification, not retrieval of new classes");
  print(`split unless you choose another: ${JSON.stringify(plan.split)}`);
  for (const { path, reason } of broken) print(`cannot be read: ${path} ${reason}`);
  for (const warning of warnings) print(`note: ${warning}`);
}

/** Prints the findings; throws the first problem, so that the exit code tells. */
function installation(): void {
  const problem = attempt(() => addon()) ?? attempt(() => checkCache(addon().defaultCache()));
  const findings = {
    rkd: version,
    node: process.version,
    platform: `${process.platform} ${process.arch}`,
    cpu: `${cpus()[0]?.model.trim() ?? "unknown"}, ${availableParallelism()} threads`,
    memory: `${(totalmem() / 2 ** 30).toFixed(1)} GiB`,
    device: "cpu (this build has no CUDA)",
    cache: problem?.code === "ERR_NATIVE_LOAD" ? "unknown without the native addon" : addon().defaultCache(),
  };
  if (json) writeJsonLine({ type: "end", ...findings, healthy: problem === undefined });
  else for (const [name, finding] of Object.entries(findings)) print(`${name.padEnd(9)} ${finding}`);
  if (problem) throw problem;
  if (!json) print("everything is in order");
}

function attempt(check: () => unknown): RkdError | undefined {
  try {
    check();
    return undefined;
  } catch (error) {
    if (error instanceof RkdError) return error;
    throw error;
  }
}

/** The cache, or the nearest folder above it that exists, must be writable. */
function checkCache(cache: string): void {
  let folder = cache;
  while (!existsSync(folder) && dirname(folder) !== folder) folder = dirname(folder);
  try {
    accessSync(folder, constants.W_OK);
  } catch (cause) {
    const advice = "give this user the right to it, or set RKD_CACHE to another folder";
    throw new RkdError("ERR_PERMISSION_DENIED", "the cache cannot be written", { subject: folder, advice, cause });
  }
}
