// The kernels for arm64 on another processor, under an emulator: what their tests need, and whether their bits are those of this
// processor.
//
//   node scripts/arm64.mjs      calls of the kernels here and under the emulator; fails where their bits differ
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { hostTarget, root } from "./setup.mjs";

/** With musl: the linker that comes with Rust makes programs that need nothing else, neither a C compiler nor a library. */
export const target = "aarch64-unknown-linux-musl";
const emulators = ["qemu-aarch64-static", "qemu-aarch64"];

/** What cargo's calls for the target need, or in words why they cannot be made. */
export function emulation() {
  if (process.platform !== "linux") return "emulators of single programs are Linux's";
  if (process.arch === "arm64") return "this processor is one, and the Rust tests run on it";
  const { status, stdout } = spawnSync("rustc", ["--print", "sysroot"], { encoding: "utf8" });
  if (status !== 0) return "rustc does not say where its libraries are";
  if (!existsSync(join(stdout.trim(), "lib", "rustlib", target))) return `needs \`rustup target add ${target}\``;
  const folders = (process.env.PATH ?? "").split(delimiter);
  const found = emulators
    .flatMap((name) => folders.map((folder) => join(folder, name)))
    .find((path) => existsSync(path));
  if (!found) return `needs ${emulators[0]} on the PATH (on Debian: apt-get install qemu-user-static)`;
  const prefix = `CARGO_TARGET_${target.replaceAll("-", "_").toUpperCase()}`;
  return { emulator: found, env: { [`${prefix}_LINKER`]: "rust-lld", [`${prefix}_RUNNER`]: found } };
}

/** What the example `bits` prints with every instruction set of a processor: one entry for each call. */
function bits(target, env) {
  const args = ["run", "--quiet", "--locked", "-p", "rkd-kernels", "--example", "bits", "--target", target];
  const { RKD_ISA, ...own } = { ...process.env, ...env };
  const { status, stdout, stderr } = spawnSync("cargo", args, { cwd: root, encoding: "utf8", env: own });
  if (status !== 0) throw new Error(`the example on ${target}: ${stderr}`);
  return stdout
    .trimEnd()
    .split("\n")
    .map((line) => line.split(" "))
    .map(([instructionSet, call, hash]) => {
      // Those that fuse multiplication and addition have the same bits, and so have those that do not.
      const family = instructionSet.startsWith("portable") ? "portable" : "fused";
      return { call: `${call}, ${family}`, hash, place: `${instructionSet} on ${target}` };
    });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const found = emulation();
  if (typeof found === "string") {
    console.log(`left out: ${found}`);
  } else {
    const all = [...bits(hostTarget(), {}), ...bits(target, found.env)];
    const calls = [...new Set(all.map(({ call }) => call))];
    const differing = calls.filter(
      (name) => new Set(all.filter(({ call }) => call === name).map(({ hash }) => hash)).size > 1,
    );
    for (const { call, hash, place } of all)
      if (differing.includes(call)) console.log(`${call}: ${hash} with ${place}`);
    const same = calls.length - differing.length;
    console.log(`the same bits here and on arm64 in ${same} of ${calls.length} calls, ${all.length} in all`);
    if (differing.length > 0) process.exitCode = 1;
  }
}
