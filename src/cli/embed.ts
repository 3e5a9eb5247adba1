/** `rkd embed`: flags in, a file of embeddings out, or that of a shard; with `--merge` one file of all shards. */

import { embed, mergeShards } from "../embed.ts";
import { RkdError } from "../errors.ts";
import { invalid } from "../options/check.ts";
import type { EmbedOptions } from "../options/run.ts";
import type { BrokenImage, ShardOptions } from "../protocol/protocol.ts";
import { refuseRanks } from "../run/ranks.ts";
import { json, print, say, signal, watch } from "./context.ts";
import { type DataFlags, dataOf, defined, needed } from "./options.ts";
import { writeJsonLine } from "./progress.ts";

/** The flags of `rkd embed`, as commander names them. */
export interface EmbedFlags extends DataFlags, Partial<Pick<EmbedOptions, "format" | "threads">> {
  readonly out?: string;
  readonly shard?: ShardOptions;
  readonly merge?: true;
}

/** Embeds images, or joins shards. */
export async function runEmbed(model: string | undefined, flags: EmbedFlags): Promise<void> {
  if (flags.merge) return await runMerge(model, flags);
  if (model === undefined) {
    const advice = "give the folder of a finished run, or a model.safetensors";
    throw new RkdError("ERR_INVALID_OPTION", "this argument is needed", { subject: "model", advice });
  }
  const { format, threads, shard } = flags;
  if (shard === undefined) {
    refuseRanks(
      "embed",
      "start each on its own, and say which part of the images it does: --shard 0/4 in the first of four",
    );
  }
  const out = needed("--out", flags.out);
  const own = defined({ format, threads, shard });
  const result = await watch(embed({ model, out, data: dataOf(flags), signal, ...own }));
  if (json) return writeJsonLine({ type: "end", ...result });
  const { images, embedding, out: file } = result;
  const which = result.shard ? `, shard ${result.shard.index}/${result.shard.count}` : "";
  const before = result.shard?.skipped ? ", finished before" : "";
  // A warning has named the first few of those that were left out now.
  if (result.shard?.skipped || result.leftOut.length > NAMED) sayLeftOut(result.leftOut);
  print(`${images} embeddings of length ${embedding} in ${file}${which}${before}`);
}

async function runMerge(model: string | undefined, flags: EmbedFlags): Promise<void> {
  const { merge: _, out: given, ...others } = flags;
  const strange = Object.keys(others).find((name) => name !== "json");
  if (model !== undefined || strange !== undefined) {
    const received = strange === undefined ? model : `--${strange.replace(/[A-Z]/g, (it) => `-${it.toLowerCase()}`)}`;
    throw invalid(
      "--merge",
      "--out alone beside it",
      received,
      "the shards themselves say of which model and images they are",
    );
  }
  const out = needed("--out", given);
  refuseRanks("embed --merge", "start it once, when all shards are finished");
  const result = await watch(mergeShards({ out, signal }));
  if (json) return writeJsonLine({ type: "end", ...result });
  sayLeftOut(result.leftOut);
  print(`${result.images} embeddings of length ${result.embedding} of ${result.shards} shards in ${result.out}`);
}

/** Images that the core's warning about those that cannot be used names. */
const NAMED = 5;

/** Names every image that has no row. */
function sayLeftOut(leftOut: readonly BrokenImage[]): void {
  for (const { path, reason } of leftOut) say(`left out: ${path} ${reason}`);
}

/** `3/100`, `auto/100` or `auto`. */
export function toShard(text: string): ShardOptions {
  const [, index, count] = /^(auto|\d+)(?:\/(\d+))?$/.exec(text) ?? [];
  if (index === undefined || (index !== "auto" && count === undefined)) {
    throw invalid("--shard", "a shard and how many there are, 3/100, or auto/100 or auto, counted from 0", text);
  }
  return defined({
    index: index === "auto" ? undefined : Number(index),
    count: count && Number(count),
  }) as ShardOptions;
}
