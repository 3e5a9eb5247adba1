/** The numbers in an event, under the names that all reporters use. */

import type { RunEvent } from "../events.ts";

/** Numbers of one moment. */
export interface Scalars {
  /** Steps done. */
  readonly step: number;
  /** Epochs begun. */
  readonly epoch: number;
  /** `train/loss`, `train/rkd-distance`, `validation/recall@1`, `test/teacher/mapAtR`, ... */
  readonly values: readonly (readonly [name: string, value: number])[];
}

/** The numbers of a step or an evaluation; nothing of other events. */
export function scalarsOf(event: RunEvent): Scalars | undefined {
  if (event.type === "step") {
    const { step, epoch, loss, learningRate, gradientNorm, imagesPerSecond, dataWaitShare, terms } = event;
    const own = { loss, learningRate, gradientNorm, imagesPerSecond, dataWaitShare };
    const named = terms.map(({ name, value }) => [name, value] as const);
    return { step, epoch, values: [...Object.entries(own), ...named].map(([name, value]) => [`train/${name}`, value]) };
  }
  if (event.type === "evaluation") {
    const { step, epoch, part, who, teacher, metrics, millisecondsPerImage } = event;
    const whose = who === "student" || who === "model" ? part : `${part}/${teacher ?? who}`;
    const values = Object.entries({ ...metrics, millisecondsPerImage });
    return { step, epoch, values: values.map(([name, value]) => [`${whose}/${name}`, value]) };
  }
  return undefined;
}
