/** Shows a run's events: JSON lines on standard output, or progress on standard error for people. */

import type { Command } from "commander";
import type { DataEvent, EarlyStopEvent, EvaluationEvent, RunEvent, StartEvent, StepEvent } from "../events.ts";
import { printable } from "../printable.ts";
import { bytesInWords, duration, metricsLine, shortMetrics } from "../report/scores.ts";
import { goalOf } from "../run/state.ts";
import { asTyped, quoted } from "./flags.ts";

/** Shows events. */
export interface Reporter {
  /** Shows one event. */
  event(event: RunEvent): void;
  /** Clears a progress line; called once, however the run ends. */
  end(): void;
}

/** One JSON object a line on standard output. */
export function jsonReporter(): Reporter {
  return { event: writeJsonLine, end: () => {} };
}

/** Writes one JSON line. */
export function writeJsonLine(value: object): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

/** For people: a line that redraws itself on a terminal, a plain line every few seconds elsewhere. */
export function textReporter(name = "", command?: Command): Reporter {
  return new TextReporter(name, process.stderr, command);
}

/** Between two plain progress lines; a log of an hour has a screen or two of them. */
export const PLAIN_INTERVAL_MS = 5_000;

class TextReporter implements Reporter {
  readonly #name: string;
  readonly #out: NodeJS.WriteStream;
  readonly #command: Command | undefined;
  #lastPlain = 0;
  #drawn = false;
  #start: { readonly time: number; readonly step: number } | undefined;
  /** What the last validation said, and the best so far. */
  #score: Standing["score"];
  #epochs = 0;
  #stepsPerEpoch = 1;
  #measured = "classes";
  #teachers = 0;
  #baseline: TextReporter | undefined;

  constructor(name: string, out: NodeJS.WriteStream, command: Command | undefined) {
    this.#command = command;
    this.#name = name ? `${name}: ` : "";
    this.#out = out;
  }

  event(event: RunEvent): void {
    switch (event.type) {
      case "start":
        this.#started(event);
        break;
      case "data":
        this.#progress(dataLine(event));
        break;
      case "step":
        this.#progress(this.#stepLine(event));
        break;
      case "evaluation": {
        this.#scored(event);
        const student = event.step % this.#stepsPerEpoch === 0 ? `epoch ${event.epoch}` : `step ${event.step}`;
        const who = {
          student,
          before: "before training",
          model: "model",
          teacher: this.#teachers > 1 ? `teacher ${event.teacher}` : "teacher",
          baseline: "without a teacher",
        };
        const best = event.best ? "  (best so far)" : "";
        this.#line(
          `${who[event.who]}, ${event.part} ${this.#measured}: ${metricsLine(shortMetrics(event.metrics))}${best}`,
        );
        break;
      }
      case "baseline":
        this.#baseline ??= new TextReporter("without a teacher", this.#out, this.#command);
        this.#baseline.event(event.event);
        break;
      case "earlyStop":
        this.#line(earlyLine(event, this.#stepsPerEpoch));
        break;
      case "weights":
        this.#line(
          `weights found: ${event.weights.map(({ name, weight }) => `${name} ${weight.toPrecision(4)}`).join(", ")}`,
        );
        break;
      case "collapse":
      case "warning":
        this.#line(`warning: ${asTyped(event.message, this.#command)}`);
        break;
      default: // checkpoints are many, and what stands in the end is printed by the command
    }
  }

  end(): void {
    this.#baseline?.end();
    if (this.#drawn) this.#out.write("\r\x1b[K");
    this.#drawn = false;
  }

  #started({
    step,
    stepsPerEpoch,
    totalSteps,
    data,
    train,
    validation,
    test,
    student,
    teachers,
    resumed,
    memory,
    ranks,
    threads,
    plan,
    out,
  }: StartEvent): void {
    this.#start = { time: performance.now(), step };
    this.#stepsPerEpoch = stepsPerEpoch;
    this.#epochs = Math.round(totalSteps / stepsPerEpoch);
    this.#line(data);
    const labelled = plan.data.labels === "classes";
    this.#measured = labelled ? "classes" : "images";
    this.#teachers = teachers.length;
    const parts = Object.entries({ train, validation, test }).map(
      ([part, { images, classes }]) => `${part} ${labelled ? `${images}/${classes}` : images}`,
    );
    const { kind, imageSize: side, channels } = plan.data;
    const what = kind === "vectors" ? "vectors" : "images";
    const form = kind === "vectors" ? "" : `, ${side} x ${side} pixels, ${channels === 1 ? "grey" : "RGB"}`;
    this.#line(`${what}${labelled ? "/classes" : ""}: ${parts.join(", ")}${form}`);
    // Stored vectors have no parameters.
    const size = ({ backbone, parameters, embedding }: typeof student) =>
      `${backbone}${parameters > 0 ? ` with ${parameters.toLocaleString("en")} parameters` : ""}, embedding ${embedding}`;
    const named = (name: string) => (teachers.length > 1 ? `teacher ${name}` : "teacher");
    const before = teachers.map((teacher) => `${named(teacher.name)}: ${size(teacher)}; `).join("");
    this.#line(`${before}${teachers.length > 0 ? "student: " : "network: "}${size(student)}`);
    this.#line(memoryLine(memory));
    // Said now: where one is lost, its launcher ends the others before they can say anything.
    const lost = `if one is lost, all end, and \`rkd resume ${quoted(out)}\` goes on`;
    if (ranks > 1) this.#line(`${ranks} ranks, ${threads} ${threads === 1 ? "thread" : "threads"} each; ${lost}`);
    if (resumed) this.#line(`going on after step ${step} of ${totalSteps}`);
  }

  #scored({ who, metrics, best }: EvaluationEvent): void {
    if (who !== "student") return;
    const name = goalOf(metrics);
    const last = metrics[name];
    if (last === undefined) return;
    this.#score = { name, last, best: best || !this.#score ? last : this.#score.best };
  }

  #stepLine(event: StepEvent): string {
    const done = this.#start ? event.step - this.#start.step : 0;
    const elapsed = this.#start ? (performance.now() - this.#start.time) / 1000 : 0;
    const secondsLeft = done > 0 ? (elapsed / done) * (event.totalSteps - event.step) : Number.NaN;
    const width = this.#out.isTTY ? this.#width() - 1 - this.#name.length : Number.POSITIVE_INFINITY;
    return stepLine(event, { secondsLeft, epochs: this.#epochs, score: this.#score }, width);
  }

  #width(): number {
    return this.#out.columns || 80;
  }

  #progress(text: string): void {
    if (this.#out.isTTY) {
      this.#out.write(`\r\x1b[K${printable(`${this.#name}${text}`).slice(0, this.#width() - 1)}`);
      this.#drawn = true;
      return;
    }
    if (performance.now() - this.#lastPlain < PLAIN_INTERVAL_MS) return;
    this.#lastPlain = performance.now();
    this.#line(text);
  }

  #line(text: string): void {
    this.end();
    this.#out.write(`${printable(`${this.#name}${text}`)}\n`);
  }
}

/** What a step's line says beside the step. */
interface Standing {
  readonly secondsLeft: number;
  readonly epochs: number;
  /** What the last validation said, and the best so far. */
  readonly score: { readonly name: string; readonly last: number; readonly best: number } | undefined;
}

/** A step in a line of at most `width` signs: what matters most comes first, and where there is little room words are short. */
export function stepLine(
  { epoch, loss, terms, imagesPerSecond, dataWaitShare, rankWaitShare }: StepEvent,
  { secondsLeft, epochs, score }: Standing,
  width: number,
): string {
  const rate = Math.round(imagesPerSecond);
  const waited = Math.round(100 * dataWaitShare);
  const forRanks = Math.round(100 * rankWaitShare);
  const percents = score && { last: (100 * score.last).toFixed(1), best: (100 * score.best).toFixed(1) };
  const long = [
    `${duration(secondsLeft)} left`,
    `epoch ${epoch}/${epochs}`,
    `${rate.toLocaleString("en")} images/s`,
    `loss ${loss.toPrecision(4)}`,
    ...(score ? [`${score.name} ${percents?.last} %, best ${percents?.best} %`] : []),
    `waited for data ${waited} %`,
    ...(rankWaitShare > 0 ? [`for other ranks ${forRanks} %`] : []),
  ].join("  ");
  const each = terms.length > 1 ? terms.map(({ name, value }) => `  ${name} ${value.toPrecision(3)}`).join("") : "";
  const short = [
    `${duration(secondsLeft)
      .replaceAll(/ (?:(m)in|(s)|(h))/g, "$1$2$3")
      .replace(" ", "")} left`,
    `epoch ${epoch}/${epochs}`,
    `${rate} img/s`,
    `loss ${loss.toPrecision(3)}`,
    ...(score ? [`${score.name} ${percents?.last} best ${percents?.best}`] : []),
    `wait ${waited}%`,
  ].join(" ");
  return [long + each, long].find((text) => text.length <= width) ?? short.slice(0, width);
}

/** Why a run ends before its last epoch. */
function earlyLine({ epoch, step, patience, best }: EarlyStopEvent, stepsPerEpoch: number): string {
  const times = patience === 1 ? "the last evaluation was" : `the last ${patience} evaluations were`;
  const when = best.step % stepsPerEpoch === 0 ? `epoch ${best.epoch}` : `step ${best.step}`;
  return `stopping early after epoch ${epoch}, step ${step}: ${times} no better than that of ${when} (--patience ${patience})`;
}

/** The estimate with its three largest parts. */
function memoryLine({ total, process, ...parts }: StartEvent["memory"]): string {
  const largest = Object.entries(parts)
    .sort(([, a], [, b]) => b - a)
    .slice(0, 3);
  const words = largest.map(([name, bytes]) => `${memoryParts[name as keyof typeof parts]} ${bytesInWords(bytes)}`);
  return `memory: about ${bytesInWords(total)} at its peak (${words.join(", ")})`;
}

/** The parts of an estimate, for people. */
const memoryParts: Readonly<Record<Exclude<keyof StartEvent["memory"], "total" | "process">, string>> = {
  networks: "networks",
  activations: "activations",
  gradients: "gradients",
  optimizer: "optimiser's state",
  evaluation: "evaluation",
  kernels: "kernels",
  losses: "losses",
  loader: "batches made ahead",
  teacherFeatures: "teachers' features",
  listing: "list of images",
  best: "best weights",
  other: "other",
  moment: "checkpoints and final evaluation",
};

function dataLine({ phase, done, total, imagesPerSecond }: DataEvent): string {
  const what = {
    decode: "reading images",
    teacherFeatures: "teacher's features",
    embed: "embedding",
    merge: "joining shards",
    calibrate: "calibrating",
  }[phase];
  const rate = imagesPerSecond ? `  ${Math.round(imagesPerSecond).toLocaleString("en")} images/s` : "";
  return `${what}  ${bar(total > 0 ? done / total : 1)}  ${done}/${total}${rate}`;
}

/** A bar of 20 characters with its share in percent. */
export function bar(share: number): string {
  const full = Math.round(20 * Math.min(1, Math.max(0, share)));
  return `[${"#".repeat(full)}${"-".repeat(20 - full)}] ${Math.floor(100 * share)} %`;
}
