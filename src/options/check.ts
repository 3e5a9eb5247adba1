/** Checks of single option values. Each returns the value it accepts, or throws an {@link RkdError} that names the option. */

import { fromNative, RkdError, type RkdErrorDetails } from "../errors.ts";
import { addon, addonIfThere } from "../native/addon.ts";
import { json, parse } from "../native/json.ts";

/** The bounds of a number; `over` and `under` exclude their value, `from` and `to` include it. */
export interface Range {
  readonly from?: number;
  readonly to?: number;
  readonly over?: number;
  readonly under?: number;
}

/** An `ERR_INVALID_OPTION`. */
export function invalid(subject: string, expected: string, value: unknown, advice?: string): RkdError {
  const details: RkdErrorDetails = { subject, expected, received: show(value), advice };
  return new RkdError("ERR_INVALID_OPTION", "invalid value", details);
}

/** What was given, or the default; unlike `??` it lets a null through to the check, which refuses it. */
export function or<T, D>(value: T | undefined, fallback: D): T | D {
  return value === undefined ? fallback : value;
}

/** A finite number inside `range`. */
export function number(subject: string, value: unknown, range: Range = {}): number {
  if (typeof value !== "number" || !Number.isFinite(value) || !within(value, range)) {
    throw invalid(subject, `a number${words(range)}`, value);
  }
  return value;
}

/** An integer inside `range` that a double holds exactly. */
export function integer(subject: string, value: unknown, range: Range = {}): number {
  if (!Number.isSafeInteger(value) || !within(value as number, range)) {
    throw invalid(subject, `a whole number${words(range)}`, value);
  }
  return value as number;
}

/** True or false. */
export function boolean(subject: string, value: unknown): boolean {
  if (typeof value !== "boolean") throw invalid(subject, "true or false", value);
  return value;
}

/** A text that is not empty. */
export function text(subject: string, value: unknown): string {
  if (typeof value !== "string" || value.trim() === "") throw invalid(subject, "a text that is not empty", value);
  return value;
}

/**
 * A path, as the system takes it, of a path or a `file:` URL.
 * @throws {RkdError} `ERR_INVALID_OPTION`; `ERR_NATIVE_LOAD`: the core reads it
 */
export function path(subject: string, value: unknown): string {
  const reply = addon().pathOf(subject, json(value));
  if (reply.error) throw fromNative(reply.error);
  return parse(reply.value);
}

/** One of `choices`. */
export function oneOf<const T extends string | number>(subject: string, value: unknown, choices: readonly T[]): T {
  if (choices.includes(value as T)) return value as T;
  const near = typeof value === "string" ? meant(value, choices.map(String)) : undefined;
  throw invalid(subject, choices.map(show).join(" or "), value, near && `did you mean ${show(near)}?`);
}

/** An object without keys that are not in `keys`: a mistyped option must not pass in silence. */
export function object<T extends object>(subject: string, value: unknown, keys: readonly (keyof T & string)[]): T {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw invalid(subject, "an object", value);
  }
  for (const key of Object.keys(value)) {
    if ((keys as readonly string[]).includes(key)) continue;
    const near = meant(key, keys);
    throw new RkdError("ERR_UNKNOWN_OPTION", "there is no such option", {
      subject: subject === "options" ? key : `${subject}.${key}`,
      expected: `one of ${keys.join(", ")}`,
      received: show(key),
      advice: near && `did you mean ${show(near)}?`,
    });
  }
  return value as T;
}

/** The value in an error message: short, and never a whole array. */
function show(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value.length > 60 ? `${value.slice(0, 57)}...` : value);
  if (typeof value === "bigint") return `${value}n`;
  if (Array.isArray(value)) return `an array of ${value.length}`;
  if (typeof value === "function") return "a function";
  if (typeof value === "object" && value !== null) {
    return `an object with ${Object.keys(value).slice(0, 5).join(", ") || "no keys"}`;
  }
  return String(value);
}

/** What of `choices` was probably meant by `word`, as the core sees it (crates/core/src/spelling.rs). */
export function meant(word: string, choices: readonly string[]): string | undefined {
  return addonIfThere()?.likely(word, [...choices]) ?? undefined;
}

function within(value: number, { from, to, over, under }: Range): boolean {
  return (
    (from === undefined || value >= from) &&
    (to === undefined || value <= to) &&
    (over === undefined || value > over) &&
    (under === undefined || value < under)
  );
}

function words({ from, to, over, under }: Range): string {
  const parts = [
    from !== undefined && `at least ${from}`,
    over !== undefined && `greater than ${over}`,
    to !== undefined && `at most ${to}`,
    under !== undefined && `less than ${under}`,
  ].filter((part) => part !== false);
  return parts.length > 0 ? ` ${parts.join(" and ")}` : "";
}
