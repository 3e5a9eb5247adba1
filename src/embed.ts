/** `embed`: writes the embeddings of images to a file. */

import { resolve } from "node:path";
import { checkFileApart } from "./artefacts/apart.ts";
import { dataOf } from "./evaluate.ts";
import type { EmbedReport } from "./native/session.ts";
import { invalid, object, oneOf, path } from "./options/check.ts";
import type { EmbedOptions } from "./options/run.ts";
import { checkThreads } from "./plan/build.ts";
import { listsOf } from "./plan/data.ts";
import { findModel } from "./plan/model.ts";
import { runCommand } from "./run/command.ts";
import { type Run, startRun } from "./run/run.ts";

/**
 * Embeds every image of a source, without augmentation, and writes one row an image with its id.
 * @throws {RkdError} by rejection: bad options, `ERR_NOT_FOUND`, `ERR_INVALID_ARTEFACT`, bad data, `ERR_IO`
 */
export function embed(options: EmbedOptions): Run<EmbedReport> {
  return startRun(async (context) => {
    object<EmbedOptions>("options", options, ["model", "data", "out", "format", "threads", "signal"]);
    const stored = findModel("model", options.model);
    const out = resolve(path("out", options.out));
    const format = options.format ? oneOf("format", options.format, ["npy", "safetensors"]) : formatOf(options.out);
    const data = dataOf(stored, options.data);
    for (const file of [out, `${out}.ids.json`]) checkFileApart(file, { data, files: [stored.file, ...listsOf(data)] });
    const plan = { model: stored.file, data, out, format, threads: checkThreads(options.threads) };
    return runCommand("embed", { plan }, context);
  }, options?.signal);
}

function formatOf(out: string): "npy" | "safetensors" {
  if (out.endsWith(".npy")) return "npy";
  if (out.endsWith(".safetensors")) return "safetensors";
  throw invalid("out", "a file name that ends in .npy or .safetensors", out, "or say which it is with format");
}
