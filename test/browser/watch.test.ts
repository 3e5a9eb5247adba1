/** `watchRun` beside a run that goes. */

import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { constant, resume, train, watchRun } from "../../src/index.ts";
import { openPage } from "../support/browser.ts";
import { lines } from "../support/cli.ts";
import { temporaryFolder } from "../support/folders.ts";
import { smallRun } from "../support/small.ts";

test("a page follows a run while it goes, beyond a stop, to its end, and then has its pictures", async () => {
  const out = join(temporaryFolder(), "run");
  // It goes on for as long as the page is looked at.
  const endless = { epochs: 100_000, stepsPerEpoch: 10, threads: 1, schedule: constant() };
  const run = train(smallRun(out, { ...endless, keep: "last", evaluation: { ks: [1], everyEpochs: 10 } }));
  run.catch(() => {});
  while (!existsSync(join(out, "events.jsonl"))) await sleep(20);
  await using watching = watchRun(out);
  watching.catch(() => {});
  for await (const { url } of watching) {
    const { page, errors, requests } = await openPage();
    await page.goto(url);
    const state = page.getByRole("status").first();
    const step = async () => Number(/step (\d+)\//.exec((await state.textContent()) ?? "")?.[1] ?? 0);
    await expect.poll(step).toBeGreaterThan(1);
    const early = await step();
    const canvas = page.locator("figure[data-id=loss] canvas");
    await canvas.waitFor();
    const drawn = () => canvas.evaluate((found: HTMLCanvasElement) => found.toDataURL());
    const before = await drawn();
    await expect.poll(step).toBeGreaterThan(early);
    await expect.poll(drawn).not.toBe(before);
    const words = / left, epoch \d+\/100000, step \d+\/1000000, [\d,]+ images\/s, loss [\d.]+/;
    expect(await state.textContent()).toMatch(words);
    expect(await page.locator("#verdict").textContent()).toContain("The run has not ended");
    run.abort();
    await run.catch(() => {});
    const { epochs } = await resume(out, { epochs: Math.ceil((await lastStep(out)) / 10) });
    await expect.poll(async () => await state.textContent()).toBe(`The run has ended after ${epochs} epochs.`);
    const picture = page.locator(".neighbours img").first();
    expect(await picture.evaluate((image: HTMLImageElement) => image.naturalWidth)).toBeGreaterThan(0);
    const others = requests.filter((each) => each !== `${url}events`);
    expect({ errors, others }).toEqual({ errors: [], others: [] });
    break;
  }
});

/** The last step in the log of a run. */
async function lastStep(out: string): Promise<number> {
  const steps = lines(await readFile(join(out, "events.jsonl"), "utf8")).filter(({ type }) => type === "step");
  return steps.at(-1).step;
}

test("only this machine is served, by its own name", async () => {
  const out = join(temporaryFolder(), "run");
  await train(smallRun(out, { report: false }));
  await using watching = watchRun(out);
  watching.catch(() => {});
  for await (const { url } of watching) {
    expect(new URL(url).hostname).toBe("127.0.0.1");
    expect((await fetch(url)).status).toBe(200);
    expect((await fetch(`${url}plan.json`)).status).toBe(404);
    expect((await fetch(url, { method: "POST" })).status).toBe(405);
    const { request } = await import("node:http");
    const status = await new Promise((resolve, reject) => {
      request(url, { headers: { host: "evil.example" } }, ({ statusCode }) => resolve(statusCode))
        .on("error", reject)
        .end();
    });
    expect(status).toBe(403);
    break;
  }
});
