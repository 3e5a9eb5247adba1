/** `rkd bench`: whole training steps on fixed random data; `bench/compare.mjs` sets them beside PyTorch's. */

import { NativeSession } from "../native/session.ts";
import { json, print } from "./context.ts";
import { writeJsonLine } from "./report.ts";

/** The workloads of crates/core/src/bench.rs. */
const workloads = [
  "conv4-28px-b64-train",
  "conv4-84px-b32-train",
  "resnet18-cifar-32px-b64-train",
  "resnet18-64px-b64-distil",
  "resnet18-224px-b16-distil",
  "resnet50-64px-b32-train",
  "resnet50-224px-b8-embed",
  "rkd-da-n128-d512",
  "rkd-da-n256-d128",
  "rkd-da-n512-d128",
] as const;

/** The flags of the command. */
export interface BenchFlags {
  readonly only?: readonly string[];
  readonly seconds?: number;
  readonly threads?: number;
  readonly list?: boolean;
}

/** Measures the workloads one after the other and prints a line for each. @throws {RkdError} for an unknown name */
export async function bench({ only = workloads, seconds = 3, threads = 0, list }: BenchFlags): Promise<void> {
  const session = new NativeSession(() => {});
  try {
    for (const workload of only) {
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
