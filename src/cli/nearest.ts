/** `rkd nearest`: the images of an index that are nearest to a photo. */

import { RkdError } from "../errors.ts";
import { loadModel, type Model } from "../load-model.ts";
import { nearest, readVectors, type StoredVectors } from "../retrieval.ts";
import { json, print, say, signal } from "./context.ts";
import { needed } from "./options.ts";
import { writeJsonLine } from "./progress.ts";

/** The flags of `rkd nearest`. */
export interface NearestFlags {
  readonly index?: string;
  readonly model?: string;
  readonly k?: number;
  readonly threads?: number;
}

/**
 * Prints, for each of `images`, the ids in the index that are nearest to it, with their distances. One that cannot be embedded
 * does not hide the others; its error comes last.
 */
export async function findNearest(images: readonly string[], flags: NearestFlags): Promise<void> {
  const index = needed("--index", flags.index);
  const threads = flags.threads ?? 0;
  const gallery = await readVectors(index);
  await using model = await loadModel(flags.model ?? modelOf(gallery), { threads });
  checkModel(index, gallery, model);
  for (const warning of [...gallery.warnings, ...model.warnings]) say(`warning: ${warning}`);
  // Calls that wait share passes.
  const embedded = await Promise.allSettled(images.map((image) => model.embed(image, { signal })));
  signal.throwIfAborted();
  const good = embedded.flatMap((outcome, place) =>
    outcome.status === "fulfilled" ? [{ image: images[place] ?? "", query: outcome.value }] : [],
  );
  const queries = good.map(({ query }) => query);
  const found = good.length > 0 ? await nearest(queries, gallery, flags.k ?? 10, { threads }) : [];
  for (const [place, neighbours] of found.entries()) {
    const image = good[place]?.image ?? "";
    if (json) {
      writeJsonLine({ type: "nearest", image, neighbours });
      continue;
    }
    if (images.length > 1) print(image);
    for (const { id, index, distance } of neighbours) print(`${distance.toFixed(6).padStart(12)}  ${id ?? index}`);
  }
  const [first, ...more] = embedded.flatMap((outcome) => (outcome.status === "rejected" ? [outcome.reason] : []));
  for (const error of more) say(`left out: ${error instanceof Error ? error.message : String(error)}`);
  if (first !== undefined) throw first;
}

/** The model that made the index, as `embed` notes it. */
function modelOf({ model }: StoredVectors): string {
  if (model !== undefined) return model;
  throw new RkdError("ERR_INVALID_OPTION", "this option is needed, as the index does not say which model made it", {
    subject: "--model",
    expected: "the model that the index was embedded with",
    received: "nothing",
    advice: "rkd embed notes the model in every form but .csv and .jsonl",
  });
}

/** Refuses a model that did not make the index: what it finds there would mean nothing. */
function checkModel(index: string, { model: maker, modelHash }: StoredVectors, model: Model): void {
  if (maker === undefined || modelHash === model.hash || (modelHash === undefined && maker === model.file)) return;
  // The same model after export has another hash, and older indices have none.
  if (modelHash === undefined || model.engine !== "rkd") {
    say(`warning: Whether ${model.file} is what made ${index} is not known: that was ${maker}.`);
    return;
  }
  throw new RkdError("ERR_INVALID_ARTEFACT", "another model made this index", {
    subject: index,
    expected: `the model of hash ${modelHash}, which was ${maker}`,
    received: `${model.file}, of hash ${model.hash}`,
    advice: "give the model that made it (--model), or embed the images again: rkd embed",
  });
}
