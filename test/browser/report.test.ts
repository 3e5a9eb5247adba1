/** The page of a run, opened from disk as people open it. */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import axe from "axe-core";
import type { Page } from "playwright-core";
import { beforeAll, describe, expect, it, test } from "vitest";
import { conv4, glyphs, report, train } from "../../src/index.ts";
import { openPage } from "../support/browser.ts";
import { distilled } from "../support/distilled.ts";
import { temporaryFolder } from "../support/folders.ts";

const folder = temporaryFolder();
const pages: Record<string, string> = {};

beforeAll(async () => {
  const labelled = await distilled(join(folder, "labelled"), "classes");
  const unlabelled = await distilled(join(folder, "unlabelled"), "none");
  const alone = join(folder, "labelled", "teacher");
  const several = join(folder, "several.html");
  await report([labelled, unlabelled], { out: several });
  Object.assign(pages, {
    labelled: join(labelled, "report.html"),
    unlabelled: join(unlabelled, "report.html"),
    alone: join(alone, "report.html"),
    several,
  });
});

/** What assistive technology would stumble over. */
async function faults(page: Page): Promise<string[]> {
  await page.evaluate(axe.source);
  const { violations } = await page.evaluate(() => (globalThis as unknown as { axe: typeof axe }).axe.run());
  return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 200)).join("; ")}`);
}

const ways = [390, 1440].flatMap((width) => (["light", "dark"] as const).map((scheme) => ({ width, scheme })));

describe.each(ways)("at $width pixels, $scheme", ({ width, scheme }) => {
  it.each(["labelled", "unlabelled", "alone", "several"])(
    "%s: whole, without a request or an error, and for all",
    async (name) => {
      const { page, errors, requests } = await openPage({ viewport: { width, height: 900 }, colorScheme: scheme });
      await page.goto(pathToFileURL(pages[name] ?? "").href);
      expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(width);
      const shown = await page.evaluate(() => ({
        images: [...document.images].map(
          ({ complete, naturalWidth, alt }) => complete && naturalWidth > 0 && alt !== "",
        ),
        empty: [...document.querySelectorAll("figure .drawing")].filter((drawing) => {
          const { width: wide, height: high } = drawing.getBoundingClientRect();
          return wide < 100 || high < 50 || !drawing.querySelector("canvas, svg");
        }).length,
        blank: [...document.querySelectorAll("canvas")].filter((canvas) => {
          const pixels = canvas.getContext("2d")?.getImageData(0, 0, canvas.width, canvas.height).data ?? [];
          return pixels.every((value) => value === pixels[0]);
        }).length,
      }));
      expect(shown.images).not.toContain(false);
      expect(shown).toMatchObject({ empty: 0, blank: 0 });
      expect(shown.images.length > 0).toBe(name !== "several");
      expect(await faults(page)).toEqual([]);
      expect({ errors, requests }).toEqual({ errors: [], requests: [] });
    },
  );
});

test("everything that a run's page is to have is there", async () => {
  const { page } = await openPage();
  await page.goto(pathToFileURL(pages.labelled ?? "").href);
  const headings = await page.getByRole("heading", { level: 2 }).allTextContents();
  const always = ["Verdict", "Curves", "Nearest neighbours", "Relations kept", "Where they disagree most"];
  expect(headings).toEqual([...always, "Size and speed", "Data", "How it was made"]);
  const drawings = await page.getByRole("heading", { level: 3 }).allTextContents();
  for (const title of ["Loss", "Scores of the validation part", "Learning rate", "Distances of all pairs"]) {
    expect(drawings).toContain(title);
  }
  const rows = await page.locator(".neighbours").first().locator("th").allTextContents();
  expect(rows.map((text) => text.replace(/\d+ of.*/, ""))).toEqual(["teacher", "student before", "student after"]);
  const { verdict } = JSON.parse(readFileSync(join(folder, "labelled/student/metrics.json"), "utf8"));
  const recall = `${(100 * verdict.studentAfter.metrics["recall@1"]).toFixed(2)} %`;
  expect(await page.locator("#verdict").textContent()).toContain(`The student reaches ${recall} recall@1`);
});

test("a mark says right exactly where the classes are the same", async () => {
  const { page } = await openPage();
  await page.goto(pathToFileURL(pages.labelled ?? "").href);
  const marks = await page.evaluate(() =>
    [...document.querySelectorAll(".neighbours")].flatMap((block) => {
      const classOf = (image: HTMLImageElement | null) => (image?.alt ?? "").split(" (")[0];
      const query = classOf(block.querySelector(".query img"));
      return [...block.querySelectorAll<HTMLElement>("td .picture")].map((picture) => ({
        same: classOf(picture.querySelector("img")) === query,
        right: picture.classList.contains("right"),
      }));
    }),
  );
  expect(marks.length).toBeGreaterThan(50);
  expect(marks.filter(({ same, right }) => same !== right)).toEqual([]);
});

test("a chart zooms and is read by buttons, keys and the mouse", async () => {
  const { page } = await openPage({ viewport: { width: 1440, height: 900 } });
  await page.goto(pathToFileURL(pages.labelled ?? "").href);
  const chart = page.locator("figure[data-id=loss]");
  const plot = chart.getByRole("group");
  const drawn = () => chart.locator("canvas").evaluate((canvas: HTMLCanvasElement) => canvas.toDataURL());
  const whole = await drawn();
  await chart.getByRole("button", { name: "Zoom in: Loss" }).click();
  await expect.poll(drawn).not.toBe(whole);
  const nearer = await drawn();
  await plot.focus();
  await page.keyboard.press("+");
  await expect.poll(drawn).not.toBe(nearer);
  await page.keyboard.press("0");
  await expect.poll(drawn).toBe(whole);
  await page.keyboard.press("ArrowLeft");
  const legend = chart.locator(".u-legend .u-value").last();
  await expect.poll(async () => await legend.textContent()).toMatch(/^\d/);
  await chart.locator(".u-over").hover({ position: { x: 60, y: 60 } });
  expect(await legend.textContent()).toMatch(/^\d/);
  const box = await chart.locator(".u-over").boundingBox();
  if (!box) throw new Error("no plot");
  await page.mouse.move(box.x + 50, box.y + 50);
  await page.mouse.down();
  await page.mouse.move(box.x + 150, box.y + 60, { steps: 4 });
  await page.mouse.up();
  await expect.poll(drawn).not.toBe(whole);
});

test.each(["density", "matrices", "projection"])("%s answers to pointing and to keys", async (kind) => {
  const { page } = await openPage({ viewport: { width: 1440, height: 900 } });
  await page.goto(pathToFileURL(pages.unlabelled ?? "").href);
  const figure = page.locator(`figure[data-widget=${kind}]`);
  const said = figure.getByRole("status");
  const before = await said.textContent();
  await figure
    .getByRole("group")
    .first()
    .hover({ position: { x: 120, y: 120 } });
  const pointed = await said.textContent();
  expect(pointed).not.toBe(before);
  await figure.getByRole("group").first().focus();
  await page.keyboard.press("ArrowRight");
  expect(await said.textContent()).not.toBe(pointed);
  if (kind !== "density") {
    expect(
      await said
        .locator("img")
        .first()
        .evaluate((image: HTMLImageElement) => image.naturalWidth),
    ).toBeGreaterThan(0);
  }
});

test("paper gets everything in dark ink, also from a dark screen", async () => {
  const { page } = await openPage({ colorScheme: "dark" });
  await page.goto(pathToFileURL(pages.labelled ?? "").href);
  await page.emulateMedia({ media: "print" });
  const colours = await page.evaluate(() => {
    const { color, backgroundColor } = getComputedStyle(document.body);
    return {
      color,
      backgroundColor,
      buttons: [...document.querySelectorAll("button")].some((one) => one.offsetWidth > 0),
    };
  });
  expect(colours).toEqual({ color: "rgb(0, 0, 0)", backgroundColor: "rgb(255, 255, 255)", buttons: false });
  expect((await page.pdf()).length).toBeGreaterThan(20_000);
});

test("names of files and classes are text, whatever they say", async () => {
  const out = join(temporaryFolder(), `<img src=x onerror="document.title='gone'">`);
  await train({
    data: glyphs({ classes: 10, writers: 6 }),
    backbone: conv4({ width: 4, embedding: 8 }),
    batch: { size: 16 },
    epochs: 1,
    out,
  });
  const { page, errors, requests } = await openPage();
  await page.goto(pathToFileURL(join(out, "report.html")).href);
  expect(await page.title()).toContain("<img src=x");
  expect({ errors, requests }).toEqual({ errors: [], requests: [] });
});
