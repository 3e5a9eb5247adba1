/**
 * Table 3 of the paper: losses that learn an embedding from labels, and students of the same backbones taught by RKD-DA.
 * The paper quotes the others' published figures; here every row is trained, with the same backbones, data and length.
 * A-BIER and ABE, which are ensembles, stand in the paper's tables only.
 */

import { type BackboneOptions, conv4, googlenet, resnet } from "../options/backbone.ts";
import { angular, liftedStructure, margin, nPairs, rkdAngle, rkdDistance, triplet } from "../options/losses.ts";
import type { Backbone, Loss } from "../protocol/protocol.ts";
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
  pretrainedNetworks,
  pretrainedTraining,
  productsStudent,
  productsTeacher,
  smallNetworks,
  smallTeacher,
  smallTraining,
  smokeTraining,
  type TeacherTraining,
  type TrainingOfSteps,
  teacherDeviation,
} from "./training.ts";

interface Settings extends CommonSettings {
  readonly teacher: Backbone;
  /** The columns. */
  readonly backbones: Readonly<Record<string, (options: BackboneOptions) => Backbone>>;
  /** The K of Recall@K. @default 1, 2, 4, 8 */
  readonly ks?: readonly number[];
  readonly teacherTraining: TeacherTraining;
  readonly studentTraining: TrainingOfSteps;
}

/** Losses of labels alone. Inner products want embeddings that are not normalised, distances with a margin the others. */
const supervised: Readonly<Record<string, { readonly losses: readonly Loss[]; readonly normalize: boolean }>> = {
  LiftedStruct: { losses: [liftedStructure()], normalize: false },
  "N-pairs": { losses: [nPairs()], normalize: false },
  Angular: { losses: [nPairs(), angular()], normalize: false },
  Margin: { losses: [margin()], normalize: true },
  Triplet: { losses: [triplet()], normalize: true },
};

const ks = [1, 2, 4, 8];
const recall = (k: number) => `recall@${k}`;

export const stateOfTheArt: Recipe<Settings> = {
  name: "state-of-the-art",
  repeats: "table 3: Recall@1, 2, 4, 8 of five losses of labels and of students by RKD-DA, on two backbones",
  scales: {
    smoke: {
      seeds: 1,
      data: ["glyphs:classes=20,writers=8"],
      teacher: conv4({ width: 8, embedding: 16, normalize: true }),
      backbones: {
        "GoogLeNet-8": (options) => googlenet({ width: 8, embedding: 8, ...options }),
        "Conv4-8": (options) => conv4({ width: 4, embedding: 8, ...options }),
      },
      teacherTraining: byTriplet(smokeTraining),
      studentTraining: smokeTraining,
      images: { imageSize: 32 },
      deviations: ["Runs of seconds, to see that everything works; the figures mean nothing."],
    },
    small: {
      seeds: 3,
      data: ["glyphs"],
      images: { imageSize: 32, split: { kind: "classes", validation: 0.1, test: 0.4 } },
      ...onlyMirrored,
      teacher: smallNetworks.teacher,
      backbones: {
        "GoogLeNet-64": (options) => googlenet({ width: 16, embedding: 64, ...options }),
        "ResNet18-64": (options) => resnet(18, { width: 16, embedding: 64, ...options }),
      },
      teacherTraining: smallTeacher,
      studentTraining: smallTraining(1e-3),
      deviations: [
        "Teacher Conv-4, students GoogLeNet and ResNet-18 of a quarter, from random weights, on images of 32 pixels; the paper has ResNet-50 as teacher, GoogLeNet and ResNet-50 as students, ImageNet's weights and 224 pixels.",
        "30 epochs of 40 batches of 64 images with a cosine schedule.",
        teacherDeviation,
        mirroredDeviation,
      ],
    },
    pretrained: {
      ...pretrainedImages,
      teacher: pretrainedNetworks.teacher,
      backbones: { "EfficientNetLite0-64": (options) => pretrainedNetworks.student({ embedding: 64, ...options }) },
      teacherTraining: byTriplet(pretrainedTraining),
      studentTraining: pretrainedTraining,
      deviations: [
        "Teacher EfficientNet-Lite2, students EfficientNet-Lite0, from ImageNet's weights; the paper has ResNet-50 as teacher, GoogLeNet and ResNet-50 as students.",
        ...pretrainedDeviations,
      ],
    },
    paper: {
      seeds: 1,
      data: ["glyphs"],
      images: { imageSize: 224, channels: 3, split: { kind: "classes", validation: 0.1, test: 0.5 } },
      teacher: resnet(50, { stem: "imagenet", embedding: 512, normalize: true }),
      backbones: {
        "GoogLeNet-128": (options) => googlenet({ stem: "imagenet", embedding: 128, ...options }),
        "GoogLeNet-512": (options) => googlenet({ stem: "imagenet", embedding: 512, ...options }),
        "ResNet50-128": (options) => resnet(50, { stem: "imagenet", embedding: 128, ...options }),
      },
      teacherTraining: paperTeacher,
      studentTraining: paperStudent,
      deviations: [
        ...paperDeviations,
        "GoogLeNet is torchvision's, with batch normalisation; the paper's has none, and learned from pixels of another range.",
        "The paper quotes the published figures of the other losses; here they are trained like the students. Which teacher and schedule its own rows had is not published; these are those of table 1.",
      ],
    },
  },
  own: {
    "Stanford Online Products": {
      ks: [1, 10, 100, 1000],
      teacherTraining: productsTeacher,
      studentTraining: productsStudent,
    },
  },
  claims: Object.keys(supervised).map((below) => ({ says: `RKD-DA is above ${below}`, above: "RKD-DA", below })),
  published: [
    {
      title: "Paper, table 3: CUB-200-2011, percent",
      columns: ks.map(recall),
      rows: {
        "LiftedStruct, GoogLeNet-128": [47.2, 58.9, 70.2, 80.2],
        "N-pairs, GoogLeNet-64": [51, 63.3, 74.3, 83.2],
        "Angular, GoogLeNet-512": [54.7, 66.3, 76, 83.9],
        "A-BIER, GoogLeNet-512": [57.5, 68.7, 78.3, 86.2],
        "ABE8, GoogLeNet-512": [60.6, 71.5, 79.8, 87.4],
        "RKD-DA, GoogLeNet-128": [60.8, 72.1, 81.2, 89.2],
        "RKD-DA, GoogLeNet-512": [61.4, 73, 81.9, 89],
        "Margin, ResNet50-128": [63.6, 74.4, 83.1, 90],
        "RKD-DA, ResNet50-128": [64.9, 76.7, 85.3, 91],
      },
    },
    {
      title: "Paper, table 3: Cars 196, percent",
      columns: ks.map(recall),
      rows: {
        "LiftedStruct, GoogLeNet-128": [49, 60.3, 72.1, 81.5],
        "N-pairs, GoogLeNet-64": [71.1, 79.7, 86.5, 91.6],
        "Angular, GoogLeNet-512": [71.4, 81.4, 87.5, 92.1],
        "A-BIER, GoogLeNet-512": [82, 89, 93.2, 96.1],
        "ABE8, GoogLeNet-512": [85.2, 90.5, 94, 96.1],
        "RKD-DA, GoogLeNet-128": [81.7, 88.5, 93.3, 96.3],
        "RKD-DA, GoogLeNet-512": [82.3, 89.8, 94.2, 96.6],
        "Margin, ResNet50-128": [79.6, 86.5, 91.9, 95.1],
        "RKD-DA, ResNet50-128": [84.9, 91.3, 94.8, 97.2],
      },
    },
    {
      title: "Paper, table 3: Stanford Online Products, percent",
      columns: [1, 10, 100, 1000].map(recall),
      rows: {
        "LiftedStruct, GoogLeNet-128": [62.1, 79.8, 91.3, 97.4],
        "N-pairs, GoogLeNet-64": [67.7, 83.8, 93, 97.8],
        "Angular, GoogLeNet-512": [70.9, 85, 93.5, 98],
        "A-BIER, GoogLeNet-512": [74.2, 86.9, 94, 97.8],
        "ABE8, GoogLeNet-512": [76.3, 88.4, 94.8, 98.2],
        "RKD-DA, GoogLeNet-128": [74.5, 88.1, 95.2, 98.6],
        "RKD-DA, GoogLeNet-512": [75.1, 88.3, 95.2, 98.7],
        "Margin, ResNet50-128": [72.7, 86.2, 93.8, 98],
        "RKD-DA, ResNet50-128": [77.5, 90.3, 96.4, 99],
      },
    },
  ],
  build: ({ data: [{ settings, data }] }) => ({
    rows: [...Object.keys(supervised), "RKD-DA"],
    columns: Object.keys(settings.backbones),
    figures: (settings.ks ?? ks).map(recall),
    cell: ({ row, column, model }) => {
      const { teacher, backbones, teacherTraining, studentTraining } = settings;
      if (row === "teacher") return { train: { data, backbone: teacher, ...teacherTraining } };
      const backbone = backbones[column] as (typeof backbones)[string];
      const training = {
        ...studentTraining,
        ...(settings.ks && { evaluation: { ...studentTraining.evaluation, ks: settings.ks } }),
      };
      const labels = supervised[row];
      if (labels) {
        const { losses, normalize } = labels;
        return { train: { data, backbone: backbone({ normalize }), losses, ...training } };
      }
      const losses = [rkdDistance({ weight: 1 }), rkdAngle({ weight: 2 })];
      const student = backbone({ normalize: false });
      return { distill: { data, teacher: model("teacher"), student, losses, ...training } };
    },
  }),
};
