/** `rkd doctor`: what this installation is, and what is wrong with it. `rkd doctor data PATH`: the same of a data set. */

import { accessSync, constants, existsSync, statSync } from "node:fs";
import { availableParallelism, cpus, freemem, totalmem } from "node:os";
import { dirname } from "node:path";
import { fromNative, RkdError } from "../errors.ts";
import { addon, addonFile } from "../native/addon.ts";
import { parse, json as toJson } from "../native/json.ts";
import { platformInWords, thisPlatform } from "../native/platform.ts";
import type { NativeSession } from "../native/session.ts";
import { oneOf } from "../options/check.ts";
import type {
  CudaReport,
  MemoryLimits,
  NetworkReport,
  SplitPlan,
  Teacher,
  VectorSummary,
} from "../protocol/protocol.ts";
import { bytesInWords } from "../report/scores.ts";
import { withSession } from "../run/command.ts";
import { version } from "../version.ts";
import { json, print, printLines, signal } from "./context.ts";
import { needed } from "./options.ts";
import { writeJsonLine } from "./progress.ts";
import { table } from "./table.ts";
import { type TeacherFlags, teachersOf } from "./teacher.ts";

/** Looks at the installation, or at the data or the teacher at `path`. */
export async function doctor(topic: string | undefined, path: string | undefined, flags: TeacherFlags): Promise<void> {
  if (topic === undefined) return installation();
  if (oneOf("doctor", topic, ["data", "teacher"]) === "data") return await data(needed("doctor data <path>", path));
  const given = flags.teacher ?? [needed("doctor teacher <path>", path)];
  for (const one of teachersOf({ ...flags, teacher: given }) ?? []) await teacher(one);
}

/** Prints what a teacher is, after it has embedded three images. */
async function teacher(given: string | Teacher): Promise<void> {
  const look = (session: NativeSession) => session.call((core) => core.judgeTeacher(toJson(given)));
  const report = await withSession({ emit: () => {}, signal }, look);
  if (json) return writeJsonLine({ type: "end", ...report });
  if (report.network) return printLined(networkLines(report.file, report.network));
  if (report.vectors) return printLined(vectorLines(report.file, report.vectors), report.vectors.warnings);
  if (!report.onnx) return;
  const { inputs, outputs, pixels, imageSize, channels, output, embedding, engine, warnings, ...about } = report.onnx;
  const lines = {
    file: about.file,
    "written by": `${about.producer || "an unknown program"}, opset ${about.opset}`,
    weights: `${(about.parameters / 1e6).toFixed(1)} million numbers`,
    inputs: inputs.join("; "),
    outputs: outputs.join("; "),
    images: `${imageSize} x ${imageSize}, ${channels === 1 ? "grey" : "colour"}; ${pixels}`,
    embedding: `${output}: ${embedding} numbers`,
    engine,
    time: `${about.millisecondsPerImage.toFixed(1)} ms an image, in a batch of three`,
  };
  printLined(lines, warnings);
}

function networkLines(file: string, network: NetworkReport): Record<string, string> {
  const { backbone, embedding, parameters, rkd, seed, distilled, data, classes } = network;
  const { kind, width, hidden, imageSize, inChannels } = backbone;
  const labels = classes === null ? "" : classes === 0 ? ", without labels" : `, ${classes} classes`;
  return {
    file,
    network: `${kind} of ${hidden.length > 0 ? `layers of ${hidden.join(", ")}` : `width ${width}`}`,
    weights: `${parameters.toLocaleString("en")} numbers`,
    images: `${imageSize} x ${imageSize}, ${inChannels === 1 ? "grey" : "colour"}`,
    embedding: `${embedding} numbers${backbone.normalize ? ", of norm 1" : ""}`,
    "trained on": `${data ?? "data that its file does not name"}${labels}`,
    "trained by": `rkd ${rkd}, seed ${seed}${distilled ? ", from a teacher" : ""}`,
  };
}

function vectorLines(file: string, vectors: VectorSummary): Record<string, string> {
  const { format, element, norms, normalized, zero, repeated, constantPlaces, hash } = vectors;
  const rounded = (norm: number) => String(Number(norm.toPrecision(4)));
  const all = `${rounded(norms.minimum)} to ${rounded(norms.maximum)}, median ${rounded(norms.median)}`;
  return {
    file,
    vectors: `${vectors.vectors} of ${vectors.dimension} numbers, ${format}, ${element}`,
    norms: normalized ? "all are 1" : all,
    odd: `${zero} of zeros, ${repeated} repeated, ${constantPlaces} places of one number`,
    hash,
  };
}

function printLined(lines: Readonly<Record<string, string>>, warnings: readonly string[] = []): void {
  for (const [name, line] of Object.entries(lines)) print(`${name.padEnd(10)} ${line}`);
  for (const warning of warnings) print(`note: ${warning}`);
}

/** Prints what a source is, what is in its parts, and what is missing. Exits with success where it can be used. */
async function data(source: string): Promise<void> {
  const look = (session: NativeSession) => session.call((core) => core.survey(toJson(source)));
  const { data: plan, ...survey } = await withSession({ emit: () => {}, signal }, look);
  if (json) return writeJsonLine({ type: "end", ...survey, split: plan.split });
  const { sentence, parts, images, classes, sharedClasses, broken, warnings } = survey;
  print(sentence);
  const of = (count: number) => (survey.labels === "none" ? "-" : String(count));
  const row = (name: string, images: number, classes: number) => [name, String(images), of(classes)];
  const rows = [...parts.map((part) => row(part.part, part.images, part.classes)), row("all", images, classes)];
  printLines(table(["part", "images", "classes"], rows));
  if (sharedClasses)
    print("its parts share classes: its own split measures classification, not retrieval of new classes");
  print(`split unless you choose another: ${splitWords(plan.split)}`);
  for (const { path, reason } of broken) print(`cannot be read: ${path} ${reason}`);
  for (const warning of warnings) print(`note: ${warning}`);
}

function splitWords(split: SplitPlan): string {
  const share = (of: number, what: string) => `${of} of ${what} for`;
  switch (split.kind) {
    case "lists":
      return "by the lists of classes";
    case "source":
      return `the source's own, with ${share(split.validation, "its training part")} validation`;
    default: {
      const what = split.kind === "classes" ? "the classes" : "each class's images";
      return `${share(split.validation, what)} validation, ${share(split.test, what)} the test`;
    }
  }
}

/** Prints the findings; throws the first problem, so that the exit code tells. */
function installation(): void {
  const problem =
    attempt(() => addon()) ?? attempt(instructionSet) ?? attempt(() => checkCache(addon().defaultCache()));
  const loaded = problem?.code !== "ERR_NATIVE_LOAD";
  const instructions = problem ? [] : [instructionSet()];
  const limits: MemoryLimits | null = loaded ? JSON.parse(addon().memoryLimits()) : null;
  const cuda: CudaReport | null = loaded ? JSON.parse(addon().cudaDevices()) : null;
  const findings = {
    rkd: version,
    node: process.version,
    platform: platformInWords(thisPlatform()),
    addon: loaded ? addonFile() : "could not be loaded",
    cpu: [cpus()[0]?.model.trim() ?? "unknown", `${availableParallelism()} threads`, ...instructions].join(", "),
    memory: memoryLine(limits),
    device: deviceLine(cuda),
    cache: loaded ? addon().defaultCache() : "unknown without the native addon",
  };
  if (json) writeJsonLine({ type: "end", ...findings, memoryLimits: limits, cuda, healthy: problem === undefined });
  else for (const [name, finding] of Object.entries(findings)) print(`${name.padEnd(9)} ${finding}`);
  if (problem) throw problem;
  if (!json) print("everything is in order");
}

/** The GPUs with what they need, or why the CPU is all there is. */
function deviceLine(cuda: CudaReport | null): string {
  if (!cuda) return "cpu";
  const { driver, devices, libraries, problem } = cuda;
  const gpus = devices.map(({ name, memory, capability, problem: own }, number) => {
    const why = own ? `; cannot be used: ${own}` : "";
    return `cuda:${number} (${name}, ${bytesInWords(memory)}, compute capability ${capability}${why})`;
  });
  const files = libraries.map(({ name, file }) => `${name} ${file ?? "not found"}`);
  const beside = driver ? [`a driver of CUDA ${driver}`, ...files] : [];
  return ["cpu", ...gpus, ...beside].join(", ") + (problem ? ` (${problem})` : "");
}

/** What the machine has, what of it is free, and what else limits this process. */
function memoryLine(limits: MemoryLimits | null): string {
  const others = limits?.limits.filter(({ name }) => name !== "the machine") ?? [];
  return [
    `${bytesInWords(totalmem())}, ${bytesInWords(limits?.available ?? freemem())} free`,
    ...others.map(({ name, bytes, used }) => `${name} allows ${bytesInWords(bytes)}, ${bytesInWords(used)} used`),
  ].join("; ");
}

function attempt(check: () => unknown): RkdError | undefined {
  try {
    check();
    return undefined;
  } catch (error) {
    if (error instanceof RkdError) return error;
    throw error;
  }
}

/** The instruction set of the kernels, which RKD_ISA may name. */
function instructionSet(): string {
  const reply = addon().instructionSet();
  if (reply.error) throw fromNative(reply.error);
  return parse(reply.value);
}

/** The cache, or the nearest folder above it that exists, must be writable. */
function checkCache(cache: string): void {
  let folder = cache;
  while (!existsSync(folder) && dirname(folder) !== folder) folder = dirname(folder);
  const details = {
    subject: cache,
    advice: "give this user the right to it, or choose another folder for decoded images with --cache or RKD_CACHE",
  };
  const where = folder === cache ? "it" : `it cannot be made: ${folder}`;
  if (!statSync(folder).isDirectory()) throw new RkdError("ERR_PERMISSION_DENIED", `${where} is a file`, details);
  try {
    accessSync(folder, constants.W_OK);
  } catch (cause) {
    throw new RkdError("ERR_PERMISSION_DENIED", `${where} may not be written`, { ...details, cause });
  }
}
