/** Data sources: where images come from, how large they become, how classes are split and images changed. */

import { existsSync, readdirSync, statSync } from "node:fs";
import { basename, join } from "node:path";
import { RkdError } from "../errors.ts";
import { boolean, integer, invalid, number, object, oneOf, path, text } from "./check.ts";

/** Options that every source takes. */
export interface DataOptions {
  /**
   * Height and width in pixels; every image is resized (antialiased) to this square, 8 to 1024.
   * @default the teacher's in a distillation; else 28 for glyphs, Omniglot and IDX, 64 for others
   */
  readonly imageSize?: number;
  /** 1 (grey) or 3 (RGB). @default the teacher's in a distillation; else 1 for glyphs, Omniglot and IDX, 3 for others */
  readonly channels?: 1 | 3;
  /** How classes go to training, validation and test. @default see {@link Split} */
  readonly split?: Split;
  /**
   * Random changes of training images: `"affine"` for characters, `"crop-flip"` for photographs, `"none"`, or each
   * strength by hand. @default "affine" for glyphs and Omniglot, else "crop-flip"
   */
  readonly augment?: "affine" | "crop-flip" | "none" | Augment;
  /** Folder of the decoded images; nothing is written outside it. @default `$RKD_CACHE`, else `~/.cache/rkd` */
  readonly cache?: string;
}

/**
 * `classes`: class-disjoint by the run's seed; the shares are of the classes. `source`: the source's own split (folders
 * `train`, `val`, `test`; Omniglot's background and evaluation; IDX train and t10k), with a share of the training
 * classes set aside for validation. Default: `source` for Omniglot and for folders with `train` and `test`, else
 * `classes` with shares 0.1 and 0.2 (IDX, which has few classes: 0.2 and 0.3).
 */
export type Split =
  | { readonly kind: "classes"; readonly validation: number; readonly test: number }
  | { readonly kind: "source"; readonly validation: number };

/** Random changes of a training image; what is left out is off. */
export interface Augment {
  /** Random crop after padding by this many pixels on every side. */
  readonly cropPadding?: number;
  /** Mirror left-right with probability one half. */
  readonly flip?: boolean;
  /** Largest rotation in degrees, either way, 0 to 180. */
  readonly rotate?: number;
  /** Largest relative change of scale, in [0, 1). */
  readonly scale?: number;
  /** Largest shear in degrees, 0 to 80. */
  readonly shear?: number;
  /** Largest shift as a share of the image's side, in [0, 1). */
  readonly translate?: number;
}

/** The kinds of source that have defaults of their own; the core finds out the rest. */
export type DataKind = "glyphs" | "omniglot" | "idx" | "images";

/** A source, as {@link glyphs}, {@link imageFolder}, {@link omniglot} and {@link idx} make it. */
export interface Data extends DataOptions {
  /** Decides the defaults. */
  readonly kind: DataKind;
  /** `"glyphs"` with its settings, or a path. */
  readonly source: string;
  /** Further paths of the same data set. */
  readonly more?: readonly string[];
}

/** Options of {@link glyphs}. */
export interface GlyphsOptions extends DataOptions {
  /** Number of characters, at least 2. @default the core's, at least 200 */
  readonly classes?: number;
  /** Writers, each drawing every character once, at least 2. @default 20 */
  readonly writers?: number;
  /** Seed of the drawings; not the run's. @default 0 */
  readonly seed?: number;
}

const commonKeys = ["imageSize", "channels", "split", "augment", "cache"] as const;
/** The keys of {@link Data}. */
export const dataKeys: readonly (keyof Data)[] = [...commonKeys, "kind", "source", "more"];

/** Procedurally drawn characters, each by several writers: the embedded data set, which needs no file. */
export function glyphs(options: GlyphsOptions = {}): Data {
  object<GlyphsOptions>("glyphs", options, [...commonKeys, "classes", "writers", "seed"]);
  const settings = [
    options.classes !== undefined && `classes=${integer("glyphs.classes", options.classes, { from: 2, to: 100_000 })}`,
    options.writers !== undefined && `writers=${integer("glyphs.writers", options.writers, { from: 2, to: 10_000 })}`,
    options.seed !== undefined && `seed=${integer("glyphs.seed", options.seed, { from: 0 })}`,
  ].filter((setting) => setting !== false);
  const source = settings.length > 0 ? `glyphs:${settings.join(",")}` : "glyphs";
  return Object.freeze({ kind: "glyphs", source, ...common("glyphs", options) });
}

/**
 * A folder of `class/image.png` (or jpg, webp, bmp, gif, tiff), or a ZIP, tar or tar.gz of one.
 * @throws {RkdError} `ERR_NOT_FOUND`, `ERR_INVALID_OPTION`
 */
export function imageFolder(source: string, options: DataOptions = {}): Data {
  return fromPath("imageFolder", "images", source, options);
}

/**
 * The Omniglot archives as they are: a folder with `images_background.zip` and `images_evaluation.zip`, or one of them.
 * The class is alphabet/character. @throws {RkdError} `ERR_NOT_FOUND`, `ERR_INVALID_OPTION`
 */
export function omniglot(source: string, options: DataOptions = {}): Data {
  return fromPath("omniglot", "omniglot", source, options);
}

/** A folder with MNIST-like IDX files, gzipped or not. @throws {RkdError} `ERR_NOT_FOUND`, `ERR_INVALID_OPTION` */
export function idx(source: string, options: DataOptions = {}): Data {
  return fromPath("idx", "idx", source, options);
}

/** The source that `--data` or a plain string names: `"glyphs"`, `"glyphs:classes=400"`, or a path. */
export function dataAt(name: string, options: DataOptions = {}): Data {
  text("data", name);
  if (name === "glyphs" || name.startsWith("glyphs:")) {
    object<DataOptions>("data", options, commonKeys);
    return Object.freeze({ kind: "glyphs", source: name, ...common("data", options) });
  }
  return fromPath("data", guessKind(name), name, options);
}

/** Only chooses defaults; what a source is, the core finds out from its content, and says so. */
function guessKind(source: string): DataKind {
  const isFolder = statSync(source, { throwIfNoEntry: false })?.isDirectory() ?? false;
  const names = [basename(source), ...(isFolder ? safeList(source) : [])];
  if (names.some((name) => /^images_(background|evaluation)(\.zip)?$/.test(name))) return "omniglot";
  return names.some((name) => /idx[13]-ubyte(\.gz)?$/.test(name)) ? "idx" : "images";
}

/** Names in a folder; none where it may not be read (the core reports that with its reason). */
function safeList(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

/** Whether a folder has parts of its own. */
export function hasOwnSplit(source: string): boolean {
  return ["train", "test"].every((part) => existsSync(join(source, part)));
}

function fromPath(name: string, kind: DataKind, source: string, options: DataOptions): Data {
  object<DataOptions>(name, options, commonKeys);
  path(`${name} path`, source);
  if (!existsSync(source)) {
    const advice = "give an existing folder or archive, or glyphs for the embedded data set";
    throw new RkdError("ERR_NOT_FOUND", "there is no such folder or file", { subject: source, advice });
  }
  return Object.freeze({ kind, source, ...common(name, options) });
}

function common(name: string, { imageSize, channels, split, augment, cache }: DataOptions): DataOptions {
  return {
    ...(imageSize !== undefined && { imageSize: integer(`${name}.imageSize`, imageSize, { from: 8, to: 1024 }) }),
    ...(channels !== undefined && { channels: oneOf(`${name}.channels`, channels, [1, 3]) }),
    ...(split !== undefined && { split: checkSplit(`${name}.split`, split) }),
    ...(augment !== undefined && { augment: checkAugment(`${name}.augment`, augment) }),
    ...(cache !== undefined && { cache: path(`${name}.cache`, cache) }),
  };
}

function checkSplit(name: string, split: Split): Split {
  const share = { from: 0, under: 1 };
  object<{ kind: string; validation: number; test: number }>(name, split, ["kind", "validation", "test"]);
  const kind = oneOf(`${name}.kind`, split.kind, ["classes", "source"]);
  const validation = number(`${name}.validation`, split.validation, share);
  if (split.kind !== "classes") return { kind: "source", validation };
  const test = number(`${name}.test`, split.test, share);
  if (validation + test >= 1) {
    throw invalid(name, "shares that leave classes for training (validation + test < 1)", validation + test);
  }
  return { kind: kind as "classes", validation, test };
}

function checkAugment(name: string, augment: NonNullable<DataOptions["augment"]>): typeof augment {
  if (typeof augment === "string") return oneOf(name, augment, ["affine", "crop-flip", "none"]);
  const { cropPadding, flip, rotate, scale, shear, translate } = object<Augment>(name, augment, [
    ...(["cropPadding", "flip", "rotate", "scale", "shear", "translate"] as const),
  ]);
  if (cropPadding !== undefined) integer(`${name}.cropPadding`, cropPadding, { from: 0, to: 512 });
  if (flip !== undefined) boolean(`${name}.flip`, flip);
  if (rotate !== undefined) number(`${name}.rotate`, rotate, { from: 0, to: 180 });
  if (scale !== undefined) number(`${name}.scale`, scale, { from: 0, under: 1 });
  if (shear !== undefined) number(`${name}.shear`, shear, { from: 0, to: 80 });
  if (translate !== undefined) number(`${name}.translate`, translate, { from: 0, under: 1 });
  return augment;
}
