/** A document as Markdown; pictures and charts are left to the HTML form. */

import { type Block, type Document, numericColumns, type TableBlock } from "./blocks.ts";

/** The whole text, with a line break at its end. */
export function toMarkdown({ title, blocks }: Document): string {
  const shown = blocks.filter((it, i) => it.kind !== "heading" || !isPage(blocks[i + 1]));
  return `${[`# ${title}`, ...shown.flatMap(block)].join("\n\n")}\n`;
}

/** Whether nothing of it would be under its heading. */
function isPage(next: Block | undefined): boolean {
  return next !== undefined && block(next).length === 0;
}

function block(it: Block): string[] {
  switch (it.kind) {
    case "heading":
      return [`## ${it.text}`];
    case "paragraph":
    case "note":
      return [it.text];
    case "list":
      return [it.items.map((item) => `- ${item}`).join("\n")];
    case "code":
      return [`\`\`\`sh\n${it.text}\n\`\`\``];
    case "table":
      return [`${it.caption}:`, table(it)];
    case "beside":
      return it.tables.flatMap(block);
    default:
      return [];
  }
}

function table({ titles, rows }: TableBlock): string {
  const line = (cells: readonly string[]) => `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  const numeric = numericColumns({ titles, rows });
  return [line(titles), line(titles.map((_, i) => (numeric[i] ? "---:" : "---"))), ...rows.map(line)].join("\n");
}
