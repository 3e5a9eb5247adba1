/** Options as JSON, with what JSON has not, so that errors can name it. */

import type { Json } from "#native";

/**
 * The JSON text of `value`. NaN, infinities, functions and the like become texts that begin with a zero byte, by which the
 * core (crates/core/src/input.rs) knows them; what is undefined in an object is left out.
 */
export function json<T>(value: T): Json<T> {
  return JSON.stringify(value, (key, part: unknown) => {
    switch (typeof part) {
      case "number":
        return Number.isFinite(part) ? part : `\0${part}`;
      case "bigint":
        return `\0${part}n`;
      case "function":
      case "symbol":
        return `\0a ${typeof part}`;
      case "undefined":
        return key === "" ? "\0undefined" : part;
      default:
        return part;
    }
  }) as Json<T>;
}

/** The value of a JSON text. */
export function parse<T>(text: Json<T>): T {
  return JSON.parse(text);
}
