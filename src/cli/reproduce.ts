/** `rkd reproduce`: an experiment of the paper as a command, with one progress display for all its runs. */

import { join } from "node:path";
import { RkdError } from "../errors.ts";
import { documentOf } from "../experiment/document.ts";
import type { ExperimentEvent, ExperimentPlanEvent } from "../experiment/events.ts";
import type { ExperimentResult } from "../experiment/result.ts";
import { invalid } from "../options/check.ts";
import { printable } from "../printable.ts";
import { type ReproduceOptions, recipeNames } from "../recipes/plan.ts";
import { reproduce } from "../recipes/reproduce.ts";
import { duration } from "../report/scores.ts";
import { refuseRanks, runsInTurn } from "../run/ranks.ts";
import { isStop, json, print, printLines, say, signal, willSave } from "./context.ts";
import { defined } from "./options.ts";
import { bar, PLAIN_INTERVAL_MS, writeJsonLine } from "./progress.ts";
import { table } from "./table.ts";

/** The flags of the command. */
export interface ReproduceFlags {
  readonly scale?: ReproduceOptions["scale"];
  readonly data?: readonly string[];
  readonly seeds?: number;
  readonly out?: string;
  readonly protocol?: ReproduceOptions["protocol"];
  readonly weights?: readonly string[];
  readonly teacher?: string;
  readonly rows?: readonly string[];
  readonly columns?: readonly string[];
  readonly threads?: number;
  readonly list?: boolean;
}

/** Runs a recipe and prints its table; without a recipe, or with `--list`, says which there are. */
export async function runRecipe(name: string | undefined, flags: ReproduceFlags): Promise<void> {
  if (flags.list) return showList();
  if (name === undefined) {
    const advice = `give one of ${Object.keys(recipeNames).join(", ")}; rkd reproduce --list says what they are`;
    throw new RkdError("ERR_INVALID_OPTION", "this argument is needed", { subject: "recipe", advice });
  }
  refuseRanks("reproduce", runsInTurn);
  const command = ["rkd", ...process.argv.slice(2).filter((word) => word !== "--json")].join(" ");
  const { scale, data, seeds, out, protocol, teacher, rows, columns, threads } = flags;
  const weights = flags.weights && toFiles(flags.weights);
  const options = defined({ scale, data, seeds, out, protocol, weights, teacher, rows, columns, threads });
  const run = reproduce(name, { ...options, command, signal });
  const reporter = new Progress();
  let result: ExperimentResult;
  try {
    for await (const event of run) {
      if (event.type === "plan") willSave();
      json ? writeJsonLine(event) : reporter.event(event);
    }
    result = await run;
  } catch (error) {
    reporter.end();
    if (isStop(error)) say(`Go on with the same command: ${command}`);
    throw error;
  }
  reporter.end();
  if (!json) showResult(result);
}

/** `resnet50=weights.pth` */
function toFiles(given: readonly string[]): NonNullable<ReproduceOptions["weights"]> {
  const pairs = given.map((pair) => {
    const [, network, file] = /^([\w-]+)=(.+)$/.exec(pair) ?? [];
    if (!network || !file) throw invalid("--weights", "network=file, for example resnet50=resnet50.pth", pair);
    return [network, file];
  });
  return Object.fromEntries(pairs);
}

function showList(): void {
  for (const [recipe, repeats] of Object.entries(recipeNames)) {
    json ? writeJsonLine({ recipe, repeats }) : print(`${recipe.padEnd(20)} ${repeats}`);
  }
}

function showResult(result: ExperimentResult): void {
  const [first, ...deviations] = result.notes;
  if (first !== undefined) print(first);
  for (const text of [...deviations, ...result.data.map((sentence) => `Data: ${sentence}`)]) print(`- ${text}`);
  print("");
  for (const block of documentOf(result).blocks) {
    if (block.kind === "beside") {
      for (const { caption, titles, rows } of block.tables)
        printLines(`${printable(caption)}\n\n${table(titles, rows)}\n`);
    }
  }
  for (const { says, verdict } of result.claims) print(`${says}: ${verdict}`);
  print("");
  print(`${join(result.out, "table.html")} shows all of it; table.md and table.json stand beside it.`);
}

/** One line for the whole experiment, and a line for each run that has ended. */
class Progress {
  readonly #out: NodeJS.WriteStream = process.stderr;
  #drawn = false;
  #lastPlain = 0;

  event(event: ExperimentEvent): void {
    switch (event.type) {
      case "plan":
        this.#line(planLine(event));
        break;
      case "cell": {
        const figures = Object.entries(event.figures).map(([name, value]) => `${name} ${(100 * value).toFixed(2)} %`);
        const outcome = event.failed === null ? figures.join("  ") : `diverged: ${event.failed}`;
        this.#line(`${event.done}/${event.runs}  ${where(event)}: ${outcome}`);
        break;
      }
      case "progress": {
        const all = `${event.done}/${event.runs} runs  ${bar((event.done + event.share) / event.runs)}`;
        this.#progress(`${all}  ${where(event)}, ${event.doing}  ${left(event.secondsLeft)} left`);
        break;
      }
      case "warning":
        this.#line(`warning: ${event.message}`);
        break;
      default: // the end is printed by the command
    }
  }

  end(): void {
    if (this.#drawn) this.#out.write("\r\x1b[K");
    this.#drawn = false;
  }

  #progress(text: string): void {
    if (this.#out.isTTY) {
      this.#out.write(`\r\x1b[K${printable(text).slice(0, (this.#out.columns || 80) - 1)}`);
      this.#drawn = true;
      return;
    }
    if (performance.now() - this.#lastPlain < PLAIN_INTERVAL_MS) return;
    this.#lastPlain = performance.now();
    this.#line(text);
  }

  #line(text: string): void {
    this.end();
    this.#out.write(`${printable(text)}\n`);
  }
}

function planLine({ cells, runs, finished, secondsLeft, basis }: ExperimentPlanEvent): string {
  const work = `${cells} cells of the table need ${runs} runs; ${finished} are finished`;
  return secondsLeft === null ? work : `${work}. The others take about ${duration(secondsLeft)}, going by ${basis}.`;
}

function where({
  row,
  column,
  seed,
}: {
  readonly row: string;
  readonly column: string;
  readonly seed: number;
}): string {
  return `${row}, ${column}, seed ${seed}`;
}

function left(seconds: number | null): string {
  return seconds === null ? "?" : duration(seconds);
}
