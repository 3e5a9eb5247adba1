// How fast the convolutions are in WebAssembly beside this processor's own instructions: whether a package for wasm would be of use.
//
//   node bench/wasm.mjs [--rounds 3]
//
// Needs `rustup target add wasm32-wasip1-threads`. One thread, Node's own WASI, four lanes (`simd128`, without fused multiply-adds).
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";
import { must, root } from "../scripts/setup.mjs";
import { circumstances, here, middle, record, short } from "./programs.mjs";

const { values } = parseArgs({ options: { rounds: { type: "string", default: "3" } } });
const started = new Date();
const target = "wasm32-wasip1-threads";
const layers = "conv4-84";
const passes = ["forward", "grad input", "grad weight"];

/** Builds `conv_bench` in the release profile; the folder that it is in. */
function built(wanted, env = {}) {
  const args = ["build", "--quiet", "--release", "--locked", "-p", "rkd-kernels", "--example", "conv_bench"];
  must(["cargo", ...args, "--target-dir", "target/wasm", ...(wanted ? ["--target", wanted] : [])], "building", env);
  return path.join(root, "target", "wasm", ...(wanted ? [wanted] : []), "release", "examples");
}

const sysroot = spawnSync("rustc", ["--print", "sysroot"], { encoding: "utf8" }).stdout.trim();
if (!existsSync(path.join(sysroot, "lib", "rustlib", target))) {
  throw new Error(`Nothing was measured: needs \`rustup target add ${target}\`.`);
}
const module = path.join(built(target, { RUSTFLAGS: "-C target-feature=+simd128" }), "conv_bench.wasm");
const program = path.join(built(undefined), "conv_bench");

/** GFLOP/s of the passes of each layer. */
function rates([command, ...args], isa) {
  const options = ["--threads", "1", "--only", layers, ...(isa ? ["--isa", isa] : [])];
  const { status, stdout, stderr } = spawnSync(command, [...args, ...options], { encoding: "utf8" });
  if (status !== 0) throw new Error(`conv_bench with ${isa ?? target}: ${stderr}`);
  const lines = stdout.split("\n").filter((line) => line.startsWith(layers));
  return lines.flatMap((line) => {
    const found = [...line.matchAll(/\(\s*(\d+)\)/g)].map(([, rate]) => Number(rate));
    return found.map((rate, i) => ({ name: `${line.split(/\s{2}/)[0]}, ${passes[i]}`, rate }));
  });
}

/** What this processor has: the program's answer to a name that it does not know. */
const answer = spawnSync(program, ["--isa", "?"], { encoding: "utf8" }).stderr;
const sets = /of this processor \((.*?)\)/.exec(answer)[1].split(", ");

const columns = [...sets, "wasm"];
const all = Object.fromEntries(columns.map((column) => [column, []]));
for (let round = 0; round < Number(values.rounds); round++) {
  for (const isa of sets) all[isa].push(rates([program], isa));
  all.wasm.push(rates([process.execPath, "--no-warnings", path.join(here, "wasm_run.mjs"), module]));
}
const medianRate = (column, i) =>
  middle(
    all[column].map((round) => round[i]),
    "rate",
  ).rate;
const rows = all.wasm[0].map(({ name }, i) => {
  const each = columns.map((column) => medianRate(column, i));
  return `| ${name} | ${each.map(short).join(" | ")} | ${short(each[0] / each.at(-1))} |`;
});
record(
  `# The convolutions in WebAssembly, GFLOP/s of one thread

${circumstances(started)}, Node ${process.versions.node}. Command: \`node bench/wasm.mjs\`; median of ${values.rounds} rounds, in turn.

| layer, pass | ${columns.join(" | ")} | ${sets[0]} / wasm |
| --- |${" ---: |".repeat(columns.length + 1)}
${rows.join("\n")}
`,
  path.join(here, "record", "wasm.md"),
);
