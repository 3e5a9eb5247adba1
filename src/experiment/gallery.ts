/** Queries with their nearest neighbours by several rows' models, right and wrong marked (figure 4 of the paper). */

import { type Picture as Image, type Neighbours, neighbours } from "../neighbours.ts";
import type { NeighboursOptions } from "../options/run.ts";
import { type Drawing, escaped, type TableBlock } from "./blocks.ts";

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

function rightOf(found: readonly GalleryNeighbour[]): number {
  return found.filter(({ right }) => right).length;
}

/** How many neighbours of each query are right, and all together. */
export function galleryTable(queries: readonly GalleryQuery[]): TableBlock {
  const names = queries[0]?.rows.map(({ row }) => row) ?? [];
  const right = (query: GalleryQuery, i: number) => rightOf(query.rows[i]?.neighbours ?? []);
  const of = queries[0]?.rows[0]?.neighbours.length ?? 0;
  const body = queries.map((query) => [
    `${query.class} (${query.id})`,
    ...names.map((_, i) => String(right(query, i))),
  ]);
  const sums = names.map((_, i) => String(queries.reduce((sum, query) => sum + right(query, i), 0)));
  return {
    kind: "table",
    caption: `Of the ${of} nearest neighbours so many are of the query's class; the queries were drawn, not chosen`,
    titles: ["query", ...names],
    rows: [...body, ["all", ...sums]],
  };
}

const [SIDE, GAP, LABEL] = [72, 12, 150];

/** How to read the pictures. */
export const galleryKey =
  "Each picture has the query on the left, then its nearest neighbours from near to far, one line for each row of the table. A tick and a full green frame mark those of the query's class, a cross and a broken red frame the others.";

/** The pictures: one a query, a line for each row. */
export function galleryPictures(queries: readonly GalleryQuery[]): Drawing[] {
  return queries.map((query) => {
    const lines = query.rows.map(({ row, neighbours: found }, line) => {
      const top = line * (SIDE + 2 * GAP) + GAP;
      const left = (place: number) => LABEL + (place + 1) * (SIDE + GAP) + 2 * GAP;
      const label = `<text x="0" y="${top + SIDE / 2}">${escaped(row)}</text>`;
      return [label, ...found.map((each, place) => framed(each, left(place), top))].join("");
    });
    const middle = (query.rows.length * (SIDE + 2 * GAP) - SIDE) / 2;
    const count = Math.max(...query.rows.map(({ neighbours: found }) => found.length), 0);
    const [width, height] = [LABEL + (count + 1) * (SIDE + GAP) + 3 * GAP, query.rows.length * (SIDE + 2 * GAP) + GAP];
    const all = [shown(query, LABEL, middle), ...lines].join("\n");
    return {
      svg: `<svg viewBox="0 0 ${width} ${height}" width="${width}" role="img" font-size="13" fill="var(--ink)">${all}</svg>`,
      caption: `${query.class}: ${query.rows.map(({ row, neighbours: found }) => `${row} ${rightOf(found)} of ${found.length} right`).join(", ")}`,
    };
  });
}

function framed(image: GalleryNeighbour, x: number, y: number): string {
  const stroke = image.right ? 'stroke="#10a37f"' : 'stroke="#ef4444" stroke-dasharray="6 4"';
  const frame = `<rect x="${x - 2}" y="${y - 2}" width="${SIDE + 4}" height="${SIDE + 4}" fill="none" stroke-width="3" ${stroke}/>`;
  const [cx, cy] = [x + SIDE - 8, y + 8];
  const disc = `<circle cx="${cx}" cy="${cy}" r="8" fill="${image.right ? "#0b7a5e" : "#c81e1e"}"/>`;
  const strokes = image.right ? `M${cx - 4} ${cy}l3 3.5l5 -6.5` : `M${cx - 3} ${cy - 3}l6 6m0 -6l-6 6`;
  const mark = `${disc}<path d="${strokes}" fill="none" stroke="#fff" stroke-width="2"/>`;
  return `${shown(image, x, y)}${frame}${mark}`;
}

function shown({ png, class: name, id }: GalleryImage, x: number, y: number): string {
  const title = `<title>${escaped(`${name} (${id})`)}</title>`;
  return `<image x="${x}" y="${y}" width="${SIDE}" height="${SIDE}" href="data:image/png;base64,${png}">${title}</image>`;
}
