/** Loads the native addon once, on first use. The one place that chooses its file; why it failed is told by load-failure.ts. */

import { resolve } from "node:path";
import { ownRequire, type Require, version } from "../version.ts";
import { bundled, checkWhole, loadFailure } from "./load-failure.ts";
import { type Platform, thisPlatform } from "./platform.ts";

type Addon = typeof import("#native");

let loaded: { readonly addon: Addon; readonly file: string } | undefined;

/**
 * The addon: `dist/native/rkd.<platform>.node` in a checkout, else the package of this platform (`rkd-linux-x64-gnu`), of this
 * package's version. `RKD_NATIVE_PATH` names another file.
 * @throws {RkdError} `ERR_NATIVE_LOAD`: what was tried, what this platform is, and the cure
 */
export function addon(): Addon {
  loaded ??= load();
  return loaded.addon;
}

/** The addon, or nothing where it cannot be loaded. */
export function addonIfThere(): Addon | undefined {
  try {
    return addon();
  } catch {
    return undefined;
  }
}

/**
 * The path of the file that is loaded.
 * @throws {RkdError} as {@link addon}
 */
export function addonFile(): string {
  loaded ??= load();
  return loaded.file;
}

function load(): { addon: Addon; file: string } {
  if (!ownRequire) throw bundled();
  const platform = thisPlatform();
  const given = process.env.RKD_NATIVE_PATH;
  const name = `rkd-${platform.name}`;
  let file = given ? resolve(given) : inCheckout(ownRequire, platform);
  let other: string | undefined;
  try {
    if (file === undefined) {
      file = ownRequire.resolve(name);
      const found = (ownRequire(`${name}/package.json`) as { readonly version: string }).version;
      if (found !== version) other = found;
    }
    if (other === undefined) {
      checkWhole(file);
      const addon = ownRequire(file) as Addon;
      // Another addon, or a script, where RKD_NATIVE_PATH names one.
      if (typeof addon?.instructionSet !== "function")
        throw new Error("it is not the addon of rkd, or one of another version");
      return { addon, file };
    }
  } catch (cause) {
    throw loadFailure({ platform, name, file, given: Boolean(given), cause });
  }
  throw loadFailure({ platform, name, file, given: false, other });
}

/** The file that `npm run setup` builds, if it is there. */
function inCheckout(require: Require, platform: Platform): string | undefined {
  try {
    return require.resolve(`./dist/native/rkd.${platform.name}.node`);
  } catch {
    return undefined;
  }
}
