/** Writes the tables of an experiment: `table.json` for programs, `table.md` and `table.html` for people. */

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { writeJson, writeWhole } from "../artefacts/run-folder.ts";
import { RkdError } from "../errors.ts";
import { toHtml } from "../report/html.ts";
import { toMarkdown } from "../report/markdown.ts";
import type { GalleryQuery } from "../report/pictures.ts";
import { documentOf } from "./document.ts";
import type { ExperimentResult } from "./result.ts";

/** The files of an experiment beside its cells. */
export const tables = ["table.json", "table.md", "table.html"] as const;
const [json, markdown, html] = tables;

/**
 * Sees to it that tables may be written to the folder `out`.
 * @throws {RkdError} `ERR_OUTPUT_EXISTS` where files of these names stand there and `table.json` is not an experiment's
 */
export function checkTables(out: string): void {
  const held = tables.find((name) => existsSync(join(out, name)));
  if (held === undefined || isResult(join(out, json))) return;
  throw new RkdError("ERR_OUTPUT_EXISTS", `the folder holds ${held}, and no ${json} that rkd wrote`, {
    subject: out,
    advice: "choose another folder, or move that away yourself",
  });
}

function isResult(file: string): boolean {
  try {
    const { form, versions }: Partial<ExperimentResult> = JSON.parse(readFileSync(file, "utf8"));
    return form === 1 && typeof versions?.rkd === "string";
  } catch {
    return false;
  }
}

/** Writes all three to the folder `out`, each whole or not at all; first the one by which they are known again. */
export function writeTables(out: string, result: ExperimentResult): void {
  const gallery = result.gallery.map((query) => withoutPng(query));
  writeJson(join(out, json), { ...result, gallery });
  const document = documentOf(result);
  writeWhole(join(out, markdown), toMarkdown(document));
  writeWhole(join(out, html), toHtml(document));
}

/** Pictures belong to the HTML form. */
function withoutPng(query: GalleryQuery): object {
  return JSON.parse(JSON.stringify(query, (key, value) => (key === "png" ? undefined : value)));
}
