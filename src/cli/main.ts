/** The command line: commands, help, Ctrl-C, exit codes. */

import { existsSync } from "node:fs";
import { join } from "node:path";
import { Command, CommanderError } from "commander";
import { files } from "../artefacts/run-folder.ts";
import { distill } from "../distill.ts";
import { embed } from "../embed.ts";
import { RkdError } from "../errors.ts";
import { evaluate } from "../evaluate.ts";
import type { EmbedOptions, EvaluateOptions } from "../options/run.ts";
import { resume } from "../resume.ts";
import type { DistillResult, TrainResult } from "../run/events.ts";
import type { Run } from "../run/run.ts";
import { train } from "../train.ts";
import { version } from "../version.ts";
import { demo } from "./demo.ts";
import { exitCodeOf, exitCodes } from "./exit.ts";
import {
  addDataFlags,
  addRunFlags,
  backboneOf,
  type DataFlags,
  dataOf,
  type RunFlags,
  runOptions,
  toNumber,
  toNumbers,
} from "./options.ts";
import { jsonReporter, textReporter, writeJsonLine } from "./report.ts";
import { metricsLine, verdictTable } from "./table.ts";

const json = process.argv.includes("--json");
const controller = new AbortController();
const { signal } = controller;

/** The reason a run rejects with after Ctrl-C. */
const interrupted = new RkdError("ERR_CANCELLED", "stopped by the user");

function onInterrupt(): void {
  if (signal.aborted) process.exit(130);
  process.stderr.write("\nStopping after a checkpoint; press Ctrl-C again to stop at once.\n");
  controller.abort(interrupted);
}

/** Shows the events of a run until it ends. */
async function watch<R>(run: Run<R>, name?: string): Promise<R> {
  const reporter = json ? jsonReporter() : textReporter(name);
  try {
    for await (const event of run) reporter.event(event);
    return await run;
  } finally {
    reporter.end();
  }
}

/** A run with a folder: says at the end where things are, or how to go on. */
async function finish(run: Run<TrainResult | DistillResult>, out: string): Promise<void> {
  let result: TrainResult | DistillResult;
  try {
    result = await watch(run);
  } catch (error) {
    if (error === interrupted && existsSync(join(out, files.plan))) {
      process.stderr.write(`Go on with: rkd resume ${quoted(out)}\n`);
    }
    throw error;
  }
  if (json) return;
  if ("verdict" in result) process.stdout.write(`${verdictTable(result.verdict)}\n`);
  else if (result.metrics) process.stdout.write(`test classes: ${metricsLine(result.metrics)}\n`);
  process.stdout.write(`model: ${result.model}\n`);
}

function quoted(text: string): string {
  return /^[\w./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

const program = new Command("rkd")
  .description("Relational knowledge distillation: train a small embedding model that keeps a big one's relations.")
  .version(version)
  .showSuggestionAfterError()
  .addHelpText(
    "after",
    `
Examples:
  rkd demo
  rkd train --data glyphs --backbone conv4 --embedding 64 --loss triplet --epochs 3 --out runs/teacher
  rkd distill --teacher runs/teacher --backbone conv4 --width 16 --embedding 16 \\
      --loss rkd-distance:1 --loss rkd-angle:2 --data glyphs --epochs 3 --out runs/student
  rkd evaluate runs/student --data glyphs --json
  rkd resume runs/teacher

Exit codes:
${Object.entries(exitCodes)
  .map(([code, meaning]) => `  ${code.padStart(3)}  ${meaning}`)
  .join("\n")}`,
  );

addRunFlags(
  command("train", "Train a network, for example a teacher."),
  "triplet, cross-entropy; default triplet",
).action((flags: RunFlags) => finish(train({ ...runOptions(flags, signal), backbone: backboneOf(flags) }), flags.out));

addRunFlags(
  command("distill", "Train a student that keeps a teacher's relations.")
    .option("--teacher <run>", "folder of a finished run, or a model.safetensors")
    .option("--teacher-features <when>", "live: in every step; cached: once per image (live)"),
  "rkd-distance, rkd-angle, triplet, cross-entropy; default rkd-distance:1 rkd-angle:2",
).action((flags: RunFlags & { teacher: string; teacherFeatures?: "live" | "cached" }) => {
  const { teacher, teacherFeatures } = flags;
  const more = teacherFeatures === undefined ? {} : { teacherFeatures };
  return finish(distill({ ...runOptions(flags, signal), teacher, student: backboneOf(flags), ...more }), flags.out);
});

addDataFlags(
  command("evaluate", "Measure a stored model: Recall@K, MAP@R, R-precision.").argument(
    "<model>",
    "folder of a run, or a model.safetensors",
  ),
  false,
)
  .option("--part <part>", "train, validation or test (test)")
  .option("--ks <list>", "the K of Recall@K (1,2,4,8)", toNumbers)
  .option("--seed <number>", "seed of the class split (the run's)", toNumber)
  .option("--threads <count>", "CPU threads, 0 is all cores (0)", toNumber)
  .action(
    async (
      model: string,
      flags: DataFlags & { part?: EvaluateOptions["part"]; ks?: number[]; seed?: number; threads?: number },
    ) => {
      const { part, ks, seed, threads } = flags;
      const data = flags.data === undefined ? undefined : dataOf(flags);
      const result = await watch(
        evaluate({ model, signal, ...without({ data, part, ks, seed, threads }) } as EvaluateOptions),
      );
      if (json) return writeJsonLine({ type: "end", ...result });
      const { images, classes, metrics, millisecondsPerImage } = result;
      process.stdout.write(
        `${result.part}: ${images} images of ${classes} classes, ${millisecondsPerImage.toFixed(3)} ms/image\n`,
      );
      process.stdout.write(`${metricsLine(metrics)}\n`);
    },
  );

addDataFlags(
  command("embed", "Write the embeddings of images to a .npy or .safetensors file.").argument(
    "<model>",
    "folder of a run, or a model.safetensors",
  ),
  true,
)
  .option("--out <file>", "the file to write")
  .option("--format <kind>", "npy or safetensors (by the file's ending)")
  .option("--threads <count>", "CPU threads, 0 is all cores (0)", toNumber)
  .action(
    async (model: string, flags: DataFlags & { out: string; format?: EmbedOptions["format"]; threads?: number }) => {
      const { out, format, threads } = flags;
      const result = await watch(
        embed({ model, out, data: dataOf(flags), signal, ...without({ format, threads }) } as EmbedOptions),
      );
      if (json) return writeJsonLine({ type: "end", ...result });
      process.stdout.write(`${result.images} embeddings of length ${result.embedding} in ${result.out}\n`);
    },
  );

command("resume", "Go on with a run that was stopped or killed; it ends with the same bytes.")
  .argument("<out>", "folder of the run")
  .option("--threads <count>", "CPU threads (those of the run)", toNumber)
  .action((out: string, { threads }: { threads?: number }) =>
    finish(resume(out, { signal, ...(threads !== undefined && { threads }) }), out),
  );

command("demo", "The whole way on built-in data: a teacher, a student by triplet alone, a student by RKD, the verdict.")
  .option("--out <folder>", "folder of the three runs, replaced", "runs/demo")
  .option("--threads <count>", "CPU threads, 0 is all cores (0)", toNumber)
  .action(({ out, threads }: { out: string; threads?: number }) =>
    demo({ out, threads: threads ?? 0, signal, json, watch }),
  );

function command(name: string, description: string): Command {
  return program.command(name).description(description).option("--json", "one JSON object a line on standard output");
}

function without<T extends object>(value: T): Partial<T> {
  return Object.fromEntries(Object.entries(value).filter(([, v]) => v !== undefined)) as Partial<T>;
}

/** Shows a failure and returns the exit code. */
function fail(error: unknown): number {
  if (error instanceof CommanderError) {
    if (error.exitCode === 0) return 0;
    if (json) writeJsonLine({ type: "error", code: "ERR_UNKNOWN_OPTION", message: error.message });
    return 2;
  }
  const known = error instanceof RkdError ? error : new RkdError("ERR_INTERNAL", String(error), { cause: error });
  if (json) writeJsonLine({ type: "error", ...known.toJSON() });
  if (known !== interrupted) {
    process.stderr.write(`rkd: ${known.message}\n`);
    if (known.code === "ERR_INTERNAL" && error instanceof Error) process.stderr.write(`${error.stack}\n`);
  }
  return exitCodeOf(known.code);
}

process.on("SIGINT", onInterrupt);
process.on("SIGTERM", onInterrupt);
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(0); // the reader has gone, as with `| head`
  throw error;
});

try {
  for (const each of [program, ...program.commands]) each.exitOverride();
  await program.parseAsync();
} catch (error) {
  process.exitCode = fail(error);
}
