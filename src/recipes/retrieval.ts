/**
 * Figure 4 of the paper: for some queries, the eight nearest neighbours by the teacher and by the student, right and wrong
 * marked. The paper shows one query of each data set on which the student wins; here queries are drawn by the seed.
 */

import { conv4, resnet } from "../options/backbone.ts";
import { rkdAngle, rkdDistance } from "../options/losses.ts";
import type { Backbone } from "../protocol/protocol.ts";
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
  readonly student: Backbone;
  readonly teacherTraining: TeacherTraining;
  readonly studentTraining: TrainingOfSteps;
  readonly queries: number;
}

const [teacherRow, studentRow] = ["Triplet teacher", "RKD-DA student"];

export const retrieval: Recipe<Settings> = {
  name: "retrieval",
  repeats: "figure 4: the nearest neighbours of some queries by teacher and student, as pictures",
  scales: {
    smoke: {
      seeds: 1,
      data: ["glyphs:classes=20,writers=8"],
      teacher: conv4({ width: 8, embedding: 16, normalize: true }),
      student: conv4({ width: 4, embedding: 8, normalize: false }),
      teacherTraining: byTriplet(smokeTraining),
      studentTraining: smokeTraining,
      queries: 2,
      deviations: ["Runs of seconds, to see that everything works; the figures mean nothing."],
    },
    small: {
      seeds: 1,
      data: ["glyphs"],
      images: { imageSize: 32, split: { kind: "classes", validation: 0.1, test: 0.4 } },
      ...onlyMirrored,
      teacher: smallNetworks.teacher,
      student: smallNetworks.student({ normalize: false }),
      teacherTraining: smallTeacher,
      studentTraining: smallTraining(2e-3),
      queries: 12,
      deviations: [networksDeviation, "Images of 32 pixels; the paper has 224.", teacherDeviation, mirroredDeviation],
    },
    paper: {
      seeds: 1,
      data: ["glyphs"],
      images: { imageSize: 224, channels: 3, split: { kind: "classes", validation: 0.1, test: 0.5 } },
      teacher: resnet(50, { stem: "imagenet", embedding: 512, normalize: true }),
      student: resnet(50, { stem: "imagenet", embedding: 512, normalize: false }),
      teacherTraining: paperTeacher,
      studentTraining: paperStudent,
      queries: 12,
      deviations: paperDeviations,
    },
  },
  own: { "Stanford Online Products": { teacherTraining: productsTeacher, studentTraining: productsStudent } },
  claims: [{ says: "The student is above its teacher", above: studentRow, below: teacherRow }],
  published: [
    {
      title: "Paper, figure 4: right ones among the eight nearest neighbours of a query that the authors chose",
      columns: ["CUB-200-2011", "Cars 196"],
      rows: { [teacherRow]: [0, 0], [studentRow]: [7, 4] },
    },
  ],
  build: ({ data: [{ name, data, settings }] }) => ({
    rows: [teacherRow, studentRow],
    columns: [name],
    figures: ["recall@1", "recall@8"],
    gallery: { rows: [teacherRow, studentRow], queries: settings.queries, k: 8 },
    cell: ({ row, model }) => {
      const { teacher, student, teacherTraining, studentTraining } = settings;
      if (row === teacherRow) return { train: { data, backbone: teacher, ...teacherTraining } };
      const losses = [rkdDistance({ weight: 1 }), rkdAngle({ weight: 2 })];
      return { distill: { data, teacher: model(teacherRow), student, losses, ...studentTraining } };
    },
  }),
};
