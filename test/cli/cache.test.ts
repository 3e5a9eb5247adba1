/** `rkd cache`: what it lists, and that it removes nothing but old files of rkd. */

import { mkdirSync, readdirSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, it } from "vitest";
import { conv4, distill, embed, glyphs, rkdDistance, train, triplet } from "../../src/index.ts";
import { lines, rkd } from "../support/cli.ts";
import { temporaryFolder } from "../support/folders.ts";
import { smallRun } from "../support/small.ts";

const folder = temporaryFolder();
const cache = join(folder, "cache");
const data = glyphs({ classes: 20, writers: 8, cache, augment: "none" });
const list = async (...flags: string[]) => lines((await rkd("cache", "--cache", cache, ...flags, "--json")).stdout)[0];

/** Makes every file of the cache as old as that. */
function age(days: number): void {
  const then = Date.now() / 1000 - days * 86_400;
  for (const name of readdirSync(cache)) utimesSync(join(cache, name), then, then);
}

beforeAll(async () => {
  const teacher = join(folder, "teacher");
  await train(smallRun(teacher, { data, losses: [triplet()], epochs: 1 }));
  await distill({
    ...{ teacher, data, teacherFeatures: "cached", student: conv4({ width: 4, embedding: 4 }), epochs: 1 },
    ...{ losses: [rkdDistance()], batch: { size: 16, perClass: 4 }, stepsPerEpoch: 2, out: join(folder, "student") },
  });
  writeFileSync(join(cache, "mine.rkdcache"), "a file of somebody else with such a name");
  writeFileSync(join(cache, "RKDCACHE"), "RKDCACHE");
  mkdirSync(join(cache, "0123.rkdsaid"));
});

it("lists images and features, and says what they are", async () => {
  const { entries, bytes } = await list();
  expect(entries.map(({ kind, count, about }: Record<string, unknown>) => [kind, count, about]).sort()).toEqual([
    ["features", expect.any(Number), expect.stringMatching(/^vectors of \d+ numbers$/)],
    ["images", 160, expect.stringMatching(/, 20 classes$/)],
  ]);
  expect(bytes).toBe(entries.reduce((sum: number, { path }: { path: string }) => sum + statSync(path).size, 0));
  const { stdout } = await rkd("cache", "--cache", cache);
  expect(stdout).toMatch(/^.*: 2 files, \d+ KiB\n/);
  expect(stdout).toMatch(/decoded images +160 +\d+ KiB +just now/);
  expect((await rkd("cache", "--cache", join(folder, "none"))).stdout).toContain("none: 0 files, 0 KiB");
});

it("removes only what is old, what is large and what is rkd's, and only when told to", async () => {
  const before = readdirSync(cache).sort();
  await rkd("cache", "--cache", cache, "--older-than", "0d", "--prune");
  expect(readdirSync(cache).sort()).toEqual(before); // used within the last hour
  age(40);
  await list();
  const old = await rkd("cache", "--cache", cache, "--older-than", "30d");
  expect(old.stdout).toMatch(/would go with --prune: 2 files, \d+ KiB/); // a look at them is no use of them
  expect((await rkd("cache", "--cache", cache, "--older-than", "7w", "--prune")).stdout).toContain("removed: 0 files");
  await rkd("cache", "--cache", cache, "--older-than", "30d", "--larger-than", "1GB", "--prune");
  expect(readdirSync(cache).sort()).toEqual(before);
  const { entries } = await list("--older-than", "30d", "--larger-than", "50kB", "--prune");
  expect(entries.map(({ kind, removed }: Record<string, unknown>) => [kind, removed]).sort()).toEqual([
    ["features", false],
    ["images", true],
  ]);
  await rkd("cache", "--cache", cache, "--older-than", "30d", "--prune");
  expect(readdirSync(cache).sort()).toEqual(["0123.rkdsaid", "RKDCACHE", "mine.rkdcache"]);
});

it.each([
  [["--prune"], "--prune alone says nothing of what may go"],
  [["--older-than", "30"], "a time with its unit"],
  [["--larger-than", "1 lot"], "a size with its unit"],
])("refuses %s", async (flags, words) => {
  const { code, stderr } = await rkd("cache", ...flags);
  expect([code, stderr]).toEqual([2, expect.stringContaining(words)]);
});

it("keeps nothing of a few images that are embedded", async () => {
  const passing = join(folder, "passing");
  const source = glyphs({ classes: 5, writers: 4, cache: passing });
  const embedded = await embed({ model: join(folder, "teacher"), data: source, out: join(folder, "few.npy") });
  expect(embedded.images).toBe(20);
  expect(() => readdirSync(passing)).toThrow("ENOENT");
  const many = glyphs({ classes: 50, writers: 20, cache: passing });
  await embed({ model: join(folder, "teacher"), data: many, out: join(folder, "many.npy") });
  expect(readdirSync(passing)).toHaveLength(1);
});
