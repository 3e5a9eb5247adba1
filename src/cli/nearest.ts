/** `rkd nearest`: the images of an index that are nearest to a photo. */

import { existsSync, readFileSync } from "node:fs";
import { RkdError } from "../errors.ts";
import { loadModel } from "../load-model.ts";
import { nearest, readVectors } from "../retrieval.ts";
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

/** Prints, for each of `images`, the ids in the index that are nearest to it, with their distances. */
export async function findNearest(images: readonly string[], flags: NearestFlags): Promise<void> {
  const index = needed("--index", flags.index);
  const threads = flags.threads ?? 0;
  const gallery = await readVectors(index);
  await using model = await loadModel(flags.model ?? modelOf(index), { threads });
  for (const warning of [...gallery.warnings, ...model.warnings]) say(`warning: ${warning}`);
  const queries = await model.embed(images, { signal });
  const found = await nearest(queries, gallery, flags.k ?? 10, { threads });
  for (const [place, neighbours] of found.entries()) {
    const image = images[place] ?? "";
    if (json) {
      writeJsonLine({ type: "nearest", image, neighbours });
      continue;
    }
    if (images.length > 1) print(image);
    for (const { id, index, distance } of neighbours) print(`${distance.toFixed(6).padStart(12)}  ${id ?? index}`);
  }
}

/** The model that made the index, as `embed` notes it beside a `.npy`. */
function modelOf(index: string): string {
  const beside = `${index}.ids.json`;
  const noted = existsSync(beside) ? JSON.parse(readFileSync(beside, "utf8")).model : undefined;
  if (typeof noted === "string") return noted;
  throw new RkdError("ERR_INVALID_OPTION", "this option is needed, as the index does not say which model made it", {
    subject: "--model",
    expected: "the model that the index was embedded with",
    received: "nothing",
    advice: `only a .npy of rkd embed notes its model, in ${beside}`,
  });
}
