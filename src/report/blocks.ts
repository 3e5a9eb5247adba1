/** What a document is made of, below those that fill it and those that write it. */

import { printableLines } from "../printable.ts";

/** A piece of the document. */
export type Block =
  | { readonly kind: "heading"; readonly text: string }
  | { readonly kind: "paragraph"; readonly text: string }
  | { readonly kind: "list"; readonly items: readonly string[] }
  /** What should be seen first: a warning or a finding. */
  | { readonly kind: "note"; readonly text: string }
  | { readonly kind: "code"; readonly text: string; readonly title?: string }
  | TableBlock
  | { readonly kind: "beside"; readonly tables: readonly TableBlock[] }
  | PageBlock;

/** Blocks that only HTML shows. */
type PageBlock =
  | { readonly kind: "charts"; readonly charts: readonly Chart[] }
  | NeighboursBlock
  | RelationsBlock
  | Widget;

/** A table; its first column is text, the others numbers. */
export interface TableBlock {
  readonly kind: "table";
  readonly caption: string;
  readonly titles: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

/** Curves over one axis. */
export interface Chart {
  /** By which the page knows it again when its numbers change. */
  readonly id: string;
  readonly title: string;
  /** What the axes are, with their units. */
  readonly x: string;
  readonly y: string;
  readonly lines: readonly Line[];
  /** Whether the y axis is logarithmic to begin with; all values must be above 0. */
  readonly logarithmic?: boolean;
}

/** A curve. Lines of one colour belong together. */
export interface Line {
  readonly name: string;
  /** By rising x. */
  readonly points: readonly Point[];
  readonly colour: number;
  /** One of several behind a mean. */
  readonly thin?: boolean;
}

/** x and y. */
export type Point = readonly [x: number, y: number];

/** Queries with what each network finds nearest to them; images by their place in the document's list. */
export interface NeighboursBlock {
  readonly kind: "neighbours";
  readonly queries: readonly {
    readonly image: number;
    readonly rows: readonly {
      readonly name: string;
      readonly found: readonly { readonly image: number; readonly right: boolean }[];
    }[];
  }[];
  /** What "right" is, after "right:". */
  readonly right: string;
}

/** Pairs or triples of images, of which student and teacher say something else. */
export interface RelationsBlock {
  readonly kind: "relations";
  readonly relations: readonly {
    readonly images: readonly number[];
    readonly teacher: string;
    readonly student: string;
  }[];
  readonly caption: string;
}

/** A drawing that the page's script makes of numbers. */
export type Widget = {
  readonly kind: "widget";
  readonly id: string;
  readonly title: string;
  readonly caption: string;
} & (
  | {
      readonly widget: "density";
      /** Counts `[size, size]`, row by row from below; both axes go from 0 to `most`. */
      readonly data: { readonly size: number; readonly most: number; readonly counts: readonly number[] };
    }
  | {
      readonly widget: "matrices";
      readonly data: {
        /** Rows and columns, as places in the document's list of images. */
        readonly images: readonly number[];
        /** Where a new group begins, and its name. */
        readonly groups: readonly { readonly from: number; readonly name: string }[];
        /** Distances `[n, n]` of each network in bytes, base 64: 255 is `most`. */
        readonly networks: readonly { readonly name: string; readonly bytes: string }[];
        readonly most: number;
      };
    }
  | {
      readonly widget: "projection";
      readonly data: {
        readonly images: readonly number[];
        /** The group of each image, for its colour, and the groups' names. */
        readonly groups: readonly number[];
        readonly names: readonly string[];
        readonly networks: readonly {
          readonly name: string;
          readonly points: readonly Point[];
          /** Share of the variance that is seen. */
          readonly explained: number;
        }[];
      };
    }
);

/** Which columns hold nothing but figures. */
export function numericColumns({ titles, rows }: Pick<TableBlock, "titles" | "rows">): boolean[] {
  return titles.map((_, i) => i > 0 && rows.every((row) => /^(|-|[+-]?[\d.,± to%]+)$/.test(row[i] ?? "")));
}

/** A title with its blocks. */
export interface Document {
  readonly title: string;
  readonly blocks: readonly Block[];
  /** What blocks show, each once. */
  readonly images?: readonly DocumentImage[];
}

/** An image of a document. */
export interface DocumentImage {
  /** Its path inside the source. */
  readonly id: string;
  /** The name of its class; empty without labels. */
  readonly class: string;
  /** A `data:` URL; empty of a vector, which has its name in place of a picture. */
  readonly src: string;
}

/** Text as HTML shows it. */
export function escaped(text: string): string {
  return printableLines(text)
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;");
}
