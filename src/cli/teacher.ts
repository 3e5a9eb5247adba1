/** The flags that say which teacher there is and how it is read. */

import type { Command } from "commander";
import { RkdError } from "../errors.ts";
import { invalid, oneOf } from "../options/check.ts";
import type { OnnxOptions, Teacher } from "../protocol/protocol.ts";
import { defined, toNumber, toNumbers } from "./options.ts";

/** As commander names them. */
export interface TeacherFlags {
  teacher?: string;
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
    .option("--teacher <path>", `${help}: a run's folder, a model.safetensors or an ONNX model`)
    .option("--teacher-output <name>", "ONNX: the tensor that is the embedding (found out)")
    .option("--teacher-pooling <how>", "ONNX: class-token, mean-token or mean-pixel (class-token)")
    .option("--teacher-image-size <pixels>", "ONNX: side of its images, where the graph leaves it open (224)", toNumber)
    .option("--teacher-mean <list>", "ONNX: mean of each channel, for pixels from 0 to 1 (ImageNet's)", toNumbers)
    .option("--teacher-std <list>", "ONNX: standard deviation of each channel (ImageNet's)", toNumbers)
    .option("--teacher-engine <name>", "ONNX: rten, onnxruntime or auto (auto)")
    .option("--onnxruntime <file>", "onnxruntime's library ($RKD_ONNXRUNTIME, or an installed onnxruntime-node)");
}

/** The teacher, where one is given. */
export function teacherOf(flags: TeacherFlags): string | Teacher | undefined {
  const { teacher: model, teacherMean: mean, teacherStd: std, teacherPooling, teacherEngine } = flags;
  if ((mean === undefined) !== (std === undefined)) {
    throw invalid(mean ? "--teacher-std" : "--teacher-mean", "both or neither", "one of them");
  }
  const onnx: Partial<OnnxOptions> = defined({
    output: flags.teacherOutput,
    pooling: teacherPooling && oneOf("--teacher-pooling", teacherPooling, ["class-token", "mean-token", "mean-pixel"]),
    imageSize: flags.teacherImageSize,
    normalization: mean && std && { mean, std },
    engine: teacherEngine && oneOf("--teacher-engine", teacherEngine, ["auto", "rten", "onnxruntime"]),
    onnxruntime: flags.onnxruntime,
  });
  if (Object.keys(onnx).length === 0) return model;
  if (model !== undefined) return { model, onnx };
  const advice = "say which teacher: --teacher model.onnx";
  throw new RkdError("ERR_INVALID_OPTION", "this option is needed", { subject: "--teacher", advice });
}
