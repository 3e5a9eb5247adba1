/** `rkd`: relational knowledge distillation (Park et al., CVPR 2019). The public API, and nothing else. */

export { distill } from "./distill.ts";
export { embed } from "./embed.ts";
export { RkdError, type RkdErrorCode, type RkdErrorDetails } from "./errors.ts";
export { type EvaluateResult, evaluate } from "./evaluate.ts";
export {
  type EvaluateLossOptions,
  evaluateLoss,
  type LossInputs,
  type LossValue,
  type TensorInput,
} from "./evaluate-loss.ts";
export type {
  ExperimentCellEvent,
  ExperimentEndEvent,
  ExperimentEvent,
  ExperimentPlanEvent,
  ExperimentProgressEvent,
  ExperimentWarningEvent,
} from "./experiment/events.ts";
export { experiment } from "./experiment/experiment.ts";
export type { GalleryImage, GalleryNeighbour, GalleryQuery } from "./experiment/gallery.ts";
export type {
  Cell,
  CellContext,
  Claim,
  ExperimentOptions,
  Measure,
  Protocol,
  PublishedTable,
} from "./experiment/options.ts";
export type { ClaimResult, ExperimentResult, ResultCell, ResultRow, ResultRun } from "./experiment/result.ts";
export type { Difference, Judgement, Spread } from "./experiment/statistics.ts";
export type { EmbedReport } from "./native/session.ts";
export { type Neighbours, type NeighboursOptions, neighbours, type Picture } from "./neighbours.ts";
export {
  type Backbone,
  type BackboneOptions,
  conv4,
  googlenet,
  type MlpOptions,
  mlp,
  type OutputOptions,
  resnet,
  type StemOptions,
  vgg,
} from "./options/backbone.ts";
export {
  type Augment,
  cifar100,
  type Data,
  type DataOptions,
  type GlyphsOptions,
  glyphs,
  idx,
  imageFolder,
  omniglot,
  type Split,
} from "./options/data.ts";
export {
  type AttentionTransferLoss,
  type AttentionTransferOptions,
  attentionTransfer,
  type FeatureLoss,
  type FeatureOptions,
  featureRegression,
  type HintLoss,
  type HintOptions,
  hint,
  linearHint,
  type SoftTargetKlLoss,
  type SoftTargetKlOptions,
  softTargetKl,
  type TwoStagesOptions,
  twoStages,
} from "./options/feature-losses.ts";
export {
  type AngularLoss,
  type AngularOptions,
  angular,
  type ContrastiveLoss,
  type ContrastiveOptions,
  type CorrelationCongruenceLoss,
  type CorrelationCongruenceOptions,
  type CorrelationKernel,
  type CrossEntropyLoss,
  type CrossEntropyOptions,
  contrastive,
  correlationCongruence,
  crossEntropy,
  type HardDarkRankLoss,
  type HardDarkRankOptions,
  hardDarkRank,
  type LiftedStructureLoss,
  type LiftedStructureOptions,
  type Loss,
  liftedStructure,
  type MarginLoss,
  type MarginOptions,
  margin,
  type Negatives,
  type NegativesOptions,
  type NPairsLoss,
  type NPairsOptions,
  nPairs,
  type PrototypicalLoss,
  type PrototypicalOptions,
  prototypical,
  type RelationalLoss,
  type RelationalOptions,
  rkdAngle,
  rkdDistance,
  type SimilarityPreservingLoss,
  similarityPreserving,
  type TripletLoss,
  type TripletOptions,
  triplet,
  tripletEuclidean,
} from "./options/losses.ts";
export { type AdamOptions, adam, adamW, type Optimizer, type SgdOptions, sgd } from "./options/optimizer.ts";
export type {
  Device,
  DistillOptions,
  EmbedOptions,
  Episode,
  EvaluateOptions,
  FewShot,
  RunOptions,
  TrainOptions,
} from "./options/run.ts";
export {
  type ConstantOptions,
  type CosineOptions,
  constant,
  cosine,
  type Schedule,
  type StepOptions,
  step,
} from "./options/schedule.ts";
export type { TeacherTermOptions, TermOptions, Weight, WeightCourse } from "./options/term.ts";
export type { TuningOptions, Weights } from "./options/weights.ts";
export { type ReproduceOptions, recipeNames } from "./recipes/plan.ts";
export type { Scale } from "./recipes/recipe.ts";
export { reproduce } from "./recipes/reproduce.ts";
export { type ResumeOptions, resume } from "./resume.ts";
export type {
  CheckpointEvent,
  ChosenWeight,
  CollapseEvent,
  DataEvent,
  DistillResult,
  EndEvent,
  EpochRecord,
  Evaluation,
  EvaluationEvent,
  Fidelity,
  Metrics,
  NetworkSummary,
  PartSize,
  RunEvent,
  StartEvent,
  StepEvent,
  TermValue,
  TrainResult,
  Verdict,
  VerdictRow,
  WarningEvent,
  WeightsEvent,
} from "./run/events.ts";
export type { Run } from "./run/run.ts";
export { train } from "./train.ts";
export { version } from "./version.ts";
