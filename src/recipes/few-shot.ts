/**
 * Tables 5 and 6 of the paper: a prototypical network (Snell et al. 2017) teaches another of its own architecture. The students
 * learn by the prototypical loss and by RKD, FitNet's hint on the embedding, or attention transfer; with RKD-D and RKD-A
 * together their sum is halved. Accuracy is over 1,000 random episodes of classes never trained on.
 *
 * On Omniglot one training serves the tests of one and of five shots: its episodes have one shot. Snell et al. train twice, each
 * time with the shots of the test; so does miniImageNet here, where it matters. The RKD weights of these tables are not
 * published; 50 and 100 stand in.
 */

import { existsSync } from "node:fs";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import type { Protocol } from "../experiment/options.ts";
import { conv4 } from "../options/backbone.ts";
import { attentionTransfer, hint, prototypical, rkdAngle, rkdDistance } from "../options/losses.ts";
import { adam } from "../options/optimizer.ts";
import { step } from "../options/schedule.ts";
import type { Backbone, Data, Loss, OptimizerOptions, Schedule } from "../protocol/protocol.ts";
import type { CommonSettings, Recipe } from "./recipe.ts";
import { sameStart } from "./training.ts";

interface Settings extends CommonSettings {
  readonly network: Backbone;
  /** Its last map of more than one pixel, for attention: on a single one there is no attention. */
  readonly map: string;
  readonly optimizer: OptimizerOptions;
  readonly schedule?: Schedule;
  readonly epochs: number;
  readonly stepsPerEpoch: number;
  readonly patience?: number;
  /** A training episode for tests with so many shots. */
  readonly episode: (shots: number) => { readonly way: number; readonly shots: number; readonly queries: number };
  /** The tests: ways by shots. */
  readonly ways: readonly number[];
  readonly shots: readonly number[];
  readonly test: { readonly queries: number; readonly episodes: number };
}

/** What each row adds to the prototypical loss; attention compares the feature `map`. */
function methods(map: string): Readonly<Record<string, readonly Loss[]>> {
  return {
    "RKD-D": [rkdDistance({ weight: 50 })],
    "RKD-DA": [rkdDistance({ weight: 25 }), rkdAngle({ weight: 50 })],
    FitNet: [hint()],
    Attention: [attentionTransfer({ studentFeature: map, teacherFeature: map, weight: 10 })],
  };
}

function halvedEvery(episodes: number): Schedule {
  return step({ milestones: Array.from({ length: 9 }, (_, i) => episodes * (i + 1)), factor: 0.5 });
}

const oneShot =
  "One training with one shot serves all tests; Snell et al. train anew with five shots for the tests of five.";

export const fewShot: Recipe<Settings> = {
  name: "few-shot",
  repeats:
    "tables 5 and 6: prototypical networks taught by their like, accuracy of 5- and 20-way, 1- and 5-shot episodes",
  scales: {
    smoke: {
      seeds: 1,
      data: ["glyphs:classes=20,writers=8"],
      images: { rotations: true, augment: "none", split: { kind: "classes", validation: 0.1, test: 0.4 } },
      network: conv4({ width: 4, embedding: null }),
      map: "blocks.2",
      optimizer: adam(),
      epochs: 2,
      stepsPerEpoch: 3,
      episode: () => ({ way: 4, shots: 1, queries: 2 }),
      ways: [5, 20],
      shots: [1, 5],
      test: { queries: 2, episodes: 20 },
      deviations: ["Runs of seconds, to see that everything works; the figures mean nothing."],
    },
    small: {
      seeds: 3,
      data: ["glyphs"],
      images: {
        imageSize: 28,
        rotations: true,
        augment: "none",
        split: { kind: "classes", validation: 0.1, test: 0.2 },
      },
      network: conv4({ embedding: null }),
      map: "blocks.2",
      optimizer: adam(),
      epochs: 20,
      stepsPerEpoch: 100,
      episode: () => ({ way: 30, shots: 1, queries: 5 }),
      ways: [5, 20],
      shots: [1, 5],
      test: { queries: 5, episodes: 1000 },
      deviations: [
        "2,000 training episodes of 30 classes with a cosine schedule; the paper follows Snell et al., who have 60.",
        oneShot,
        sameStart,
      ],
    },
    paper: {
      seeds: 1,
      data: ["glyphs"],
      images: {
        imageSize: 28,
        rotations: true,
        augment: "none",
        split: { kind: "classes", validation: 0.1, test: 0.2 },
      },
      network: conv4({ embedding: null }),
      map: "blocks.2",
      optimizer: adam(),
      schedule: halvedEvery(600),
      epochs: 48,
      stepsPerEpoch: 100,
      patience: 8,
      episode: () => ({ way: 60, shots: 1, queries: 5 }),
      ways: [5, 20],
      shots: [1, 5],
      test: { queries: 15, episodes: 1000 },
      deviations: [
        "The settings are those of Omniglot: 28 pixels, turns as classes, 60 classes an episode, Adam 1e-3. The rate is halved every 600 episodes, and training ends after 4,800 or when the validation has been no better for 800; Snell et al. halve it every 2,000 and train until the validation is no better.",
        oneShot,
        sameStart,
        "Images are resized by an antialiased Lanczos filter; the filter of the published figures is the default of an older library.",
        "The weights of RKD in these tables are not published; 50 for RKD-D, and for RKD-DA half of 50 and 100, stand in.",
        "Recall@1 of the validation classes chooses the weights and the end of training, where Snell et al. go by the loss of their episodes, and then train anew with the validation classes among the others.",
      ],
    },
  },
  own: {
    miniImageNet: {
      images: {
        imageSize: 84,
        channels: 3,
        augment: "none",
        split: { kind: "classes", validation: 0.16, test: 0.2 },
      },
      map: "blocks.3",
      schedule: halvedEvery(2000),
      epochs: 200,
      patience: 40,
      episode: (shots) => ({ way: shots === 1 ? 30 : 20, shots, queries: 15 }),
      ways: [5],
      test: { queries: 15, episodes: 600 },
      deviations: [
        "The settings are those of miniImageNet: 84 pixels, 30 classes an episode with one shot and 20 with five, 15 queries, Adam 1e-3 halved every 2,000 episodes, until the validation is no better for 4,000 episodes.",
        "The weights of RKD in these tables are not published; 50 for RKD-D, and for RKD-DA half of 50 and 100, stand in.",
        "Recall@1 of the validation classes chooses the weights and the end of training, where Snell et al. go by the loss of their episodes.",
      ],
    },
  },
  claims: [
    { says: "RKD-D is above its teacher", above: "RKD-D", below: "Teacher" },
    { says: "RKD-DA is above its teacher", above: "RKD-DA", below: "Teacher" },
    { says: "RKD-DA is above FitNet", above: "RKD-DA", below: "FitNet" },
    { says: "RKD-DA is above attention transfer", above: "RKD-DA", below: "Attention" },
  ],
  published: [
    {
      title: "Paper, table 5: Omniglot, accuracy, percent",
      columns: ["5-way 1-shot", "5-way 5-shot", "20-way 1-shot", "20-way 5-shot"],
      rows: {
        Teacher: [98.55, 99.56, 95.11, 98.68],
        "RKD-D": [98.58, 99.65, 95.45, 98.72],
        "RKD-DA": [98.64, 99.64, 95.52, 98.67],
      },
    },
    {
      title: "Paper, table 6: miniImageNet, accuracy, percent",
      columns: ["5-way 1-shot", "5-way 5-shot"],
      rows: {
        Teacher: ["49.10 ± 0.82", "66.87 ± 0.66"],
        "RKD-D": ["49.66 ± 0.84", "67.07 ± 0.67"],
        "RKD-DA": ["50.02 ± 0.83", "68.16 ± 0.67"],
        FitNet: ["50.38 ± 0.81", "68.08 ± 0.65"],
        Attention: ["34.67 ± 0.65", "46.21 ± 0.70"],
      },
    },
  ],
  build: ({ data: [first], protocol }) => {
    const { network, map, optimizer, schedule, epochs, stepsPerEpoch, patience, episode, ways, shots, test } =
      first.settings;
    const students = methods(map);
    const data = withLists(first.data, protocol);
    const tests = ways.flatMap((way) => shots.map((shot) => ({ way, shots: shot, name: `${way}-way ${shot}-shot` })));
    return {
      rows: ["Teacher", ...Object.keys(students)],
      columns: tests.map(({ name }) => name),
      figures: ["accuracy"],
      cell: ({ row, column, model }) => {
        const { way, shots: shot } = tests.find(({ name }) => name === column) ?? { way: 5, shots: 1 };
        const training = episode(shot);
        const task = prototypical({ supportCount: training.shots, way: training.way });
        const batch = { episode: training };
        const length = { epochs, stepsPerEpoch, ...(patience && { patience }), ...(schedule && { schedule }) };
        const common = { data, optimizer, batch, ...length, evaluation: { ks: [1] } };
        const served = tests.filter(({ shots }) => isDeepStrictEqual(episode(shots), training));
        const fewShot = served.map(({ way, shots }) => ({ way, shots, ...test }));
        const shown = {
          measure: { episodes: { fewShot, ks: [1] } },
          figures: { accuracy: `episodes/fewshot/${way}-way-${shot}-shot` },
        };
        if (row === "Teacher") return { train: { ...common, backbone: network, losses: [task] }, ...shown };
        const losses = [task, ...(students[row] ?? [])];
        return { distill: { ...common, teacher: model("Teacher"), student: network, losses }, ...shown };
      },
    };
  },
};

/** The lists of Vinyals et al., where they lie beside the images in `splits/`. Where the test chooses, all others train. */
function withLists(data: Data, protocol: Protocol): Data {
  const list = (part: string) => join(String(data.source), "splits", `${part}.txt`);
  if (!["train", "val", "trainval", "test"].every((part) => existsSync(list(part)))) return data;
  const parts = protocol === "honest" ? { train: list("train"), validation: list("val") } : { train: list("trainval") };
  return { ...data, split: { kind: "lists", ...parts, test: list("test") } };
}
