/** `rkd demo`: the main job on the embedded data, in less than a minute. */

import { join } from "node:path";
import { files } from "../artefacts/run-folder.ts";
import { distill } from "../distill.ts";
import type { DistillResult } from "../events.ts";
import { conv4 } from "../options/backbone.ts";
import { glyphs } from "../options/data.ts";
import { adam } from "../options/optimizer.ts";
import type { RunOptions } from "../options/run.ts";
import { findingLines } from "../report/scores.ts";
import { train } from "../train.ts";
import { json, print, printLines, signal, watch } from "./context.ts";
import { writeJsonLine } from "./progress.ts";
import { verdictTable } from "./table.ts";

const TEACHER_EPOCHS = 4;
const STUDENT_EPOCHS = 4;
/** Ten times Adam's usual rate is best for so few weights, with a teacher and without. */
const STUDENT_RATE = 0.01;

/** Trains a teacher, the student that learns from it and from labels, the same by labels alone, and prints the verdict. */
export async function demo(out: string, threads: number): Promise<void> {
  const say = (text: string) => process.stderr.write(`\n${text}\n`);
  const common = { data: glyphs(), overwrite: true, seed: 1, threads, signal } satisfies Partial<RunOptions>;
  const [teacher, place] = [join(out, "teacher"), join(out, "student")];

  say("1 of 2: a teacher, Conv-4 of width 64, by triplet loss");
  await watch(
    train({ ...common, backbone: conv4({ embedding: 64 }), epochs: TEACHER_EPOCHS, out: teacher }),
    "teacher",
  );

  say("2 of 2: a student of an eighth of the width and of the embedding, with the teacher and then without it");
  const student = conv4({ width: 8, embedding: 8 });
  const optimizer = adam({ learningRate: STUDENT_RATE });
  const options = { ...common, teacher, student, optimizer, epochs: STUDENT_EPOCHS, baseline: true, out: place };
  const { verdict, findings }: DistillResult = await watch(distill(options), "student");

  if (json) return writeJsonLine({ type: "verdict", ...verdict, findings });
  printLines(`\n${verdictTable(verdict)}\n`);
  findingLines(findings).forEach(print);
  print(`What it learned, with pictures: open ${join(place, files.report)} in a browser.`);
  print(`The runs are in ${out}; npx rkd evaluate ${place} measures the student again.`);
}
