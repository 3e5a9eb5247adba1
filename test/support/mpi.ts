/** Starts `rkd` under the `mpirun` of the PATH, or of the folders that RKD_TEST_MPI lists as a PATH does. */

import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
// @ts-expect-error: a script, without types
import * as scripts from "../../scripts/mpi.mjs";
import { type Outcome, outcome } from "./cli.ts";

const command = fileURLToPath(new URL("../../bin/rkd.mjs", import.meta.url));

/** The folders that have an `mpirun`; the PATH's first one where no others are named. */
export const launchers: readonly string[] = (() => {
  const { RKD_TEST_MPI, PATH } = process.env;
  const found = (RKD_TEST_MPI ?? PATH ?? "").split(delimiter).filter((bin) => bin && existsSync(join(bin, "mpirun")));
  if (found.length === 0) console.warn("NOT RUN: there is no mpirun in the PATH (apt install openmpi-bin)");
  return RKD_TEST_MPI === undefined ? found.slice(0, 1) : found;
})();

/** Starts so many processes of `rkd`, or of another `program`, with `args` by the `mpirun` in `bin`. */
export function startRanks(
  bin: string,
  count: number,
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
  program = command,
): ChildProcess & { done: Promise<Outcome> } {
  const own = {
    ...process.env,
    ...scripts.allowed,
    PATH: `${bin}${delimiter}${process.env.PATH}`,
    NO_COLOR: "1",
    ...env,
  };
  const child = spawn(join(bin, "mpirun"), ["-n", String(count), process.execPath, program, ...args], { env: own });
  return Object.assign(child, { done: outcome(child) });
}

/** The ids of the ranks that have `word` in their command lines, where the system has /proc; the launcher is none. */
export const ranksWith: (word: string) => number[] = scripts.ranksWith;
