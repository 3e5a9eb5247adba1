/** The types of the public API: what must compile, and what must not. Checked by `tsc`, never run. */

import {
  adam,
  angular,
  attentionTransfer,
  contrastive,
  conv4,
  correlationCongruence,
  crossEntropy,
  type DistillResult,
  distill,
  evaluate,
  evaluateLoss,
  glyphs,
  hardDarkRank,
  imageFolder,
  type Loss,
  liftedStructure,
  margin,
  nPairs,
  prototypical,
  RkdError,
  type RunEvent,
  resnet,
  rkdAngle,
  rkdDistance,
  sgd,
  similarityPreserving,
  type TrainResult,
  train,
  triplet,
  tripletEuclidean,
} from "../../src/index.ts";

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
function same<_T extends true>(): void {}

export async function everything(signal: AbortSignal): Promise<void> {
  const run = distill({
    teacher: "runs/teacher",
    student: resnet(18, { embedding: 64 }),
    data: imageFolder("photos"),
    losses: [rkdDistance({ weight: 1 }), rkdAngle({ weight: 2 })],
    optimizer: adam({ learningRate: 1e-4 }),
    epochs: 80,
    batch: { size: 128, perClass: 5 },
    seed: 1,
    device: "auto",
    precision: "bf16",
    out: "runs/student",
    signal,
  });
  for await (const event of run) {
    same<Equal<typeof event, RunEvent>>();
    switch (event.type) {
      case "start":
      case "data":
      case "evaluation":
      case "checkpoint":
      case "baseline":
      case "collapse":
      case "earlyStop":
      case "warning":
      case "weights":
      case "end":
        break;
      case "step":
        same<Equal<typeof event.loss, number>>();
        break;
      default:
        event satisfies never; // the union is closed
    }
  }
  const result = await run;
  same<Equal<typeof result, DistillResult>>();
  same<Equal<(typeof result.verdict.teachers)[number]["gapClosed"][string], number | null>>();

  train({ data: "glyphs", backbone: conv4(), out: "x", batch: { episode: { way: 5, shots: 1, queries: 5 } } });
  evaluate({
    model: "x",
    fewShot: [
      { way: 5, shots: 1 },
      { way: 20, shots: 5, queries: 5, episodes: 100 },
    ],
  });
  // @ts-expect-error an episode has queries
  train({ data: "glyphs", backbone: conv4(), out: "x", batch: { episode: { way: 5, shots: 1 } } });

  await using trained = train({ data: "glyphs", backbone: conv4(), out: "x" });
  same<Equal<Awaited<typeof trained>, TrainResult>>();
  same<Equal<Awaited<ReturnType<typeof evaluate>>["metrics"][string], number>>();
}

export function everyLoss(): readonly Loss[] {
  return [
    rkdDistance({ weight: 1, delta: 1, reduction: "distinct" }),
    rkdAngle(),
    hardDarkRank({ alpha: 3, beta: 3, permuteLength: 4 }),
    similarityPreserving({ weight: 3000, studentFeature: "layer4" }),
    correlationCongruence({ kernel: "gaussian-rbf", gamma: 0.4, order: 2 }),
    triplet({ margin: 0.2, negatives: "distance-weighted", uniformWhenUnderflow: true }),
    tripletEuclidean({ negatives: "semi-hard" }),
    contrastive({ margin: 0.2, negatives: "all" }),
    liftedStructure({ margin: 1 }),
    nPairs({ l2: 0.02 }),
    angular({ degrees: 45 }),
    margin({ beta: 1.2, alpha: 0.2, learnBeta: true }),
    crossEntropy({ labelSmoothing: 0.1 }),
    prototypical({ supportCount: 1, way: 5 }),
  ];
}

export function mistakes(): void {
  // @ts-expect-error several teachers are a list
  distill({ teachers: "runs/a", student: conv4(), data: glyphs(), out: "x" });
  // @ts-expect-error a triplet compares with no teacher
  triplet({ teacher: "dinov2" });
  // @ts-expect-error an option that does not exist
  train({ data: "glyphs", backbone: conv4(), out: "x", epoch: 3 });
  // @ts-expect-error a depth that does not exist
  resnet(152);
  // @ts-expect-error a negative that does not exist
  triplet({ negatives: "easy" });
  // @ts-expect-error lifted structure takes all negatives
  liftedStructure({ negatives: "hard" });
  // @ts-expect-error an episode has a way
  prototypical({ supportCount: 5 });
  // @ts-expect-error a loss that does not exist
  evaluateLoss({ kind: "rkd-angel" }, { student: { data: [1], shape: [1, 1] } });
  // @ts-expect-error attention needs the name of a tap
  attentionTransfer();
  // @ts-expect-error a triplet compares with no teacher
  triplet({ teacherFeature: "pooled" });
  // @ts-expect-error Adam has no momentum
  adam({ momentum: 0.9 });
  train({ data: "glyphs", backbone: conv4(), out: "x", device: "cuda:1" });
  // @ts-expect-error a device that does not exist
  train({ data: "glyphs", backbone: conv4(), out: "x", device: "gpu" });
  // @ts-expect-error a precision that does not exist
  train({ data: "glyphs", backbone: conv4(), out: "x", precision: "fp16" });
  // @ts-expect-error a network is an object
  train({ data: "glyphs", backbone: "conv4", out: "x", optimizer: sgd() });
}

export function codes(error: RkdError): boolean {
  // @ts-expect-error a code that does not exist
  if (error.code === "ERR_WHATEVER") return true;
  return error instanceof RkdError && error.code === "ERR_NON_FINITE";
}
