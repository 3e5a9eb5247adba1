/** The flags that say which teacher there is and how it is read. */

import { existsSync } from "node:fs";
import type { Command } from "commander";
import { RkdError } from "../errors.ts";
import { invalid, oneOf } from "../options/check.ts";
import type { OnnxOptions, ResumeOptions, Teacher } from "../protocol/protocol.ts";
import { add, defined, normalizationOf, toNumber, toNumbers } from "./options.ts";

/** As commander names them. */
export interface TeacherFlags {
  /** One or more. */
  teacher?: readonly string[];
  teacherWeight?: number[];
  teacherOutput?: string;
  teacherPooling?: OnnxOptions["pooling"];
  teacherImageSize?: number;
  teacherMean?: number[];
  teacherStd?: number[];
  teacherEngine?: OnnxOptions["engine"];
  onnxruntime?: string;
}

/** Adds them; `help` says what the teacher is for. */
export function addTeacherFlags(command: Command, help: string): Command {
  return command
    .optionsGroup("Teacher:")
    .option(
      "--teacher <path>",
      `${help}: a run's folder, a model.safetensors, an ONNX model or vectors; once for each of several`,
      add,
    )
    .option(
      "--teacher-weight <list>",
      "weights of several teachers, in their order, for example 2,1 (1 each)",
      toNumbers,
    )
    .option("--teacher-output <name>", "ONNX: the tensor that is the embedding (found out)")
    .option("--teacher-pooling <how>", "ONNX: class-token, mean-token or mean-pixel (class-token)")
    .option("--teacher-image-size <pixels>", "ONNX: side of its images, where the graph leaves it open (224)", toNumber)
    .option("--teacher-mean <list>", "ONNX: mean of each channel, for pixels from 0 to 1 (ImageNet's)", toNumbers)
    .option("--teacher-std <list>", "ONNX: standard deviation of each channel (ImageNet's)", toNumbers)
    .option("--teacher-engine <name>", "ONNX: rten, onnxruntime or auto (auto)")
    .option("--onnxruntime <file>", "onnxruntime's library ($RKD_ONNXRUNTIME, or an installed onnxruntime-node)");
}

/** The teachers, where any are given. Flags that say how one is read are of a single one. */
export function teachersOf(flags: TeacherFlags): (string | Teacher)[] | undefined {
  const { teacher: models, teacherWeight: weights, teacherMean: mean, teacherStd: std } = flags;
  const { teacherPooling, teacherEngine } = flags;
  const onnx: Partial<OnnxOptions> = defined({
    output: flags.teacherOutput,
    pooling: teacherPooling && oneOf("--teacher-pooling", teacherPooling, ["class-token", "mean-token", "mean-pixel"]),
    imageSize: flags.teacherImageSize,
    normalization: normalizationOf("teacher", mean, std),
    engine: teacherEngine && oneOf("--teacher-engine", teacherEngine, ["auto", "rten", "onnxruntime"]),
    onnxruntime: flags.onnxruntime,
  });
  const isRead = Object.keys(onnx).length > 0;
  if (models === undefined && !isRead && weights === undefined) return undefined;
  if (models === undefined) {
    const advice = "say which teacher: --teacher model.onnx";
    throw new RkdError("ERR_INVALID_OPTION", "this option is needed", { subject: "--teacher", advice });
  }
  if (weights && weights.length !== models.length) {
    throw invalid("--teacher-weight", `a weight for each --teacher, ${models.length}`, `${weights.length}`);
  }
  if (isRead && models.length > 1) {
    const advice = "say in code how each of several is read: teachers: [{ model, onnx: { ... } }]";
    throw invalid("--teacher", "one teacher beside flags that say how it is read", `${models.length} of them`, advice);
  }
  return models.map((model, place) => {
    const options = { ...(isRead && { onnx }), ...defined({ weight: weights?.[place] }) };
    return Object.keys(options).length > 0 ? { model, ...options } : model;
  });
}

/** Where teachers are now: a place, or places by name, `NAME=PLACE`. A place that is there is no name with one. */
export function placesOf(given: readonly string[] | undefined): ResumeOptions["teacher"] {
  if (given === undefined) return undefined;
  const [only, ...more] = given;
  const named = (text: string) => text.indexOf("=") > 0 && !existsSync(text);
  if (only !== undefined && more.length === 0 && !named(only)) return only;
  const strange = given.find((text) => !named(text));
  if (strange !== undefined) throw invalid("--teacher", "NAME=PLACE for each of several teachers", strange);
  return Object.fromEntries(given.map((text) => [text.slice(0, text.indexOf("=")), text.slice(text.indexOf("=") + 1)]));
}
