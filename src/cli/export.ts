/** `rkd export`: flags in, a table of what was written out. */

import { exportModel } from "../export.ts";
import { oneOf } from "../options/check.ts";
import type { ExportOptions } from "../options/run.ts";
import type { ExportReport } from "../protocol/protocol.ts";
import { bytesInWords, fidelityLines } from "../report/scores.ts";
import { refuseRanks } from "../run/ranks.ts";
import { json, print, printLines, say, signal, typed, watch } from "./context.ts";
import { missedGate } from "./exit.ts";
import { asTyped } from "./flags.ts";
import { type DataFlags, dataOrRunsOwn, defined, needed } from "./options.ts";
import { writeJsonLine } from "./progress.ts";
import { exportTable } from "./table.ts";

/** The flags of `rkd export` beside those of the images, as commander names them. */
type OwnFlags = Omit<
  ExportOptions,
  "model" | "data" | "signal" | "to" | "out" | "dtype" | "input" | "teacher" | "teachers" | "engine"
>;

/** The flags of `rkd export`, as commander names them. */
export interface ExportFlags extends DataFlags, OwnFlags {
  readonly to?: string;
  readonly out?: string;
  readonly dtype?: string;
  readonly input?: string;
  readonly engine?: string;
  readonly teacher?: readonly string[];
}

/** Exports a model; where a gate was missed, the process ends with a code of its own. */
export async function runExport(model: string, flags: ExportFlags): Promise<void> {
  refuseRanks("export");
  const { to, out, dtype, input, engine, teacher, overwrite, calibrationImages, measure, ks, onnxruntime } = flags;
  const { minRecall, maxBytes, minCosine, threads, acceptChangedData } = flags;
  const dtypes = dtype?.split(",").map((one) => oneOf("--dtype", one, ["float32", "float16", "int8"]));
  const report = await watch(
    exportModel({
      model,
      to: oneOf("--to", needed("--to", to), ["onnx", "transformers", "timm", "safetensors"]),
      out: needed("--out", out),
      signal,
      ...defined({
        data: dataOrRunsOwn(flags),
        dtype: dtypes,
        input: input === undefined ? undefined : oneOf("--input", input, ["floats", "bytes"]),
        engine: engine === undefined ? undefined : oneOf("--engine", engine, ["auto", "rten", "onnxruntime"]),
        teachers: teacher,
        overwrite,
        calibrationImages,
        // commander gives every flag that can be negated a value.
        measure: measure === false ? false : undefined,
        ks,
        onnxruntime,
        minRecall,
        maxBytes,
        minCosine,
        threads,
        acceptChangedData,
      }),
    }),
  );
  if (json) writeJsonLine({ type: "end", ...report });
  else show(report);
  if (report.missed.length > 0) process.exitCode = missedGate;
}

function show(report: ExportReport): void {
  const { student, models, files, missed, out } = report;
  printLines(exportTable(report));
  if (student) print(`${student.images} test images; cosine: to the model before export, of each image`);
  const kept = models[0]?.evaluation?.fidelity ?? [];
  if (kept.length > 0 && (student?.classes ?? 0) > 0) fidelityLines(kept).forEach(print);
  print(`${out}: ${files.map(({ path, bytes }) => `${path} (${bytesInWords(bytes)})`).join(", ")}`);
  for (const sentence of missed) say(`gate: ${asTyped(sentence, typed)}`);
}
