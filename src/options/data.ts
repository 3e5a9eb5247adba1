/** Data sources: where images come from, how large they become, how classes are split and images changed. */

import { existsSync, readdirSync, statSync } from "node:fs";
import { basename } from "node:path";
import { RkdError } from "../errors.ts";
import { boolean, integer, invalid, number, object, oneOf, path, text } from "./check.ts";

/** Options that every source takes. */
export interface DataOptions {
  /**
   * Height and width in pixels; every image is resized (antialiased) to this square, 8 to 1024.
   * @default the teacher's in a distillation; else 28 for glyphs, Omniglot and IDX, 32 for CIFAR-100, 64 for others
   */
  readonly imageSize?: number;
  /** 1 (grey) or 3 (RGB). @default the teacher's in a distillation; else 1 for glyphs, Omniglot and IDX, 3 for others */
  readonly channels?: 1 | 3;
  /**
   * Whether every image comes in four turns, by 0, 90, 180 and 270 degrees, each a class of its own: the characters of
   * Omniglot become four times as many (Snell et al. 2017). @default false
   */
  readonly rotations?: boolean;
  /** How images go to training, validation and test. @default see {@link Split} */
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
 * How images go to the parts.
 *
 * - `classes`: class-disjoint by the run's seed; the shares are of the classes.
 * - `source`: the source's own split: folders `train`, `val`, `test`; Omniglot's background and evaluation; the halves or lists of
 *   CUB-200-2011, Cars 196, Stanford Online Products, miniImageNet; train and test of CIFAR-100, Tiny ImageNet, IDX files. Where
 *   it has no validation part, `validation` is a share of the training classes, or, where its parts share classes, of each
 *   class's training images.
 * - `images`: all classes in all parts, for classification; the shares are of each class's images, by the run's seed.
 * - `lists`: class-disjoint by text files of class names, one a line; classes in no list are left out.
 *
 * Default: `source` for Omniglot, for folders with `train` and `test`, and for data sets whose published split is by classes,
 * else `classes` with shares 0.1 and 0.2 (IDX, which has few classes: 0.2 and 0.3).
 */
export type Split =
  | { readonly kind: "classes" | "images"; readonly validation: number; readonly test: number }
  | { readonly kind: "source"; readonly validation: number }
  | { readonly kind: "lists"; readonly train: string; readonly validation?: string; readonly test?: string };

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
export type DataKind = "glyphs" | "omniglot" | "idx" | "cifar" | "images";

/** A source, as {@link glyphs}, {@link imageFolder}, {@link omniglot}, {@link idx} and {@link cifar100} make it. */
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

const commonKeys = ["imageSize", "channels", "rotations", "split", "augment", "cache"] as const;
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

/**
 * CIFAR-100's binary version: the folder of `train.bin` and `test.bin`, or `cifar-100-binary.tar.gz` as downloaded. Classes are
 * the fine labels. @throws {RkdError} `ERR_NOT_FOUND`, `ERR_INVALID_OPTION`
 */
export function cifar100(source: string, options: DataOptions = {}): Data {
  return fromPath("cifar100", "cifar", source, options);
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
  const names = namesAt(source);
  if (names.some((name) => /^images_(background|evaluation)(\.zip)?$/.test(name))) return "omniglot";
  if (names.some((name) => /^cifar-100-binary(\.tar\.gz)?$/.test(name))) return "cifar";
  if (["train.bin", "test.bin"].every((name) => names.includes(name))) return "cifar";
  return names.some((name) => /idx[13]-ubyte(\.gz)?$/.test(name)) ? "idx" : "images";
}

/** The source's own name, and those of a folder's content. */
function namesAt(source: string): string[] {
  const isFolder = statSync(source, { throwIfNoEntry: false })?.isDirectory() ?? false;
  return [basename(source), ...(isFolder ? safeList(source) : [])];
}

/** Names in a folder; none where it may not be read (the core reports that with its reason). */
function safeList(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

/** Names by which data sets are known whose published split is by classes. */
const splitByClasses =
  /^(cub[-_ ]?200|cars[-_ ]?196|stanford_online_products|001\.(black_footed_albatross|am general hummer))/i;

/** The default split of folders and archives with class-disjoint parts of their own; nothing for others. */
export function ownSplit(source: string): Split | undefined {
  const names = namesAt(source);
  const has = (...wanted: string[]) => wanted.every((name) => names.includes(name));
  const split = (validation: number) => ({ kind: "source", validation }) as const;
  if (has("train.csv", "val.csv", "test.csv")) return split(0);
  if (has("train", "test")) return split(["val", "valid", "validation"].some((name) => has(name)) ? 0 : 0.1);
  const cars = has("cars_annos.mat") || has("cars_train", "cars_test");
  const lists = cars || has("images", "images.txt") || has("Ebay_train.txt", "Ebay_test.txt");
  return lists || names.some((name) => splitByClasses.test(name)) ? split(0.1) : undefined;
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

function common(name: string, { imageSize, channels, rotations, split, augment, cache }: DataOptions): DataOptions {
  return {
    ...(imageSize !== undefined && { imageSize: integer(`${name}.imageSize`, imageSize, { from: 8, to: 1024 }) }),
    ...(channels !== undefined && { channels: oneOf(`${name}.channels`, channels, [1, 3]) }),
    ...(rotations !== undefined && { rotations: boolean(`${name}.rotations`, rotations) }),
    ...(split !== undefined && { split: checkSplit(`${name}.split`, split) }),
    ...(augment !== undefined && { augment: checkAugment(`${name}.augment`, augment) }),
    ...(cache !== undefined && { cache: path(`${name}.cache`, cache) }),
  };
}

function checkSplit(name: string, split: Split): Split {
  object<{ kind: string }>(name, { kind: (split as Split | undefined)?.kind }, ["kind"]);
  const kind = oneOf(`${name}.kind`, split.kind, ["classes", "source", "images", "lists"]);
  if (split.kind === "lists") return checkLists(name, split);
  const keys = kind === "source" ? (["kind", "validation"] as const) : (["kind", "validation", "test"] as const);
  object<{ kind: string; validation: number; test: number }>(name, split, keys);
  const share = { from: 0, under: 1 };
  const validation = number(`${name}.validation`, split.validation, share);
  if (split.kind === "source") return { kind: "source", validation };
  const test = number(`${name}.test`, split.test, share);
  if (validation + test >= 1) {
    throw invalid(name, "shares that leave something for training (validation + test < 1)", validation + test);
  }
  return { kind: split.kind, validation, test };
}

function checkLists(name: string, split: Split & { readonly kind: "lists" }): Split {
  const { train, validation, test } = object<typeof split>(name, split, ["kind", "train", "validation", "test"]);
  const list = (part: string, file: string) => {
    if (existsSync(path(`${name}.${part}`, file))) return file;
    const advice = "give a text file of class names, one a line";
    throw new RkdError("ERR_NOT_FOUND", "there is no such list", { subject: file, advice });
  };
  return {
    kind: "lists",
    train: list("train", train),
    ...(validation !== undefined && { validation: list("validation", validation) }),
    ...(test !== undefined && { test: list("test", test) }),
  };
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
