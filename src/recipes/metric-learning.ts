/**
 * Table 1 of the paper: a large network is trained by triplet loss; small ones with embeddings of four lengths are trained
 * by triplet loss alone and by several ways to distill, with and without L2 normalisation of the student ("L2").
 *
 * Settings of the paper's scale: the authors' scripts (metric teacher and student of CUB and Cars); DarkRank's and
 * attention's weights are the paper's. The triplet student's schedule is not published; it has the students'.
 */

import { type BackboneOptions, conv4, resnet } from "../options/backbone.ts";
import {
  attentionTransfer,
  hardDarkRank,
  hint,
  linearHint,
  rkdAngle,
  rkdDistance,
  triplet,
} from "../options/losses.ts";
import { twoStages } from "../options/two-stages.ts";
import type { Backbone, Loss } from "../protocol/protocol.ts";
import type { CommonSettings, Recipe } from "./recipe.ts";
import {
  byTriplet,
  mirroredDeviation,
  networksDeviation,
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
  readonly student: (options: BackboneOptions) => Backbone;
  /** Lengths of the students' embeddings. */
  readonly lengths: readonly number[];
  /** Maps of the same stage in both networks, of more than one pixel; the larger is averaged to the smaller. */
  readonly taps: readonly Taps[];
  readonly teacherTraining: TeacherTraining;
  readonly studentTraining: TrainingOfSteps;
  /** Whether rows of the task's loss beside RKD are shown. @default false */
  readonly beside?: boolean;
}

/** A map of the student, and the teacher's that it is compared with. */
interface Taps {
  readonly studentFeature: string;
  readonly teacherFeature: string;
}

const convTaps = [1, 2].map((block) => ({ studentFeature: `blocks.${block}`, teacherFeature: `blocks.${block}` }));
const efficientnetTaps = [2, 4].map((i) => ({ studentFeature: `blocks.${i}`, teacherFeature: `blocks.${i}` }));
const resnetTaps = [2, 3, 4].map((i) => ({ studentFeature: `layer${i}`, teacherFeature: `layer${i}` }));

/** A row: its losses, and whether the student's embedding is normalised. */
interface Method {
  readonly losses: readonly Loss[];
  readonly normalize: boolean;
  /** Whether it has a stage of hints before its own, of the same length. */
  readonly twice?: boolean;
}

/** All rows below the teacher. */
function methods({ taps, studentTraining, beside = false }: Settings): Readonly<Record<string, Method>> {
  const steps = studentTraining.epochs * studentTraining.stepsPerEpoch;
  const both = [rkdDistance({ weight: 1 }), rkdAngle({ weight: 2 })];
  const attention = taps.map((pair) => attentionTransfer({ ...pair, weight: 50 }));
  const fitNet = twoStages({ hints: [...taps.map((pair) => hint(pair)), hint()], task: [triplet()], hintSteps: steps });
  return {
    Triplet: { losses: [triplet()], normalize: true },
    "Linear hint": { losses: [linearHint()], normalize: false },
    FitNet: { losses: fitNet, normalize: true, twice: true },
    Attention: { losses: [triplet(), ...attention], normalize: true },
    DarkRank: { losses: [triplet(), hardDarkRank()], normalize: true },
    "RKD-D, L2": { losses: [rkdDistance()], normalize: true },
    "RKD-D": { losses: [rkdDistance()], normalize: false },
    "RKD-A, L2": { losses: [rkdAngle()], normalize: true },
    "RKD-A": { losses: [rkdAngle()], normalize: false },
    "RKD-DA, L2": { losses: both, normalize: true },
    "RKD-DA": { losses: both, normalize: false },
    ...(beside && { "Triplet + RKD-DA": { losses: [triplet(), ...both], normalize: true } }),
  };
}

export const metricLearning: Recipe<Settings> = {
  name: "metric-learning",
  repeats: "table 1: students of four embedding lengths, by triplet and by every way to distill",
  scales: {
    smoke: {
      seeds: 2,
      data: ["glyphs:classes=20,writers=8"],
      teacher: conv4({ width: 8, embedding: 16, normalize: true }),
      student: (options) => conv4({ width: 4, ...options }),
      lengths: [4, 8],
      taps: convTaps,
      teacherTraining: byTriplet(smokeTraining),
      studentTraining: smokeTraining,
      deviations: ["Runs of seconds, to see that everything works; the figures mean nothing."],
    },
    small: {
      seeds: 3,
      data: ["glyphs"],
      images: { imageSize: 32, split: { kind: "classes", validation: 0.1, test: 0.4 } },
      ...onlyMirrored,
      ...smallNetworks,
      lengths: [16, 64],
      taps: convTaps,
      teacherTraining: smallTeacher,
      studentTraining: smallTraining(2e-3),
      deviations: [
        networksDeviation,
        "Images of 32 pixels, batches of 64 images, 30 epochs of 40 batches with a cosine schedule; the paper has 224 pixels, batches of 128 images, 40 and 80 epochs of 100 batches with steps.",
        teacherDeviation,
        mirroredDeviation,
      ],
    },
    pretrained: {
      ...pretrainedImages,
      ...pretrainedNetworks,
      lengths: [16, 64],
      taps: efficientnetTaps,
      teacherTraining: byTriplet(pretrainedTraining),
      studentTraining: pretrainedTraining,
      beside: true,
      deviations: [
        "Teacher EfficientNet-Lite2, student EfficientNet-Lite0, both from ImageNet's weights; the paper has ResNet-50 and ResNet-18.",
        ...pretrainedDeviations,
      ],
    },
    paper: {
      seeds: 1,
      data: ["glyphs"],
      images: { imageSize: 224, channels: 3, split: { kind: "classes", validation: 0.1, test: 0.5 } },
      teacher: resnet(50, { stem: "imagenet", embedding: 512, normalize: true }),
      student: (options) => resnet(18, { stem: "imagenet", ...options }),
      lengths: [16, 32, 64, 128],
      taps: resnetTaps,
      teacherTraining: paperTeacher,
      studentTraining: paperStudent,
      deviations: [
        ...paperDeviations,
        "FitNet's and attention's map pairs, and the linear hint, which the paper does not have, are those of this recipe.",
        "The schedule of the triplet student is not published, and FitNet's stage of hints is ten times slower in the authors' script; both have the students' here.",
      ],
    },
  },
  own: { "Stanford Online Products": { teacherTraining: productsTeacher, studentTraining: productsStudent } },
  claims: [
    { says: "RKD-DA is above triplet alone", above: "RKD-DA", below: "Triplet" },
    { says: "RKD-D is above triplet alone", above: "RKD-D", below: "Triplet" },
    { says: "RKD-A is above triplet alone", above: "RKD-A", below: "Triplet" },
    { says: "RKD-DA is above FitNet", above: "RKD-DA", below: "FitNet" },
    { says: "RKD-DA is above attention transfer", above: "RKD-DA", below: "Attention" },
    { says: "RKD-DA is above DarkRank", above: "RKD-DA", below: "DarkRank" },
    { says: "RKD-DA without L2 normalisation is above RKD-DA with it", above: "RKD-DA", below: "RKD-DA, L2" },
    { says: "A student by RKD-DA is above its teacher", above: "RKD-DA", below: "teacher" },
  ],
  published: [
    {
      title: "Paper, table 1 (a): CUB-200-2011, Recall@1, percent, ResNet18-d taught by ResNet50-512",
      columns: ["16", "32", "64", "128"],
      rows: {
        teacher: [61.24, 61.24, 61.24, 61.24],
        Triplet: [37.71, 44.62, 51.55, 53.92],
        FitNet: [42.74, 48.6, 51.92, 54.52],
        Attention: [37.68, 45.37, 50.81, 55.03],
        DarkRank: [46.84, 53.53, 56.3, 57.17],
        "RKD-D, L2": [46.34, 52.68, 56.92, 58.31],
        "RKD-D": [48.09, 55.72, 58.27, 60.31],
        "RKD-A, L2": [45.59, 53.43, 56.77, 58.41],
        "RKD-A": [48.6, 55.15, 58.44, 60.92],
        "RKD-DA, L2": [45.76, 53.58, 57.01, 59.69],
        "RKD-DA": [48.14, 54.88, 58.68, 60.67],
      },
    },
    {
      title: "Paper, table 1 (b): Cars 196, Recall@1, percent, ResNet18-d taught by ResNet50-512",
      columns: ["16", "32", "64", "128"],
      rows: {
        teacher: [77.17, 77.17, 77.17, 77.17],
        Triplet: [45.39, 56.01, 64.53, 68.79],
        FitNet: [57.46, 65.81, 70.67, 73.1],
        Attention: [46.44, 59.4, 67.24, 71.95],
        DarkRank: [64, 72.41, 76.2, 77],
        "RKD-D, L2": [63.23, 73.5, 78.64, 79.72],
        "RKD-D": [66.02, 76.15, 80.57, 81.7],
        "RKD-A, L2": [61.39, 73.23, 77.92, 80.54],
        "RKD-A": [66.25, 75.89, 80.32, 82.27],
        "RKD-DA, L2": [61.78, 73.12, 78.48, 80],
        "RKD-DA": [66.04, 74.8, 80.17, 82.5],
      },
    },
  ],
  build: ({ data: [{ settings, data }] }) => {
    const { teacher, student, lengths, teacherTraining, studentTraining } = settings;
    const all = methods(settings);
    return {
      rows: ["teacher", ...Object.keys(all)],
      columns: lengths.map(String),
      cell: ({ row, column, model }) => {
        if (row === "teacher") return { train: { data, backbone: teacher, ...teacherTraining } };
        const { losses, normalize, twice } = all[row] as Method;
        const small = student({ embedding: Number(column), normalize });
        if (row === "Triplet") return { train: { data, backbone: small, losses, ...studentTraining } };
        const training = { ...studentTraining, epochs: (twice ? 2 : 1) * studentTraining.epochs };
        return { distill: { data, teacher: model("teacher"), student: small, losses, ...training } };
      },
    };
  },
};
