import { appendFileSync, closeSync, fstatSync, openSync, readFileSync, readSync, truncateSync } from "node:fs";
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

it("goes on in a file that is longer than a text can be", () => {
  const file = join(temporaryFolder(), "events.jsonl");
  appendFileSync(file, "{}\n");
  truncateSync(file, 2 ** 31); // takes no room on the disk
  const log = new EventLog(file);
  log.write({ type: "warning", message: "after 2 GiB" });
  log.close();
  const end = Buffer.alloc(200);
  const descriptor = openSync(file, "r");
  readSync(descriptor, end, 0, end.length, fstatSync(descriptor).size - end.length);
  closeSync(descriptor);
  const [cut, line] = end.toString().slice(0, -1).split("\n");
  expect(cut).toMatch(/^\0+$/);
  expect(JSON.parse(line ?? "")).toMatchObject({ message: "after 2 GiB" });
});
