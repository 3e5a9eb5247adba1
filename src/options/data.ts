/** Data sources: where images come from, how large they become, how classes are split and images changed. */

import type { Data } from "../protocol/protocol.ts";
import { object } from "./check.ts";
import { checked } from "./construct.ts";

const common = ["imageSize", "channels", "labels", "rotations", "split", "augment", "cache"] as const;
const drawn = [...common, "classes", "writers", "seed"] as const;

/** Options that every source takes. */
export type DataOptions = Pick<Data, (typeof common)[number]>;
/** Options of {@link glyphs}. */
export type GlyphsOptions = Pick<Data, (typeof drawn)[number]>;

/** Procedurally drawn characters, each by several writers: the embedded data set, which needs no file. */
export function glyphs(options: GlyphsOptions = {}): Data {
  return checked("data", "glyphs", { source: "glyphs", ...object<GlyphsOptions>("glyphs", options, drawn) });
}

/**
 * A folder of images (png, jpg, webp, bmp, gif, tiff): flat, which is without labels, or `class/image.png`; a ZIP, tar or
 * tar.gz of one; a Hugging Face image folder (`metadata.jsonl` or `metadata.csv`); Parquet files with a column of images. Or what names images: a manifest (`.txt`
 * with a path a line, `.csv`, `.tsv`, `.json`, `.jsonl` with `path` and, where there are such, `class`, `part` and `id`), or a
 * pattern (`"photos/2024-*"`).
 * @throws {RkdError} `ERR_NOT_FOUND`, `ERR_INVALID_OPTION`; the run: `ERR_INVALID_DATA` where it is another kind of source
 */
export function imageFolder(source: string | URL, options: DataOptions = {}): Data {
  return at("imageFolder", "images", source, options);
}

/**
 * The Omniglot archives as they are: a folder with `images_background.zip` and `images_evaluation.zip`, or one of them.
 * The class is alphabet/character. @throws {RkdError} as {@link imageFolder}
 */
export function omniglot(source: string | URL, options: DataOptions = {}): Data {
  return at("omniglot", "omniglot", source, options);
}

/** A folder with MNIST-like IDX files, gzipped or not. @throws {RkdError} as {@link imageFolder} */
export function idx(source: string | URL, options: DataOptions = {}): Data {
  return at("idx", "idx", source, options);
}

/**
 * CIFAR-100's binary version: the folder of `train.bin` and `test.bin`, or `cifar-100-binary.tar.gz` as downloaded. Classes are
 * the fine labels. @throws {RkdError} as {@link imageFolder}
 */
export function cifar100(source: string | URL, options: DataOptions = {}): Data {
  return at("cifar100", "cifar", source, options);
}

function at(name: string, kind: NonNullable<Data["kind"]>, source: string | URL, options: DataOptions): Data {
  return checked("data", name, { kind, source, ...object<DataOptions>(name, options, common) });
}
