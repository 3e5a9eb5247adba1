/** `rkd bench`: whole training steps on fixed random data; `bench/compare.mjs` sets them beside PyTorch's. */

import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { json as toJson } from "../native/json.ts";
import { NativeSession } from "../native/session.ts";
import { integer, number, oneOf } from "../options/check.ts";
import type { BenchReport, ProfileReport } from "../protocol/protocol.ts";
import { json, print, printLines } from "./context.ts";
import { writeJsonLine } from "./progress.ts";
import { benchTable, profileTables } from "./table.ts";

/** The flags of the command. */
export interface BenchFlags {
  readonly only?: readonly string[];
  readonly profile?: string;
  readonly seconds?: number;
  readonly threads?: number;
  readonly list?: boolean;
}

/** Measures workloads one after the other, or profiles one. @throws {RkdError} for an unknown name or a bad number */
export async function bench({ only, profile, seconds = 3, threads = 0, list }: BenchFlags): Promise<void> {
  number("seconds", seconds, { from: 0 });
  integer("threads", threads, { from: 0, to: 1024 });
  const session = new NativeSession(() => {});
  try {
    const known = await session.call((core) => core.workloads());
    const workloads = only?.map((name) => oneOf("only", name, known)) ?? known;
    if (list) {
      for (const workload of workloads) json ? writeJsonLine({ workload }) : print(workload);
    } else if (profile !== undefined) {
      const plan = toJson({ workload: oneOf("profile", profile, known), seconds, threads });
      showProfile(await session.call((core) => core.profile(plan)));
    } else {
      const [first] = workloads;
      const measure =
        workloads.length === 1 && first !== undefined
          ? () => session.call((core) => core.bench(toJson({ workload: first, seconds, threads })))
          : (workload: string) => inOwnProcess(workload, seconds, threads);
      await measureAll(workloads, measure);
    }
  } finally {
    await session.close();
  }
}

async function measureAll(
  workloads: readonly string[],
  measure: (workload: string) => Promise<BenchReport>,
): Promise<void> {
  const reports: BenchReport[] = [];
  for (const [index, workload] of workloads.entries()) {
    if (!json) process.stderr.write(`measuring ${workload} (${index + 1} of ${workloads.length})\n`);
    const report = await measure(workload);
    reports.push(report);
    if (json) writeJsonLine(report);
  }
  if (!json) printLines(benchTable(reports));
}

/** Memory that one workload leaves behind would be used again by the next, and its peak not be seen. */
async function inOwnProcess(workload: string, seconds: number, threads: number): Promise<BenchReport> {
  const args = ["bench", "--only", workload, "--seconds", String(seconds), "--threads", String(threads), "--json"];
  const { stdout } = await promisify(execFile)(process.execPath, [process.argv[1] ?? "", ...args]);
  return JSON.parse(stdout);
}

function showProfile(report: ProfileReport): void {
  if (json) writeJsonLine(report);
  else printLines(profileTables(report));
}
