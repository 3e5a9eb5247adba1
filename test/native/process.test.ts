/** What the addon's threads do to the process they live in: nothing. */

import { spawn } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { expect, it } from "vitest";
import { temporaryFolder } from "../support/folders.ts";

const workers = fileURLToPath(new URL("../support/workers.mjs", import.meta.url));
const library = pathToFileURL(join(import.meta.dirname, "../../dist/index.js")).href;

function node(...args: string[]): Promise<{ code: number | null; signal: string | null; text: string }> {
  const child = spawn(process.execPath, args);
  let text = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (chunk) => {
      text += chunk;
    });
  }
  return new Promise((resolve) => child.on("close", (code, signal) => resolve({ code, signal, text })));
}

const program = (end: string) => `
  import { conv4, train } from ${JSON.stringify(library)};
  const run = train({ data: "glyphs:classes=20,writers=8", backbone: conv4({ width: 4, embedding: 8 }),
    batch: { size: 16 }, stepsPerEpoch: 20, epochs: 2, evaluation: { ks: [1] }, out: process.argv[1] });
  ${end}`;

it("survives worker threads that end in the middle of a run", async () => {
  const { code, signal, text } = await node(workers, "6", temporaryFolder());
  expect({ code, signal, text }).toEqual({ code: 0, signal: null, text: "alive\n" });
});

it.each([
  ["ends by itself after a run that nobody awaited", "", 0],
  ["ends by itself after a loop that was left", "for await (const event of run) if (event.type === 'step') break;", 0],
  ["can be ended in the middle of a run", "for await (const e of run) if (e.type === 'step') process.exit(7);", 7],
  ["dies of a failed run that nobody awaited, with its message", "run.abort(new Error('unseen'));", 1],
] as const)("%s", async (_, end, expected) => {
  const out = join(temporaryFolder(), "run");
  const { code, text } = await node("--input-type=module", "-e", program(end), out);
  expect(code, text).toBe(expected);
  if (expected === 1) expect(text).toContain("unseen");
});
