/** A document as Markdown; pictures are left to the HTML form. */

import { type Block, type Document, numericColumns, type TableBlock } from "./blocks.ts";

/** The whole text, with a line break at its end. */
export function toMarkdown({ title, blocks }: Document): string {
  return `${[`# ${title}`, ...blocks.flatMap(block)].join("\n\n")}\n`;
}

function block(it: Block): string[] {
  switch (it.kind) {
    case "heading":
      return [`## ${it.text}`];
    case "paragraph":
      return [it.text];
    case "list":
      return [it.items.map((item) => `- ${item}`).join("\n")];
    case "code":
      return [`\`\`\`sh\n${it.text}\n\`\`\``];
    case "table":
      return [`${it.caption}:`, table(it)];
    case "beside":
      return it.tables.flatMap(block);
    case "pictures":
      return [];
  }
}

function table({ titles, rows }: TableBlock): string {
  const line = (cells: readonly string[]) => `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  const numeric = numericColumns({ titles, rows });
  return [line(titles), line(titles.map((_, i) => (numeric[i] ? "---:" : "---"))), ...rows.map(line)].join("\n");
}
