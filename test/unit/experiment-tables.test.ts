import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { checkTables } from "../../src/experiment/tables.ts";
import { temporaryFolder } from "../support/folders.ts";

it("tables replace those of an experiment, and nothing else", () => {
  const folder = temporaryFolder();
  checkTables(join(folder, "new"));
  mkdirSync(join(folder, "cells"));
  checkTables(folder);
  writeFileSync(join(folder, "table.md"), "my own table");
  const refused = expect.objectContaining({ code: "ERR_OUTPUT_EXISTS", subject: folder });
  expect(() => checkTables(folder)).toThrow(refused);
  for (const text of ["", "[]", "null", '{"form":1}', '{"rows":[]}']) {
    writeFileSync(join(folder, "table.json"), text);
    expect(() => checkTables(folder)).toThrow(refused);
  }
  writeFileSync(join(folder, "table.json"), JSON.stringify({ form: 1, versions: { rkd: "0.0.0" } }));
  checkTables(folder);
});
