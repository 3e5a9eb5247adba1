/** The settings of a run in one line for a reader. */

import { basename } from "node:path";
import { adam, adamW, sgd } from "../options/optimizer.ts";
import type { Optimizer, PlanFile, Policy } from "../protocol/protocol.ts";

/** Network, losses, optimiser, batch, length and images of a stored plan. */
export function settingsOf({ plan, policy, job }: PlanFile): string {
  const { backbone, losses, optimizer, schedule, batch, epochs, stepsPerEpoch, data, teachers, weights } = plan;
  return [
    `${job} ${named(backbone.kind, without(backbone, ["kind", "inChannels", "imageSize", "classes"]))}`,
    losses.map(({ kind: name, ...options }) => named(name, options)).join(" + "),
    named(optimizer.kind, unusual(optimizer)),
    named(schedule.kind, nonZero(without(schedule, ["kind"]))),
    `batch ${composition(batch)}`,
    `${epochs} epochs${stepsPerEpoch === null ? "" : ` of ${stepsPerEpoch} steps`}${evaluated(policy)}`,
    `images ${data.imageSize} x ${data.imageSize} x ${data.channels}, ${augmented(data.augment)}`,
    ...(weights ? [`begins with the weights of ${basename(weights.file)}`] : []),
    ...(teachers.length > 0 ? [`teacher's features ${teachers.map(({ features }) => features).join(", ")}`] : []),
    ...(policy.patience === null ? [] : [`patience ${policy.patience}`]),
  ].join("; ");
}

/** How often, where that is not after every epoch. */
function evaluated({ evaluation: { everyEpochs, everySteps } }: Policy): string {
  if (everySteps === null) return everyEpochs === 1 ? "" : `, measured every ${everyEpochs} epochs`;
  return `, measured every ${everySteps} steps${everyEpochs === null ? "" : ` and ${everyEpochs} epochs`}`;
}

/** `name (a 1, b 2)`; options that are off or not given are left out. */
function named(name: string, options: object): string {
  const parts = Object.entries(options)
    .filter(([, value]) => value !== null && value !== undefined && !(Array.isArray(value) && value.length === 0))
    .map(([key, value]) => `${words(key)} ${shown(value)}`);
  return parts.length > 0 ? `${name} (${parts.join(", ")})` : name;
}

function composition(batch: object): string {
  const parts = Object.entries(batch).filter(([, value]) => value !== null);
  return parts.map(([key, value]) => `${words(key)} ${shown(value)}`).join(", ");
}

/** `{ from: 1, to: 0 }` -> `from 1 to 0` */
function shown(value: unknown): string {
  if (typeof value !== "object" || value === null) return String(value);
  if (Array.isArray(value)) return value.join(" ");
  return Object.entries(value)
    .map(([key, part]) => `${words(key)} ${shown(part)}`)
    .join(" ");
}

function without(value: object, keys: readonly string[]): object {
  return Object.fromEntries(Object.entries(value).filter(([key]) => !keys.includes(key)));
}

function nonZero(value: object): object {
  return Object.fromEntries(Object.entries(value).filter(([, strength]) => strength));
}

function augmented(augment: object): string {
  const on = nonZero(augment);
  return Object.keys(on).length > 0 ? named("augmented", on) : "not augmented";
}

/** The rate, and whatever else is not as usual. */
function unusual(optimizer: Optimizer): object {
  const usual: object = { adam: adam(), "adam-w": adamW(), sgd: sgd() }[optimizer.kind];
  const differs = Object.entries(optimizer).filter(([key, value]) => usual[key as keyof typeof usual] !== value);
  return { learningRate: optimizer.learningRate, ...Object.fromEntries(differs) };
}

/** `learningRate` -> `learning rate` */
function words(key: string): string {
  return key.replaceAll(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
}
