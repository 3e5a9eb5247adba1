/**
 * The one error class. Its fields are those of the core's error (crates/core/src/error.rs), so that a message reads
 * the same wherever it was found: what failed, what was expected, what came, what to do.
 */

/** Every code there is, with what it means. */
export const errorCodes = {
  ERR_INVALID_OPTION: "an option has a value outside its range, or two options contradict each other",
  ERR_UNKNOWN_OPTION: "an option, command or name does not exist",
  ERR_INVALID_SHAPE: "a tensor has another shape than the operation takes",
  ERR_NOT_FOUND: "a path does not exist",
  ERR_PERMISSION_DENIED: "a path may not be read or written",
  ERR_INVALID_DATA: "the data set as a whole cannot be used",
  ERR_INVALID_ARCHIVE: "an archive is damaged or has entries that leave it",
  ERR_INVALID_ARTEFACT: "a model, checkpoint or plan is damaged or of another version",
  ERR_OUTPUT_EXISTS: "the output folder holds another run, or files that rkd did not write",
  ERR_NON_FINITE: "a loss, gradient or parameter stopped being a finite number",
  ERR_CANCELLED: "the run was cancelled",
  ERR_IO: "reading or writing failed for another reason",
  ERR_NATIVE_LOAD: "the native addon could not be loaded",
  ERR_CUDA_UNAVAILABLE: "CUDA was asked for and is not available",
  ERR_INTERNAL: "a defect of this library",
} as const;

/** The stable name of a kind of error; a closed union, so a `switch` over it can be complete. */
export type RkdErrorCode = keyof typeof errorCodes;

/** What an {@link RkdError} carries besides its message. */
export interface RkdErrorDetails {
  /** The option's name (`batch.size`) or the file's path. */
  readonly subject?: string | undefined;
  /** What would have been right, with its range or unit. */
  readonly expected?: string | undefined;
  /** What came instead. */
  readonly received?: string | undefined;
  /** What to do, without a capital or full stop. */
  readonly advice?: string | undefined;
  /** The error below this one. */
  readonly cause?: unknown;
}

/** Every failure of this library. Branch on {@link RkdError.code}; show {@link RkdError.message}. */
export class RkdError extends Error {
  override readonly name = "RkdError";
  /** The kind of failure. */
  readonly code: RkdErrorCode;
  /** The option's name or the file's path, where there is one. */
  readonly subject: string | undefined;
  /** What would have been right. */
  readonly expected: string | undefined;
  /** What came instead. */
  readonly received: string | undefined;
  /** What to do about it. */
  readonly advice: string | undefined;

  /** @param summary One sentence without a full stop: what failed. */
  constructor(code: RkdErrorCode, summary: string, details: RkdErrorDetails = {}) {
    super(sentence(summary, details), details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.subject = details.subject;
    this.expected = details.expected;
    this.received = details.received;
    this.advice = details.advice;
  }

  /** A plain object for JSON output. */
  toJSON(): Record<string, unknown> {
    const { code, message, subject, expected, received, advice } = this;
    return { code, message, subject, expected, received, advice };
  }
}

/** The same order as the core's `Display`: subject, summary, expected and received, advice. */
function sentence(summary: string, { subject, expected, received, advice }: RkdErrorDetails): string {
  const values = expected !== undefined && received !== undefined ? `: expected ${expected}, received ${received}` : "";
  const todo = advice ? `. ${advice.charAt(0).toUpperCase()}${advice.slice(1)}` : "";
  return `${subject ? `${subject}: ` : ""}${summary}${values}${todo}`;
}

/** The error as it comes out of the addon. */
export interface NativeFailure {
  readonly code: string;
  readonly message: string;
  readonly subject?: string;
  readonly expected?: string;
  readonly received?: string;
  readonly advice?: string;
  readonly causes: readonly string[];
}

/** Turns the addon's tagged value into an error with its chain of causes. */
export function fromNative(failure: NativeFailure): RkdError {
  const cause = failure.causes.reduceRight<Error | undefined>(
    (below, text) => new Error(text, below ? { cause: below } : undefined),
    undefined,
  );
  const code = failure.code in errorCodes ? (failure.code as RkdErrorCode) : "ERR_INTERNAL";
  return new RkdError(code, failure.message, { ...failure, cause });
}
