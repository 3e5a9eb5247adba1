/**
 * What `distill` does by default, and what it was chosen from: the same student taught by labels alone, by the teacher's
 * relations alone, and by both, on one data set a column.
 *
 * The default has to be above the student that has no teacher on every kind of data. The images are changed as the source's
 * own augmentation has it, and the teacher sees every batch.
 */

import { type BackboneOptions, conv4, resnet } from "../options/backbone.ts";
import { crossEntropy, rkdAngle, rkdDistance, triplet } from "../options/losses.ts";
import { adam } from "../options/optimizer.ts";
import type { Backbone, Loss } from "../protocol/protocol.ts";
import type { CommonSettings, Recipe } from "./recipe.ts";
import { smokeTraining, type TrainingOfSteps } from "./training.ts";

interface Settings extends CommonSettings {
  readonly teacher: Backbone;
  readonly student: (options: BackboneOptions) => Backbone;
  readonly training: TrainingOfSteps;
}

/** A row: its losses, and whether the student's embedding is normalised. */
interface Method {
  readonly losses: readonly Loss[];
  readonly normalize: boolean;
}

/** RKD-DA with the paper's ratio of its parts. */
const relations = (factor: number) => [rkdDistance({ weight: factor }), rkdAngle({ weight: 2 * factor })];

const methods: Readonly<Record<string, Method>> = {
  Triplet: { losses: [triplet()], normalize: true },
  "RKD-DA": { losses: relations(1), normalize: false },
  "Triplet + RKD-DA": { losses: [triplet(), ...relations(1)], normalize: true },
  "Triplet + 4 RKD-DA": { losses: [triplet(), ...relations(4)], normalize: true },
  "Triplet + 16 RKD-DA": { losses: [triplet(), ...relations(16)], normalize: true },
};

export const defaults: Recipe<Settings> = {
  name: "defaults",
  repeats: "defaults of distill: a student by labels alone, by relations alone, and by both, on several data sets",
  scales: {
    smoke: {
      seeds: 2,
      data: ["glyphs:classes=20,writers=8"],
      teacher: conv4({ width: 8, embedding: 16, normalize: true }),
      student: (options) => conv4({ width: 4, embedding: 8, ...options }),
      training: smokeTraining,
      deviations: ["Runs of seconds, to see that everything works; the figures mean nothing."],
    },
    small: {
      seeds: 3,
      data: ["glyphs"],
      images: { split: { kind: "classes", validation: 0.2, test: 0.3 } },
      teacher: resnet(18, { embedding: 128, normalize: true }),
      student: (options) => conv4({ width: 32, embedding: 64, ...options }),
      // Images of a class are left to the data: a set of ten classes has five to train on, and thirteen images of each.
      training: { optimizer: adam(), epochs: 25, stepsPerEpoch: 60, batch: { size: 64 } },
      deviations: [],
    },
    paper: {
      seeds: 3,
      data: ["glyphs"],
      images: { split: { kind: "classes", validation: 0.2, test: 0.3 } },
      teacher: resnet(50, { embedding: 512, normalize: true }),
      student: (options) => resnet(18, { embedding: 128, ...options }),
      training: { optimizer: adam(), epochs: 50, stepsPerEpoch: 200, batch: { size: 128 } },
      deviations: [],
    },
  },
  claims: [
    { says: "Both together are above labels alone", above: "Triplet + RKD-DA", below: "Triplet" },
    { says: "Both together are above relations alone", above: "Triplet + RKD-DA", below: "RKD-DA" },
  ],
  published: [],
  build: ({ data: all }) => ({
    rows: ["teacher", ...Object.keys(methods)],
    columns: all.map(({ name }) => name),
    cell: ({ row, column, model }) => {
      const { data, settings } = all.find(({ name }) => name === column) ?? all[0];
      const { teacher, student, training } = settings;
      if (row === "teacher")
        return { train: { data, backbone: teacher, losses: [triplet(), crossEntropy()], ...training } };
      const { losses, normalize } = methods[row] as Method;
      const small = student({ normalize });
      if (row === "Triplet") return { train: { data, backbone: small, losses, ...training } };
      return { distill: { data, teacher: model("teacher"), student: small, losses, ...training } };
    },
  }),
};
