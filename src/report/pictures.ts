/** Queries with their nearest neighbours by several rows' models, right and wrong marked (figure 4 of the paper). */

import type { Block, DocumentImage, TableBlock } from "./blocks.ts";

/** A query, and what each row's model finds. */
export interface GalleryQuery extends GalleryImage {
  readonly rows: readonly { readonly row: string; readonly neighbours: readonly GalleryNeighbour[] }[];
}

/** An image of the gallery. */
export interface GalleryImage {
  /** Its path inside the source. */
  readonly id: string;
  readonly class: string;
  /** A PNG file in base 64; not in `table.json`. */
  readonly png: string;
}

/** An image that was found. */
export interface GalleryNeighbour extends GalleryImage {
  /** Whether it is of the query's class. */
  readonly right: boolean;
}

/** How many neighbours of each query are right, and all together. */
export function galleryTable(queries: readonly GalleryQuery[]): TableBlock {
  const names = queries[0]?.rows.map(({ row }) => row) ?? [];
  const rightOf = (query: GalleryQuery, i: number) =>
    query.rows[i]?.neighbours.filter(({ right }) => right).length ?? 0;
  const of = queries[0]?.rows[0]?.neighbours.length ?? 0;
  const body = queries.map((query) => [
    `${query.class} (${query.id})`,
    ...names.map((_, i) => String(rightOf(query, i))),
  ]);
  const sums = names.map((_, i) => String(queries.reduce((sum, query) => sum + rightOf(query, i), 0)));
  return {
    kind: "table",
    caption: `Of the ${of} nearest neighbours so many are of the query's class; the queries were drawn, not chosen`,
    titles: ["query", ...names],
    rows: [...body, ["all", ...sums]],
  };
}

/** The pictures: a line for each row, and the images that they show, each once. */
export function galleryPictures(queries: readonly GalleryQuery[]): {
  readonly block: Block;
  readonly images: readonly DocumentImage[];
} {
  const images: DocumentImage[] = [];
  const places = new Map<string, number>();
  const placeOf = ({ id, class: name, png }: GalleryImage) => {
    const place = places.get(id) ?? images.push({ id, class: name, src: `data:image/png;base64,${png}` }) - 1;
    places.set(id, place);
    return place;
  };
  const shown = queries.map((query) => ({
    image: placeOf(query),
    rows: query.rows.map(({ row, neighbours }) => ({
      name: row,
      found: neighbours.map((found) => ({ image: placeOf(found), right: found.right })),
    })),
  }));
  return { block: { kind: "neighbours", right: "of the query's class", queries: shown }, images };
}
