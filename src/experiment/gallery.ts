/** What the models of several rows find nearest to the same queries. */

import { type Picture as Image, type Neighbours, neighbours } from "../neighbours.ts";
import type { NeighboursOptions } from "../options/run.ts";
import type { GalleryImage, GalleryQuery } from "../report/pictures.ts";

/** Looks at the neighbours of the same queries by each row's model. */
export async function galleryOf(
  models: readonly { readonly row: string; readonly model: string }[],
  options: Omit<NeighboursOptions, "model">,
): Promise<readonly GalleryQuery[]> {
  const found: { row: string; queries: readonly Neighbours[] }[] = [];
  for (const { row, model } of models) found.push({ row, queries: await neighbours({ ...options, model }) });
  return (found[0]?.queries ?? []).map(({ query }, i) => ({
    ...toImage(query),
    rows: found.map(({ row, queries }) => ({
      row,
      neighbours: (queries[i]?.neighbours ?? []).map((image) => ({
        ...toImage(image),
        right: image.class === query.class,
      })),
    })),
  }));
}

function toImage({ id, class: name, png }: Image): GalleryImage {
  return { id, class: name, png: Buffer.from(png).toString("base64") };
}
