/** A document as one HTML file: no script, nothing from elsewhere, readable on light and dark screens and on paper. */

import { type Block, type Document, type Drawing, escaped, numericColumns, type TableBlock } from "./blocks.ts";

const style = `
:root { color-scheme: light dark; --ink: #1c2024; --paper: #fdfdfc; --faint: #6b7280; --line: #d9dce1; --band: #f2f3f5; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8eb; --paper: #14171a; --faint: #9aa3ad; --line: #343a41; --band: #1d2125; }
}
body { margin: 2rem auto; max-width: 76rem; padding: 0 1rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
p, li { max-width: 60rem; }
.beside { display: flex; flex-wrap: wrap; gap: 2rem; align-items: flex-start; }
.scroll { overflow-x: auto; max-width: 100%; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.92rem; }
caption { text-align: left; color: var(--faint); padding-bottom: 0.4rem; max-width: min(40rem, calc(100vw - 2rem)); }
th, td { padding: 0.25rem 0.7rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
th { vertical-align: bottom; }
td:first-child { white-space: nowrap; }
th.number, td.number { text-align: right; }
td.number { white-space: nowrap; }
tbody tr:nth-child(odd) { background: var(--band); }
pre { background: var(--band); padding: 0.8rem; overflow-x: auto; }
figure { margin: 1rem 0 1.6rem; } figcaption { color: var(--faint); font-size: 0.92rem; }
.scroll > svg { max-width: 100%; min-width: 32rem; height: auto; }
.legend { display: flex; flex-wrap: wrap; gap: 0.1rem 1.2rem; margin: 0.2rem 0; padding: 0; max-width: 40rem; list-style: none;
  font-size: 0.85rem; }
`;

/** The whole file. */
export function toHtml({ title, blocks }: Document): string {
  const head = `<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${escaped(title)}</title>`;
  const body = [`<h1>${escaped(title)}</h1>`, ...blocks.map(block)].join("\n");
  return `<!doctype html>\n<html lang="en">\n<head>${head}\n<style>${style}</style>\n</head>\n<body>\n${body}\n</body>\n</html>\n`;
}

function block(it: Block): string {
  switch (it.kind) {
    case "heading":
      return `<h2>${escaped(it.text)}</h2>`;
    case "paragraph":
      return `<p>${escaped(it.text)}</p>`;
    case "list":
      return `<ul>${it.items.map((item) => `<li>${escaped(item)}</li>`).join("")}</ul>`;
    case "code":
      return `<pre>${escaped(it.text)}</pre>`;
    case "table":
      return table(it);
    case "beside":
      return `<div class="beside">${it.tables.map(table).join("\n")}</div>`;
    case "pictures":
      return [
        `<h2>${escaped(it.heading)}</h2>`,
        ...(it.key ? [`<p>${escaped(it.key)}</p>`] : []),
        ...it.pictures.map(figure),
      ].join("\n");
  }
}

function figure({ svg, caption, legend = [] }: Drawing): string {
  const items = legend.map(({ name, svg: line }) => `<li>${line} ${escaped(name)}</li>`).join("");
  const key = items && `<ul class="legend">${items}</ul>`;
  return `<figure><div class="scroll">${svg}</div>${key}<figcaption>${escaped(caption)}</figcaption></figure>`;
}

function table({ caption, titles, rows }: TableBlock): string {
  const numeric = numericColumns({ titles, rows });
  const cell = (tag: "th" | "td") => (text: string, i: number) =>
    `<${tag}${numeric[i] ? ' class="number"' : ""}>${escaped(text)}</${tag}>`;
  const head = `<thead><tr>${titles.map(cell("th")).join("")}</tr></thead>`;
  const body = rows.map((row) => `<tr>${row.map(cell("td")).join("")}</tr>`).join("\n");
  return `<div class="scroll"><table><caption>${escaped(caption)}</caption>${head}<tbody>\n${body}\n</tbody></table></div>`;
}
