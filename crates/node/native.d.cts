// The head of dist/native/index.d.cts: what comes and goes, in the types that are made from the core's.
import type {
  BenchPlan, BenchReport, CudaReport, Data, DataSurvey, EmbedOptions, EmbedPlan, EmbedReport, EvaluateOptions, Evaluation, Event, ExportOptions, ExportReport, Fidelity,
  FidelityOptions, Job, LoadModelOptions, LoadedModel, Loss, MemoryLimits, MergeOptions, MergeReport, NeighboursOptions, OptionPart, Part, Plan, Policy, ProfileReport, ResolvedRun, ResumeOptions,
  Retrieval, RkdErrorCode, SegmentReport, SessionStart, SessionSummary, Teacher, TeacherReport, VectorOptions,
} from "./protocol.js" with { "resolution-mode": "import" };

/** The JSON text of a `T`. */
export type Json<T> = string & { readonly of?: T };

/** A result, or why there is none. */
export type Reply<T> =
  | { readonly value: Json<T>; readonly error?: undefined }
  | { readonly value?: undefined; readonly error: BindingError };

