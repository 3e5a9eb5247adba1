/** `rkd demo`: the main job on the embedded data set, in about two minutes. */

import { join } from "node:path";
import { distill } from "../distill.ts";
import { evaluate } from "../evaluate.ts";
import { conv4 } from "../options/backbone.ts";
import { glyphs } from "../options/data.ts";
import { rkdAngle, rkdDistance } from "../options/losses.ts";
import { adam } from "../options/optimizer.ts";
import type { RunOptions } from "../options/run.ts";
import type { DistillResult } from "../run/events.ts";
import { verdictRow } from "../run/verdict.ts";
import { train } from "../train.ts";
import { json, print, printLines, signal, watch } from "./context.ts";
import { writeJsonLine } from "./report.ts";
import { verdictTable } from "./table.ts";

const TEACHER_EPOCHS = 6;
/** Both students get the same epochs and the same rate: for 7,520 parameters ten times Adam's usual one is best for both. */
const STUDENT_EPOCHS = 16;
const STUDENT_RATE = 0.01;

/** Trains a teacher, the student by triplet alone and the student by RKD-DA, and prints the verdict. */
export async function demo(out: string, threads: number): Promise<void> {
  const say = (text: string) => process.stderr.write(`\n${text}\n`);
  const common = { data: glyphs(), overwrite: true, seed: 1, threads, signal } satisfies Partial<RunOptions>;
  const student = conv4({ width: 16, embedding: 16 });
  const optimizer = adam({ learningRate: STUDENT_RATE });
  const paths = { teacher: join(out, "teacher"), triplet: join(out, "student-triplet"), rkd: join(out, "student-rkd") };

  say("1 of 3: a teacher, Conv-4 of width 64, by triplet loss");
  const backbone = conv4({ embedding: 64 });
  await watch(train({ ...common, backbone, epochs: TEACHER_EPOCHS, out: paths.teacher }), "teacher");

  say("2 of 3: a student of a quarter of the width, by triplet loss alone");
  const alone = { ...common, backbone: student, optimizer, epochs: STUDENT_EPOCHS, out: paths.triplet };
  const byTriplet = await watch(train(alone), "triplet");

  say("3 of 3: the same student, by the teacher's distances and angles (RKD-DA)");
  const losses = [rkdDistance({ weight: 1 }), rkdAngle({ weight: 2 })];
  const distilled = { ...common, teacher: paths.teacher, student, losses, optimizer, epochs: STUDENT_EPOCHS };
  const byRkd: DistillResult = await watch(distill({ ...distilled, out: paths.rkd }), "rkd");

  const score = await evaluate({ model: paths.triplet, threads, signal });
  const row = verdictRow(byTriplet.network, score);
  if (json) return writeJsonLine({ type: "verdict", ...byRkd.verdict, studentByTriplet: row });
  printLines(`\n${verdictTable(byRkd.verdict, { "student by triplet": row })}\n`);
  print(`The three runs are in ${out}; rkd evaluate ${paths.rkd} measures the student again.`);
}
