/** Writes the tables of an experiment: `table.json` for programs, `table.md` and `table.html` for people. */

import { join } from "node:path";
import { writeJson, writeWhole } from "../artefacts/run-folder.ts";
import { documentOf } from "./document.ts";
import type { GalleryQuery } from "./gallery.ts";
import { toHtml } from "./html.ts";
import { toMarkdown } from "./markdown.ts";
import type { ExperimentResult } from "./result.ts";

/** Writes all three, each whole or not at all. */
export function writeTables(result: ExperimentResult): void {
  const gallery = result.gallery.map((query) => withoutPng(query));
  writeJson(join(result.out, "table.json"), { ...result, gallery });
  const document = documentOf(result);
  writeWhole(join(result.out, "table.md"), toMarkdown(document));
  writeWhole(join(result.out, "table.html"), toHtml(document));
}

/** Pictures belong to the HTML form. */
function withoutPng(query: GalleryQuery): object {
  return JSON.parse(JSON.stringify(query, (key, value) => (key === "png" ? undefined : value)));
}
