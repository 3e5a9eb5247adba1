/** Loads the native addon once, on first use, and words the failure so that it can be acted on. */

import { RkdError } from "../errors.ts";
import { ownRequire } from "../version.ts";

type Addon = typeof import("#native");

let loaded: Addon | undefined;

/**
 * The addon. `RKD_NATIVE_PATH` names another file than the installed one.
 * @throws {RkdError} `ERR_NATIVE_LOAD` with the loader's own reasons as causes
 */
export function addon(): Addon {
  loaded ??= load();
  return loaded;
}

/** The addon, or nothing where it cannot be loaded. */
export function addonIfThere(): Addon | undefined {
  try {
    return addon();
  } catch {
    return undefined;
  }
}

function load(): Addon {
  const other = process.env.RKD_NATIVE_PATH;
  if (!ownRequire) {
    throw new RkdError(
      "ERR_NATIVE_LOAD",
      "rkd is in a bundle, and the package with its native addon is not beside it",
      {
        advice:
          "keep it out of the bundle, and install it where the bundle runs: esbuild --external:rkd; webpack " +
          'externals: { rkd: "import rkd" }; Next.js serverExternalPackages: ["rkd"]; see docs/serving.md',
      },
    );
  }
  try {
    return ownRequire(other || "#native") as Addon;
  } catch (cause) {
    const libc =
      process.platform === "linux" ? (isMusl() ? "-musl" : "-gnu") : process.platform === "win32" ? "-msvc" : "";
    const name = `rkd-${process.platform}-${process.arch}${libc}`;
    throw new RkdError("ERR_NATIVE_LOAD", `the native addon could not be loaded: ${deepest(cause)}`, {
      subject: other || name,
      advice: other
        ? "correct or unset RKD_NATIVE_PATH"
        : `in a checkout of the repository run "npm run setup"; in an installed package run "npm install ${name}"`,
      cause,
    });
  }
}

/** musl builds of Node report no glibc version. */
function isMusl(): boolean {
  const report = process.report?.getReport() as { header?: { glibcVersionRuntime?: string } } | undefined;
  return !report?.header?.glibcVersionRuntime;
}

/** The first line of the error at the bottom of the chain: the loader wraps the true one several times. */
function deepest(error: unknown): string {
  let below = error;
  while (below instanceof Error && below.cause instanceof Error) below = below.cause;
  return below instanceof Error ? (below.message.split("\n")[0] ?? "") : String(below);
}
