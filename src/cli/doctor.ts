/** `rkd doctor`: what this installation is, and what is wrong with it. */

import { accessSync, constants, existsSync } from "node:fs";
import { availableParallelism, cpus, totalmem } from "node:os";
import { dirname } from "node:path";
import { RkdError } from "../errors.ts";
import { addon } from "../native/addon.ts";
import { defaultCache } from "../plan/data.ts";
import { version } from "../version.ts";
import { json, print } from "./context.ts";
import { writeJsonLine } from "./report.ts";

/** Prints the findings; throws the first problem, so that the exit code tells. */
export function doctor(): void {
  const problem = attempt(() => addon()) ?? attempt(() => checkCache(defaultCache()));
  const findings = {
    rkd: version,
    node: process.version,
    platform: `${process.platform} ${process.arch}`,
    cpu: `${cpus()[0]?.model.trim() ?? "unknown"}, ${availableParallelism()} threads`,
    memory: `${(totalmem() / 2 ** 30).toFixed(1)} GiB`,
    device: "cpu (this build has no CUDA)",
    cache: defaultCache(),
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
