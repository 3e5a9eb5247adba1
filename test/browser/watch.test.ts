/** `watchRun` beside a run that goes. */

import { existsSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { train, watchRun } from "../../src/index.ts";
import { openPage } from "../support/browser.ts";
import { temporaryFolder } from "../support/folders.ts";
import { smallRun } from "../support/small.ts";

test("a page follows a live run to its end, and then has its pictures", async () => {
  const out = join(temporaryFolder(), "run");
  const run = train(smallRun(out, { epochs: 200, stepsPerEpoch: 10, threads: 1, keep: "last" }));
  run.catch(() => {});
  while (!existsSync(join(out, "events.jsonl"))) await sleep(20);
  await using watching = watchRun(out);
  watching.catch(() => {});
  for await (const { url } of watching) {
    const { page, errors, requests } = await openPage();
    await page.goto(url);
    const state = page.getByRole("status").first();
    const step = async () => Number(/step (\d+)\//.exec((await state.textContent()) ?? "")?.[1] ?? 0);
    await expect.poll(step, { timeout: 60_000 }).toBeGreaterThan(0);
    const early = await step();
    await page.locator("figure[data-id=loss] canvas").waitFor();
    const drawn = () =>
      page.locator("figure[data-id=loss] canvas").evaluate((canvas: HTMLCanvasElement) => canvas.toDataURL());
    const before = await drawn();
    await expect.poll(step, { timeout: 60_000 }).toBeGreaterThan(early);
    await expect.poll(drawn).not.toBe(before);
    expect(await state.textContent()).toMatch(/ left, epoch \d+\/200, step \d+\/2000, [\d,]+ images\/s, loss [\d.]+/);
    await expect.poll(async () => await page.locator("#verdict").textContent()).toContain("The run has not ended");
    const result = await run;
    await expect
      .poll(async () => await state.textContent(), { timeout: 60_000 })
      .toBe(`The run has ended after ${result.epochs} epochs.`);
    expect(
      await page
        .locator(".neighbours img")
        .first()
        .evaluate((image: HTMLImageElement) => image.naturalWidth),
    ).toBeGreaterThan(0);
    expect({ errors, requests: requests.filter((each) => each !== `${url}events`) }).toEqual({
      errors: [],
      requests: [],
    });
    break;
  }
});

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
