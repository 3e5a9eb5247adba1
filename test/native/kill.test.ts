/** Kills a run with SIGKILL at random moments until it is done, and compares the model with an uninterrupted run's. */

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, it } from "vitest";
import { smallFlags, start } from "../support/cli.ts";
import { temporaryFolder } from "../support/folders.ts";

/** A linear congruential generator: the moments differ, the test does not. */
function moments(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 1_103_515_245 + 12_345) % 2 ** 31;
    return state / 2 ** 31;
  };
}

it("ends with the same bytes after any number of kills", async () => {
  const folder = temporaryFolder();
  const flags = (out: string) => [
    ...smallFlags(out),
    "--steps-per-epoch",
    "60",
    "--checkpoint-every",
    "7",
    "--seed",
    "3",
    "--json",
  ];
  const whole = join(folder, "whole");
  expect((await start(["train", ...flags(whole)]).done).code).toBe(0);
  const model = (out: string) => readFileSync(join(out, "model.safetensors")).toString("base64");
  const random = moments(7);
  let kills = 0;
  for (let round = 0; round < 3; round++) {
    const out = join(folder, `killed-${round}`);
    for (let attempt = 0; !existsSync(join(out, "metrics.json")); attempt++) {
      const resumable = existsSync(join(out, "plan.json"));
      const child = start(resumable ? ["resume", out, "--json"] : ["train", ...flags(out)]);
      // Later attempts get longer, so that the test ends on any machine.
      await Promise.race([sleep((0.4 + random()) * 350 * 1.3 ** attempt), child.done]);
      if (child.exitCode === null) kills += 1;
      child.kill("SIGKILL");
      const { code, stderr } = await child.done;
      if (code !== null) expect(code, stderr).toBe(0);
    }
    expect(model(out)).toBe(model(whole));
  }
  expect(kills).toBeGreaterThanOrEqual(3); // else the moments above come too late for this machine
});
