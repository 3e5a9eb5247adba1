/**
 * Makes a folder and those above it, one after the other. Node's own way with `recursive` says of a file system that cannot be written
 * that the folder is not there, and in `/proc` it never ends.
 */

import { existsSync, mkdirSync } from "node:fs";
import { dirname, resolve } from "node:path";

/**
 * Makes the folder at `path`, unless it is there.
 * @returns the first that was made
 * @throws the system's error, of the folder that could not be made
 */
export function makeFolder(path: string): string | undefined {
  const missing: string[] = [];
  for (let folder = resolve(path); !existsSync(folder); folder = dirname(folder)) missing.unshift(folder);
  for (const folder of missing) {
    try {
      mkdirSync(folder);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code !== "EEXIST" || !existsSync(folder)) throw error; // else somebody has made it meanwhile
    }
  }
  return missing[0];
}
