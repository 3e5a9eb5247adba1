/** Exit codes: one for each thing a script may want to do about a failure. */

import type { RkdErrorCode } from "../errors.ts";

/** What `rkd --help` prints. */
export const exitCodes = {
  0: "it worked",
  1: "a defect of rkd, or a failure that fits none of the others",
  2: "the command line or an option is wrong",
  3: "a file, folder or data set is missing or cannot be used",
  4: "the native addon, or CUDA or MPI when asked for, is not available",
  5: "training stopped: a loss, gradient or parameter was not finite",
  6: "export: a gate was missed (--min-recall, --max-bytes, --min-cosine)",
  129: "stopped by SIGHUP (a terminal that was closed), after a checkpoint",
  130: "stopped by Ctrl-C, after a checkpoint",
  143: "stopped by SIGTERM, after a checkpoint; by another signal: 128 and its number",
} as const;

/** The exit code of an export that misses a gate. */
export const missedGate = 6;

/** The exit code of an error. */
export function exitCodeOf(code: RkdErrorCode): keyof typeof exitCodes {
  switch (code) {
    case "ERR_INVALID_OPTION":
    case "ERR_UNKNOWN_OPTION":
    case "ERR_INVALID_SHAPE":
    case "ERR_OUTPUT_EXISTS":
    case "ERR_CLOSED":
    case "ERR_RANKS_DIFFER":
      return 2;
    case "ERR_NOT_FOUND":
    case "ERR_PERMISSION_DENIED":
    case "ERR_INVALID_DATA":
    case "ERR_INVALID_ARCHIVE":
    case "ERR_INVALID_ARTEFACT":
    case "ERR_IO":
      return 3;
    case "ERR_NATIVE_LOAD":
    case "ERR_DEVICE":
    case "ERR_MPI_MISSING":
    case "ERR_MPI_MISMATCH":
      return 4;
    case "ERR_NON_FINITE":
      return 5;
    case "ERR_CANCELLED":
      return 130;
    case "ERR_MPI_FAILED":
    case "ERR_INTERNAL":
      return 1;
  }
}
