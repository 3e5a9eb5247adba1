/** `rkd report`, `watch`, `compare` and `runs`: what there is to see of runs that are there. */

import { readdirSync, statSync } from "node:fs";
import { join, relative, resolve } from "node:path";
import { files, isRun, withErrors } from "../artefacts/run-folder.ts";
import { RkdError } from "../errors.ts";
import { invalid } from "../options/check.ts";
import { differencesTable, scoresTable } from "../report/compare-page.ts";
import { type RunRecord, readRecord } from "../report/record.ts";
import { bytesInWords } from "../report/scores.ts";
import { report } from "../report-page.ts";
import { score } from "../run/figures.ts";
import { goalOf } from "../run/state.ts";
import { watchRun } from "../watch.ts";
import { json, print, printLines, say, signal } from "./context.ts";
import { writeJsonLine } from "./progress.ts";
import { table } from "./table.ts";

/** Writes a page. */
export async function showReport(runs: readonly string[], out: string | undefined): Promise<void> {
  const file = await report(runs, { signal, ...(out !== undefined && { out }) });
  if (json) writeJsonLine({ type: "end", report: file });
  else print(file);
}

/** Serves the page of a run until a signal comes. */
export async function showLive(run: string, port: number | undefined): Promise<void> {
  const watching = watchRun(run, { signal, ...(port !== undefined && { port }) });
  for await (const { url } of watching) {
    if (json) writeJsonLine({ type: "listening", url });
    else {
      print(url);
      say("Open it in a browser on this machine; Ctrl-C ends it, and not the run.");
    }
  }
}

/** Sets runs side by side. */
export function compare(runs: readonly string[]): void {
  if (runs.length < 2) throw invalid("runs", "two runs or more", `${runs.length}`);
  const records = named(runs);
  const [scores, differences] = [scoresTable(records), differencesTable(records)];
  if (json) {
    for (const { name, result, plan } of records) writeJsonLine({ run: name, metrics: result?.metrics ?? null, plan });
    return;
  }
  printLines(`${scores.caption}:\n\n${table(scores.titles, scores.rows)}\n`);
  if (differences.rows.length === 0) {
    print("Their plans are the same.");
    return;
  }
  printLines(
    `What differs in their plans:\n\n${table(
      differences.titles,
      differences.rows.map((row) => row.map(short)),
    )}`,
  );
}

/** The records of runs, told apart by the paths that were typed. */
function named(runs: readonly string[]): RunRecord[] {
  return runs.map((run) => ({ ...readRecord(run), name: run }));
}

/** A cell that leaves room for others. */
function short(text: string): string {
  return text.length > 40 ? `${text.slice(0, 18)} ... ${text.slice(-17)}` : text;
}

/** Folders below the given one that are looked into. */
const DEPTH = 4;

/** Lists the runs in a folder and below, the newest first. */
export function listRuns(folder: string): void {
  const found = runsIn(resolve(folder), DEPTH).flatMap((out) => {
    try {
      return [lineOf(out, folder)];
    } catch (error) {
      // One damaged run, or one of another version, must not hide the others.
      const why = error instanceof RkdError ? error.message : "its files are not those of this version";
      say(`left out: ${relative(resolve(folder), out) || "."}: ${why}`);
      return [];
    }
  });
  const lines = found.sort((a, b) => b.started.localeCompare(a.started));
  if (json) {
    for (const line of lines) writeJsonLine(line);
    return;
  }
  if (lines.length === 0) {
    say(`There is no run in ${folder}, nor ${DEPTH} folders below it.`);
    return;
  }
  const titles = ["run", "started", "state", "teacher", "network", "score", "parameters", "model"];
  const body = lines.map((line) => [
    line.run,
    line.started.slice(0, 16).replace("T", " "),
    line.state,
    line.teachers.join(", ") || "-",
    line.network,
    line.metric === null ? "-" : `${line.metric} ${score(line.metric, line.score ?? undefined)}`,
    line.parameters?.toLocaleString("en") ?? "-",
    line.bytes === null ? "-" : bytesInWords(line.bytes),
  ]);
  printLines(table(titles, body));
}

function runsIn(folder: string, depth: number): string[] {
  const own = isRun(folder) ? [folder] : [];
  if (depth === 0) return own;
  const entries = withErrors(folder, () => readdirSync(folder, { withFileTypes: true }));
  const below = entries.filter((entry) => entry.isDirectory() && !entry.name.startsWith(".")).map(({ name }) => name);
  return [
    ...own,
    ...below.flatMap((name) => {
      try {
        return runsIn(join(folder, name), depth - 1);
      } catch (error) {
        if (error instanceof RkdError) return []; // another user's folder holds no run of ours
        throw error;
      }
    }),
  ];
}

function lineOf(out: string, folder: string) {
  const { plan, result, log } = readRecord(out);
  const metrics = result?.metrics ?? null;
  const metric = metrics && goalOf(metrics);
  const last = log.steps.at(-1);
  const done = log.start && last ? `${Math.floor((100 * last.step) / log.start.totalSteps)} %` : "begun";
  return {
    run: relative(resolve(folder), out) || ".",
    started: log.from?.toISOString() ?? "",
    state: result ? (result.stoppedEarly ? "ended early" : "finished") : done,
    teachers: plan.plan.teachers.map(({ name }) => name),
    network: plan.plan.backbone.kind,
    metric,
    score: metric && metrics ? (metrics[metric] ?? null) : null,
    parameters: result?.network.parameters ?? log.start?.student.parameters ?? null,
    bytes: statSync(join(out, files.model), { throwIfNoEntry: false })?.size ?? null,
    gapClosed:
      result && "verdict" in result && metric
        ? result.verdict.teachers.map(({ gapClosed }) => gapClosed[metric] ?? null)
        : [],
  };
}
