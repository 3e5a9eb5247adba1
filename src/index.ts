/** `rkd`: relational knowledge distillation (Park et al., CVPR 2019). The public API, and nothing else. */

export type { Embedding, Embeddings } from "./artefacts/embeddings.ts";
export { distill } from "./distill.ts";
export { embed, mergeShards } from "./embed.ts";
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
  BaselineEvent,
  CheckpointEvent,
  CollapseEvent,
  DataEvent,
  DistillResult,
  EarlyStopEvent,
  EndEvent,
  EpochRecord,
  EvaluationEvent,
  Finding,
  Metrics,
  RunEvent,
  StartEvent,
  StepEvent,
  StepRecord,
  TeacherVerdict,
  TrainResult,
  Verdict,
  VerdictRow,
  WarningEvent,
  WeightsEvent,
} from "./events.ts";
export type {
  ExperimentCellEvent,
  ExperimentEndEvent,
  ExperimentEvent,
  ExperimentPlanEvent,
  ExperimentProgressEvent,
  ExperimentWarningEvent,
} from "./experiment/events.ts";
export { experiment } from "./experiment/experiment.ts";
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
export { exportModel } from "./export.ts";
export {
  type EmbedCallOptions,
  type ImageInput,
  type LoadModelOptions,
  loadModel,
  type Model,
  type RawImage,
} from "./load-model.ts";
export { type Neighbours, neighbours, type Picture } from "./neighbours.ts";
export {
  type BackboneOptions,
  conv4,
  efficientnet,
  efficientnetLite,
  googlenet,
  type MlpOptions,
  mlp,
  mobilenetV2,
  mobilenetV3,
  resnet,
  type StemOptions,
  vgg,
  vit,
} from "./options/backbone.ts";
export {
  cifar100,
  type DataOptions,
  type GlyphsOptions,
  glyphs,
  idx,
  imageFolder,
  omniglot,
} from "./options/data.ts";
export * from "./options/losses.ts";
export { adam, adamW, type ConstantsOf, sgd } from "./options/optimizer.ts";
export type { Reporter, ReporterGiven, RunEnding } from "./options/reporter.ts";
export type {
  DistillOptions,
  EmbedOptions,
  EvaluateOptions,
  ExportOptions,
  MergeOptions,
  NeighboursOptions,
  ResumeOptions,
  RunOptions,
  TeacherGiven,
  TrainOptions,
} from "./options/run.ts";
export { constant, cosine, type StepOptions, step } from "./options/schedule.ts";
export { type TwoStagesOptions, twoStages } from "./options/two-stages.ts";
export type {
  Augment,
  Backbone,
  BackboneKind,
  BrokenImage,
  ChosenWeight,
  Cosine,
  Data,
  DeviceOption,
  Dtype,
  EmbedReport,
  EngineChoice,
  Episode,
  Evaluation,
  ExportedFile,
  ExportedModel,
  ExportInput,
  ExportReport,
  ExportTarget,
  FewShot,
  Fidelity,
  FidelityOptions,
  Labels,
  Loss,
  LossOptions,
  MergeReport,
  Negatives,
  NetworkSummary,
  Normalization,
  OnnxOptions,
  Optimizer,
  OptimizerOptions,
  PartSize,
  Plan,
  PlanFile,
  Policy,
  Precision,
  PrefixEvaluation,
  Reduction,
  Schedule,
  ScheduleOptions,
  ShardOptions,
  Split,
  Teacher,
  TeacherFidelity,
  TeacherSummary,
  TeacherTermOptions,
  TermOptions,
  TermValue,
  VectorOptions,
  Weight,
  WeightCourse,
  Weights,
  WrittenShard,
} from "./protocol/protocol.ts";
export { type ReproduceOptions, recipeNames } from "./recipes/plan.ts";
export type { Scale } from "./recipes/recipe.ts";
export { reproduce } from "./recipes/reproduce.ts";
export type { GalleryImage, GalleryNeighbour, GalleryQuery } from "./report/pictures.ts";
export { type ReportOptions, report } from "./report-page.ts";
export { type CsvOptions, csv } from "./reporters/csv.ts";
export { type MlflowOptions, mlflow } from "./reporters/mlflow.ts";
export { type TensorBoardOptions, tensorboard } from "./reporters/tensorboard.ts";
export { resume } from "./resume.ts";
export {
  type LabelledVectors,
  mapAtR,
  type Neighbour,
  nearest,
  type RetrievalOptions,
  readVectors,
  recallAtK,
  relationFidelity,
  rPrecision,
  type StoredVectors,
  type Vectors,
  type VectorTable,
} from "./retrieval.ts";
export type { Run } from "./run/run.ts";
export { train } from "./train.ts";
export { version } from "./version.ts";
export { type WatchEvent, type WatchOptions, watchRun } from "./watch.ts";
