/** A reporter that writes a table of all numbers. */

import { closeSync, openSync } from "node:fs";
import { join } from "node:path";
import { withErrors, writeAll } from "../artefacts/run-folder.ts";
import { path } from "../options/check.ts";
import type { Reporter } from "../options/reporter.ts";
import { scalarsOf } from "./scalars.ts";

/** What {@link csv} takes. */
export interface CsvOptions {
  /** The file; it is written anew, and a resumed run adds to it. @default `scalars.csv` in the run's folder */
  readonly file?: string | URL;
}

/**
 * Writes every number of every step and evaluation as a line `step,epoch,name,value`, to be turned into columns by whatever
 * reads it (`pandas.read_csv("scalars.csv").pivot_table(index="step", columns="name", values="value")`).
 */
export function csv({ file }: CsvOptions = {}): Reporter {
  const given = file === undefined ? undefined : path("file", file);
  let descriptor: number | undefined;
  const write = (text: string) => {
    if (descriptor !== undefined) writeAll(descriptor, text);
  };
  return {
    name: "csv",
    event(event) {
      if (event.type === "start") {
        const place = given ?? join(event.out, "scalars.csv");
        descriptor = withErrors(place, () => openSync(place, event.resumed ? "a" : "w"));
        if (!event.resumed) write("step,epoch,name,value\n");
      }
      const found = scalarsOf(event);
      if (!found) return;
      const { step, epoch, values } = found;
      write(values.map(([name, value]) => `${step},${epoch},${quoted(name)},${value}\n`).join(""));
    },
    end() {
      if (descriptor !== undefined) closeSync(descriptor);
      descriptor = undefined;
    },
  };
}

function quoted(text: string): string {
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
