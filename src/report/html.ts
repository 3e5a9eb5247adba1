/** A document as one HTML file: nothing from elsewhere, readable on light and dark screens, on a phone and on paper. */

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import {
  type Block,
  type Document,
  escaped,
  type NeighboursBlock,
  numericColumns,
  type RelationsBlock,
  type TableBlock,
  type Widget,
} from "./blocks.ts";
import { style } from "./style.ts";

/** The whole file. `live` is where a page that is watched hears of changes. */
export function toHtml(document: Document, live?: string): string {
  const title = escaped(document.title);
  const head = `<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,"><title>${title}</title>`;
  const status = live === undefined ? "" : `<p id="live" role="status" data-from="${escaped(live)}">connecting ...</p>`;
  const sections = sectionsOf(document);
  const links = sections.flatMap(({ id, heading }) =>
    heading ? [`<li><a href="#${id}">${escaped(heading)}</a></li>`] : [],
  );
  const contents = links.length > 3 ? `<nav aria-label="Contents"><ul>${links.join("")}</ul></nav>` : "";
  const body = sections.map(({ id, html }) => `<section id="${id}">${html}</section>`).join("\n");
  const needed = live !== undefined || document.blocks.some(isDrawn);
  const images = `<script type="application/json" id="images">${data(document.images ?? [])}</script>`;
  const script = needed ? `${images}\n<script>${pageScript()}</script>` : "";
  return `<!doctype html>\n<html lang="en">\n<head>${head}\n<style>${style}</style>\n</head>\n<body>\n<header><h1>${title}</h1>${status}${contents}</header>\n<main>\n${body}\n</main>\n${script}\n</body>\n</html>\n`;
}

/** A heading with what is under it, which a watched page replaces as one. */
export interface Section {
  readonly id: string;
  readonly heading: string;
  readonly html: string;
}

/** The sections of a document, the first without a heading. */
export function sectionsOf({ blocks, images = [] }: Document): Section[] {
  const sections: { heading: string; blocks: Block[] }[] = [{ heading: "", blocks: [] }];
  for (const it of blocks) {
    if (it.kind === "heading") sections.push({ heading: it.text, blocks: [] });
    else sections.at(-1)?.blocks.push(it);
  }
  const taken = new Set<string>();
  return sections
    .filter(({ heading, blocks: own }) => heading !== "" || own.length > 0)
    .map(({ heading, blocks: own }) => {
      const name = heading.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-") || "top";
      const id = taken.has(name) ? `${name}-${taken.size}` : name;
      taken.add(id);
      const title = heading && `<h2>${escaped(heading)}</h2>\n`;
      return { id, heading, html: title + own.map((it) => block(it, images)).join("\n") };
    });
}

type Images = NonNullable<Document["images"]>;

function isDrawn({ kind }: Block): boolean {
  return kind === "charts" || kind === "widget" || kind === "neighbours" || kind === "relations";
}

function block(it: Block, images: Images): string {
  switch (it.kind) {
    case "heading":
      return "";
    case "paragraph":
      return `<p>${escaped(it.text)}</p>`;
    case "note":
      return `<p class="note">${escaped(it.text)}</p>`;
    case "list":
      return `<ul>${it.items.map((item) => `<li>${escaped(item)}</li>`).join("")}</ul>`;
    case "code": {
      const code = `<pre tabindex="0">${escaped(it.text)}</pre>`;
      return it.title ? `<details><summary>${escaped(it.title)}</summary>${code}</details>` : code;
    }
    case "table":
      return table(it);
    case "beside":
      return `<div class="beside">${it.tables.map(table).join("\n")}</div>`;
    case "charts": {
      const each = it.charts.map(({ id, title, ...chart }) => widget("chart", id, title, "", chart));
      return `<div class="charts">${each.join("\n")}</div>`;
    }
    case "neighbours":
      return neighbours(it, images);
    case "relations":
      return relations(it, images);
    case "widget":
      return drawing(it);
  }
}

function drawing({ widget: kind, id, title, caption, data: numbers }: Widget): string {
  return widget(kind, id, title, caption, numbers);
}

function widget(kind: string, id: string, title: string, caption: string, numbers: object): string {
  const json = `<script type="application/json">${data(numbers)}</script>`;
  const under = caption && `<figcaption>${escaped(caption)}</figcaption>`;
  return `<figure class="widget" data-widget="${kind}" data-id="${escaped(id)}"><h3>${escaped(title)}</h3><div class="drawing"></div>${under}${json}</figure>`;
}

/** JSON inside a script element, which nothing in it can end. */
function data(value: unknown): string {
  return JSON.stringify(value).replaceAll("<", "\\u003c");
}

function neighbours({ queries, right }: NeighboursBlock, images: Images): string {
  const key = `<p>On the left the query, then what each network finds nearest to it, from near to far. <span class="mark right">✓</span> and a full frame: ${escaped(right)}; <span class="mark wrong">✗</span> and a broken frame: not.</p>`;
  const line = (name: string, found: NeighboursBlock["queries"][number]["rows"][number]["found"]) => {
    const good = found.filter((each) => each.right).length;
    const pictures = found.map((each) => picture(each.image, images, each.right)).join("");
    return `<tr><th scope="row">${escaped(name)}<br><small>${good} of ${found.length} right</small></th><td>${pictures}</td></tr>`;
  };
  const each = queries.map(({ image, rows }) => {
    const { id = "", class: name = "" } = images[image] ?? {};
    const caption = `<div class="query">${picture(image, images)}<small>${escaped(name || id)}</small></div>`;
    const body = rows.map((row) => line(row.name, row.found)).join("");
    return `<div class="neighbours">${caption}<div class="scroll" tabindex="0" role="region" aria-label="${escaped(`Neighbours of ${id}`)}"><table><tbody>${body}</tbody></table></div></div>`;
  });
  return key + each.join("\n");
}

function relations({ relations: all, caption }: RelationsBlock, images: Images): string {
  const rows = all.map(({ images: of, teacher, student }) => {
    const pictures = of.map((image) => picture(image, images)).join("");
    return `<tr><td class="pictures">${pictures}</td><td class="number">${escaped(teacher)}</td><td class="number">${escaped(student)}</td></tr>`;
  });
  return `<div class="scroll" tabindex="0" role="region" aria-label="${escaped(caption)}"><table class="relations"><caption>${escaped(caption)}</caption><thead><tr><th>images</th><th class="number">teacher</th><th class="number">student</th></tr></thead><tbody>${rows.join("\n")}</tbody></table></div>`;
}

/** An image, which the page's script fills in: each stands in the file once. */
function picture(image: number, images: Images, right?: boolean): string {
  const { id = "", class: name = "", src = "" } = images[image] ?? {};
  const says = right === undefined ? "" : right ? ", right" : ", wrong";
  const label = escaped(`${name ? `${name} (${id})` : id}${says}`);
  const kind = right === undefined ? "" : right ? " right" : " wrong";
  const mark = right === undefined ? "" : `<span class="mark" aria-hidden="true">${right ? "✓" : "✗"}</span>`;
  const shown = src
    ? `<img data-image="${image}" alt="${label}" title="${label}">`
    : `<span class="name" role="img" aria-label="${label}" title="${label}">${escaped(id)}</span>`;
  return `<span class="picture${kind}">${shown}${mark}</span>`;
}

function table({ caption, titles, rows }: TableBlock): string {
  const numeric = numericColumns({ titles, rows });
  const cell = (tag: "th" | "td") => (text: string, i: number) =>
    `<${tag}${numeric[i] ? ' class="number"' : ""}>${escaped(text)}</${tag}>`;
  const [first = "", ...others] = titles;
  // A table's corner says nothing, and is no heading.
  const corner = first === "" ? "<td></td>" : cell("th")(first, 0);
  const head = `<thead><tr>${corner}${others.map((title, i) => cell("th")(title, i + 1)).join("")}</tr></thead>`;
  const body = rows.map((row) => `<tr>${row.map(cell("td")).join("")}</tr>`).join("\n");
  return `<div class="scroll" tabindex="0" role="region" aria-label="${escaped(caption)}"><table><caption>${escaped(caption)}</caption>${head}<tbody>\n${body}\n</tbody></table></div>`;
}

let script: string | undefined;

/** What draws and moves on the page, with the charts' library and its licence: `page/` in one piece. */
function pageScript(): string {
  script ??= readFileSync(createRequire(import.meta.url).resolve("#page"), "utf8").replaceAll("</script", "<\\/script");
  return script;
}
