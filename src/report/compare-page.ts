/** Several runs side by side: their scores, what differs in their plans, and their curves over each other. */

import type { DistillResult, TrainResult } from "../events.ts";
import { score } from "../run/figures.ts";
import type { Block, Document, TableBlock } from "./blocks.ts";
import { chartsOf } from "./curves.ts";
import type { RunRecord } from "./record.ts";
import { shownMetrics } from "./scores.ts";

/** The document of several runs. Runs of one name are told apart by their folders. */
export function comparePage(given: readonly RunRecord[]): Document {
  const runs = given.map((run) => ({ ...run, name: nameOf(run, given) }));
  const charts = chartsOf(runs);
  return {
    title: `${runs.length} runs`,
    blocks: [
      { kind: "heading", text: "Scores" },
      scoresTable(runs),
      { kind: "heading", text: "What differs in their plans" },
      ...differencesBlocks(runs),
      ...(charts.length > 0 ? [{ kind: "heading", text: "Curves" } as const, { kind: "charts", charts } as const] : []),
    ],
  };
}

function nameOf({ name, out }: RunRecord, all: readonly RunRecord[]): string {
  return all.filter((other) => other.name === name).length > 1 ? out : name;
}

/** A column for each run: the scores of its model, its size, its time. */
export function scoresTable(runs: readonly RunRecord[]): TableBlock {
  const names = shownMetrics(runs.map(({ result }) => result?.metrics ?? {}));
  const line = (name: string, of: (result: TrainResult | DistillResult) => string | undefined) => {
    return [name, ...runs.map(({ result }) => (result && of(result)) ?? "-")];
  };
  const after = (result: TrainResult | DistillResult) =>
    "verdict" in result ? result.verdict.studentAfter : undefined;
  const same = new Set(runs.map(({ plan }) => plan.fingerprint)).size === 1;
  return {
    kind: "table",
    caption: same
      ? "On the test part of the same data"
      : "On the test part of each run's own data, which are not the same: the scores say little beside each other",
    titles: ["", ...runs.map(({ name }) => name)],
    rows: [
      ...names.map((name) =>
        line(name, ({ metrics }) => (metrics?.[name] === undefined ? undefined : score(name, metrics[name]))),
      ),
      line("parameters", ({ network }) => network.parameters.toLocaleString("en")),
      line("embedding", ({ network }) => String(network.embedding)),
      line("ms/image", (result) => after(result)?.millisecondsPerImage.toFixed(3)),
      line("epochs", ({ epochs }) => String(epochs)),
      line("seconds", ({ seconds }) => String(Math.round(seconds))),
    ],
  };
}

/** What differs: a line for each option, a column for each run. */
export function differencesTable(runs: readonly RunRecord[]): TableBlock {
  const flat = runs.map(({ plan: { job, plan, policy, rkd, fingerprint } }) =>
    flattened({ job, rkd, fingerprint, ...plan, policy }),
  );
  const names = [...new Set(flat.flatMap((each) => [...each.keys()]))];
  const differing = names.filter((name) => new Set(flat.map((each) => each.get(name))).size > 1);
  return {
    kind: "table",
    caption: "Everything else in their plans is the same",
    titles: ["option", ...runs.map(({ name }) => name)],
    rows: differing.map((name) => [name, ...flat.map((each) => each.get(name) ?? "-")]),
  };
}

function differencesBlocks(runs: readonly RunRecord[]): Block[] {
  const table = differencesTable(runs);
  return table.rows.length > 0 ? [table] : [{ kind: "paragraph", text: "Nothing: their plans are the same." }];
}

/** `{ a: { b: 1 } }` as `a.b` with the text of 1. */
function flattened(value: object, before = ""): Map<string, string> {
  const entries = Object.entries(value).flatMap(([key, part]): [string, string][] => {
    const name = before ? `${before}.${key}` : key;
    if (part === undefined) return [];
    if (typeof part === "object" && part !== null && Object.keys(part).length > 0) return [...flattened(part, name)];
    return [[name, typeof part === "string" ? part : JSON.stringify(part)]];
  });
  return new Map(entries);
}
