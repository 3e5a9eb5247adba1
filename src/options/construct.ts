/** What every constructor does: the core checks the options at once, and names the constructor in its errors. */

import { fromNative, RkdError } from "../errors.ts";
import { addonIfThere } from "../native/addon.ts";
import { json } from "../native/json.ts";
import type { Loss, LossOptions, OptionPart } from "../protocol/protocol.ts";

/** A constructor of the loss `K`; what it needs must be given. */
export type LossConstructor<K extends Loss["kind"]> =
  Partial<LossOptions[K]> extends LossOptions[K]
    ? (options?: LossOptions[K]) => Extract<Loss, { readonly kind: K }>
    : (options: LossOptions[K]) => Extract<Loss, { readonly kind: K }>;

/** The constructor of `kind`, which errors call `name`. */
export function lossConstructor<K extends Loss["kind"]>(kind: K, name: string): LossConstructor<K> {
  return ((options: object = {}) => checked("loss", name, given(name, options, { kind }))) as LossConstructor<K>;
}

/** `options` together with `more`; anything but an object goes to the core, which refuses it. */
export function given(name: string, options: object, more: object): object {
  if (typeof options === "object" && options !== null && !Array.isArray(options)) return { ...options, ...more };
  throw new RkdError("ERR_INVALID_OPTION", "invalid value", {
    subject: name,
    expected: "an object",
    received: "another",
  });
}

/**
 * `given` with its defaults, frozen. Without the addon nothing can be checked, nor can anything run: the run says so.
 * @throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`, `ERR_NOT_FOUND`
 */
export function checked<T>(part: OptionPart, name: string, given: object): T {
  const reply = addonIfThere()?.checkOption(part, name, json(given));
  if (reply?.error) throw fromNative(reply.error);
  return Object.freeze(reply ? JSON.parse(reply.value) : { ...given }) as T;
}
