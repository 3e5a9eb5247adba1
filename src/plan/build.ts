/** Options -> plan: applies every default, checks what belongs together, and returns a JSON-able description of the run. */

import { RkdError } from "../errors.ts";
import type { Backbone } from "../options/backbone.ts";
import { backboneKinds } from "../options/backbone.ts";
import { boolean, integer, invalid, number, object, oneOf, or, path } from "../options/check.ts";
import { checkLoss } from "../options/loss-constructors.ts";
import {
  classKinds,
  imageKinds,
  type Loss,
  rkdAngle,
  rkdDistance,
  teacherKinds,
  triplet,
  unitKinds,
} from "../options/losses.ts";
import { adam } from "../options/optimizer.ts";
import type { Device, DistillOptions, RunOptions, TrainOptions } from "../options/run.ts";
import { cosine } from "../options/schedule.ts";
import { planData, toData } from "./data.ts";
import { findModel } from "./model.ts";
import type { BackbonePlan, DataPlan, EpisodePlan, Plan, Policy, TeacherPlan } from "./plan.ts";
import { planTuning, tuningKeys } from "./tuning.ts";

/** A run that is ready to start. */
export interface Job {
  readonly job: "train" | "distill";
  readonly plan: Plan;
  readonly policy: Policy;
  /** What the user should know before it starts, in full sentences. */
  readonly warnings: readonly string[];
}

const runKeys = [
  "data",
  "out",
  "overwrite",
  "optimizer",
  "schedule",
  "epochs",
  "stepsPerEpoch",
  "batch",
  "microBatch",
  "clipGradientNorm",
  "seed",
  "threads",
  "device",
  "evaluation",
  "keep",
  "patience",
  "checkpointEverySteps",
  "signal",
  "losses",
  ...tuningKeys,
] as const;

/** The job of `train(options)`. @throws {RkdError} that names the option */
export function planTrain(options: TrainOptions): Job {
  object<TrainOptions>("options", options, [...runKeys, "backbone"]);
  const losses = checkLosses(options.losses ?? [triplet()]);
  const relational = losses.find(({ kind }) => teacherKinds.includes(kind));
  if (relational) {
    throw invalid("losses", "losses without a teacher", relational.kind, "to distill from a teacher, use distill");
  }
  const data = planData(toData(required("data", options.data)));
  return job("train", options, losses, data, required("backbone", options.backbone), "backbone", null, []);
}

/** The job of `distill(options)`. @throws {RkdError} that names the option */
export function planDistill(options: DistillOptions): Job {
  object<DistillOptions>("options", options, [...runKeys, "teacher", "student", "teacherFeatures"]);
  const teacher = findModel("teacher", required("teacher", options.teacher));
  const losses = checkLosses(options.losses ?? [rkdDistance({ weight: 1 }), rkdAngle({ weight: 2 })]);
  const data = planData(toData(required("data", options.data)), teacher.input);
  const features = oneOf("teacherFeatures", or(options.teacherFeatures, "live"), ["live", "cached"]);
  const warnings = leak(teacher.run?.plan, data, options.seed ?? DEFAULT_SEED);
  const student = required("student", options.student);
  return job("distill", options, losses, data, student, "student", { model: teacher.file, features }, warnings);
}

const DEFAULT_SEED = 1;

function job(
  kind: Job["job"],
  options: RunOptions,
  losses: readonly Loss[],
  data: DataPlan,
  backbone: Backbone,
  backboneOption: string,
  teacher: TeacherPlan | null,
  warnings: readonly string[],
): Job {
  path("out", required("out", options.out));
  boolean("overwrite", or(options.overwrite, false));
  if (options.signal !== undefined && !(options.signal instanceof AbortSignal)) {
    throw invalid("signal", "an AbortSignal", options.signal);
  }
  const plan: Plan = {
    data,
    backbone: planBackbone(backboneOption, backbone, data, losses),
    ...planTuning(options),
    teacher,
    losses,
    optimizer: made("optimizer", or(options.optimizer, adam()), ["adam", "adam-w", "sgd"]),
    schedule: made("schedule", or(options.schedule, cosine()), ["constant", "cosine", "step"]),
    clipGradientNorm: optional(options.clipGradientNorm, (norm) => number("clipGradientNorm", norm, { over: 0 })),
    batch: planBatch(or(options.batch, {}), losses),
    microBatch: optional(options.microBatch, (images) => integer("microBatch", images, { from: 2 })),
    epochs: integer("epochs", or(options.epochs, 20), { from: 1, to: 1_000_000 }),
    stepsPerEpoch: optional(options.stepsPerEpoch, (steps) => integer("stepsPerEpoch", steps, { from: 1 })),
    seed: integer("seed", or(options.seed, DEFAULT_SEED), { from: 0 }),
    threads: checkThreads(options.threads),
    device: checkDevice(or(options.device, "auto")),
  };
  return { job: kind, plan, policy: planPolicy(options), warnings };
}

/** The threads option of every job. */
export function checkThreads(threads: number | undefined): number {
  return integer("threads", or(threads, 0), { from: 0, to: 1024 });
}

/** The K of Recall@K: unique and rising. */
export function checkKs(name: string, ks: readonly number[] | undefined): number[] {
  if (ks === undefined) return [1, 2, 4, 8];
  if (!Array.isArray(ks) || ks.length === 0) throw invalid(name, "a list of K, for example [1, 2, 4, 8]", ks);
  return [...new Set(ks.map((k, i) => integer(`${name}[${i}]`, k, { from: 1 })))].sort((a, b) => a - b);
}

function planPolicy(options: RunOptions): Policy {
  const evaluation = object<NonNullable<RunOptions["evaluation"]>>("evaluation", or(options.evaluation, {}), [
    "everyEpochs",
    "ks",
    "part",
  ]);
  const keep = oneOf("keep", or(options.keep, "best"), ["best", "last", "both"]);
  return {
    evaluateEveryEpochs: integer("evaluation.everyEpochs", or(evaluation.everyEpochs, 1), { from: 1 }),
    ks: checkKs("evaluation.ks", evaluation.ks),
    keep,
    chooseBy: oneOf("evaluation.part", or(evaluation.part, "validation"), ["validation", "test"]),
    patience: optional(options.patience, (patience) => integer("patience", patience, { from: 1 })),
    checkpointEverySteps: optional(options.checkpointEverySteps, (steps) =>
      integer("checkpointEverySteps", steps, { from: 1 }),
    ),
  };
}

function planBackbone(option: string, backbone: Backbone, data: DataPlan, losses: readonly Loss[]): BackbonePlan {
  const known = object<Backbone>(option, backbone, ["kind", "width", "hidden", "embedding", "normalize", "stem"]);
  return {
    kind: oneOf(`${option}.kind`, known.kind, backboneKinds),
    width: known.width ?? 64,
    hidden: known.hidden ?? [],
    stem: known.stem ?? (data.imageSize <= 64 ? "small" : "imagenet"),
    embedding: known.embedding ?? null,
    normalize: known.normalize ?? losses.some(({ kind }) => unitKinds.includes(kind)),
    inChannels: data.channels,
    imageSize: data.imageSize,
    classes: null,
  };
}

function planBatch(options: NonNullable<RunOptions["batch"]>, losses: readonly Loss[]): Plan["batch"] {
  object<NonNullable<RunOptions["batch"]>>("batch", options, ["size", "perClass", "episode"]);
  if (options.episode !== undefined) return planEpisodes(options, losses);
  const prototypes = losses.find(({ kind, weight }) => kind === "prototypical" && weight !== 0);
  if (prototypes) {
    const advice = "for example batch: { episode: { way: 5, shots: 1, queries: 5 } }";
    throw invalid("batch.episode", "an episode with prototypical", undefined, advice);
  }
  const size = integer("batch.size", or(options.size, 64), { from: 2, to: 65_536 });
  const usual = losses.every(({ kind }) => imageKinds.includes(kind)) ? null : Math.min(4, size);
  const wanted = options.perClass === undefined ? usual : options.perClass;
  const perClass = optional(wanted, (count) => integer("batch.perClass", count, { from: 1, to: size }));
  const classes = losses.find(({ kind, weight }) => classKinds.includes(kind) && weight !== 0);
  if (classes && (perClass === null || perClass < 2 || perClass >= size)) {
    const advice = "this loss needs two images of one class and one of another";
    throw invalid("batch.perClass", `2 to ${size - 1} with ${classes.kind}`, perClass, advice);
  }
  return { size, perClass, episode: null };
}

/** A batch that is an episode: its size follows from its shape. */
function planEpisodes(options: NonNullable<RunOptions["batch"]>, losses: readonly Loss[]): Plan["batch"] {
  for (const key of ["size", "perClass"] as const) {
    if (options[key] === undefined) continue;
    throw invalid(`batch.${key}`, "nothing beside batch.episode", options[key], "it follows from the episode");
  }
  const episode = planEpisode("batch.episode", options.episode);
  for (const loss of losses) {
    if (loss.kind !== "prototypical" || loss.weight === 0) continue;
    if (loss.way === episode.way && loss.supportCount === episode.shots) continue;
    const expected = `way ${loss.way} and shots ${loss.supportCount}, those of prototypical`;
    throw new RkdError("ERR_INVALID_OPTION", "the episode must be that of the loss", {
      subject: "batch.episode",
      expected,
      received: `way ${episode.way} and shots ${episode.shots}`,
    });
  }
  return { size: episode.way * (episode.shots + episode.queries), perClass: null, episode };
}

/** The shape of an episode. */
export function planEpisode(name: string, given: unknown): EpisodePlan {
  const { way, shots, queries } = object<EpisodePlan>(name, given, ["way", "shots", "queries"]);
  return {
    way: integer(`${name}.way`, way, { from: 2, to: 10_000 }),
    shots: integer(`${name}.shots`, shots, { from: 1, to: 10_000 }),
    queries: integer(`${name}.queries`, queries, { from: 1, to: 10_000 }),
  };
}

function checkLosses(losses: readonly Loss[]): readonly Loss[] {
  if (!Array.isArray(losses) || losses.length === 0) throw invalid("losses", "a list of at least one loss", losses);
  losses.forEach((loss, i) => {
    checkLoss(`losses[${i}]`, loss);
  });
  if (losses.every(({ weight }) => weight === 0)) throw invalid("losses", "a loss of weight greater than 0", 0);
  return losses.map((loss) => ({ weight: 1, ...loss }));
}

function checkDevice(device: Device): Plan["device"] {
  const known = oneOf("device", device, ["auto", "cpu", "candle-cpu", "cuda"]);
  if (known !== "cuda") return known === "auto" ? "cpu" : known;
  throw new RkdError("ERR_CUDA_UNAVAILABLE", "this build computes on the CPU only", {
    subject: "device",
    expected: '"auto", "cpu" or "candle-cpu"',
    received: '"cuda"',
    advice: 'use device "auto", which takes the best there is',
  });
}

/** A teacher that was trained on other classes of the same data knows classes that this run holds for its test. */
function leak(teacher: Plan | undefined, data: DataPlan, seed: number): readonly string[] {
  if (!teacher || teacher.data.source !== data.source) return [];
  const [own, its] = [data.split, teacher.data.split];
  if (own.kind === "source" && its.kind === "source") return []; // the test part is the source's
  const drawn = own.kind === "classes" || own.kind === "images";
  if (JSON.stringify(own) === JSON.stringify(its) && (!drawn || teacher.seed === seed)) return [];
  return [
    `The teacher was trained with seed ${teacher.seed} and split ${JSON.stringify(teacher.data.split)}, so it has seen ` +
      `images that this run (seed ${seed}) holds back for its test: its score will be too good. Use the same seed and split.`,
  ];
}

/** Something a constructor made: of one of its kinds. The core checks the fields once more. */
function made<T extends { readonly kind: string }>(name: string, value: T, kinds: readonly T["kind"][]): T {
  if (typeof value !== "object" || value === null) throw invalid(name, `what ${kinds.join("(), ")}() return`, value);
  oneOf(`${name}.kind`, value.kind, kinds);
  return value;
}

function required<T>(name: string, value: T | undefined): T {
  if (value === undefined || value === null) {
    throw new RkdError("ERR_INVALID_OPTION", "this option is needed", { subject: name });
  }
  return value;
}

function optional<T, R>(value: T | null | undefined, check: (value: T) => R): R | null {
  return value === null || value === undefined ? null : check(value);
}
