/** What the tables of an experiment say, once for Markdown and HTML: a title and a list of blocks. */

import type { Block, Document, TableBlock } from "../report/blocks.ts";
import { galleryPictures, galleryTable } from "../report/pictures.ts";
import { curvesOf } from "./curves.ts";
import type { ExperimentResult, ResultCell, ResultRow } from "./result.ts";
import { rule, type Spread } from "./statistics.ts";

/** The document of a result. */
export function documentOf(result: ExperimentResult): Document {
  const pictures = galleryPictures(result.gallery);
  return {
    title: result.name,
    images: pictures.images,
    blocks: [
      ...introduction(result),
      { kind: "heading", text: "Result" },
      {
        kind: "beside",
        tables: [ours(result, result.judgedWeights), ...result.published.map((table) => publishedTable(table))],
      },
      ...bySeed(result),
      ...claims(result),
      ...otherWeights(result),
      ...failures(result),
      ...gallery(result.gallery, pictures.block),
      ...curves(result),
      { kind: "heading", text: "How it was made" },
      { kind: "list", items: origin(result) },
      { kind: "code", text: result.command },
      { kind: "table", caption: "Settings of each row", titles: ["row", "settings"], rows: settings(result) },
    ],
  };
}

function introduction({ notes, complete, runs, data }: ExperimentResult): Block[] {
  const unfinished = `Unfinished: ${runs.length} runs are done. Run the command again to go on.`;
  const [first, ...rest] = notes;
  return [
    ...(complete ? [] : [{ kind: "paragraph", text: unfinished } as const]),
    ...(first === undefined ? [] : [{ kind: "paragraph", text: first } as const]),
    ...(rest.length === 0 ? [] : [{ kind: "list", items: rest } as const]),
    ...data.map((sentence) => ({ kind: "paragraph", text: `Data: ${sentence}` }) as const),
  ];
}

function ours(result: ExperimentResult, which: "best" | "last"): TableBlock {
  const { rows, columns, figures, seeds, protocol } = result;
  const weights = {
    best: `weights chosen by the ${protocol === "honest" ? "validation" : "test"} part`,
    last: "the last weights",
  }[which];
  const sampled = rows.some(({ cells }) => cells.some(({ intervals }) => intervals.some((each) => each !== null)));
  const spread = seeds.length > 1 ? ", mean ± standard deviation" : sampled ? " ± half the 95 % interval" : "";
  const seedList = `${seeds.length > 1 ? "seeds" : "seed"} ${seeds.join(", ")}`;
  const titles = columns.flatMap((column) => figures.map((figure) => titleOf(column, figure, columns, figures)));
  const sizes = sizesDiffer(rows) ? ["parameters"] : [];
  return {
    kind: "table",
    caption: `Here: ${figures.length === 1 ? `${figures[0]}, ` : ""}percent${spread}; ${seedList}; ${weights}`,
    titles: ["", ...titles, ...sizes],
    rows: rows.map(({ row, cells }) => [
      row,
      ...cells.map((cell) => (which === "best" ? cellText(cell) : spreadText(cell.last))),
      ...sizes.map(() => parameters(cells)),
    ]),
  };
}

function titleOf(column: string, figure: string, columns: readonly string[], figures: readonly string[]): string {
  if (figures.length === 1) return column;
  return columns.length === 1 ? figure : `${column}, ${figure}`;
}

/** Whether the size of the networks says something about the rows. */
function sizesDiffer(rows: readonly ResultRow[]): boolean {
  return new Set(rows.map(({ cells }) => parameters(cells))).size > 1;
}

/** The parameters of a row's networks, from the smallest to the largest. */
function parameters(cells: readonly ResultCell[]): string {
  const counts = cells.flatMap(({ network }) => network?.parameters ?? []).sort((a, b) => a - b);
  const ends = [...new Set([counts[0], counts.at(-1)])].filter((count) => count !== undefined);
  return ends.map((count) => count.toLocaleString("en")).join(" to ") || "-";
}

function publishedTable({ title, columns, rows }: ExperimentResult["published"][number]): TableBlock {
  const decimals = Math.max(...Object.values(rows).flatMap((values) => values.map(decimalsOf)), 0);
  const text = (value: number | string | null) =>
    typeof value === "number" ? value.toFixed(decimals) : (value ?? "-");
  const body = Object.entries(rows).map(([row, values]) => [row, ...values.map(text)]);
  return { kind: "table", caption: title, titles: ["", ...columns], rows: body };
}

function claims({ claims: results, columns, figures }: ExperimentResult): Block[] {
  if (results.length === 0) return [];
  const rows = results.flatMap(({ above, below, differences }) =>
    differences.map(({ column, figure, mean, halfInterval, values, judgement }) => [
      above,
      below,
      titleOf(column, figure, columns, figures),
      mean === null ? "-" : `${points(mean)}${halfInterval === null ? "" : ` ± ${percent(halfInterval)}`}`,
      values.map((value) => (value === null ? "-" : points(value))).join(", "),
      judgement,
    ]),
  );
  return [
    { kind: "heading", text: "Did the claims hold here?" },
    { kind: "list", items: results.map(({ says, verdict }) => `${says}: ${verdict}.`) },
    { kind: "paragraph", text: rule },
    {
      kind: "table",
      caption: "Differences in points, mean ± half the 95 % interval, and seed by seed",
      titles: ["row", "minus", "at", "difference", "by seed", "judgement"],
      rows,
    },
  ];
}

function decimalsOf(value: number | string | null): number {
  return typeof value === "number" ? (String(value).split(".")[1]?.length ?? 0) : 0;
}

/** The values of each seed, where each is a mean over a sample and has an interval of its own. */
function bySeed({ rows, columns, figures, seeds }: ExperimentResult): Block[] {
  const sampled = rows.some(({ cells }) => cells.some(({ intervals }) => intervals.some((each) => each !== null)));
  if (!sampled || seeds.length < 2) return [];
  const titles = columns.flatMap((column) => figures.map((figure) => titleOf(column, figure, columns, figures)));
  const lines = rows.flatMap(({ row, cells }) =>
    seeds.map((seed, i) => [`${row}, seed ${seed}`, ...cells.map((cell) => valueText(cell, i))]),
  );
  return [
    { kind: "table", caption: "Each seed, percent ± half the 95 % interval", titles: ["", ...titles], rows: lines },
  ];
}

/** A seed's value with its interval. */
function valueText({ best, intervals }: ResultCell, seed: number): string {
  const [value = null, interval = null] = [best.values[seed], intervals[seed]];
  if (value === null) return "-";
  return interval === null ? percent(value) : `${percent(value)} ± ${percent(interval)}`;
}

function otherWeights(result: ExperimentResult): Block[] {
  if (result.rows.every(({ cells }) => cells.every(({ last }) => last === null))) return [];
  const [text, other] = {
    best: ["The last weights instead of the chosen ones", "last"] as const,
    last: ["The chosen weights instead of the last ones", "best"] as const,
  }[result.judgedWeights];
  return [{ kind: "heading", text }, ours(result, other)];
}

function failures({ runs }: ExperimentResult): Block[] {
  const failed = runs.filter((run) => run.failed !== null);
  if (failed.length === 0) return [];
  const items = failed.map(({ row, column, seed, failed: why }) => `${row}, ${column}, seed ${seed}: ${why}`);
  return [
    { kind: "heading", text: "Runs that diverged" },
    { kind: "list", items },
  ];
}

function gallery(queries: ExperimentResult["gallery"], pictures: Block): Block[] {
  if (queries.length === 0) return [];
  return [
    { kind: "heading", text: "Nearest neighbours" },
    galleryTable(queries),
    { kind: "heading", text: "As pictures" },
    pictures,
  ];
}

function curves(result: ExperimentResult): Block[] {
  const charts = curvesOf(result);
  return charts.length === 0
    ? []
    : [
        { kind: "heading", text: "Curves" },
        { kind: "charts", charts },
      ];
}

function origin(result: ExperimentResult): string[] {
  const { machine, versions, date, protocol, judgedWeights, seconds, seeds } = result;
  const { cpu, threads, instructionSet, memory } = machine;
  const model = {
    best: "the weights that are best there are the model",
    last: "the last weights are the model, and those that are best there stand beside",
  }[judgedWeights];
  const chosen =
    protocol === "honest"
      ? `Protocol: after every epoch the validation part, which is neither trained on nor tested, is measured; ${model}. The test part is measured when that is decided.`
      : "Protocol of the authors' code: the test part is measured after every epoch and chooses the weights, so the scores are too good.";
  return [
    chosen,
    `Seeds ${seeds.join(", ")}: each is one split, unless that is the data's own, one set of initial weights, one order of the images.`,
    `${date.slice(0, 10)}, rkd ${versions.rkd}, Node ${versions.node}, ${cpu}, ${threads ?? "?"} threads, ${instructionSet ?? "?"}, ${memory} GiB of memory.`,
    `All runs together took ${Math.round(seconds)} s.`,
  ];
}

function settings({ settings: all, columns }: ExperimentResult): string[][] {
  return all.map(({ row, column, text }) => [
    column === null || columns.length === 1 ? row : `${row}, ${column}`,
    text,
  ]);
}

/** One seed has no spread, but a mean over a sample has an interval. */
function cellText(cell: ResultCell): string {
  return cell.best.values.length === 1 ? valueText(cell, 0) : spreadText(cell.best);
}

function spreadText(spread: Spread | null): string {
  if (!spread || spread.mean === null) return "-";
  const { mean, deviation } = spread;
  return deviation === null ? percent(mean) : `${percent(mean)} ± ${(100 * deviation).toFixed(2)}`;
}

function percent(value: number): string {
  return (100 * value).toFixed(2);
}

function points(value: number): string {
  const text = percent(value);
  return Number(text) === 0 ? percent(0) : value > 0 ? `+${text}` : text;
}
