/** `reproduce`: one experiment of the paper, at a scale, on the user's data. */

import { join } from "node:path";
import type { ExperimentEvent } from "../experiment/events.ts";
import { experiment } from "../experiment/experiment.ts";
import type { ExperimentOptions, Protocol } from "../experiment/options.ts";
import type { ExperimentResult } from "../experiment/result.ts";
import { integer, invalid, object, oneOf, or } from "../options/check.ts";
import { type Data, dataAt, type Split } from "../options/data.ts";
import { planData } from "../plan/data.ts";
import { runCommand } from "../run/command.ts";
import { type Run, startRun } from "../run/run.ts";
import { recipes } from "./list.ts";
import { type CommonSettings, type NamedData, type Recipe, type Scale, scales } from "./recipe.ts";

/** What `reproduce` takes besides the recipe's name. */
export interface ReproduceOptions extends Pick<ExperimentOptions, "threads" | "signal" | "command" | "estimate"> {
  /** How large it is. @default "small" */
  readonly scale?: Scale;
  /** Data sets: `"glyphs"` or paths. @default the embedded glyphs */
  readonly data?: readonly string[];
  /** Number of seeds. @default the scale's */
  readonly seeds?: number;
  /** Folder of the experiment. @default `runs/<recipe>-<scale>` */
  readonly out?: string;
  /** How weights are chosen. @default "honest" */
  readonly protocol?: Protocol;
  /** Only these rows of the table; models that they learn from are trained too. @default all */
  readonly rows?: readonly string[];
  /** Only these columns. @default all */
  readonly columns?: readonly string[];
}

/** The names of the recipes, with what each repeats. */
export const recipeNames: Readonly<Record<string, string>> = Object.fromEntries(
  recipes.map(({ name, repeats }) => [name, repeats]),
);

/**
 * Repeats one experiment of the paper (Park et al. 2019) and writes its tables beside the paper's.
 * @param name One of {@link recipeNames}.
 * @throws {RkdError} by rejection, as {@link experiment}
 */
export function reproduce(name: string, options: ReproduceOptions = {}): Run<ExperimentResult, ExperimentEvent> {
  return startRun<ExperimentResult, ExperimentEvent>(async ({ emit, signal }) => {
    const run = experiment({ ...(await planReproduce(name, options, signal)), signal });
    for await (const event of run) emit(event);
    return await run;
  }, options?.signal);
}

/** The experiment that a recipe stands for. */
async function planReproduce(name: string, options: ReproduceOptions, stop: AbortSignal): Promise<ExperimentOptions> {
  object<ReproduceOptions>("options", options, [
    ...(["scale", "data", "seeds", "out", "protocol", "rows", "columns"] as const),
    ...(["threads", "signal", "command", "estimate"] as const),
  ]);
  oneOf("recipe", name, Object.keys(recipeNames));
  const recipe = recipes.find((each) => each.name === name) as Recipe;
  const scale = oneOf("scale", or(options.scale, "small"), scales);
  const protocol = oneOf("protocol", or(options.protocol, "honest"), ["honest", "paper"]);
  const settings = recipe.scales[scale];
  const seeds = integer("seeds", or(options.seeds, settings.seeds), { from: 1, to: 1000 });
  const names = options.data ?? settings.data;
  const [first, ...rest] = await Promise.all(names.map((source) => named(source, settings, protocol, stop)));
  if (!first) throw invalid("data", "a list of at least one data set", options.data);
  const { claims = [], gallery, ...matrix } = recipe.build({ settings, data: [first, ...rest], protocol });
  const rows = some("rows", options.rows, matrix.rows);
  const columns = some("columns", options.columns, matrix.columns);
  const shown = (row: string) => rows.includes(row);
  const { threads, signal, command } = options;
  return {
    name: `${name}, ${scale} scale`,
    out: options.out ?? join("runs", `${name}-${scale}`),
    ...matrix,
    rows,
    columns,
    ...(gallery?.rows.every(shown) && { gallery }),
    claims: [...recipe.claims, ...claims].filter(({ above, below }) => shown(above) && shown(below)),
    published: recipe.published,
    notes: notes(recipe, scale, options),
    seeds,
    protocol,
    estimate: options.estimate ?? scale !== "smoke",
    ...(threads !== undefined && { threads }),
    ...(signal && { signal }),
    ...(command !== undefined && { command }),
  };
}

/** The chosen ones of `all`, in its order. */
function some(option: string, chosen: readonly string[] | undefined, all: readonly string[]): readonly string[] {
  chosen?.forEach((name, i) => {
    oneOf(`${option}[${i}]`, name, all);
  });
  return all.filter((name) => chosen?.includes(name) ?? true);
}

/** The source with the recipe's image options, and with its own split where that is of the kind the recipe wants. */
async function named(
  source: string,
  { images = {}, photographs = {} }: CommonSettings,
  protocol: Protocol,
  signal: AbortSignal,
): Promise<NamedData> {
  const { split: wanted, ...rest } = images;
  const plain = dataAt(source, rest);
  const data = isPhotographs(plain) ? dataAt(source, { ...rest, ...photographs }) : plain;
  const { parts, sharedClasses } = await runCommand("survey", { plan: planData(data) }, { emit: () => {}, signal });
  const suits = parts.length > 1 && sharedClasses === (wanted?.kind === "images");
  const split: Split | undefined = suits ? { kind: "source", validation: 0.1 } : wanted;
  const name = source.startsWith("glyphs") ? source : (source.split(/[\\/]/).filter(Boolean).at(-1) ?? source);
  if (!split) return { name, data };
  // Under the paper's protocol the test chooses, so nothing is set aside.
  return { name, data: { ...data, split: protocol === "paper" ? withoutValidation(split) : split } };
}

function isPhotographs({ kind }: Data): boolean {
  return kind === "images" || kind === "cifar" || kind === "idx";
}

function withoutValidation(split: Split): Split {
  if (split.kind !== "lists") return { ...split, validation: 0 };
  const { validation: _, ...lists } = split;
  return lists;
}

function notes(recipe: Recipe, scale: Scale, { data }: ReproduceOptions): string[] {
  const { repeats } = recipe;
  const { deviations } = recipe.scales[scale];
  const comparable =
    scale === "paper"
      ? "The settings are the paper's where it or its code states them; what differs is listed here."
      : "At this scale the figures are not comparable with the paper's; what can be compared is which method is ahead. What differs:";
  const embedded = data
    ? []
    : ["No data was named, so this ran on procedurally drawn characters (glyphs), which are easier than photographs."];
  return [
    `This repeats the paper's ${repeats} (Park, Kim, Lu, Cho, CVPR 2019). ${comparable}`,
    ...embedded,
    ...deviations,
  ];
}
