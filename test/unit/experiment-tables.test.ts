import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { expect, it } from "vitest";
import { removeAbandonedTrials } from "../../src/experiment/estimate.ts";
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

it("removes the trials of a killed experiment, and nothing that is somebody's own", () => {
  const folder = temporaryFolder();
  const plan = JSON.stringify({ form: 1, rkd: "0.0.0", job: "train", plan: {}, policy: {}, inputs: {} });
  const files = ["trials-a1B2c3/0/plan.json", "trials-mine12/notes.txt", "trials/0/plan.json", "trials-long-name/x"];
  for (const file of files) {
    mkdirSync(dirname(join(folder, file)), { recursive: true });
    writeFileSync(join(folder, file), plan);
  }
  writeFileSync(join(folder, "trials-abcdef"), "a file");
  removeAbandonedTrials(folder);
  expect(readdirSync(folder).sort()).toEqual(["trials", "trials-abcdef", "trials-long-name", "trials-mine12"]);
});
