/**
 * What `distill` does by default, and what it was chosen from: on each data set, a column, the student of the defaults taught by
 * labels alone, by the default losses, and by others.
 *
 * The default has to be above the student that has no teacher on every kind of data. Everything that `distill` chooses by itself
 * is left to it: images, student, length, rate.
 */

import { conv4, resnet } from "../options/backbone.ts";
import { crossEntropy, linearHint, rkdAngle, rkdDistance, triplet } from "../options/losses.ts";
import { adam } from "../options/optimizer.ts";
import type { TrainOptions } from "../options/run.ts";
import { cosine } from "../options/schedule.ts";
import type { Backbone, Loss } from "../protocol/protocol.ts";
import type { CommonSettings, Recipe } from "./recipe.ts";
import {
  byTriplet,
  pretrainedDeviations,
  pretrainedImages,
  pretrainedNetworks,
  pretrainedTraining,
  smokeTraining,
  type TrainingOfSteps,
} from "./training.ts";

interface Settings extends CommonSettings {
  /** The teacher that is trained where none is given, and by what. */
  readonly teacher: (imageSize: number) => { readonly backbone: Backbone; readonly losses: readonly Loss[] };
  readonly teaching: TrainingOfSteps & Pick<TrainOptions, "evaluation">;
  /** What is said of the student, where anything is. */
  readonly student?: Backbone;
  readonly training?: Partial<TrainingOfSteps>;
  /** Rows of other settings than the default's, with its losses. */
  readonly variants?: Readonly<Record<string, Partial<TrainingOfSteps>>>;
}

/** RKD-DA with the paper's ratio of its parts. */
const relations = (factor: number) => [rkdDistance({ weight: factor }), rkdAngle({ weight: 2 * factor })];
const hint = linearHint({ relative: true });

/** What the default was chosen from, besides it. */
const others: Readonly<Record<string, readonly Loss[]>> = {
  "relations alone": relations(1),
  "triplet + RKD-DA": [triplet(), ...relations(1)],
  "triplet + 4 RKD-DA": [triplet(), ...relations(4)],
  "triplet + 16 RKD-DA": [triplet(), ...relations(16)],
  "triplet + hint": [triplet(), hint],
  "triplet + hint + RKD-DA": [triplet(), hint, ...relations(1)],
  "hint + RKD-DA": [hint, ...relations(1)],
};

const [taught, alone, chosen] = ["teacher", "by labels alone", "the default"];

/**
 * A network of four times the student's multiply-adds, of the same family. A ResNet gets ahead of its student with a classifier
 * only; a Conv-4 of Omniglot's 867 classes with it stays behind (one seed: 70.4 % Recall@1, its student by triplet alone 76.5 %).
 */
const smallTeacher = (imageSize: number) =>
  imageSize <= 32
    ? { backbone: conv4({ width: 128, embedding: 128, normalize: true }), losses: [triplet()] }
    : {
        backbone: resnet(18, { width: 64, stem: "imagenet", embedding: 128, normalize: true }),
        losses: [triplet(), crossEntropy()],
      };

export const defaults: Recipe<Settings> = {
  name: "defaults",
  repeats: "defaults of distill: a student by labels alone, by the default losses and by others, on several data sets",
  scales: {
    smoke: {
      seeds: 2,
      data: ["glyphs:classes=20,writers=8"],
      teacher: () => ({ backbone: conv4({ width: 8, embedding: 16, normalize: true }), losses: [triplet()] }),
      teaching: smokeTraining,
      student: conv4({ width: 4, embedding: 8 }),
      training: smokeTraining,
      deviations: ["Runs of seconds, to see that everything works; the figures mean nothing."],
    },
    small: {
      seeds: 3,
      data: ["glyphs"],
      teacher: smallTeacher,
      teaching: {
        ...{ optimizer: adam(), schedule: cosine(), epochs: 25, stepsPerEpoch: 60, batch: { size: 64 } },
        evaluation: { everyEpochs: 5 },
      },
      deviations: [],
    },
    pretrained: {
      ...pretrainedImages,
      teacher: () => ({ backbone: pretrainedNetworks.teacher, losses: [triplet()] }),
      teaching: byTriplet(pretrainedTraining),
      student: pretrainedNetworks.student({ embedding: 64 }),
      // Rate and statistics are left to the defaults, which are what this is about.
      training: { ...{ epochs: 12, stepsPerEpoch: 20, batch: { size: 64 } }, evaluation: { everyEpochs: 4 } },
      variants: {
        "statistics of the batch": { batchNorm: "batch" },
        "rate 1e-3": { optimizer: adam({ learningRate: 1e-3 }) },
        "rate 1e-3, statistics of the batch": { optimizer: adam({ learningRate: 1e-3 }), batchNorm: "batch" },
      },
      deviations: [
        "Student EfficientNet-Lite0 from ImageNet's weights, taught by EfficientNet-Lite2 that was trained on the same classes.",
        ...pretrainedDeviations,
      ],
    },
    paper: {
      seeds: 3,
      data: ["glyphs"],
      teacher: () => ({
        backbone: resnet(50, { embedding: 512, normalize: true }),
        losses: [triplet(), crossEntropy()],
      }),
      teaching: { optimizer: adam(), schedule: cosine(), epochs: 50, stepsPerEpoch: 200, batch: { size: 128 } },
      deviations: [],
    },
  },
  anyTeacher: true,
  claims: [
    { says: "The default is above labels alone", above: chosen, below: alone },
    { says: "The default is above relations alone", above: chosen, below: "relations alone" },
  ],
  published: [],
  build: ({ data: all, teacher: given }) => ({
    rows: [taught, alone, chosen, ...Object.keys(all[0].settings.variants ?? {}), ...Object.keys(others)],
    columns: all.map(({ name }) => name),
    judgedWeights: "last",
    cell: ({ row, column, model }) => {
      const { data, settings, imageSize } = all.find(({ name }) => name === column) ?? all[0];
      const { teacher: network, teaching, student, training, variants } = settings;
      if (row === "trained teacher") return { train: { data, ...network(imageSize), ...teaching } };
      const distill = { data, teacher: given ?? model("trained teacher"), ...(student && { student }), ...training };
      const losses = others[row];
      if (losses) return { distill: { ...distill, losses } };
      if (variants?.[row]) return { distill: { ...distill, ...variants[row] } };
      const place = { [taught]: "teacher", [alone]: "baseline" }[row];
      return {
        distill: { ...distill, baseline: true },
        ...(place && { figures: { "recall@1": `${place}/recall@1` } }),
      };
    },
  }),
};
