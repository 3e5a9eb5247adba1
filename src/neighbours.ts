/** `neighbours`: a few queries with what a model finds nearest to them, as pictures. */

import { json } from "./native/json.ts";
import type { NeighboursOptions } from "./options/run.ts";
import { withoutSignal, withSession } from "./run/command.ts";
import { type Run, startRun } from "./run/run.ts";

/** An image as the network sees it. */
export interface Picture {
  /** Its path inside the source. */
  readonly id: string;
  /** The name of its class; empty without labels. */
  readonly class: string;
  /** A PNG file. */
  readonly png: Uint8Array;
}

/** A query and what is nearest to it. */
export interface Neighbours {
  readonly query: Picture;
  /** Nearest first; the query is not among them. */
  readonly neighbours: readonly Picture[];
}

/**
 * Embeds one part of the data and looks at the nearest neighbours of a few images. For the same data, seed and part the
 * queries are the same for every model, so that models can be compared.
 * @throws {RkdError} by rejection: bad options, `ERR_NOT_FOUND`, `ERR_INVALID_ARTEFACT`, bad data
 */
export function neighbours(options: NeighboursOptions): Run<readonly Neighbours[]> {
  return startRun((context) => {
    const said = json(withoutSignal(options));
    return withSession(context, async (session) => (await session.send((core) => core.neighbours(said))).value ?? []);
  }, options?.signal);
}
