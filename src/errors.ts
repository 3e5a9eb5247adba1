/**
 * The one error class. Its fields are those of the core's error (crates/core/src/error.rs), so that a message reads
 * the same wherever it was found: what failed, what was expected, what came, what to do.
 */

import type { BindingError } from "#native";
import { errorCodes, type RkdErrorCode } from "./protocol/protocol.ts";

export type { RkdErrorCode };

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

/** Turns the addon's tagged value into an error with its chain of causes. */
export function fromNative(failure: BindingError): RkdError {
  const cause = failure.causes.reduceRight<Error | undefined>(
    (below, text) => new Error(text, below ? { cause: below } : undefined),
    undefined,
  );
  // Another build than this one's (`RKD_NATIVE_PATH`) may have other codes.
  const code = failure.code in errorCodes ? failure.code : "ERR_INTERNAL";
  return new RkdError(code, failure.message, { ...failure, cause });
}
