/** `experiment`: a matrix of runs over rows, columns and seeds, and the table that it makes. */

import { resolve } from "node:path";
import { removeAbandoned } from "../artefacts/run-folder.ts";
import type { RunEvent } from "../events.ts";
import { boolean, integer, invalid, object, oneOf, or, path, text } from "../options/check.ts";
import type { GalleryQuery } from "../report/pictures.ts";
import { FolderLock } from "../run/folder-lock.ts";
import { refuseRanks, runsInTurn } from "../run/ranks.ts";
import { type Run, type RunContext, startRun } from "../run/run.ts";
import { type CellResult, finishedResult, runCell } from "./cell-run.ts";
import { Clock, kindOf, removeAbandonedTrials, tryKinds } from "./estimate.ts";
import type { ExperimentEvent, ExperimentProgressEvent } from "./events.ts";
import { galleryOf } from "./gallery.ts";
import { type Matrix, type PlannedRun, planMatrix } from "./matrix.ts";
import type { ExperimentOptions, PlacedOptions } from "./options.ts";
import { defaultFigures, type ExperimentResult, figuresOf, resultOf } from "./result.ts";
import { checkTables, tables, writeTables } from "./tables.ts";

/**
 * Runs a cell for every row, column and seed, and writes `table.md`, `table.json` and `table.html` to `options.out` after
 * each one. Equal cells share one run. Stopped or killed, it goes on where it was when it is called again: finished
 * cells are read, the one in progress is resumed, and only cells whose options have changed are run anew.
 *
 * ```ts
 * const data = imageFolder("photos");
 * const student = conv4({ width: 32, embedding: 64 });
 * const { claims } = await experiment({
 *   name: "photos",
 *   rows: ["teacher", "triplet", "RKD-DA"],
 *   columns: ["conv4"],
 *   claims: [{ says: "RKD-DA is above triplet", above: "RKD-DA", below: "triplet" }],
 *   cell: ({ row, model }) => {
 *     if (row === "teacher") return { train: { data, backbone: resnet(18, { embedding: 128 }) } };
 *     if (row === "triplet") return { train: { data, backbone: student } };
 *     return { distill: { data, student, teacher: model("teacher") } };
 *   },
 *   out: "runs/photos",
 * });
 * ```
 * A run that diverges is a cell without figures; every other failure stops the experiment.
 * @returns A {@link Run}: await it for the result, iterate it for the events.
 * @throws {RkdError} by rejection: bad options before anything is touched, then whatever stops a run
 */
export function experiment(options: ExperimentOptions): Run<ExperimentResult, ExperimentEvent> {
  return startRun<ExperimentResult, ExperimentEvent>((context) => {
    refuseRanks("experiment", runsInTurn);
    return new Experiment(options, context).run();
  }, options?.signal);
}

class Experiment {
  readonly #options: PlacedOptions;
  /** Its folder, which a change of directory does not move. */
  readonly #out: string;
  readonly #seeds: readonly number[];
  readonly #threads: number;
  readonly #context: RunContext<ExperimentEvent>;
  readonly #matrix: Matrix;
  readonly #results = new Map<PlannedRun, CellResult>();
  readonly #warned = new Set<string>();
  #clock = new Clock(new Map());
  #gallery: readonly GalleryQuery[] = [];

  constructor(options: ExperimentOptions, context: RunContext<ExperimentEvent>) {
    this.#seeds = checkOptions(options);
    this.#options = { ...options, out: path("out", options.out) };
    this.#out = resolve(this.#options.out);
    this.#threads = integer("threads", or(options.threads, 0), { from: 0, to: 1024 });
    this.#context = context;
    this.#matrix = planMatrix(this.#options, this.#seeds);
  }

  async run(): Promise<ExperimentResult> {
    checkTables(this.#out);
    const lock = new FolderLock(this.#out);
    try {
      checkTables(this.#out); // nobody can change it any more
      await removeAbandoned(this.#out, tables);
      removeAbandonedTrials(this.#out);
      return await this.#run();
    } finally {
      lock.release();
    }
  }

  async #run(): Promise<ExperimentResult> {
    const { runs } = this.#matrix;
    for (const run of runs) {
      const result = finishedResult(run);
      if (result) this.#finished(run, result);
    }
    await this.#estimate();
    for (const run of runs) {
      if (!this.#results.has(run)) await this.#do(run);
    }
    this.#gallery = await this.#pictures();
    const result = this.#write();
    this.#context.emit({ type: "end", result });
    return result;
  }

  async #pictures(): Promise<readonly GalleryQuery[]> {
    const { gallery, columns } = this.#options;
    if (!gallery) return [];
    const { rows, ...size } = gallery;
    const { cells } = this.#matrix;
    const models = rows.flatMap((row) => {
      const cell = cells.find((each) => each.row === row && each.column === columns[0] && each.seed === this.#seeds[0]);
      return cell && this.#results.get(cell.run)?.run ? [{ row, model: cell.run.folder }] : [];
    });
    return galleryOf(models, { ...size, ...this.#inner() });
  }

  async #estimate(): Promise<void> {
    const { runs, cells } = this.#matrix;
    const known = this.#results.size;
    const open = runs.filter((run) => !this.#results.has(run));
    const tried = (this.#options.estimate ?? true) ? this.#untried(open) : [];
    if (tried.length > 0) {
      const watch = (run: PlannedRun) => this.#progress(run, "timing", 0);
      const trials = await tryKinds(tried, this.#out, { ...this.#inner(), watch });
      this.#clock = new Clock(trials);
      for (const [run, result] of this.#results) this.#clocked(run, result);
    }
    const basis =
      [known > 0 && `${known} finished runs`, tried.length > 0 && "a trial of a few steps of each other kind of run"]
        .filter((part) => part !== false)
        .join(" and ") || "nothing yet";
    const secondsLeft = this.#clock.seconds(open.map(kindOf));
    const sizes = { cells: cells.length, runs: runs.length, finished: known };
    this.#context.emit({ type: "plan", ...sizes, secondsLeft, basis });
  }

  /** One run of each kind that no finished run tells of. */
  #untried(open: readonly PlannedRun[]): PlannedRun[] {
    const seen = new Set([...this.#results.keys()].map(kindOf));
    return open.filter((run) => {
      const kind = kindOf(run);
      if (seen.has(kind)) return false;
      seen.add(kind);
      return true;
    });
  }

  async #do(run: PlannedRun): Promise<void> {
    this.#progress(run, "reading images", 0);
    let share = 0;
    const watch = (event: RunEvent) => {
      if (event.type === "warning" || event.type === "collapse") this.#warn(event.message);
      if (event.type === "step") {
        share = event.step / event.totalSteps;
        this.#progress(run, "training", share);
      }
      if (event.type === "data") this.#progress(run, event.phase === "decode" ? "reading images" : "measuring", share);
    };
    const result = await runCell(run, { ...this.#inner(), watch });
    this.#finished(run, result);
    this.#write();
    const { folder } = run;
    const figures = this.#shown(run, result);
    this.#context.emit({ type: "cell", ...this.#at(run, 0), folder, figures, failed: result.failed });
  }

  #finished(run: PlannedRun, result: CellResult): void {
    this.#results.set(run, result);
    this.#clocked(run, result);
  }

  #clocked(run: PlannedRun, { wallSeconds, failed }: CellResult): void {
    if (wallSeconds !== null && !failed) this.#clock.add(kindOf(run), wallSeconds);
  }

  #progress(run: PlannedRun, doing: ExperimentProgressEvent["doing"], share: number): void {
    this.#context.emit({ type: "progress", ...this.#at(run, share), doing, share });
  }

  /** What the table shows of a run, under the table's names; nothing of one that no row shows. */
  #shown(run: PlannedRun, result: CellResult): Record<string, number> {
    const all = figuresOf(result);
    const wanted = this.#options.figures ?? defaultFigures;
    const cells = this.#matrix.cells.filter((cell) => cell.run === run);
    const names = cells.flatMap(({ figures }) => wanted.map((figure) => figures[figure] ?? figure));
    return Object.fromEntries(names.flatMap((name) => (name in all ? [[name, all[name] as number]] : [])));
  }

  /** Where `run` stands, of which `share` is done. */
  #at(run: PlannedRun, share: number) {
    const { row, column, seed } = run;
    const { runs } = this.#matrix;
    const open = runs.filter((each) => !this.#results.has(each));
    const [all, own] = [this.#clock.seconds(open.map(kindOf)), this.#clock.seconds([kindOf(run)])];
    const secondsLeft = all === null || own === null ? null : Math.max(0, all - share * own);
    return { row, column, seed, done: this.#results.size, runs: runs.length, secondsLeft };
  }

  #warn(message: string): void {
    if (this.#warned.has(message)) return;
    this.#warned.add(message);
    this.#context.emit({ type: "warning", message });
  }

  #inner() {
    return { threads: this.#threads, signal: this.#context.signal };
  }

  #write(): ExperimentResult {
    const result = resultOf(this.#options, this.#seeds, this.#matrix, this.#results, this.#gallery);
    writeTables(this.#out, result);
    return result;
  }
}

/** @returns the seeds */
function checkOptions(options: ExperimentOptions): readonly number[] {
  object<ExperimentOptions>("options", options, [
    ...([
      "name",
      "out",
      "rows",
      "columns",
      "seeds",
      "cell",
      "figures",
      "claims",
      "published",
      "notes",
      "gallery",
    ] as const),
    ...(["protocol", "judgedWeights", "command", "estimate", "threads", "signal"] as const),
  ]);
  text("name", options.name);
  names("rows", options.rows);
  names("columns", options.columns);
  if (typeof options.cell !== "function") throw invalid("cell", "a function that says what a cell is", options.cell);
  if (options.figures !== undefined) names("figures", options.figures);
  oneOf("protocol", or(options.protocol, "honest"), ["honest", "paper"]);
  oneOf("judgedWeights", or(options.judgedWeights, "best"), ["best", "last"]);
  boolean("estimate", or(options.estimate, true));
  const { gallery } = options;
  if (gallery !== undefined) {
    object<NonNullable<ExperimentOptions["gallery"]>>("gallery", gallery, ["rows", "queries", "k"]);
    names("gallery.rows", gallery.rows);
    for (const [i, row] of gallery.rows.entries()) oneOf(`gallery.rows[${i}]`, row, options.rows);
  }
  for (const [i, { above, below }] of (options.claims ?? []).entries()) {
    oneOf(`claims[${i}].above`, above, options.rows);
    oneOf(`claims[${i}].below`, below, options.rows);
  }
  return checkSeeds(or(options.seeds, 3));
}

function names(option: string, list: readonly string[]): void {
  if (!Array.isArray(list) || list.length === 0) throw invalid(option, "a list of at least one name", list);
  list.forEach((name, i) => {
    text(`${option}[${i}]`, name);
    if (list.indexOf(name) !== i) throw invalid(`${option}[${i}]`, "names that differ", name);
  });
}

function checkSeeds(seeds: number | readonly number[]): readonly number[] {
  if (typeof seeds === "number") {
    return Array.from({ length: integer("seeds", seeds, { from: 1, to: 1000 }) }, (_, i) => i + 1);
  }
  if (!Array.isArray(seeds) || seeds.length === 0) throw invalid("seeds", "a count or a list of seeds", seeds);
  return [...new Set(seeds.map((seed, i) => integer(`seeds[${i}]`, seed, { from: 0 })))];
}
