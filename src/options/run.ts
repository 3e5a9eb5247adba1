/** What `train`, `distill`, `evaluate`, `embed`, `neighbours` and `exportModel` take: the core's options, and how they are stopped. */

import type { Embeddings } from "../artefacts/embeddings.ts";
import type * as protocol from "../protocol/protocol.ts";
import type { ReporterGiven } from "./reporter.ts";

/** What only TypeScript has. */
interface Stopped {
  /** Stops the job, a run at the next step boundary after a clean checkpoint; it rejects with `signal.reason`. */
  readonly signal?: AbortSignal;
}

/** What of a run is shown to people and told to other programs; a run is the same with it and without. */
export interface Shown {
  /** Whether the run ends with a page about it, `report.html` in its folder. @default true */
  readonly report?: boolean;
  /** Who is told of every event: what `csv()`, `tensorboard()` and `mlflow()` make, or a function. @default none */
  readonly reporters?: readonly ReporterGiven[];
}

/** Those options of the core that only one of `train` and `distill` takes. */
type OfOne = "backbone" | "student" | "teacher" | "teachers" | "teacherFeatures" | "acceptChangedData" | "baseline";

/** What `train` and `distill` share. */
export type RunOptions = Omit<protocol.RunOptions, OfOne> & Stopped & Shown;

/** What `train` takes. */
export interface TrainOptions extends RunOptions {
  /** The network. */
  readonly backbone: protocol.Backbone;
}

/** A teacher: the folder of a finished run, a `model.safetensors`, an ONNX model or stored vectors; or that with how it is
 * read; or the rows of a database. */
export type TeacherGiven = string | URL | protocol.Teacher | Embeddings;

/** What `distill` takes. One of `teacher` and `teachers` is needed, but where the data are vectors. */
export interface DistillOptions
  extends RunOptions,
    Pick<protocol.RunOptions, "student" | "teacherFeatures" | "acceptChangedData" | "baseline"> {
  /** The teacher. @default of data that are vectors they themselves */
  readonly teacher?: TeacherGiven;
  /**
   * Several teachers, in place of `teacher`; up to eight of them may be rows. A term that compares with a teacher is the average over
   * all, by their weights, or of the one that it names: `rkdAngle({ teacher: "dinov2" })`.
   */
  readonly teachers?: readonly TeacherGiven[];
}

/** What `resume` takes besides the folder. */
export interface ResumeOptions extends protocol.ResumeOptions, Stopped, Shown {}

/** What `evaluate` takes. */
export interface EvaluateOptions extends Omit<protocol.EvaluateOptions, "teacher" | "teachers">, Stopped {
  /**
   * What the model's relations are compared with, as `distill` takes it; `null` is nothing. Without labels it is needed.
   * @default null; without labels the run's own teachers
   */
  readonly teacher?: TeacherGiven | null;
  /** Several teachers, in place of `teacher`. Without labels the metrics are the averages over them, by their weights. */
  readonly teachers?: readonly TeacherGiven[];
}

/** What `neighbours` takes. */
export interface NeighboursOptions extends protocol.NeighboursOptions, Stopped {}

/** What `embed` takes. */
export interface EmbedOptions extends protocol.EmbedOptions, Stopped {}

/** What `mergeShards` takes. */
export interface MergeOptions extends protocol.MergeOptions, Stopped {}

/** What `exportModel` takes. */
export interface ExportOptions extends Omit<protocol.ExportOptions, "teacher" | "teachers">, Stopped {
  /**
   * What the model's relations are compared with, as `distill` takes it; `null` is nothing.
   * @default the run's own teachers, those that are still there
   */
  readonly teacher?: TeacherGiven | null;
  /** Several teachers, in place of `teacher`. */
  readonly teachers?: readonly TeacherGiven[];
}
