/** Kills a run with SIGKILL at random moments until it is done, and compares the model with an uninterrupted run's. */

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, it } from "vitest";
import { smallFlags, start } from "../support/cli.ts";
import { temporaryFolder } from "../support/folders.ts";

/** A linear congruential generator: whole numbers below `below`, the same in every run of the test. */
function numbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state * 1_103_515_245 + 12_345) % 2 ** 31;
    return Math.floor((state / 2 ** 31) * below);
  };
}

/** Resolves after `count` checkpoints, or at the end. */
function checkpoints(child: ReturnType<typeof start>, count: number): Promise<void> {
  let seen = 0;
  return new Promise((resolve) => {
    child.stdout?.on("data", (chunk) => {
      seen += String(chunk).split('"type":"checkpoint"').length - 1;
      if (seen >= count) resolve();
    });
    child.on("close", () => resolve());
  });
}

it("ends with the same bytes after any number of kills", async () => {
  const folder = temporaryFolder();
  const often = ["--steps-per-epoch", "240", "--checkpoint-every", "7", "--seed", "3", "--json"];
  const flags = (out: string) => [...smallFlags(out), ...often];
  const whole = join(folder, "whole");
  expect((await start(["train", ...flags(whole)]).done).code).toBe(0);
  const model = (out: string) => readFileSync(join(out, "model.safetensors")).toString("base64");
  const random = numbers(7);
  let kills = 0;
  for (let round = 0; round < 3; round++) {
    const out = join(folder, `killed-${round}`);
    for (let attempt = 0; !existsSync(join(out, "metrics.json")); attempt++) {
      const resumable = existsSync(join(out, "plan.json"));
      const child = start(resumable ? ["resume", out, "--json"] : ["train", ...flags(out)]);
      // By what the run has done, whatever the machine's speed, and every third time while it starts.
      if (attempt % 3 === 2) await sleep(random(250));
      else await checkpoints(child, 2 + random(14));
      await sleep(random(15)); // not always beside a checkpoint
      if (child.exitCode === null) kills += 1;
      child.kill("SIGKILL");
      const { code, stderr } = await child.done;
      if (code !== null) expect(code, stderr).toBe(0);
    }
    expect(model(out)).toBe(model(whole));
  }
  expect(kills).toBeGreaterThanOrEqual(6);
});
