/** `rkd bench`: whole training steps on fixed random data; `bench/compare.mjs` sets them beside PyTorch's. */

import { NativeSession } from "../native/session.ts";
import { json, print } from "./context.ts";
import { writeJsonLine } from "./report.ts";

/** The flags of the command. */
export interface BenchFlags {
  readonly only?: readonly string[];
  readonly seconds?: number;
  readonly threads?: number;
  readonly list?: boolean;
}

/** Measures the workloads one after the other and prints a line for each. @throws {RkdError} for an unknown name */
export async function bench({ only, seconds = 3, threads = 0, list }: BenchFlags): Promise<void> {
  const session = new NativeSession(() => {});
  try {
    for (const workload of only ?? (await session.call("workloads", {}))) {
      if (list) {
        json ? writeJsonLine({ workload }) : print(workload);
        continue;
      }
      const report = await session.call("bench", { plan: { workload, seconds, threads } });
      if (json) writeJsonLine(report);
      else print(`${workload.padEnd(32)} ${report.step_ms.toFixed(2).padStart(9)} ms, ${report.threads} threads`);
    }
  } finally {
    await session.close();
  }
}
