/** `--config`: a module whose default export is what `train` or `distill` takes. */

import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { RkdError } from "../errors.ts";
import { invalid } from "../options/check.ts";
import type { Data } from "../protocol/protocol.ts";

/** Endings that need Node to leave the types out. */
const typed = /\.[cm]?ts$/;

/** Options of the data, whose flags stand beside the others'. */
const ofData = [
  "imageSize",
  "channels",
  "augment",
  "labels",
  "split",
  "rotations",
  "cache",
] as const satisfies readonly (keyof Data)[];

/** Whether a module was loaded: what it has opened keeps a process alive that has nothing to do any more. */
export let isLoaded = false;

async function exportOf(place: string): Promise<unknown> {
  const found: { readonly default?: unknown } = await import(pathToFileURL(place).href);
  return await found.default;
}

/** Rejects once nothing is left that the module could wait for. */
function neverSettled(): Promise<never> {
  return new Promise((_, reject) => {
    process.once("beforeExit", () => reject(new Error("it waits for something that never comes")));
  });
}

/** The options in the module `file`; relative paths in them begin at the folder in which rkd was started. @throws {RkdError} */
export async function loadConfig(file: string | undefined): Promise<Record<string, unknown>> {
  if (file === undefined) return {};
  const place = resolve(file);
  if (!existsSync(place)) {
    const advice = "check the path; it begins at the folder in which rkd was started";
    throw new RkdError("ERR_NOT_FOUND", "there is no such file", { subject: place, advice });
  }
  // Node 22.18 and later say "strip" here by default; the types of Node 20 do not know the field.
  const { typescript } = process.features as { readonly typescript?: unknown };
  if (typed.test(place) && !typescript) {
    throw invalid(
      "--config",
      "a .mjs or .js file with this Node",
      `${file}, and Node ${process.version}`,
      "rename it, without types, or use Node 22.18 or later, which reads TypeScript",
    );
  }
  isLoaded = true;
  let options: unknown;
  try {
    options = await Promise.race([exportOf(place), neverSettled()]);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new RkdError("ERR_INVALID_OPTION", `the module cannot be loaded: ${why}`, { subject: place, cause });
  }
  if (typeof options === "object" && options !== null && !Array.isArray(options)) {
    const strange = ofData.find((name) => name in options);
    if (strange === undefined) return { ...options };
    const advice = `it belongs to the data: data: { source: "photos", ${strange}: ... }`;
    throw new RkdError("ERR_UNKNOWN_OPTION", `there is no option ${strange} here`, { subject: place, advice });
  }
  const expected = "an object as the default export: export default { data: ..., out: ... }";
  const received = options === undefined ? "none" : Array.isArray(options) ? "an array" : typeof options;
  throw new RkdError("ERR_INVALID_OPTION", "this is no configuration", { subject: place, expected, received });
}
