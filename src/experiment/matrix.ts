/**
 * From the matrix to the runs it needs, each once, in the order they can be done.
 *
 * A run is known by what it is: the hash of its options, its seed and the runs it builds on. So equal cells share a run, a
 * run that is there is not repeated, and one whose options have changed is another run with another folder.
 */

import { createHash } from "node:crypto";
import { existsSync, readdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { RkdError } from "../errors.ts";
import { invalid, object } from "../options/check.ts";
import type { Cell, Measure, PlacedOptions } from "./options.ts";

/** One run of the experiment. */
export interface PlannedRun {
  /** Hash of what it is. */
  readonly id: string;
  /** Absolute path of its folder. */
  readonly folder: string;
  /** The first cell that asked for it. */
  readonly row: string;
  readonly column: string;
  readonly seed: number;
  readonly cell: Cell;
  /** The runs it builds on. */
  readonly after: readonly PlannedRun[];
  /** Evaluations that some cell asks for. */
  readonly measures: Map<string, Measure>;
}

/** A shown cell with its run. */
export interface PlannedCell {
  readonly row: string;
  readonly column: string;
  readonly seed: number;
  readonly run: PlannedRun;
  /** What the table's figures are called in this cell. */
  readonly figures: Readonly<Record<string, string>>;
}

/** The whole experiment. */
export interface Matrix {
  /** Every run after those it builds on; seed by seed, so that a whole table stands early. */
  readonly runs: readonly PlannedRun[];
  readonly cells: readonly PlannedCell[];
}

/** Asks every cell what it is. @throws {RkdError} where cells build on each other in a circle */
export function planMatrix(options: PlacedOptions, seeds: readonly number[]): Matrix {
  return new Planner(options).plan(seeds);
}

class Planner {
  readonly #options: PlacedOptions;
  readonly #folders: readonly string[];
  readonly #byCell = new Map<string, Pick<PlannedCell, "run" | "figures"> | "open">();
  readonly #runs = new Map<string, PlannedRun>();

  constructor(options: PlacedOptions) {
    this.#options = options;
    const home = this.#home();
    this.#folders = existsSync(home) ? readdirSync(home) : [];
  }

  plan(seeds: readonly number[]): Matrix {
    const { rows, columns } = this.#options;
    const cells = seeds.flatMap((seed) =>
      rows.flatMap((row) => columns.map((column) => ({ row, column, seed, ...this.#at(row, column, seed) }))),
    );
    return { runs: [...this.#runs.values()], cells };
  }

  #home(): string {
    return join(resolve(this.#options.out), "cells");
  }

  #at(row: string, column: string, seed: number): Pick<PlannedCell, "run" | "figures"> {
    const key = JSON.stringify([row, column, seed]);
    const known = this.#byCell.get(key);
    if (known === "open") {
      const advice = "let one of the cells in the circle start from its own options";
      throw new RkdError("ERR_INVALID_OPTION", "a cell builds on itself", {
        subject: `cell ${row}, ${column}`,
        advice,
      });
    }
    if (known) return known;
    this.#byCell.set(key, "open");
    const after: PlannedRun[] = [];
    const model = (other: string, at = column) => {
      const { run } = this.#at(other, at, seed);
      after.push(run);
      return run.folder;
    };
    const given = this.#options.cell({ row, column, seed, model });
    const cell = this.#cell(given, `cell ${row}, ${column}`);
    const found = { run: this.#known(cell, row, column, seed, after), figures: given.figures ?? {} };
    this.#byCell.set(key, found);
    return found;
  }

  /** The cell with the experiment's defaults. */
  #cell(given: Cell, name: string): Cell {
    object<Cell>(name, given, ["train", "distill", "measure", "figures"]);
    if ((given.train === undefined) === (given.distill === undefined)) {
      throw invalid(name, "an object with either train or distill", given);
    }
    const { protocol = "honest" } = this.#options;
    const common = <T extends { readonly evaluation?: object }>(options: T) => ({
      keep: "both" as const,
      ...options,
      ...(protocol === "paper" && { evaluation: { ...options.evaluation, part: "test" as const } }),
    });
    const measure = given.measure && { measure: given.measure };
    if (given.train) return { train: common(given.train), ...measure };
    return { distill: { teacherFeatures: "auto", ...common(given.distill) }, ...measure };
  }

  #known(cell: Cell, row: string, column: string, seed: number, after: readonly PlannedRun[]): PlannedRun {
    const { measure = {}, ...what } = cell;
    const id = hash({ what, seed }, after);
    const found = this.#runs.get(id) ?? {
      ...{ id, row, column, seed, cell, after },
      folder: join(this.#home(), this.#folders.find((name) => name.endsWith(`-${id}`)) ?? folderName(row, seed, id)),
      measures: new Map<string, Measure>(),
    };
    for (const [name, each] of Object.entries(measure)) found.measures.set(name, each);
    this.#runs.set(id, found);
    return found;
  }
}

function folderName(row: string, seed: number, id: string): string {
  const slug = row
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, "-")
    .replaceAll(/^-|-$/g, "");
  return `${slug || "cell"}-s${seed}-${id}`;
}

/** Keys in order, and runs by what they are and not by where they lie. */
function hash(value: unknown, after: readonly PlannedRun[]): string {
  const ids = new Map(after.map(({ folder, id }) => [folder, `run ${id}`]));
  const text = JSON.stringify(value, (_, part: unknown) => {
    if (typeof part === "string") return ids.get(part) ?? part;
    if (typeof part !== "object" || part === null || Array.isArray(part)) return part;
    return Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)));
  });
  return createHash("sha256").update(text).digest("hex").slice(0, 10);
}
