/**
 * Table 2 of the paper: a network teaches another of its own architecture by RKD-DA, that one the next, three generations
 * long. The student's embedding is not normalised. Settings of the paper's scale: the authors' scripts.
 */

import { type BackboneOptions, conv4, efficientnetLite, resnet } from "../options/backbone.ts";
import { rkdAngle, rkdDistance } from "../options/losses.ts";
import type { Backbone } from "../protocol/protocol.ts";
import type { CommonSettings, Recipe } from "./recipe.ts";
import {
  byTriplet,
  mirroredDeviation,
  onlyMirrored,
  paperDeviations,
  paperStudent,
  paperTeacher,
  pretrainedDeviations,
  pretrainedImages,
  pretrainedTraining,
  productsStudent,
  productsTeacher,
  sameStart,
  smallTraining,
  smokeTraining,
  type TeacherTraining,
  type TrainingOfSteps,
} from "./training.ts";

interface Settings extends CommonSettings {
  readonly network: (options: BackboneOptions) => Backbone;
  readonly first: TeacherTraining;
  readonly next: TrainingOfSteps;
}

const generations = ["Triplet", "Gen 1", "Gen 2", "Gen 3"];

export const selfDistillation: Recipe<Settings> = {
  name: "self-distillation",
  repeats: "table 2: three generations of one architecture, each taught by the one before",
  scales: {
    smoke: {
      seeds: 2,
      data: ["glyphs:classes=20,writers=8"],
      network: (options) => conv4({ width: 4, embedding: 8, ...options }),
      first: byTriplet(smokeTraining),
      next: smokeTraining,
      deviations: ["Runs of seconds, to see that everything works; the figures mean nothing."],
    },
    small: {
      seeds: 3,
      data: ["glyphs"],
      images: { imageSize: 32, split: { kind: "classes", validation: 0.1, test: 0.4 } },
      ...onlyMirrored,
      network: (options) => conv4({ width: 32, embedding: 64, ...options }),
      first: byTriplet(smallTraining(1e-3)),
      next: smallTraining(1e-3),
      deviations: [
        "Conv-4 with 32 channels and an embedding of 64 from random weights; the paper has ResNet-50 with 512 that starts from ImageNet's.",
        "Images of 32 pixels, batches of 64 images, 30 epochs of 40 batches with a cosine schedule; the paper has 224 pixels, batches of 128 images, 40 and 80 epochs of 100 batches with steps.",
        sameStart,
        mirroredDeviation,
      ],
    },
    pretrained: {
      ...pretrainedImages,
      network: (options) => efficientnetLite(0, { embedding: 512, ...options }),
      first: byTriplet(pretrainedTraining),
      next: pretrainedTraining,
      deviations: [
        "EfficientNet-Lite0 with an embedding of 512 from ImageNet's weights; the paper has ResNet-50 with 512.",
        ...pretrainedDeviations,
        "The embedding layer, which ImageNet's weights have not, is drawn from the seed, so that teacher and student begin with the same.",
      ],
    },
    paper: {
      seeds: 1,
      data: ["glyphs"],
      images: { imageSize: 224, channels: 3, split: { kind: "classes", validation: 0.1, test: 0.5 } },
      network: (options) => resnet(50, { stem: "imagenet", embedding: 512, ...options }),
      first: paperTeacher,
      next: paperStudent,
      deviations: [...paperDeviations, sameStart],
    },
  },
  own: { "Stanford Online Products": { first: productsTeacher, next: productsStudent } },
  claims: [
    { says: "Gen 1 is above its teacher of the same architecture", above: "Gen 1", below: "Triplet" },
    { says: "Gen 1 is above Gen 2", above: "Gen 1", below: "Gen 2" },
    { says: "Gen 2 is above Gen 3", above: "Gen 2", below: "Gen 3" },
  ],
  published: [
    {
      title: "Paper, table 2: Recall@1, percent, ResNet50-512",
      columns: ["CUB-200-2011", "Cars 196", "Stanford Online Products"],
      rows: {
        Triplet: [61.24, 77.17, 76.58],
        "Gen 1": [65.68, 85.65, 77.61],
        "Gen 2": [65.11, 85.61, 77.36],
        "Gen 3": [64.26, 85.23, 76.96],
      },
    },
  ],
  build: ({ data: all }) => ({
    rows: generations,
    columns: all.map(({ name }) => name),
    cell: ({ row, column, model }) => {
      const { data, settings } = all.find(({ name }) => name === column) ?? all[0];
      const { network, first, next } = settings;
      const before = generations[generations.indexOf(row) - 1];
      if (before === undefined) {
        return { train: { data, backbone: network({ normalize: true }), ...first } };
      }
      const losses = [rkdDistance({ weight: 1 }), rkdAngle({ weight: 2 })];
      return { distill: { data, teacher: model(before), student: network({ normalize: false }), losses, ...next } };
    },
  }),
};
