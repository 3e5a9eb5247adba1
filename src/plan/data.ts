/** From a data source to its plan: defaults by kind of source, absolute paths. */

import { join, resolve } from "node:path";
import { homeFolder } from "../artefacts/apart.ts";
import { object, oneOf, text } from "../options/check.ts";
import { type Augment, type Data, type DataKind, dataAt, dataKeys, ownSplit, type Split } from "../options/data.ts";
import type { DataPlan, SplitPlan } from "./plan.ts";

const off: Required<Augment> = { cropPadding: 0, flip: false, rotate: 0, scale: 0, shear: 0, translate: 0 };

/** For characters: what another hand would change, and no mirror image, which is another character. */
const affine: Required<Augment> = { ...off, rotate: 10, scale: 0.1, shear: 5, translate: 0.05 };

interface Defaults {
  readonly imageSize: number;
  readonly channels: number;
  readonly split: SplitPlan;
  readonly augment: "affine" | "crop-flip";
}

const byKind: Readonly<Record<DataKind, Defaults>> = {
  glyphs: { imageSize: 28, channels: 1, split: { kind: "classes", validation: 0.1, test: 0.2 }, augment: "affine" },
  omniglot: { imageSize: 28, channels: 1, split: { kind: "source", validation: 0.1 }, augment: "affine" },
  idx: { imageSize: 28, channels: 1, split: { kind: "classes", validation: 0.2, test: 0.3 }, augment: "crop-flip" },
  cifar: { imageSize: 32, channels: 3, split: { kind: "classes", validation: 0.1, test: 0.2 }, augment: "crop-flip" },
  images: { imageSize: 64, channels: 3, split: { kind: "classes", validation: 0.1, test: 0.2 }, augment: "crop-flip" },
};

const dataKinds = Object.keys(byKind) as DataKind[];

/** A source as the options give it: the object, or its name. */
export function toData(data: Data | string): Data {
  if (typeof data === "string") return dataAt(data);
  const known = object<Data>("data", data, dataKeys);
  oneOf("data.kind", known.kind, dataKinds);
  text("data.source", known.source);
  return known;
}

/**
 * The plan of `data`. `input`, the image size and channels that a stored model takes, comes before the source's own
 * defaults: a teacher and its student see the same pixels.
 */
export function planData(data: Data, input?: { readonly imageSize: number; readonly channels: number }): DataPlan {
  const defaults = byKind[data.kind];
  const imageSize = data.imageSize ?? input?.imageSize ?? defaults.imageSize;
  const split = data.split ?? (data.kind === "images" ? ownSplit(data.source) : undefined);
  return {
    source: data.kind === "glyphs" ? data.source : resolve(data.source),
    more: (data.more ?? []).map((source) => resolve(source)),
    imageSize,
    channels: data.channels ?? input?.channels ?? defaults.channels,
    rotations: data.rotations ?? false,
    split: split ? planSplit(split) : defaults.split,
    augment: planAugment(data.augment ?? defaults.augment, imageSize),
    cache: resolve(data.cache ?? defaultCache()),
  };
}

function planSplit(split: Split): SplitPlan {
  if (split.kind !== "lists") return split;
  const list = (file: string | undefined) => (file === undefined ? null : resolve(file));
  return { kind: "lists", train: resolve(split.train), validation: list(split.validation), test: list(split.test) };
}

/** The lists of classes that a split was made from. */
export function listsOf({ split }: DataPlan): string[] {
  return split.kind === "lists" ? [split.train, split.validation, split.test].filter((file) => file !== null) : [];
}

/** `$RKD_CACHE`, else `$XDG_CACHE_HOME/rkd`, else `~/.cache/rkd`. Where it cannot be written, the core takes a temporary one. */
export function defaultCache(): string {
  const { RKD_CACHE, XDG_CACHE_HOME } = process.env;
  return RKD_CACHE || join(XDG_CACHE_HOME || join(homeFolder() ?? "/", ".cache"), "rkd");
}

function planAugment(augment: NonNullable<Data["augment"]>, imageSize: number): Required<Augment> {
  if (augment === "none") return off;
  if (augment === "affine") return affine;
  // An eighth of the side: the usual 4 pixels of 32 (He et al. 2016, section 4.2).
  if (augment === "crop-flip") return { ...off, cropPadding: Math.round(imageSize / 8), flip: true };
  return { ...off, ...augment };
}
