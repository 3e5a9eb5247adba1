#!/usr/bin/env node
// The command `rkd`. Plain JavaScript, so that it can say what is missing where nothing has been built yet.
import { existsSync } from "node:fs";

const main = new URL("../dist/cli/main.js", import.meta.url);
if (existsSync(main)) {
  await import(main.href);
} else {
  console.error(
    'rkd has not been built here. Run "npm run setup" in the repository first; it needs Rust and a C compiler.',
  );
  process.exitCode = 4;
}
