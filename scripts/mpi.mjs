// What starting `rkd` under `mpirun` takes, in tests and benches.
import { existsSync, readdirSync, readFileSync } from "node:fs";

/** What Open MPI wants to be told where processes are more than cores, or root's. */
export const allowed = {
  OMPI_ALLOW_RUN_AS_ROOT: "1",
  OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: "1",
  PRTE_MCA_rmaps_default_mapping_policy: ":oversubscribe",
  OMPI_MCA_rmaps_base_mapping_policy: ":oversubscribe",
};

/** The ids of the ranks that have `word` in their command lines, where the system has /proc; the launcher is none. */
export function ranksWith(word) {
  const commandLine = (id) => {
    try {
      return readFileSync(`/proc/${id}/cmdline`, "utf8").split("\0");
    } catch {
      return []; // it has ended
    }
  };
  const ids = existsSync("/proc") ? readdirSync("/proc").filter((name) => /^\d+$/.test(name)) : [];
  const isRank = ([program, ...args]) => program === process.execPath && args.includes(word);
  return ids.filter((id) => isRank(commandLine(id))).map(Number);
}
