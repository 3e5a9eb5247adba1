/** What a recipe is: one experiment of the paper as data, models, rows and columns. */

import type { Claim, ExperimentOptions, Protocol, PublishedTable } from "../experiment/options.ts";
import type { DataOptions } from "../options/data.ts";
import type { DistillOptions } from "../options/run.ts";
import type { Data, Split } from "../protocol/protocol.ts";

/**
 * How large an experiment is. `smoke`: seconds, to see that it runs. `small`: two CPU cores and data of a few thousand
 * images. `pretrained`: the same with networks that begin with ImageNet's weights, as the paper's do. `paper`: the paper's own
 * settings, for those with its data and the time.
 */
export type Scale = "smoke" | "small" | "pretrained" | "paper";

/** The scales, from small to large. */
export const scales: readonly Scale[] = ["smoke", "small", "pretrained", "paper"];

/** What a recipe has at each scale; not every one has networks that begin with weights. */
type Scales<Settings> = Readonly<Record<Exclude<Scale, "pretrained">, Settings>> & { readonly pretrained?: Settings };

/** What the user chose. */
interface RecipeContext<Settings> {
  /** At least one; with the recipe's image size and split. */
  readonly data: readonly [NamedData<Settings>, ...NamedData<Settings>[]];
  /** The teacher of all, where the user has one. */
  readonly teacher?: DistillOptions["teacher"];
  readonly protocol: Protocol;
}

/** A data set, what a table calls it, its pixels a side, and the settings that it has. */
export interface NamedData<Settings> {
  readonly name: string;
  readonly data: Data;
  readonly imageSize: number;
  readonly settings: Settings;
}

/** The data sets that have settings of their own, as the survey of a source names them. */
export type PublishedData = "Stanford Online Products" | "Tiny ImageNet" | "miniImageNet";

/** What all scales of a recipe have. */
export interface CommonSettings {
  /** Number of seeds. */
  readonly seeds: number;
  /** What is used where the user names no data. */
  readonly data: readonly string[];
  /** Image size, augmentation and split; what is left out is the source's. */
  readonly images?: Omit<DataOptions, "split"> & { readonly split?: Split };
  /** What photographs have on top of that: all data whose own augmentation is `"crop-flip"`. */
  readonly photographs?: DataOptions;
  /** In which respects this is not the paper's experiment, in full sentences. */
  readonly deviations: readonly string[];
}

/** One experiment of the paper. */
export interface Recipe<Settings extends CommonSettings = CommonSettings> {
  readonly name: string;
  /** What it repeats, in a line. */
  readonly repeats: string;
  /** Everything that depends on the scale. */
  readonly scales: Scales<Settings>;
  /** What a data set has in place of the paper's scale, where the paper treats it differently. */
  readonly own?: Readonly<Partial<Record<PublishedData, Partial<Settings>>>>;
  /** Whether a teacher of the user's may stand in the place of the one that is trained. @default false */
  readonly anyTeacher?: boolean;
  /** What the paper says, as statements about rows. */
  readonly claims: readonly Claim[];
  /** The paper's figures. */
  readonly published: readonly PublishedTable[];
  /** The matrix. */
  build(context: RecipeContext<Settings>): Pick<
    ExperimentOptions,
    "rows" | "columns" | "figures" | "gallery" | "cell" | "judgedWeights"
  > & {
    /** Claims that depend on the data, besides the recipe's. */
    readonly claims?: readonly Claim[];
  };
}
