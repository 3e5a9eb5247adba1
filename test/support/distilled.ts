/** Small finished runs with everything that a page shows. */

import { join } from "node:path";
import { conv4, type DistillOptions, distill, glyphs, train } from "../../src/index.ts";

/** A teacher and a student of it, with labels or without, in `folder`; the student's folder. */
export async function distilled(
  folder: string,
  labels: "classes" | "none",
  more: Partial<DistillOptions> = {},
): Promise<string> {
  const teacher = join(folder, "teacher");
  const out = join(folder, "student");
  const data = glyphs({ classes: 20, writers: 10, split: { kind: "classes", validation: 0.2, test: 0.3 } });
  const small = { batch: { size: 16 }, stepsPerEpoch: 8, evaluation: { ks: [1, 2] }, threads: 1 };
  await train({ ...small, data, backbone: conv4({ width: 8, embedding: 16 }), epochs: 2, out: teacher });
  await distill({
    ...small,
    teacher,
    data: labels === "classes" ? data : { ...data, labels, split: { kind: "images", validation: 0.1, test: 0.2 } },
    student: conv4({ width: 4, embedding: 8 }),
    epochs: 4,
    out,
    ...more,
  });
  return out;
}
