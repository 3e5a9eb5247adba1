/** Networks: which one, how wide, and what it puts out. */

import { boolean, integer, invalid, object, oneOf, or } from "./check.ts";

/** Options of every network's output. */
export interface OutputOptions {
  /** Length of the embedding, at least 1. @default the pooled feature itself, without a linear layer */
  readonly embedding?: number;
  /**
   * Whether embeddings are divided by their Euclidean norm.
   * @default true with a triplet loss, whose margin needs a scale; else false, as in the paper's distillation
   */
  readonly normalize?: boolean;
}

/** Options of every convolutional network. */
export interface BackboneOptions extends OutputOptions {
  /** Channels of the first block, 1 to 1024. @default 64, the published width */
  readonly width?: number;
}

/** Options of {@link resnet}, {@link vgg} and {@link googlenet}, which have a form for large and one for small images. */
export interface StemOptions extends BackboneOptions {
  /**
   * ResNet and GoogLeNet: `"imagenet"` begins with a 7x7 convolution of stride 2 and a max pool, `"small"` with a 3x3
   * convolution of stride 1, for images of 32 to 64 pixels. VGG: `"imagenet"` ends in two linear layers, `"small"` in
   * the flattened maps. @default "small" up to 64 pixels, else "imagenet"
   */
  readonly stem?: "imagenet" | "small";
}

/** Options of {@link mlp}. */
export interface MlpOptions extends OutputOptions {
  /** Widths of the hidden layers, at least one, each 1 to 65,536. @default [256, 256] */
  readonly hidden?: readonly number[];
}

/** A network, as {@link conv4}, {@link resnet}, {@link vgg}, {@link googlenet} and {@link mlp} make it. */
export interface Backbone extends StemOptions, MlpOptions {
  /** The architecture. */
  readonly kind: BackboneKind;
}

/** The architectures there are. */
export const backboneKinds = [
  "conv4",
  "resnet18",
  "resnet34",
  "resnet50",
  "resnet101",
  "vgg11",
  "vgg13",
  "vgg16",
  "googlenet",
  "mlp",
] as const;
/** The name of an architecture. */
export type BackboneKind = (typeof backboneKinds)[number];

/**
 * Conv-4 of few-shot learning: four blocks of 3x3 convolution, batch norm, ReLU and 2x2 max pool (Vinyals et al. 2016).
 * Needs images of at least 16 pixels.
 * @throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`
 */
export function conv4(options: BackboneOptions = {}): Backbone {
  object<BackboneOptions>("conv4", options, ["width", "embedding", "normalize"]);
  return Object.freeze({ kind: "conv4", ...checked("conv4", options) });
}

/** The depths of {@link resnet}. */
export const resnetDepths = [18, 34, 50, 101] as const;

/**
 * ResNet (He et al. 2016) with torchvision's layers and parameter names.
 * @param depth 18 and 34 have basic blocks, 50 and 101 bottlenecks.
 * @throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`
 */
export function resnet(depth: (typeof resnetDepths)[number], options: StemOptions = {}): Backbone {
  oneOf("resnet depth", depth, resnetDepths);
  return Object.freeze({ kind: `resnet${depth}` as const, ...withStem("resnet", options) });
}

/** The depths of {@link vgg}. */
export const vggDepths = [11, 13, 16] as const;

/**
 * VGG (Simonyan, Zisserman 2015) with batch norm, with torchvision's layers and parameter names. Needs images of at
 * least 32 pixels.
 * @throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`
 */
export function vgg(depth: (typeof vggDepths)[number], options: StemOptions = {}): Backbone {
  oneOf("vgg depth", depth, vggDepths);
  return Object.freeze({ kind: `vgg${depth}` as const, ...withStem("vgg", options) });
}

/**
 * GoogLeNet (Szegedy et al. 2015) with batch norm, with torchvision's layers and parameter names.
 * @throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`
 */
export function googlenet(options: StemOptions = {}): Backbone {
  return Object.freeze({ kind: "googlenet", ...withStem("googlenet", options) });
}

/**
 * A multilayer perceptron: linear layers, each with a ReLU, on the flattened image.
 * @throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`
 */
export function mlp(options: MlpOptions = {}): Backbone {
  object<MlpOptions>("mlp", options, ["hidden", "embedding", "normalize"]);
  return Object.freeze({ kind: "mlp", ...checked("mlp", options), hidden: widths(or(options.hidden, [256, 256])) });
}

function widths(hidden: readonly number[]): readonly number[] {
  if (!Array.isArray(hidden) || hidden.length === 0) throw invalid("mlp.hidden", "a list of one width or more", hidden);
  return hidden.map((width, i) => integer(`mlp.hidden[${i}]`, width, { from: 1, to: 65536 }));
}

function withStem(name: string, options: StemOptions): StemOptions {
  object<StemOptions>(name, options, ["width", "embedding", "normalize", "stem"]);
  if (options.stem !== undefined) oneOf(`${name}.stem`, options.stem, ["imagenet", "small"]);
  return { ...checked(name, options), ...(options.stem && { stem: options.stem }) };
}

function checked(name: string, { width, embedding, normalize }: BackboneOptions): BackboneOptions {
  return {
    ...(width !== undefined && { width: integer(`${name}.width`, width, { from: 1, to: 1024 }) }),
    ...(embedding !== undefined && { embedding: integer(`${name}.embedding`, embedding, { from: 1, to: 65536 }) }),
    ...(normalize !== undefined && { normalize: boolean(`${name}.normalize`, normalize) }),
  };
}
