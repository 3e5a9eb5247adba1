/** Networks: which one, how wide, and what it puts out. */

import { boolean, integer, object, oneOf } from "./check.ts";

/** Options that every network takes. */
export interface BackboneOptions {
  /** Channels of the first block, 1 to 1024. @default 64, the published width */
  readonly width?: number;
  /** Length of the embedding, at least 1. @default the pooled feature itself, without a linear layer */
  readonly embedding?: number;
  /**
   * Whether embeddings are divided by their Euclidean norm.
   * @default true with a triplet loss, whose margin needs a scale; else false, as in the paper's distillation
   */
  readonly normalize?: boolean;
}

/** Options of {@link resnet}. */
export interface ResnetOptions extends BackboneOptions {
  /**
   * `"imagenet"`: 7x7 convolution of stride 2 and max pool. `"small"`: 3x3 convolution of stride 1, for images of
   * 32 to 64 pixels. @default "small" up to 64 pixels, else "imagenet"
   */
  readonly stem?: "imagenet" | "small";
}

/** A network, as {@link conv4} and {@link resnet} make it. */
export interface Backbone extends ResnetOptions {
  /** The architecture. */
  readonly kind: BackboneKind;
}

/** The architectures there are. */
export const backboneKinds = ["conv4", "resnet18", "resnet34", "resnet50"] as const;
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

/**
 * ResNet (He et al. 2016) with torchvision's layers and parameter names.
 * @param depth 18 and 34 have basic blocks, 50 has bottlenecks.
 * @throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`
 */
export function resnet(depth: 18 | 34 | 50, options: ResnetOptions = {}): Backbone {
  oneOf("resnet depth", depth, [18, 34, 50]);
  object<ResnetOptions>("resnet", options, ["width", "embedding", "normalize", "stem"]);
  if (options.stem !== undefined) oneOf("resnet.stem", options.stem, ["imagenet", "small"]);
  return Object.freeze({
    kind: `resnet${depth}` as const,
    ...checked("resnet", options),
    ...(options.stem && { stem: options.stem }),
  });
}

function checked(name: string, { width, embedding, normalize }: BackboneOptions): BackboneOptions {
  return {
    ...(width !== undefined && { width: integer(`${name}.width`, width, { from: 1, to: 1024 }) }),
    ...(embedding !== undefined && { embedding: integer(`${name}.embedding`, embedding, { from: 1, to: 65536 }) }),
    ...(normalize !== undefined && { normalize: boolean(`${name}.normalize`, normalize) }),
  };
}
