/** The commands: flags in, API call, result out. */

import { Command } from "commander";
import { distill } from "../distill.ts";
import { evaluate } from "../evaluate.ts";
import type { DistillOptions, EvaluateOptions, ResumeOptions, TrainOptions } from "../options/run.ts";
import { angleLines, fidelityLines, metricsLine, prefixLines } from "../report/scores.ts";
import { resume } from "../resume.ts";
import { refuseRanks } from "../run/ranks.ts";
import { train } from "../train.ts";
import { type BenchFlags, bench } from "./bench.ts";
import { type CacheFlags, cache } from "./cache.ts";
import { loadConfig } from "./config.ts";
import { finish, json, print, signal, watch } from "./context.ts";
import { demo } from "./demo.ts";
import { doctor } from "./doctor.ts";
import { type EmbedFlags, runEmbed, toShard } from "./embed.ts";
import { type ExportFlags, runExport } from "./export.ts";
import { findNearest, type NearestFlags } from "./nearest.ts";
import {
  add,
  addDataFlags,
  addRunFlags,
  addShownFlags,
  backboneOf,
  type DataFlags,
  dataOrRunsOwn,
  defined,
  distributedWords,
  type RunFlags,
  runOptions,
  shownOf,
  studentOf,
  toFewShot,
  toNumber,
  toNumbers,
} from "./options.ts";
import { writeJsonLine } from "./progress.ts";
import { type ReproduceFlags, runRecipe } from "./reproduce.ts";
import { compare, listRuns, showLive, showReport } from "./runs.ts";
import { addTeacherFlags, placesOf, type TeacherFlags, teachersOf } from "./teacher.ts";

/** Data may change between a run and what goes on with it; the user has to say that this is meant. */
const acceptFlag = ["--accept-changed-data", "go on with the stored split where the data have changed"] as const;

/** All commands, in the order of the help. */
export function commands(): Command[] {
  const work = [
    trainCommand(),
    distillCommand(),
    evaluateCommand(),
    embedCommand(),
    nearestCommand(),
    exportCommand(),
    resumeCommand(),
  ];
  const seen = [reportCommand(), watchCommand(), compareCommand(), runsCommand()];
  return [...work, ...seen, reproduceCommand(), demoCommand(), benchCommand(), doctorCommand(), cacheCommand()];
}

function trainCommand(): Command {
  const it = command("train", "Train a network, for example a teacher.");
  return addRunFlags(it, "train").action(async (flags: RunFlags) => {
    const config = (await loadConfig(flags.config)) as Partial<TrainOptions>;
    const shared = runOptions(flags, signal, config);
    const own = studentOf(flags) ? undefined : config.backbone;
    const options = { ...shared, backbone: own ?? backboneOf(flags) };
    return await finish(train(options), options.out);
  });
}

function distillCommand(): Command {
  const it = addTeacherFlags(command("distill", "Train a student that keeps a teacher's relations."), "what teaches")
    .option(
      "--teacher-features <when>",
      "live: in every step; cached: once per image (live; others than rkd's: cached)",
    )
    .option("--baseline", "train the same student by labels alone too, and measure the gap from there")
    .option(...acceptFlag);
  type Flags = RunFlags & TeacherFlags & Pick<DistillOptions, "teacherFeatures" | "acceptChangedData" | "baseline">;
  return addRunFlags(it, "distill").action(async (flags: Flags) => {
    const { teacher, teachers: several, ...config } = (await loadConfig(flags.config)) as Partial<DistillOptions>;
    const given = teachersOf(flags);
    // Vectors are their own teacher where none is named; the core asks for one elsewhere.
    const teachers = given ? { teachers: given } : defined({ teacher, teachers: several });
    const { teacherFeatures, acceptChangedData, baseline } = flags;
    const own = defined({ student: studentOf(flags), teacherFeatures, acceptChangedData, baseline });
    const options = { ...runOptions(flags, signal, config), ...teachers, ...own } as DistillOptions;
    return await finish(distill(options), String(options.out));
  });
}

function evaluateCommand(): Command {
  type Flags = DataFlags & TeacherFlags & Omit<EvaluateOptions, "model" | "data" | "signal" | "teacher" | "teachers">;
  const it = modelCommand(
    "evaluate",
    "Measure a stored model: Recall@K, kNN accuracy, MAP@R, R-precision, top-K, few-shot, a teacher's relations.",
  );
  return addTeacherFlags(addDataFlags(it, false), "whose relations are compared with the model's")
    .optionsGroup("Evaluation:")
    .option("--part <part>", "train, validation or test (test)")
    .option("--ks <list>", "the K of Recall@K, kNN and top-K accuracy (1,2,4,8)", toNumbers)
    .option("--few-shot <list>", "few-shot accuracies, ways x shots, for example 5x1,20x5 (none)", toFewShot)
    .option("--seed <number>", "seed of episodes; without --split-seed of the split too (the run's)", toNumber)
    .option("--split-seed <number>", "seed of the split (--seed, else the model's)", toNumber)
    .option(...acceptFlag)
    .option("--threads <count>", "CPU threads, 0 is all cores (0)", toNumber)
    .action(async (model: string, flags: Flags) => {
      refuseRanks("evaluate");
      const { part, ks, fewShot, seed, splitSeed, threads, acceptChangedData } = flags;
      const teachers = teachersOf(flags);
      const data = dataOrRunsOwn(flags);
      const result = await watch(
        evaluate({
          model,
          signal,
          ...defined({ data, part, ks, fewShot, teachers, seed, splitSeed, threads, acceptChangedData }),
        }),
      );
      if (json) return writeJsonLine({ type: "end", ...result });
      const { images, classes, metrics, intervals, millisecondsPerImage, fidelity } = result;
      const what = classes > 0 ? `of ${classes} classes` : "without labels, measured by the teacher's relations";
      print(`${result.part}: ${images} images ${what}, ${millisecondsPerImage.toFixed(3)} ms/image`);
      print(metricsLine(metrics, intervals));
      const relations = classes > 0 ? fidelityLines : angleLines;
      relations(fidelity ?? []).forEach(print);
      prefixLines(result.prefixes).forEach(print);
    });
}

function embedCommand(): Command {
  const it = command("embed", "Write the embeddings of images, or of one, to a file, or of a shard of them.").argument(
    "[model]",
    "folder of a finished run, or a model.safetensors; not with --merge",
  );
  return addDataFlags(it, true)
    .optionsGroup("Output:")
    .option("--out <file>", "the file to write: .npy, .safetensors, .csv, .jsonl, .parquet or .arrow")
    .option("--format <kind>", "npy, safetensors, csv, jsonl, parquet or arrow (by the file's ending)")
    .option("--threads <count>", "CPU threads, 0 is all cores (0)", toNumber)
    .optionsGroup("Several processes:")
    .option(
      "--shard <which>",
      "only shard i of n, from 0: 3/100; auto/100 or auto: as Kubernetes, Slurm, AWS Batch or Cloud Run say (all images)",
      toShard,
    )
    .option("--merge", "make one file of all shards of --out")
    .addHelpText(
      "after",
      "\nExample of three shards, each in any process, and of their file:\n" +
        "  rkd embed runs/small --data photos --out photos.npy --shard 0/3   # photos-00000-of-00003.npy\n" +
        "  rkd embed --merge --out photos.npy",
    )
    .action((model: string | undefined, flags: EmbedFlags) => runEmbed(model, flags));
}

function nearestCommand(): Command {
  return command("nearest", "Find the images of an index that are nearest to a photo.")
    .argument("<images...>", "image files")
    .option("--index <file>", "vectors with ids: what rkd embed writes, or any stored vectors")
    .option(
      "--model <model>",
      "folder of a finished run, model.safetensors or ONNX model (that of the index, where noted)",
    )
    .option("-k, --k <count>", "how many (10)", toNumber)
    .option("--threads <count>", "CPU threads, 0 is all cores (0)", toNumber)
    .addHelpText(
      "after",
      "\nExample:\n  rkd embed runs/small --data photos --out photos.npy\n  rkd nearest new.jpg --index photos.npy",
    )
    .action((images: string[], flags: NearestFlags) => findNearest(images, flags));
}

function exportCommand(): Command {
  const it = modelCommand(
    "export",
    "Write a model for onnxruntime, transformers.js, timm or others, and measure it as they load it.",
  );
  return addDataFlags(
    it
      .optionsGroup("What is written:")
      .option("--to <target>", "onnx, transformers, timm or safetensors")
      .option("--out <folder>", "the folder to write")
      .option("--overwrite", "replace an export that is already there")
      .option("--dtype <list>", "float32, float16, int8, or several: float32,int8 (float32)")
      .option("--input <form>", "onnx: floats, normalised by the caller, or bytes (floats)")
      .option("--calibration-images <count>", "training images that int8 is calibrated on (200)", toNumber)
      .optionsGroup("Measuring:")
      .option("--no-measure", "do not measure what was written")
      .option("--teacher <path>", "whose relations are compared with the model's, may be repeated (the run's)", add)
      .option("--ks <list>", "the K of Recall@K (1,2,4,8)", toNumbers)
      .option("--engine <name>", "what ONNX files are measured by: auto, rten or onnxruntime (auto)")
      .option("--onnxruntime <file>", "onnxruntime's library ($RKD_ONNXRUNTIME, or an installed onnxruntime-node)")
      .option(...acceptFlag)
      .option("--threads <count>", "CPU threads, 0 is all cores (0)", toNumber)
      .optionsGroup("Gates (where one is missed, the exit code is 6):")
      .option(
        "--min-recall <share>",
        "lowest Recall@K of the smallest K, without labels the teacher's (none)",
        toNumber,
      )
      .option("--max-bytes <count>", "most bytes of a file of weights (none)", toNumber)
      .option("--min-cosine <cosine>", "lowest mean cosine to the model before export (none)", toNumber),
    false,
  ).action((model: string, flags: ExportFlags) => runExport(model, flags));
}

function resumeCommand(): Command {
  const it = command("resume", "Go on with a run that was stopped or killed; it ends with the same bytes.");
  return addShownFlags(it)
    .argument("<out>", "folder of the run")
    .option("--data <source>", "where the data are now (where they were)")
    .option(
      "--teacher <place>",
      "where the teacher is now (where it was); of several NAME=PLACE, once for each that has moved",
      add,
    )
    .option(
      "--epochs <count>",
      "epochs of the whole run: more than planned go on beyond its end (those of the run)",
      toNumber,
    )
    .option("--threads <count>", "CPU threads (those of the run)", toNumber)
    .option("--device <name>", "auto, cpu, candle-cpu, cuda or cuda:1; another one gives other bytes (that of the run)")
    .option(
      "--precision <name>",
      "in which numbers a GPU computes: float32, tf32 or bf16; another one gives other bytes (that of the run)",
    )
    .option("--distributed <how>", distributedWords)
    .option(...acceptFlag)
    .action(
      (
        out: string,
        flags: Omit<ResumeOptions, "signal" | "teacher" | "report" | "reporters"> &
          Pick<TeacherFlags, "teacher"> &
          Pick<RunFlags, "report" | "reporter">,
      ) => {
        const { data, epochs, threads, device, precision, distributed, acceptChangedData } = flags;
        const teacher = placesOf(flags.teacher);
        const options = {
          ...defined({ data, teacher, epochs, threads, device, precision, distributed, acceptChangedData }),
          ...shownOf(flags),
        };
        return finish(resume(out, { signal, ...options }), out, () => true);
      },
    );
}

function reportCommand(): Command {
  return command("report", "Write a page about a run, or about several side by side.")
    .argument("<runs...>", "folders of runs")
    .option("--out <file>", "the file to write (report.html in the folder of the only run)")
    .action((runs: readonly string[], { out }: { readonly out?: string }) => showReport(runs, out));
}

function watchCommand(): Command {
  return command("watch", "Serve the page of a run on this machine, live while the run goes.")
    .argument("<run>", "folder of the run")
    .option("--port <number>", "port on 127.0.0.1 (one that is free)", toNumber)
    .action((run: string, { port }: { readonly port?: number }) => showLive(run, port));
}

function compareCommand(): Command {
  return command("compare", "Set the scores of runs side by side, and what differs in their plans.")
    .argument("<runs...>", "folders of two runs or more")
    .action((runs: readonly string[]) => compare(runs));
}

function runsCommand(): Command {
  return command("runs", "List the runs in a folder, a line each.")
    .argument("[folder]", "the folder", "runs")
    .action((folder: string) => listRuns(folder));
}

function demoCommand(): Command {
  return command("demo", "On built-in data: a teacher, a student, the same student without the teacher, the verdict.")
    .option("--out <folder>", "folder of the runs, replaced", "runs/demo")
    .option("--threads <count>", "CPU threads, 0 is all cores (0)", toNumber)
    .action(({ out, threads }: { out: string; threads?: number }) => demo(out, threads ?? 0));
}

function reproduceCommand(): Command {
  return command("reproduce", "Repeat an experiment of the paper, and set its table beside the paper's.")
    .argument("[recipe]", "its name; --list shows them all")
    .option("--list", "only list the recipes")
    .option("--scale <size>", "smoke (seconds), small (two cores), pretrained or paper (small)")
    .option("--data <source...>", "images, one or more data sets (the embedded glyphs)")
    .option("--seeds <count>", "seeds, from 1 (the scale's)", toNumber)
    .option("--out <folder>", "folder of the experiment; finished cells in it are kept (runs/<recipe>-<scale>)")
    .option("--protocol <which>", "honest: validation classes choose the weights; paper: the test does (honest)")
    .option("--weights <network=file...>", "weights to begin with, by architecture: resnet50=r50.pth (random weights)")
    .option("--teacher <path>", "defaults: the teacher, as distill takes it (one that is trained)")
    .option("--rows <name...>", "only these rows, and the models that they learn from (all)")
    .option("--columns <name...>", "only these columns (all)")
    .option("--threads <count>", "CPU threads, 0 is all cores (0)", toNumber)
    .action((recipe: string | undefined, flags: ReproduceFlags) => runRecipe(recipe, flags));
}

function doctorCommand(): Command {
  const it = command("doctor", "Say what this installation, a data set or a teacher is, and what is wrong with it.")
    .argument("[topic]", '"data" looks at a data set, without decoding it; "teacher" tries a teacher out')
    .argument("[path]", "the data set or the teacher");
  return addTeacherFlags(it, "the same as the path")
    .addHelpText("after", "\nExamples:\n  rkd doctor\n  rkd doctor data omniglot\n  rkd doctor teacher model.onnx")
    .action((topic: string | undefined, path: string | undefined, flags: TeacherFlags) => doctor(topic, path, flags));
}

function cacheCommand(): Command {
  return command("cache", "List the decoded images and teachers' features that are kept, and remove old or large ones.")
    .option("--cache <folder>", "the folder ($RKD_CACHE or ~/.cache/rkd)")
    .option("--older-than <time>", "files that were not used for so long: 12h, 30d (any)")
    .option("--larger-than <size>", "files of more bytes: 500MB, 1GB (any)")
    .option("--prune", "remove them; without it nothing is removed, and it says what would go")
    .addHelpText(
      "after",
      "\nOnly files that rkd wrote are removed, and none that was used within the last hour. What is needed again is made again.",
    )
    .action((flags: CacheFlags) => cache(flags));
}

function benchCommand(): Command {
  return command("bench", "Time training steps, under the names that the comparison with PyTorch uses.")
    .option("--only <names...>", "workloads (all)")
    .option("--profile <name>", "show where the time of this workload's step goes, layer by layer")
    .option("--seconds <number>", "time for each (3)", toNumber)
    .option("--threads <count>", "CPU threads, 0 is all cores (0)", toNumber)
    .option("--list", "only list the workloads")
    .action((flags: BenchFlags) => bench(flags));
}

function command(name: string, description: string): Command {
  return new Command(name)
    .description(`${description} Defaults stand in parentheses.`)
    .summary(description)
    .showSuggestionAfterError(false) // main.ts knows the flags by their other names too
    .option("--json", "one JSON object a line on standard output");
}

function modelCommand(name: string, description: string): Command {
  return command(name, description).argument("<model>", "folder of a finished run, or a model.safetensors");
}
