/**
 * A run of several processes (`mpirun -n 4 rkd train ...`), *ranks*: the first one does the job, the others follow it and
 * get its outcome. So one process alone decides, tells and writes.
 */

import { availableParallelism, cpus } from "node:os";
import { fromNative, RkdError } from "../errors.ts";
import { addon } from "../native/addon.ts";
import { json } from "../native/json.ts";
import type { Job } from "../protocol/protocol.ts";
import { withSession } from "./command.ts";
import type { RunContext } from "./run.ts";

/** What is known of a run before it begins. */
export interface Started {
  readonly job: Job;
  /** The option of that name. */
  readonly distributed: unknown;
  /** The options as the core takes them, where a process that follows would make the same plan of them. */
  readonly options: string | null;
}

/** This process, where it follows another one. */
let follower: number | undefined;

/** Errors that the first process has told. */
const told = new WeakSet<object>();

/** Whether this process follows another one, which shows the run and whatever goes wrong with it. */
export function follows(): boolean {
  return follower !== undefined;
}

/** Whether the first process tells `error`. */
export function isTold(error: unknown): boolean {
  return typeof error === "object" && error !== null && told.has(error);
}

/**
 * Does `work` where this is the first process or the only one; else follows the first to its end, with its outcome. Runs that a
 * program starts at once come one after the other where there are several processes, which then have to start them in one order.
 */
export async function onFirstRank<R>(started: Started, context: RunContext, work: () => Promise<R>): Promise<R> {
  // At once: a process of its own keeps to the folder in which it was called.
  const asked = addon().BindingSession.asksForRanks(json(started.distributed ?? "auto"));
  if (asked.error) throw fromNative(asked.error);
  if (!JSON.parse(asked.value)) return await work();
  const run = before.then(() => onRanks(started, context, work));
  before = run.then(
    () => {},
    () => {},
  );
  return await run;
}

/** Settles when the run before this one has ended. */
let before: Promise<void> = Promise.resolve();

async function onRanks<R>({ job, options }: Started, context: RunContext, work: () => Promise<R>): Promise<R> {
  // UCX, by which MPICH talks, watches memory through the allocator; in Node that spoils the heap now and then: 8 of 340 runs
  // on two ranks ended by signal 11, and without it none of 320.
  process.env.UCX_MEM_EVENTS ??= "no";
  const waiting = setTimeout(warnOfWaiting, patience, context);
  // Also where this process is to stop already: only together can they stop.
  const joined = await withSession({ ...context, signal: never }, (session) =>
    session.call((core) => core.joinRanks()),
  ).finally(() => clearTimeout(waiting));
  if (!joined) return await work();
  leaveAtExit();
  if (joined.rank === 0) warnOfBinding(joined.size, options, context);
  return joined.rank === 0 ? await lead(context, work) : await follow(joined.rank, { job, options }, context);
}

/** A signal that does not come. */
const never = new AbortController().signal;

/** Milliseconds after which the first process says that it waits for others. */
const patience = 10_000;

/** Under MPICH and Intel MPI all wait for ever where one of them has ended before it could join. */
function warnOfWaiting({ emit }: RunContext): void {
  const { OMPI_COMM_WORLD_RANK, PMI_RANK = OMPI_COMM_WORLD_RANK, PMI_ID = PMI_RANK } = process.env;
  if (PMI_ID !== undefined && PMI_ID !== "0") return;
  const message =
    "Still waiting for the other processes of the launcher. Where one has ended with an error, it does not come: end the launcher with Ctrl-C.";
  emit({ type: "warning", message });
}

/** What to do instead, where something makes several runs. */
export const runsInTurn = "start it without them: its runs come one after the other, each on all cores of this machine";

/** Open MPI binds a rank to one core, or to one socket, unless it is told not to; the threads of the rank follow from that. */
function warnOfBinding(size: number, options: string | null, { emit }: RunContext): void {
  const { threads = 0 } = options === null ? {} : (JSON.parse(options) as { readonly threads?: number });
  const [own, all] = [availableParallelism(), cpus().length];
  if (process.env.OMPI_COMM_WORLD_RANK === undefined || threads > 0 || own * size >= all) return;
  const message = `Open MPI binds this rank to ${own} of the machine's ${all} cores. Where that is not meant: mpirun --bind-to none.`;
  emit({ type: "warning", message });
}

/**
 * Refuses `what` where a launcher has started several processes, each of which would do the whole of it and write to one place.
 * @throws {RkdError} `ERR_INVALID_OPTION`
 */
export function refuseRanks(
  what: string,
  advice = "start it without them; its threads use all cores of this machine",
): void {
  const asked = addon().BindingSession.asksForRanks(json("auto"));
  if (asked.error) throw fromNative(asked.error);
  if (!JSON.parse(asked.value)) return;
  throw new RkdError("ERR_INVALID_OPTION", `${what} does not share its work out over the processes of mpirun or srun`, {
    expected: "one process",
    received: "several, of which each would do all of it and write to the same place",
    advice,
  });
}

async function lead<R>({ signal }: RunContext, work: () => Promise<R>): Promise<R> {
  try {
    const result = await work();
    await end({ result });
    return result;
  } catch (error) {
    const stopped = signal.aborted && error === signal.reason;
    const other = new RkdError(stopped ? "ERR_CANCELLED" : "ERR_INTERNAL", String(error));
    const { code, message } = error instanceof RkdError ? error : other;
    await end({ error: { code, message } });
    throw error;
  }
}

type Outcome = { readonly result: unknown } | { readonly error: Pick<RkdError, "code" | "message"> };

/** Says to the others how it ended, also where the run was stopped. */
async function end(outcome: Outcome): Promise<void> {
  const context: RunContext = { emit: () => {}, signal: never };
  await withSession(context, (session) => session.call((core) => core.endRanks(json(outcome))));
}

async function follow<R>(
  rank: number,
  { job, options }: Omit<Started, "distributed">,
  context: RunContext,
): Promise<R> {
  follower = rank;
  const { signal } = context;
  const outcome = await withSession({ ...context, signal: never }, async (session) => {
    const stop = () => session.cancel();
    signal.addEventListener("abort", stop, { once: true });
    if (signal.aborted) stop();
    return await session
      .call((core) => core.followRanks(job, options))
      .finally(() => signal.removeEventListener("abort", stop));
  });
  if (!outcome.error) return outcome.result as R;
  const { code, message } = outcome.error;
  if (code === "ERR_CANCELLED" && signal.aborted) {
    if (signal.reason instanceof Error) told.add(signal.reason);
    throw signal.reason;
  }
  const error = new RkdError(code, message);
  told.add(error);
  throw error;
}

let leaves = false;

/** A process that ends says so to the others: they wait for it, or end too where it fails alone. */
function leaveAtExit(): void {
  if (leaves) return;
  leaves = true;
  process.once("exit", (code) => addon().BindingSession.leaveRanks(code));
}
