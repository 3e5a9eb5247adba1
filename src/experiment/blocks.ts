/** What a document is made of, below those that fill it and those that write it. */

import { printableLines } from "../printable.ts";

/** A piece of the document. */
export type Block =
  | { readonly kind: "heading"; readonly text: string }
  | { readonly kind: "paragraph"; readonly text: string }
  | { readonly kind: "list"; readonly items: readonly string[] }
  | { readonly kind: "code"; readonly text: string }
  | TableBlock
  | { readonly kind: "beside"; readonly tables: readonly TableBlock[] }
  /** Pictures that only HTML shows. */
  | {
      readonly kind: "pictures";
      readonly heading: string;
      readonly key?: string;
      readonly pictures: readonly Drawing[];
    };

/** A table; its first column is text, the others numbers. */
export interface TableBlock {
  readonly kind: "table";
  readonly caption: string;
  readonly titles: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

/** Which columns hold nothing but figures. */
export function numericColumns({ titles, rows }: Pick<TableBlock, "titles" | "rows">): boolean[] {
  return titles.map((_, i) => i > 0 && rows.every((row) => /^(|-|[+-]?[\d.,± to]+)$/.test(row[i] ?? "")));
}

/** A title with its blocks. */
export interface Document {
  readonly title: string;
  readonly blocks: readonly Block[];
}

/** A drawing with what it shows. */
export interface Drawing {
  readonly svg: string;
  readonly caption: string;
  /** What its lines stand for: a name and a sample of the line. */
  readonly legend?: readonly { readonly name: string; readonly svg: string }[];
}

/** Text as HTML shows it. */
export function escaped(text: string): string {
  return printableLines(text)
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;");
}
