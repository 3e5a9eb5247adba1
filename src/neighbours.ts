/** `neighbours`: a few queries with what a model finds nearest to them, as pictures. */

import { dataOf } from "./evaluate.ts";
import type { PictureReport } from "./native/session.ts";
import { integer, object, oneOf, or } from "./options/check.ts";
import type { EvaluateOptions } from "./options/run.ts";
import { checkThreads } from "./plan/build.ts";
import { findModel } from "./plan/model.ts";
import { runCommand } from "./run/command.ts";
import { type Run, startRun } from "./run/run.ts";

/** What `neighbours` takes. */
export interface NeighboursOptions
  extends Pick<EvaluateOptions, "model" | "data" | "part" | "threads" | "seed" | "signal"> {
  /** Number of queries, drawn by the seed, each of another class while there are classes. @default 8 */
  readonly queries?: number;
  /** Neighbours of each query. @default 8 */
  readonly k?: number;
}

/** An image as the network sees it. */
export interface Picture {
  /** Its path inside the source. */
  readonly id: string;
  /** The name of its class. */
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
  return startRun(async (context) => {
    object<NeighboursOptions>("options", options, [
      ...(["model", "data", "part", "threads", "seed", "signal", "queries", "k"] as const),
    ]);
    const stored = findModel("model", options.model);
    const plan = {
      model: stored.file,
      data: dataOf(stored, options.data),
      seed: integer("seed", or(options.seed, stored.run?.plan.seed ?? 1), { from: 0 }),
      part: oneOf("part", or(options.part, "test"), ["train", "validation", "test"]),
      queries: integer("queries", or(options.queries, 8), { from: 1, to: 1000 }),
      k: integer("k", or(options.k, 8), { from: 1, to: 1000 }),
      threads: checkThreads(options.threads),
    };
    const found = await runCommand("neighbours", { plan }, context);
    return found.map(({ query, neighbours: near }) => ({ query: toPicture(query), neighbours: near.map(toPicture) }));
  }, options?.signal);
}

function toPicture({ id, class: name, png }: PictureReport): Picture {
  return { id, class: name, png: Buffer.from(png, "hex") };
}
