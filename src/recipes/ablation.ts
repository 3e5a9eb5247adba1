/**
 * What the choices inside RKD are worth: batch size, the Huber loss's delta, the two weights, the reduction, and
 * normalised students. One choice is changed at a time. Of these the paper publishes the effect of normalisation alone.
 */

import { type BackboneOptions, conv4, resnet } from "../options/backbone.ts";
import { rkdAngle, rkdDistance } from "../options/losses.ts";
import type { Backbone, Loss, LossOptions } from "../protocol/protocol.ts";
import type { CommonSettings, Recipe } from "./recipe.ts";
import {
  byTriplet,
  mirroredDeviation,
  networksDeviation,
  onlyMirrored,
  paperDeviations,
  paperStudent,
  paperTeacher,
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
  readonly teacherTraining: TeacherTraining;
  readonly studentTraining: TrainingOfSteps;
}

interface Variant {
  readonly losses: readonly Loss[];
  readonly normalize?: boolean;
  /** Factor on the batch; the steps grow as it shrinks, so that all see as many images. */
  readonly batch?: number;
}

/** RKD-DA with the weights `d` and `a`; a term of weight 0 is left out. */
function both(d: number, a: number, options: LossOptions["rkd-distance"] = {}): readonly Loss[] {
  const terms = [rkdDistance({ ...options, weight: d }), rkdAngle({ ...options, weight: a })];
  return terms.filter(({ weight }) => weight !== 0);
}

const usual = "RKD-DA 1:2";
const variants: Readonly<Record<string, Variant>> = {
  [usual]: { losses: both(1, 2) },
  "RKD-DA 1:2, L2": { losses: both(1, 2), normalize: true },
  "RKD-D": { losses: both(1, 0) },
  "RKD-D, L2": { losses: both(1, 0), normalize: true },
  "RKD-A": { losses: both(0, 1) },
  "RKD-A, L2": { losses: both(0, 1), normalize: true },
  "RKD-DA 1:1": { losses: both(1, 1) },
  "RKD-DA 2:1": { losses: both(2, 1) },
  "half the batch": { losses: both(1, 2), batch: 0.5 },
  "twice the batch": { losses: both(1, 2), batch: 2 },
  "delta 0.2": { losses: both(1, 2, { delta: 0.2 }) },
  "delta 5": { losses: both(1, 2, { delta: 5 }) },
  "distinct tuples": { losses: both(1, 2, { reduction: "distinct" }) },
};

export const ablation: Recipe<Settings> = {
  name: "ablation",
  repeats:
    "RKD-D, RKD-A and RKD-DA, normalised or not, of table 1, with weights, batch size, delta and reduction varied",
  scales: {
    smoke: {
      seeds: 1,
      data: ["glyphs:classes=20,writers=8"],
      teacher: conv4({ width: 8, embedding: 16, normalize: true }),
      student: (options) => conv4({ width: 4, embedding: 8, ...options }),
      teacherTraining: byTriplet(smokeTraining),
      studentTraining: { ...smokeTraining, stepsPerEpoch: 2 },
      deviations: ["Runs of seconds, to see that everything works; the figures mean nothing."],
    },
    small: {
      seeds: 3,
      data: ["glyphs"],
      images: { imageSize: 32, split: { kind: "classes", validation: 0.1, test: 0.4 } },
      ...onlyMirrored,
      ...smallNetworks,
      teacherTraining: smallTeacher,
      studentTraining: smallTraining(2e-3),
      deviations: [
        networksDeviation,
        "Images of 32 pixels; 30 epochs of 40 batches of 64 images; embeddings of 64.",
        teacherDeviation,
        mirroredDeviation,
      ],
    },
    paper: {
      seeds: 1,
      data: ["glyphs"],
      images: { imageSize: 224, channels: 3, split: { kind: "classes", validation: 0.1, test: 0.5 } },
      teacher: resnet(50, { stem: "imagenet", embedding: 512, normalize: true }),
      student: (options) => resnet(18, { stem: "imagenet", embedding: 64, ...options }),
      teacherTraining: paperTeacher,
      studentTraining: paperStudent,
      deviations: paperDeviations,
    },
  },
  own: { "Stanford Online Products": { teacherTraining: productsTeacher, studentTraining: productsStudent } },
  claims: [
    { says: "RKD-DA is above RKD-D", above: usual, below: "RKD-D" },
    { says: "RKD-DA is above RKD-A", above: usual, below: "RKD-A" },
    { says: "RKD-DA is above RKD-DA with L2 normalisation", above: usual, below: "RKD-DA 1:2, L2" },
    { says: "RKD-D is above RKD-D with L2 normalisation", above: "RKD-D", below: "RKD-D, L2" },
    { says: "RKD-A is above RKD-A with L2 normalisation", above: "RKD-A", below: "RKD-A, L2" },
    ...["RKD-DA 1:1", "RKD-DA 2:1", "half the batch", "twice the batch", "delta 0.2", "delta 5", "distinct tuples"].map(
      (below) => ({ says: `The paper's choice is above: ${below}`, above: usual, below }),
    ),
  ],
  published: [
    {
      title: "Paper, table 1: ResNet18-64, Recall@1, percent",
      columns: ["CUB-200-2011", "Cars 196"],
      rows: {
        [usual]: [58.68, 80.17],
        "RKD-DA 1:2, L2": [57.01, 78.48],
        "RKD-D": [58.27, 80.57],
        "RKD-D, L2": [56.92, 78.64],
        "RKD-A": [58.44, 80.32],
        "RKD-A, L2": [56.77, 77.92],
      },
    },
  ],
  build: ({ data: all }) => ({
    rows: Object.keys(variants),
    columns: all.map(({ name }) => name),
    cell: ({ row, column, model }) => {
      const { data, settings } = all.find(({ name }) => name === column) ?? all[0];
      const { teacher, student, teacherTraining, studentTraining } = settings;
      if (row === "teacher") return { train: { data, backbone: teacher, ...teacherTraining } };
      const { losses, normalize = false, batch: factor = 1 } = variants[row] as Variant;
      const training = factor === 1 ? studentTraining : withBatch(studentTraining, factor);
      return { distill: { data, teacher: model("teacher"), student: student({ normalize }), losses, ...training } };
    },
  }),
};

/** Batches of another size, and so many that the network sees as many images; milestones move with them. */
function withBatch(training: TrainingOfSteps, factor: number): TrainingOfSteps {
  const { batch, stepsPerEpoch, schedule } = training;
  const moved = (steps: number) => Math.round(steps / factor);
  return {
    ...training,
    stepsPerEpoch: moved(stepsPerEpoch),
    batch: { ...batch, size: Math.round(batch.size * factor) },
    ...(schedule?.kind === "step" && { schedule: { ...schedule, milestones: schedule.milestones.map(moved) } }),
  };
}
