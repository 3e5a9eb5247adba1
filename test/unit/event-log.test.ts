import { appendFileSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { EventLog } from "../../src/artefacts/event-log.ts";
import { temporaryFolder } from "../support/folders.ts";

it("goes on after half a line that a killed run left", () => {
  const file = join(temporaryFolder(), "events.jsonl");
  const write = (message: string) => {
    const log = new EventLog(file);
    log.write({ type: "warning", message });
    log.close();
    log.close();
    log.write({ type: "warning", message: "after the end" });
  };
  write("first");
  appendFileSync(file, '{"type":"st');
  write("second");
  const [first, half, second, ...rest] = readFileSync(file, "utf8").split("\n");
  expect([JSON.parse(first ?? "").message, half, JSON.parse(second ?? "").message]).toEqual([
    "first",
    '{"type":"st',
    "second",
  ]);
  expect(rest).toEqual([""]);
});
