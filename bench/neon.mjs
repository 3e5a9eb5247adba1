// How many instructions the kernels take on arm64, with NEON and in plain Rust: counted under an emulator, which knows no time.
//
//   node bench/neon.mjs
import { spawn, spawnSync } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { emulation, target } from "../scripts/arm64.mjs";
import { must, root } from "../scripts/setup.mjs";

const calls = [
  "product",
  "winograd",
  "winograd-gradients",
  "depthwise",
  "depthwise-gradients",
  "strided",
  "strided-gradients",
];
const instructionSets = ["neon", "portable"];
/** Calls beyond the first, which takes its memory from the system. */
const repeats = 2;

const found = emulation();
if (typeof found === "string") throw new Error(`No instructions were counted: ${found}.`);
const { emulator, env } = found;
must(
  ["cargo", "build", "--quiet", "--locked", "-p", "rkd-kernels", "--example", "bits", "--target", target],
  "counting",
  env,
);
const program = join(root, "target", target, "debug", "examples", "bits");
const help = spawnSync(emulator, ["-h"], { encoding: "utf8" }).stdout;
const version = spawnSync(emulator, ["--version"], { encoding: "utf8" }).stdout.split("\n")[0];
/** One line for each instruction that runs. */
const traced = [help.includes("one-insn-per-tb") ? "-one-insn-per-tb" : "-singlestep", "-d", "exec,nochain"];

/** The instructions of the whole program that calls so many times, and the multiply-adds of a call. */
async function count(call, times, instructionSet) {
  const child = spawn(emulator, [...traced, program, call, String(times)], {
    env: { ...process.env, RKD_ISA: instructionSet },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let printed = "";
  child.stdout.on("data", (chunk) => {
    printed += chunk;
  });
  const ended = new Promise((resolve) => child.on("close", resolve));
  let instructions = 0;
  for await (const line of createInterface({ input: child.stderr })) if (line.startsWith("Trace ")) instructions += 1;
  const code = await ended;
  const [, name, , multiplyAdds] = printed.trim().split(" ");
  if (code !== 0 || name !== call || instructions === 0)
    throw new Error(`${call} with ${instructionSet}: ended with ${code}`);
  return { instructions, multiplyAdds: Number(multiplyAdds) };
}

const today = new Date().toISOString().slice(0, 10);
console.log(`# Instructions of the kernels on arm64, for each multiply-add of the definition

${today}, ${version}; ${target}, profile: dev, whose kernels are compiled as a release's. Command: \`node bench/neon.mjs\`.
Sizes are those of \`crates/kernels/examples/bits.rs\`. An emulator runs no pipeline: instructions, not time. A vector register has four
lanes, so 0.25 are all multiply-adds and nothing else, but where Winograd's algorithm needs a quarter of them.
`);
console.log("| call | multiply-adds | neon | portable | portable / neon |\n| --- | ---: | ---: | ---: | ---: |");
for (const call of calls) {
  const each = [];
  let multiplyAdds;
  for (const instructionSet of instructionSets) {
    const [first, more] = [await count(call, 1, instructionSet), await count(call, 1 + repeats, instructionSet)];
    multiplyAdds = first.multiplyAdds;
    each.push((more.instructions - first.instructions) / repeats / multiplyAdds);
  }
  const cells = [
    multiplyAdds.toLocaleString("en"),
    ...each.map((count) => count.toFixed(3)),
    (each[1] / each[0]).toFixed(2),
  ];
  console.log(`| ${call} | ${cells.join(" | ")} |`);
}
