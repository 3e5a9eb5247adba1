/**
 * Figure 3 of the paper: a teacher by triplet loss and a student by RKD-DA are trained on one domain and measured on
 * others. The student is further ahead where it was trained and further behind elsewhere: it adapts more strongly. Here every
 * domain is trained on in turn, so the table is a matrix; a network that has learned nothing is the row to compare with.
 */

import { conv4, efficientnetLite, resnet } from "../options/backbone.ts";
import { rkdAngle, rkdDistance, triplet } from "../options/losses.ts";
import { sgd } from "../options/optimizer.ts";
import { constant } from "../options/schedule.ts";
import type { Backbone } from "../protocol/protocol.ts";
import type { CommonSettings, NamedData, Recipe } from "./recipe.ts";
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
  readonly teacher: Backbone;
  readonly student: Backbone;
  readonly teacherTraining: TeacherTraining;
  readonly studentTraining: TrainingOfSteps;
  /** The network that is not trained. @default the teacher */
  readonly untrained?: Backbone;
}

/** One step at a rate that moves no weight: the network as it was drawn. */
const untrained = { optimizer: sgd({ learningRate: 1e-12 }), schedule: constant(), epochs: 1, stepsPerEpoch: 1 };

export const domainAdaptation: Recipe<Settings> = {
  name: "domain-adaptation",
  repeats: "figure 3: teacher and student trained on one domain, Recall@1 on several",
  scales: {
    smoke: {
      seeds: 1,
      data: ["glyphs:classes=20,writers=8", "glyphs:classes=20,writers=8,seed=7"],
      teacher: conv4({ width: 4, embedding: 8, normalize: true }),
      student: conv4({ width: 4, embedding: 8, normalize: false }),
      teacherTraining: byTriplet(smokeTraining),
      studentTraining: smokeTraining,
      deviations: ["Runs of seconds, to see that everything works; the figures mean nothing."],
    },
    small: {
      seeds: 3,
      data: ["glyphs", "glyphs:seed=7"],
      images: { imageSize: 32, channels: 3, split: { kind: "classes", validation: 0.1, test: 0.4 } },
      ...onlyMirrored,
      teacher: conv4({ width: 32, embedding: 64, normalize: true }),
      student: conv4({ width: 32, embedding: 64, normalize: false }),
      teacherTraining: byTriplet(smallTraining(1e-3)),
      studentTraining: smallTraining(1e-3),
      deviations: [
        "Conv-4 with 32 channels for teacher and student from random weights on colour images of 32 pixels; the paper does not say which networks figure 3 has.",
        "The row of a network that was not trained stands in the place of the paper's row of ImageNet's features.",
        sameStart,
        mirroredDeviation,
      ],
    },
    pretrained: {
      ...pretrainedImages,
      teacher: efficientnetLite(0, { embedding: 512, normalize: true }),
      student: efficientnetLite(0, { embedding: 512, normalize: false }),
      untrained: efficientnetLite(0, { normalize: true }),
      teacherTraining: byTriplet(pretrainedTraining),
      studentTraining: pretrainedTraining,
      deviations: [
        "EfficientNet-Lite0 for teacher and student from ImageNet's weights; the paper does not say which networks figure 3 has.",
        "The row of a network that was not trained is that of ImageNet's pooled features.",
        ...pretrainedDeviations,
        "Every domain is split by classes, trained on or not; the paper measures a whole domain where it was not trained on it.",
      ],
    },
    paper: {
      seeds: 1,
      data: ["glyphs", "glyphs:seed=7"],
      images: { imageSize: 224, channels: 3, split: { kind: "classes", validation: 0.1, test: 0.5 } },
      teacher: resnet(50, { stem: "imagenet", embedding: 512, normalize: true }),
      student: resnet(50, { stem: "imagenet", embedding: 512, normalize: false }),
      teacherTraining: paperTeacher,
      studentTraining: paperStudent,
      deviations: [
        ...paperDeviations,
        sameStart,
        "The row of a network that was not trained stands in the place of the paper's row of ImageNet's features, which it is where the networks start from those.",
        "The paper does not say which networks figure 3 has: its bar of the teacher is four points above the teacher of table 1.",
      ],
    },
  },
  own: { "Stanford Online Products": { teacherTraining: productsTeacher, studentTraining: productsStudent } },
  claims: [],
  published: [
    {
      title: "Paper, figure 3: trained on Cars 196, Recall@1, percent, read from the bars (± 0.4)",
      columns: ["Cars 196", "CUB-200-2011", "Stanford Dog", "CIFAR-100"],
      rows: {
        "RKD-DA": [86.2, 25.6, 40.9, 35.3],
        Triplet: [81.1, 42.2, 75.3, 42.5],
        Pretrained: [45.1, 48.4, 83.8, 50.7],
      },
    },
  ],
  build: ({ data: domains }) => ({
    rows: ["Untrained", ...domains.flatMap(({ name }) => [teacherOf(name), studentOf(name)])],
    columns: ["tested on"],
    figures: domains.map(({ name }) => figureOf(name)),
    claims: domains.flatMap(({ name }) => claimsOf(name, domains)),
    cell: ({ row, model }) => {
      const measure = Object.fromEntries(domains.map(({ name, data }) => [name, { data, ks: [1] }]));
      const own = domains.find(({ name }) => row === teacherOf(name) || row === studentOf(name));
      const { name, data, settings } = own ?? domains[0];
      const { teacher, student, teacherTraining, studentTraining, untrained: plain = teacher } = settings;
      if (row === "Untrained") {
        const { batch, batchNorm } = teacherTraining;
        const none = { ...untrained, ...(batchNorm && { batchNorm }) };
        return { train: { data, backbone: plain, losses: [triplet()], batch, ...none }, measure };
      }
      if (row === teacherOf(name)) {
        return { train: { data, backbone: teacher, ...teacherTraining }, measure };
      }
      const losses = [rkdDistance({ weight: 1 }), rkdAngle({ weight: 2 })];
      return { distill: { data, teacher: model(teacherOf(name)), student, losses, ...studentTraining }, measure };
    },
  }),
};

function teacherOf(domain: string): string {
  return `Triplet on ${domain}`;
}

function studentOf(domain: string): string {
  return `RKD-DA on ${domain}`;
}

function figureOf(domain: string): string {
  return `${domain}/recall@1`;
}

/** At home the student is ahead of its teacher, elsewhere behind. */
function claimsOf(home: string, domains: readonly Pick<NamedData<Settings>, "name">[]) {
  const [above, below] = [studentOf(home), teacherOf(home)];
  const away = domains.filter(({ name }) => name !== home).map(({ name }) => figureOf(name));
  const atHome = {
    says: `Trained on ${home}, RKD-DA is above its teacher there`,
    above,
    below,
    figures: [figureOf(home)],
  };
  const elsewhere = `Trained on ${home}, RKD-DA is below its teacher elsewhere`;
  return [atHome, ...(away.length > 0 ? [{ says: elsewhere, above: below, below: above, figures: away }] : [])];
}
