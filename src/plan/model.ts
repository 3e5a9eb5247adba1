/** Finds a stored model and what is known about it: its own header, and the plan of the run that wrote it. */

import { closeSync, openSync, readSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import { files, readPlanFile } from "../artefacts/run-folder.ts";
import { RkdError } from "../errors.ts";
import { path } from "../options/check.ts";
import type { PlanFile } from "./plan.ts";

/** A model on disk. */
export interface StoredModel {
  /** Absolute path of the safetensors file. */
  readonly file: string;
  /** Input it takes, where its header says so. */
  readonly input: { readonly imageSize: number; readonly channels: number } | undefined;
  /** The run that wrote it, where it stands in a run's folder. */
  readonly run: PlanFile | undefined;
}

/**
 * Finds the model at `location`: the folder of a finished run, or a `.safetensors` file.
 * @throws {RkdError} `ERR_NOT_FOUND` that says whether the run is missing, unfinished or elsewhere
 */
export function findModel(option: string, location: string): StoredModel {
  const given = resolve(path(option, location));
  const stat = statSync(given, { throwIfNoEntry: false });
  if (!stat) {
    const advice = "give the folder of a finished run or a model.safetensors";
    throw new RkdError("ERR_NOT_FOUND", `${option}: there is no such folder or file`, { subject: location, advice });
  }
  const file = stat.isDirectory() ? join(given, files.model) : given;
  if (!statSync(file, { throwIfNoEntry: false })?.isFile()) {
    const unfinished = statSync(join(given, files.plan), { throwIfNoEntry: false });
    throw new RkdError("ERR_NOT_FOUND", `${option}: the folder holds no ${files.model}`, {
      subject: location,
      advice: unfinished
        ? `the run in it is not finished: rkd resume ${location}`
        : "give the folder of a finished run or a model.safetensors",
    });
  }
  const run = stat.isDirectory() ? readPlanFile(given) : undefined;
  return { file, input: inputOf(file) ?? inputOfRun(run), run };
}

function inputOfRun(run: PlanFile | undefined): StoredModel["input"] {
  return run && { imageSize: run.plan.data.imageSize, channels: run.plan.data.channels };
}

/** The largest header this reads; a model of ten thousand tensors has a tenth of it. */
const HEADER_LIMIT = 16 * 1024 * 1024;

/**
 * Reads the input size out of a safetensors header (8 bytes of length, then JSON). Nothing where the file is of another
 * program or damaged: the core, which checks all of it, gives the error.
 */
function inputOf(file: string): StoredModel["input"] {
  const descriptor = openSync(file, "r");
  try {
    const head = Buffer.alloc(8);
    if (readSync(descriptor, head, 0, 8, 0) < 8) return undefined;
    const length = Number(head.readBigUInt64LE());
    if (length > HEADER_LIMIT) return undefined;
    const header = Buffer.alloc(length);
    readSync(descriptor, header, 0, length, 8);
    const document = JSON.parse(JSON.parse(header.toString("utf8")).__metadata__.rkd);
    const { imageSize, inChannels } = document.backbone;
    return Number.isInteger(imageSize) && Number.isInteger(inChannels)
      ? { imageSize, channels: inChannels }
      : undefined;
  } catch {
    return undefined;
  } finally {
    closeSync(descriptor);
  }
}
