/** Learning-rate schedules, as a factor of the optimiser's rate. Lengths are in steps (batches). */

import type { Schedule } from "../protocol/protocol.ts";
import { checked, given } from "./construct.ts";

type Of<K extends Schedule["kind"]> = Omit<Extract<Schedule, { readonly kind: K }>, "kind">;

/** Options of {@link step}. */
export type StepOptions = Pick<Of<"step">, "milestones"> & Partial<Of<"step">>;

/** The same rate all along, after the warm-up. @throws {RkdError} on a value out of range */
export function constant(options: Partial<Of<"constant">> = {}): Schedule {
  return checked("schedule", "constant", given("constant", options, { kind: "constant" }));
}

/** Half a cosine from 1 to `minimum` over the whole run (Loshchilov, Hutter 2017). @throws {RkdError} on a value out of range */
export function cosine(options: Partial<Of<"cosine">> = {}): Schedule {
  return checked("schedule", "cosine", given("cosine", options, { kind: "cosine" }));
}

/** Multiplied by `factor` at every milestone. @throws {RkdError} on a value out of range */
export function step(options: StepOptions): Schedule {
  return checked("schedule", "step", given("step", options, { kind: "step" }));
}
