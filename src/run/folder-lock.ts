/** A run's folder, held by one process at a time. */

import { realpathSync, rmdirSync } from "node:fs";
import { hostname } from "node:os";
import { dirname } from "node:path";
import { makeFolder } from "../artefacts/make-folder.ts";
import { withErrors } from "../artefacts/run-folder.ts";
import { fromNative, RkdError } from "../errors.ts";
import { addon } from "../native/addon.ts";

/** The lock of a folder; the system takes it back when the process ends, however that happens. */
export class FolderLock {
  readonly #folder: string;
  readonly #native = new (addon().BindingFolderLock)();
  /** The topmost folder that was made for it. */
  readonly #made: string | undefined;
  /** Where the folder was at first, as the addon says it and as Node does. */
  readonly #first: string | null;
  readonly #real: string;

  /**
   * Makes the folder where it is missing, and takes its lock.
   * @throws {RkdError} `ERR_OUTPUT_EXISTS` that says which process has it
   */
  constructor(folder: string) {
    this.#folder = folder;
    this.#made = withErrors(folder, () => makeFolder(folder));
    const holder = `process ${process.pid} on ${hostname()}, since ${new Date().toISOString()}`;
    const failure = this.#native.acquire(folder, holder);
    if (failure) throw fromNative(failure);
    this.#first = this.#native.place();
    this.#real = realpathSync(folder);
  }

  /** Whether others are kept out: some network file systems have no locks. */
  get exclusive(): boolean {
    return this.#native.isExclusive();
  }

  /** Where the folder is now, moved or not. @throws {RkdError} `ERR_NOT_FOUND` where it is gone */
  place(): string {
    const place = this.#native.place();
    if (place === this.#first && this.#leadsThere()) return this.#folder;
    if (place !== null) return place;
    throw new RkdError("ERR_NOT_FOUND", "the folder was removed during the run", {
      subject: this.#folder,
      advice: "start the run anew",
    });
  }

  /** Whether the path still leads to the folder: a link may have been set to another one. */
  #leadsThere(): boolean {
    try {
      return realpathSync(this.#folder) === this.#real;
    } catch {
      return false;
    }
  }

  /** @throws {RkdError} `ERR_NOT_FOUND` where the folder has been moved or removed */
  check(): void {
    const place = this.place();
    if (place === this.#folder) return;
    throw new RkdError("ERR_NOT_FOUND", `the folder was moved during the run, to ${place}`, {
      subject: this.#folder,
      advice: `the run and its last checkpoint are there: resume ${place}`,
    });
  }

  /** Gives the lock back, and removes the folders that were made for it where nothing came into them. */
  release(): void {
    this.#native.release();
    if (this.#made === undefined) return;
    try {
      for (let folder = this.#folder; ; folder = dirname(folder)) {
        rmdirSync(folder);
        if (folder === this.#made) return;
      }
    } catch {
      // There is something in it, as after every run that got as far as its first step.
    }
  }
}
