import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { embed, evaluate, mlp, type Run, train } from "../../src/index.ts";
import { temporaryFolder } from "../support/folders.ts";
import { smallRun } from "../support/small.ts";

/** Six classes of four grey images of their own brightness; one image is empty, one picture is of a phone's format. */
function images(folder: string): string {
  for (let label = 0; label < 6; label++) {
    mkdirSync(join(folder, `class${label}`), { recursive: true });
    for (let i = 0; i < 4; i++) {
      const pixels = Buffer.alloc(64, 40 * label + i);
      writeFileSync(join(folder, `class${label}`, `${i}.pgm`), Buffer.concat([Buffer.from("P5 8 8 255\n"), pixels]));
    }
  }
  writeFileSync(join(folder, "class0", "empty.png"), "");
  writeFileSync(join(folder, "class0", "phone.heic"), "");
  return folder;
}

async function warnings(run: Run<unknown>): Promise<string[]> {
  const messages: string[] = [];
  for await (const event of run) if (event.type === "warning") messages.push(event.message);
  await run;
  return messages;
}

describe("images that are left out", () => {
  it("are named by train, evaluate and embed alike", async () => {
    const folder = temporaryFolder();
    const data = images(join(folder, "data"));
    const model = join(folder, "run");
    const backbone = mlp({ hidden: [4], embedding: 4 });
    const options = smallRun(model, { data, backbone, batch: { size: 4, perClass: 2 }, epochs: 1, stepsPerEpoch: 1 });
    const runs = [
      () => train(options),
      () => evaluate({ model, data, part: "train" }),
      () => embed({ model, data, out: join(folder, "all.npy") }),
    ];
    for (const run of runs) {
      const all = await warnings(run());
      const told = all.join("\n");
      expect(new Set(all).size).toBe(all.length); // each once, though the final evaluation looks at them again
      expect(told).toContain("1 image could not be used: class0/empty.png (is empty (0 bytes))");
      expect(told.match(/1 image could not be used/g)).toHaveLength(1);
      expect(told).toContain("1 picture is in formats that are not read, and left out: 1 .heic; convert them");
    }
    const log = readFileSync(join(model, "events.jsonl"), "utf8");
    expect(log.match(/class0\/empty\.png/g)).toHaveLength(1); // told before there was a log, and in it
  });
});
