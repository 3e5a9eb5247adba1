// Makes the script of the report page (src/report/page) one file with uPlot and its licence: dist/report/page.js.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";
import { root } from "./setup.mjs";

const licence = readFileSync(join(root, "node_modules", "uplot", "LICENSE"), "utf8").trim();

/** Writes it. */
await build({
  entryPoints: [join(root, "src", "report", "page", "main.ts")],
  outfile: join(root, "dist", "report", "page.js"),
  bundle: true,
  minify: true,
  format: "iife",
  target: "es2022",
  charset: "utf8",
  legalComments: "none",
  loader: { ".css": "text" },
  banner: { js: `/*\nThe charts are drawn by uPlot:\n${licence}\n*/` },
});
