/** The whole plan of some options. */

import type { DistillOptions, TrainOptions } from "../../src/index.ts";
import { json } from "../../src/native/json.ts";
import { NativeSession } from "../../src/native/session.ts";
import type { Plan, Policy, ResolvedRun } from "../../src/protocol/protocol.ts";

async function inSession<T>(work: (session: NativeSession) => Promise<T>): Promise<T> {
  const session = new NativeSession(() => {});
  return work(session).finally(() => session.close());
}

/** As `train(options)` plans. */
export function planTrain(options: TrainOptions): Promise<ResolvedRun> {
  return inSession((session) => session.call((core) => core.resolve("train", json(options))));
}

/** As `distill(options)` plans. */
export function planDistill(options: DistillOptions): Promise<ResolvedRun> {
  return inSession((session) => session.call((core) => core.resolve("distill", json(options))));
}

/** As `resume` takes up a stored plan. */
export function planAgain({ job, out }: ResolvedRun, plan: Plan, policy: Policy): Promise<ResolvedRun> {
  return inSession((session) =>
    session.call((core) => core.resolveStored(job, json(plan), json(policy), out, json({}))),
  );
}
