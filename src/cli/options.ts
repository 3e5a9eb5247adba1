/** Command-line flags -> the options that `train` and `distill` take. The checks are those of the API. */

import type { Command } from "commander";
import { RkdError } from "../errors.ts";
import { invalid, oneOf } from "../options/check.ts";
import type { RunOptions, Shown } from "../options/run.ts";
import {
  type Backbone,
  backboneKinds,
  type Data,
  type DeviceOption,
  type Distributed,
  type Episode,
  type FewShot,
  type Labels,
  type Loss,
  lossKinds,
  type Normalization,
  type OptimizerOptions,
  type Precision,
  type ScheduleOptions,
  type Shares,
  type Split,
  teacherLossKinds,
  type Weight,
  type Weights,
} from "../protocol/protocol.ts";
import { csv } from "../reporters/csv.ts";
import { mlflow } from "../reporters/mlflow.ts";
import { tensorboard } from "../reporters/tensorboard.ts";

/** The flags of `train` and `distill`, as commander names them. */
export interface RunFlags extends DataFlags, NetworkFlags, TuningFlags {
  out?: string;
  overwrite?: boolean;
  loss?: readonly string[];
  epochs?: number;
  stepsPerEpoch?: number;
  batch?: number;
  perClass?: number | "any";
  episode?: Episode;
  microBatch?: number;
  prefixes?: number[];
  optimizer?: string;
  lr?: number;
  weightDecay?: number;
  schedule?: string;
  warmup?: number;
  clip?: number;
  seed?: number;
  splitSeed?: number;
  threads?: number;
  distributed?: Distributed;
  device?: DeviceOption;
  precision?: Precision;
  keep?: RunOptions["keep"];
  patience?: number;
  evaluateEvery?: number;
  evaluateEverySteps?: number;
  checkpointEvery?: number;
  ks?: number[];
  config?: string;
  report?: boolean;
  reporter?: readonly string[];
}

/** The flags that describe the images. */
export interface DataFlags {
  data?: string;
  imageSize?: number;
  channels?: 1 | 3;
  augment?: "affine" | "crop-flip" | "none";
  labels?: Labels;
  split?: string;
  validation?: number;
  test?: number;
  rotations?: true;
  vectors?: true;
  cache?: string;
}

/** The flags that describe the network. */
export interface NetworkFlags {
  backbone?: string;
  width?: number;
  embedding?: number;
  stem?: "imagenet" | "small";
  hidden?: number[];
  normalize?: boolean;
}

/** The flags that say where the weights come from and which of them learn. */
interface TuningFlags {
  weights?: string;
  weightsKey?: string;
  weightsExcept?: string[];
  weightsMean?: number[];
  weightsStd?: number[];
  freeze?: string[];
  learningRates?: Record<string, number>;
  batchNorm?: "batch" | "sync" | "running";
  dropout?: number;
  dropPath?: number;
}

/** The flags that say which images are taken, and how. */
const imageFlags = [
  "imageSize",
  "channels",
  "augment",
  "labels",
  "split",
  "validation",
  "test",
  "rotations",
  "vectors",
] as const satisfies readonly (keyof DataFlags)[];

/** Adds the flags of the images. */
export function addDataFlags(command: Command, required: boolean): Command {
  const flag = "--data <source>";
  const help =
    'images: "glyphs", a folder, a ZIP, tar or Parquet, a manifest, a pattern, Omniglot, IDX; or stored vectors';
  return command
    .optionsGroup("Images:")
    .option(flag, required ? help : `${help} (those of the run)`)
    .option(
      "--image-size <pixels>",
      "side of the square that every image becomes, its centre (an rkd teacher's; else 28, 32 or 64, by source)",
      toNumber,
    )
    .option("--channels <count>", "1 (grey) or 3 (RGB) (by source)", toNumber)
    .option("--augment <kind>", "affine, crop-flip or none (by source)")
    .option("--labels <which>", "classes, or none: a teacher alone says what is alike (classes where there are two)")
    .option("--split <kind>", "classes, images, source, or lists:train.txt,validation.txt,test.txt (by source)")
    .option("--validation <share>", "share of the classes, or images, that choose the model (0.1, by source)", toNumber)
    .option(
      "--test <share>",
      "share of the classes, or images, for the final score (0.2, by source; images 0.1)",
      toNumber,
    )
    .option("--rotations", "every image in four turns, each a class of its own")
    .option(
      "--vectors",
      "a .csv or .jsonl holds vectors, not images (other files of vectors are known by their content)",
    )
    .option("--cache <folder>", "folder of the decoded images ($RKD_CACHE or ~/.cache/rkd)");
}

/** What the help says of defaults that are not the same for both jobs. */
const usual = {
  train: { backbone: "", embedding: "the pooled feature itself", losses: "triplet", epochs: "20" },
  distill: {
    backbone: " (conv4 up to 32 pixels, else resnet18 of width 32)",
    embedding: "64 with conv4, else 128",
    losses: "rkd-distance:1 rkd-angle:2, with labels beside triplet, else beside linear-hint",
    epochs: "5 to 60, by the number of images",
  },
} as const;

/** Adds the flags of a training run. */
export function addRunFlags(command: Command, job: "train" | "distill"): Command {
  const { backbone, embedding, losses, epochs } = usual[job];
  const kinds = lossNames.filter(
    (name) => job === "distill" || !(teacherLossKinds as readonly string[]).includes(name),
  );
  addDataFlags(command, true)
    .optionsGroup("Network:")
    .option("--backbone <name>", `${backboneKinds.join(", ")}${backbone}`)
    .option("--width <channels>", "channels of the first block (64)", toNumber)
    .option("--embedding <length>", `length of the embedding (${embedding})`, toNumber)
    .option("--stem <kind>", "form of ResNet, VGG and GoogLeNet: imagenet or small (by image size)")
    .option("--hidden <list>", "widths of an mlp's hidden layers (256,256)", toNumbers)
    .option("--normalize", "divide embeddings by their norm (with triplet, contrastive, margin, hard-dark-rank)")
    .option("--no-normalize", "leave embeddings as they are")
    .optionsGroup("Fine-tuning (a pattern is a parameter or module of torchvision's names, a star any letters):")
    .option("--weights <file>", "begin with a .safetensors, a PyTorch .pth, or a run (random weights)")
    .option("--weights-key <key>", "which weights of the file: ema_state_dict, state_dict.backbone (the usual ones)")
    .option("--weights-except <patterns>", "names that need not fit, besides the head", toPatterns)
    .option("--weights-mean <list>", "mean of each channel, for pixels from 0 to 1 (ImageNet's)", toNumbers)
    .option("--weights-std <list>", "standard deviation of each channel (ImageNet's)", toNumbers)
    .option("--freeze <patterns>", "parameters that stay as they are: conv1,layer1 (none)", toPatterns)
    .option("--learning-rates <factors>", "factors on the learning rate: fc=10,layer4=0.1 (1)", toFactors)
    .option("--batch-norm <which>", "statistics in training: batch, sync or running (batch, with --weights running)")
    .option("--dropout <share>", "numbers left out at random before the embedding layer, in training (0)", toNumber)
    .option("--drop-path <share>", "images for which the last residual block is left out, in training (0)", toNumber)
    .optionsGroup("Training:")
    .option("--loss <kind[:weight][@feature]>", `a term, may be repeated: ${kinds.join(", ")} (${losses})`, add)
    .option("--prefixes <list>", "lengths of prefixes that are embeddings too: 32,64 (none)", toNumbers)
    .option("--epochs <count>", `epochs (${epochs})`, toNumber)
    .option("--steps-per-epoch <count>", "batches of an epoch (all images once)", toNumber)
    .option("--batch <images>", "images of a batch (64)", toNumber)
    .option("--per-class <images>", 'images of each class in a batch, or "any" (4, more of few classes)', toPerClass)
    .option("--episode <way,shots,queries>", "a few-shot episode as batch, for example 5,1,5", toEpisode)
    .option("--micro-batch <images>", "images that go through the network at once (the whole batch)", toNumber)
    .option("--optimizer <name>", "adam, adam-w or sgd (adam)")
    .option("--lr <rate>", "learning rate (1e-3, sgd 0.05; with --weights a tenth of that)", toNumber)
    .option("--weight-decay <factor>", "weight decay (0, adam-w 0.01)", toNumber)
    .option("--schedule <name>", "cosine, constant, or step:1000,2000 in steps (cosine)")
    .option("--warmup <steps>", "steps of linear warm-up (0)", toNumber)
    .option("--clip <norm>", "largest norm of the whole gradient (none)", toNumber)
    .option("--seed <number>", "seed of everything random (1)", toNumber)
    .option("--split-seed <number>", "seed of the split (the teacher's, on the same data; else --seed)", toNumber)
    .option("--threads <count>", "CPU threads, 0 is all cores (0)", toNumber)
    .option("--device <name>", "auto, cpu, candle-cpu, cuda or cuda:1 (auto)")
    .option("--precision <name>", "in which numbers a GPU computes: float32, tf32 or bf16 (float32)")
    .option("--distributed <how>", distributedWords)
    .optionsGroup("Output:")
    .option("--out <folder>", "folder of the run")
    .option("--overwrite", "replace a run that is already there")
    .option(
      "--keep <which>",
      "the model has the last or the best weights, or the best and the last beside (last; best without labels, of a split by images, with --weights or --patience)",
    )
    .option("--patience <count>", "stop after so many evaluations without a new best (never)", toNumber)
    .option("--evaluate-every <epochs>", "epochs between evaluations (1)", toNumber)
    .option(
      "--evaluate-every-steps <steps>",
      "steps between evaluations, instead of epochs or beside them (none)",
      toNumber,
    )
    .option("--checkpoint-every <steps>", "also checkpoint every so many steps (each epoch only)", toNumber)
    .option("--ks <list>", "the K of Recall@K (1,2,4,8)", toNumbers)
    .option("--config <file>", "a module whose default export is what code gives; flags come before it");
  return addShownFlags(command);
}

/** What `--distributed` says of itself. */
export const distributedWords: string =
  "whether processes of mpirun train together: auto, mpi or none (auto: where mpirun has started this one)";

/** Adds the flags of how a run is shown. */
export function addShownFlags(command: Command): Command {
  return command
    .option("--reporter <kind>", "csv, tensorboard, mlflow or mlflow:URL; once for each of several (none)", add)
    .option("--no-report", "do not write report.html at the end");
}

/** How a run is shown, where anything is said of it. */
export function shownOf({ report, reporter }: Pick<RunFlags, "report" | "reporter">): Shown {
  const reporters = reporter?.map((given) => {
    const [kind, ...rest] = given.split(":");
    const url = rest.join(":");
    const found = oneOf("--reporter", kind, ["csv", "tensorboard", "mlflow"]);
    if (url && found !== "mlflow") throw invalid("--reporter", `${found} without a colon`, given);
    return { csv, tensorboard, mlflow: () => mlflow(url ? { url } : {}) }[found]();
  });
  return { ...(report === false && { report }), ...(reporters && { reporters }) };
}

/** The options that `train` and `distill` share; what the flags do not say stands in `config`. */
export function runOptions(
  flags: RunFlags,
  signal: AbortSignal,
  config: Partial<RunOptions> = {},
): RunOptions & { readonly out: string } {
  const { evaluateEvery, evaluateEverySteps, ks, batch, perClass, episode } = flags;
  const says = (...names: (keyof RunFlags)[]) => names.some((name) => flags[name] !== undefined);
  // What the configuration says is not covered by a default.
  const unless = <T>(given: unknown, said: boolean, make: () => T) =>
    given === undefined || said ? make() : undefined;
  const own = defined({
    data: unless(config.data, says("data", ...imageFlags), () => dataOf(flags)),
    out: flags.out ?? (config.out === undefined ? needed("--out", undefined) : undefined),
    overwrite: flags.overwrite,
    losses: flags.loss?.map((given) => toLoss(given, episode)),
    prefixes: flags.prefixes,
    weights: weightsOf(flags),
    freeze: flags.freeze,
    learningRates: flags.learningRates,
    batchNorm: flags.batchNorm,
    dropout: flags.dropout,
    dropPath: flags.dropPath,
    optimizer: unless(config.optimizer, says("optimizer", "lr", "weightDecay"), () => optimizerOf(flags)),
    schedule: unless(config.schedule, says("schedule", "warmup"), () => scheduleOf(flags)),
    epochs: flags.epochs,
    stepsPerEpoch: flags.stepsPerEpoch,
    batch: unless(config.batch, says("batch", "perClass", "episode"), () =>
      defined({ size: batch, perClass: perClass === "any" ? null : perClass, episode }),
    ),
    microBatch: flags.microBatch,
    clipGradientNorm: flags.clip,
    seed: flags.seed,
    splitSeed: flags.splitSeed,
    threads: flags.threads,
    device: flags.device,
    precision: flags.precision,
    distributed: flags.distributed,
    evaluation: unless(config.evaluation, says("evaluateEvery", "evaluateEverySteps", "ks"), () =>
      defined({ everyEpochs: evaluateEvery, everySteps: evaluateEverySteps, ks }),
    ),
    keep: flags.keep,
    patience: flags.patience,
    checkpointEverySteps: flags.checkpointEvery,
  });
  return { ...config, ...own, ...shownOf(flags), signal } as RunOptions & { readonly out: string };
}

/**
 * A flag that has no default. Not left to commander, which would complain of a missing `--data` where the user
 * typed `--dat`.
 */
export function needed(flag: string, value: string | undefined): string {
  if (value !== undefined) return value;
  throw new RkdError("ERR_INVALID_OPTION", "this option is needed", { subject: flag, advice: "see rkd --help" });
}

/** The source with its options. */
export function dataOf(flags: DataFlags): Data {
  const { data: given, imageSize, channels, augment, labels, rotations, vectors, cache } = flags;
  const source = needed("--data", given);
  const said = { imageSize, channels, augment, labels, rotations, split: splitOf(flags), cache };
  return defined({ kind: vectors && "vectors", source, ...said }) as Data;
}

/** The source, or nothing for the run's own images, which are taken as the run saw them: flags of images then say nothing. */
export function dataOrRunsOwn(flags: DataFlags): Data | undefined {
  if (flags.data !== undefined) return dataOf(flags);
  const strange = ([...imageFlags, "cache"] as const).find((name) => flags[name] !== undefined);
  if (strange === undefined) return undefined;
  const flag = `--${strange.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
  const advice = "without --data the run's own images are measured as the run saw them";
  throw invalid(flag, "--data beside it", flags[strange], advice);
}

/** The split; shares alone are of the source's own kind of it. */
function splitOf({ labels, split, validation, test }: DataFlags): Split | Shares | undefined {
  if (split?.startsWith("lists:")) {
    const files = split.slice("lists:".length).split(",");
    const [train, middle, last] = files;
    if (!train || files.length > 3)
      throw invalid("--split", "lists:train.txt,test.txt, or three with validation", split);
    return {
      kind: "lists",
      train,
      ...(last ? { validation: middle, test: last } : defined({ test: middle })),
    } as Split;
  }
  if (split === undefined) {
    return validation === undefined && test === undefined ? undefined : defined({ validation, test });
  }
  const kind = oneOf("--split", split, ["classes", "source", "images"]);
  if (kind !== "source") return { kind, validation: validation ?? 0.1, test: test ?? (labels === "none" ? 0.1 : 0.2) };
  if (test !== undefined) throw invalid("--test", "nothing with --split source", test, "the test part is the source's");
  return { kind, validation: validation ?? 0.1 };
}

/** The student, where anything is said of it: the default one with that, where its kind is not. */
export function studentOf(flags: NetworkFlags): Partial<Backbone> | undefined {
  if (flags.backbone !== undefined) return backboneOf(flags);
  const { width, embedding, stem, hidden, normalize } = flags;
  const said = defined({ width, embedding, stem, hidden, normalize });
  return Object.keys(said).length > 0 ? said : undefined;
}

/** The network. */
export function backboneOf({ backbone, width, embedding, stem, hidden, normalize }: NetworkFlags): Backbone {
  const kind = oneOf("--backbone", needed("--backbone", backbone), backboneKinds);
  if (kind === "mlp" && width !== undefined) {
    throw invalid("--width", "a convolutional network", kind, "give --hidden");
  }
  if (!/^(resnet|vgg|googlenet)/.test(kind) && stem !== undefined) {
    throw invalid("--stem", "a ResNet, VGG or GoogLeNet", kind, "leave --stem out");
  }
  if (kind !== "mlp" && hidden !== undefined) {
    throw invalid("--hidden", "--backbone mlp", kind, "leave --hidden out");
  }
  return defined({ kind, width, embedding, stem, hidden, normalize }) as Backbone;
}

/** A normalisation by the two flags `--OF-mean` and `--OF-std`. */
export function normalizationOf(
  of: string,
  mean: number[] | undefined,
  std: number[] | undefined,
): Normalization | undefined {
  if (mean && std) return { mean, std };
  if (!mean && !std) return undefined;
  throw invalid(mean ? `--${of}-std` : `--${of}-mean`, "both or neither", "one of them");
}

function weightsOf(flags: TuningFlags): string | Weights | undefined {
  const { weights, weightsKey, weightsExcept, weightsMean, weightsStd } = flags;
  const normalization = normalizationOf("weights", weightsMean, weightsStd);
  const options = defined({ key: weightsKey, except: weightsExcept, normalization });
  if (Object.keys(options).length === 0) return weights;
  return { file: needed("--weights", weights), ...options };
}

/** A number. What is none stays the text, and the core's error shows it. */
export function toNumber(text: string): number {
  const number = text.trim() === "" ? Number.NaN : Number(text);
  return Number.isNaN(number) ? (text as unknown as number) : number;
}

/** Numbers between commas. */
export function toNumbers(text: string): number[] {
  return text.split(",").map(toNumber);
}

function toPatterns(text: string): string[] {
  return text.split(",");
}

/** `fc=10,layer4=0.1`. */
function toFactors(text: string): Record<string, number> {
  const pairs = text.split(",").map((pair) => {
    const [pattern = "", factor, ...rest] = pair.split("=");
    if (factor === undefined || rest.length > 0) throw invalid("--learning-rates", "pattern=factor,...", text);
    return [pattern, toNumber(factor)] as const;
  });
  return Object.fromEntries(pairs);
}

/** `5,1,15`: ways, shots, queries. */
function toEpisode(text: string): Episode {
  const [way, shots, queries, ...rest] = toNumbers(text);
  if (way === undefined || shots === undefined || queries === undefined || rest.length > 0) {
    throw invalid("--episode", "three numbers, for example 5,1,15", text);
  }
  return { way, shots, queries };
}

/** `5x1,20x5`: ways and shots. */
export function toFewShot(text: string): FewShot[] {
  return text.split(",").map((one) => {
    const [way, shots, ...rest] = one.split("x").map(toNumber);
    if (way === undefined || shots === undefined || rest.length > 0) {
      throw invalid("--few-shot", "ways and shots, for example 5x1,20x5", text);
    }
    return { way, shots };
  });
}

/** Not null for "any": commander takes a parser's null for no value. */
function toPerClass(text: string): number | "any" {
  return text === "any" ? text : toNumber(text);
}

/** The losses of `--loss`, by the name in plans; `triplet` is triplet-squared. */
const lossNames = lossKinds.map((kind) => (kind === "triplet-squared" ? "triplet" : kind));
const episodic = "prototypical";

/** One more of a flag that may come several times. */
export function add(given: string, before: readonly string[] = []): readonly string[] {
  return [...before, given];
}

/**
 * `kind:weight@studentFeature/teacherFeature=teacher`, all but the kind may be left out. The episode is what prototypes are of.
 */
function toLoss(given: string, episode: Episode | undefined): Loss {
  const [text = "", ...named] = given.split("=");
  const teacher = named.length > 0 ? named.join("=") : undefined;
  const [head = "", features, ...more] = text.split("@");
  const [kind, weightText, ...rest] = head.split(":");
  const form =
    "kind, kind:weight or kind:weight@feature, with @student/teacher for two features, =NAME for one teacher";
  if (rest.length + more.length > 0) throw invalid("--loss", form, given);
  const [studentFeature, teacherFeature, ...extra] = features?.split("/") ?? [];
  if (extra.length > 0) throw invalid("--loss", form, given);
  const weight = weightText === undefined ? 1 : weightText === "auto" ? weightText : toNumber(weightText);
  if (typeof weight !== "number" && weight !== "auto")
    throw invalid("--loss", `${form}, the weight a number or auto`, given);
  const term = defined({ weight: weight as Weight, studentFeature, teacherFeature, teacher });
  if (kind !== episodic) return { kind: kind === "triplet" ? "triplet-squared" : kind, ...term } as Loss;
  if (!episode) throw invalid("--loss", "prototypical together with --episode", given, "give --episode 5,1,5");
  return { kind, ...term, supportCount: episode.shots, way: episode.way } as Loss;
}

function optimizerOf({ optimizer, lr, weightDecay }: RunFlags): OptimizerOptions {
  const kind = oneOf("--optimizer", optimizer ?? "adam", ["adam", "adam-w", "sgd"]);
  return { kind, ...defined({ learningRate: lr, weightDecay }) };
}

function scheduleOf({ schedule, warmup }: RunFlags): ScheduleOptions {
  const [name, list, ...rest] = (schedule ?? "cosine").split(":");
  const kind = oneOf("--schedule", name, ["cosine", "constant", "step"]);
  const warm = defined({ warmupSteps: warmup });
  if (kind === "step") {
    if (!list) throw invalid("--schedule", "step with its milestones in steps, for example step:1000,2000", schedule);
    return { kind, ...warm, milestones: toNumbers(list) };
  }
  if (list !== undefined || rest.length > 0) throw invalid("--schedule", `${kind} without a colon`, schedule);
  return { kind, ...warm };
}

type Defined<T> = { [K in keyof T]?: Exclude<T[K], undefined> };

/** Without the keys that are undefined. */
export function defined<T extends object>(value: T): Defined<T> {
  return Object.fromEntries(Object.entries(value).filter(([, v]) => v !== undefined)) as Defined<T>;
}
