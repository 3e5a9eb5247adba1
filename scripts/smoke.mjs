// Whether an installed `rkd` works: trains a teacher and a student on glyphs, a few seconds, and hashes the student. It needs Node
// alone, so that it runs in the empty folder where packages are installed, next to a copy of itself.
//
//   node smoke.mjs                      once, with the instruction set of RKD_ISA or the processor's best
//   node smoke.mjs --all FILE           once for each instruction set of the processor; the hashes go to FILE
//   node smoke.mjs --compare FILE...    whether all machines of a processor have the same hash for an instruction set
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const [mode, ...files] = process.argv.slice(2);

async function smoke() {
  const { conv4, distill, glyphs, rkdAngle, rkdDistance, train, triplet } = await import("rkd");
  const folder = mkdtempSync(join(tmpdir(), "rkd-smoke-"));
  process.env.RKD_CACHE = join(folder, "cache");
  try {
    const [teacher, student] = ["teacher", "student"].map((name) => join(folder, name));
    const common = {
      data: glyphs({ classes: 20, writers: 8, split: { kind: "classes", validation: 0.2, test: 0.2 } }),
      batch: { size: 16, perClass: 4 },
      epochs: 1,
      stepsPerEpoch: 12,
    };
    await train({ ...common, backbone: conv4({ width: 8, embedding: 16 }), losses: [triplet()], out: teacher });
    const losses = [rkdDistance(), rkdAngle()];
    const run = distill({ ...common, teacher, student: conv4({ width: 4, embedding: 8 }), losses, out: student });
    let instructionSet;
    for await (const event of run) if (event.type === "start") instructionSet = event.instructionSet;
    const recall = (await run).metrics["recall@1"];
    if (!(recall > 0 && recall <= 1)) throw new Error(`the student's recall@1 is ${recall}`);
    const model = createHash("sha256")
      .update(readFileSync(join(student, "model.safetensors")))
      .digest("hex");
    return { instructionSet, model };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** This program once more, with an instruction set. */
function withInstructionSet(name) {
  const env = { ...process.env, RKD_ISA: name };
  return spawnSync(process.execPath, [fileURLToPath(import.meta.url)], { env, encoding: "utf8" });
}

/** The instruction sets of this processor, which the error of an unknown one lists. */
function instructionSets() {
  const { stderr } = withInstructionSet("none");
  const [, list] = /instruction set of this processor \(([^)]+)\)/.exec(stderr) ?? [];
  if (!list) throw new Error(`no list of instruction sets in: ${stderr}`);
  return list.split(", ");
}

function all() {
  const models = {};
  for (const name of instructionSets()) {
    const { status, stdout, stderr } = withInstructionSet(name);
    if (status !== 0) throw new Error(`with ${name}: ${stderr}`);
    const { instructionSet, model } = JSON.parse(stdout);
    if (instructionSet !== name) throw new Error(`asked for ${name}, it ran with ${instructionSet}`);
    models[name] = model;
  }
  return { system: process.platform, processor: process.arch, models };
}

/** The hashes by processor and instruction set, each with the files that have it; throws where two machines differ. */
function compare() {
  const found = {};
  for (const file of files) {
    const { processor, models } = JSON.parse(readFileSync(file, "utf8"));
    for (const [name, model] of Object.entries(models)) {
      const place = `${processor} ${name}`;
      found[place] ??= {};
      found[place][model] = [...(found[place][model] ?? []), file];
    }
  }
  const differing = Object.keys(found).filter((place) => Object.keys(found[place]).length > 1);
  console.log(JSON.stringify(found, null, 2));
  if (differing.length > 0) throw new Error(`machines differ in the bits of their models: ${differing.join(", ")}`);
}

if (mode === "--compare") compare();
else if (mode === "--all") {
  const hashes = all();
  if (files[0]) writeFileSync(files[0], `${JSON.stringify(hashes, null, 2)}\n`);
  console.log(JSON.stringify(hashes));
} else console.log(JSON.stringify(await smoke()));
