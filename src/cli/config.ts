/** `--config`: a module whose default export is what `train` or `distill` takes. */

import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { RkdError } from "../errors.ts";
import { invalid } from "../options/check.ts";

/** Endings that need Node to leave the types out. */
const typed = /\.[cm]?ts$/;

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
  let found: { readonly default?: unknown };
  try {
    found = await import(pathToFileURL(place).href);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new RkdError("ERR_INVALID_OPTION", `the module cannot be loaded: ${why}`, { subject: place, cause });
  }
  const { default: options } = found;
  if (typeof options === "object" && options !== null && !Array.isArray(options)) return { ...options };
  const expected = "an object as the default export: export default { data: ..., out: ... }";
  const received = options === undefined ? "none" : Array.isArray(options) ? "an array" : typeof options;
  throw new RkdError("ERR_INVALID_OPTION", "this is no configuration", { subject: place, expected, received });
}
