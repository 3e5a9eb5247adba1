/** `rkd cache`: what the cache holds, and pruning it. */

import { type CacheEntry, cacheEntries, pruned, RECENT, removeEntry } from "../artefacts/cache-folder.ts";
import { RkdError } from "../errors.ts";
import { addon } from "../native/addon.ts";
import { invalid, path } from "../options/check.ts";
import { bytesInWords } from "../report/scores.ts";
import { json, print, printLines, say } from "./context.ts";
import { writeJsonLine } from "./progress.ts";
import { table } from "./table.ts";

/** As commander names them. */
export interface CacheFlags {
  cache?: string;
  olderThan?: string;
  largerThan?: string;
  prune?: boolean;
}

/** Lists the cache, and with `--prune` removes what the other flags mean; without it says what would go. */
export function cache({ cache: given, olderThan, largerThan, prune }: CacheFlags): void {
  const meant = { olderThan: durationOf(olderThan), largerThan: sizeOf(largerThan) };
  const chosen = olderThan !== undefined || largerThan !== undefined;
  if (prune && !chosen) {
    const advice = "say what may go: --older-than 30d, --larger-than 1GB or both; --older-than 0d is all of it";
    throw new RkdError("ERR_INVALID_OPTION", "--prune alone says nothing of what may go", {
      subject: "--prune",
      advice,
    });
  }
  const folder = given === undefined ? addon().defaultCache() : path("--cache", given);
  const entries = cacheEntries(folder);
  const going = chosen ? pruned(entries, meant) : [];
  const failed = prune ? going.filter((entry) => !isRemoved(entry)) : [];
  const gone = new Set(going.filter((entry) => !failed.includes(entry)));
  if (json) {
    const shown = entries.map((entry) => ({ ...entry, [prune ? "removed" : "wouldGo"]: gone.has(entry) }));
    writeJsonLine({ type: "end", folder, bytes: total(entries), entries: shown });
    return;
  }
  print(`${folder}: ${counted(entries)}`);
  if (entries.length > 0) printLines(table(["what", "count", "size", "used", "is"], entries.map(rowOf)));
  if (!chosen) return;
  print(`${prune ? "removed" : "would go with --prune"}: ${counted([...gone])}`);
  for (const { path: file } of gone) print(`  ${file}`);
  if (prune || going.length > 0) return;
  print(`What was used within the last ${RECENT / 60_000} minutes stays.`);
}

function isRemoved(entry: CacheEntry): boolean {
  try {
    removeEntry(entry);
    return true;
  } catch (error) {
    if (error instanceof RkdError) say(`not removed: ${error.message}`);
    else throw error;
    return false;
  }
}

function rowOf({ kind, count, bytes, used, about }: CacheEntry): string[] {
  const what = kind === "images" ? "decoded images" : "teacher's features";
  return [what, String(count), bytesInWords(bytes), ageInWords(Date.now() - used.getTime()), about];
}

function total(entries: readonly CacheEntry[]): number {
  return entries.reduce((sum, { bytes }) => sum + bytes, 0);
}

function counted(entries: readonly CacheEntry[]): string {
  return `${entries.length} ${entries.length === 1 ? "file" : "files"}, ${bytesInWords(total(entries))}`;
}

function ageInWords(milliseconds: number): string {
  const [hours, days] = [Math.floor(milliseconds / 3_600_000), Math.floor(milliseconds / 86_400_000)];
  if (days > 0) return `${days} d ago`;
  return hours > 0 ? `${hours} h ago` : "just now";
}

const durations: Readonly<Record<string, number>> = { m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 };
const sizes: Readonly<Record<string, number>> = { B: 1, kB: 1e3, KB: 1e3, MB: 1e6, GB: 1e9, TB: 1e12 };

/** Milliseconds of `30d`. */
function durationOf(text: string | undefined): number | undefined {
  return inUnits("--older-than", "a time with its unit m, h, d or w, for example 30d", text, durations);
}

/** Bytes of `1GB`. */
function sizeOf(text: string | undefined): number | undefined {
  return inUnits("--larger-than", "a size with its unit kB, MB, GB or TB, for example 1GB", text, sizes);
}

function inUnits(
  flag: string,
  expected: string,
  text: string | undefined,
  units: Readonly<Record<string, number>>,
): number | undefined {
  if (text === undefined) return undefined;
  const [, number, unit = ""] = /^(\d+(?:\.\d+)?) ?([a-zA-Z]+)$/.exec(text.trim()) ?? [];
  const factor = units[unit];
  if (number === undefined || factor === undefined) throw invalid(flag, expected, text);
  return Number(number) * factor;
}
