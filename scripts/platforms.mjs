// The platforms that have a package, as package.json lists them in `napi.targets`: names, and what builds them.
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { hostTarget, root } from "./setup.mjs";

/** The oldest glibc that binaries for it may need. */
export const oldestGlibc = "2.17";

const processors = { x86_64: "x64", aarch64: "arm64" };

/** Rust's name of a platform, taken apart: `x86_64-unknown-linux-gnu` is linux, x64 and gnu. */
function parse(target) {
  const [processor, vendor, system, abi] = target.split("-");
  const cpu = processors[processor];
  if (system === "darwin") return { target, os: "darwin", cpu, library: "librkd_node.dylib" };
  if (vendor === "pc") return { target, os: "win32", cpu, abi, library: "rkd_node.dll" };
  return { target, os: "linux", cpu, abi, library: "librkd_node.so" };
}

/** Each with Rust's `target`, npm's `os` and `cpu`, the `abi`, the name of what cargo builds, and the `name` of its package. */
export const platforms = JSON.parse(readFileSync(join(root, "package.json"), "utf8")).napi.targets.map((target) => {
  const platform = parse(target);
  return { ...platform, name: [platform.os, platform.cpu, platform.abi].filter(Boolean).join("-") };
});

/** The platform that is built for where nothing else is said. */
export function ownPlatform() {
  const target = hostTarget();
  return platforms.find((platform) => platform.target === target);
}

/** Whether a program runs and ends well. */
const works = (command, ...args) => spawnSync(command, args, { stdio: "ignore" }).status === 0;

/** Whether there is zig, which links for an old glibc and for musl. */
export function hasZig() {
  const zig = process.env.CARGO_ZIGBUILD_ZIG_PATH;
  const found = zig ? existsSync(zig) : works("zig", "version") || works("python3", "-m", "ziglang", "version");
  return found && works("cargo-zigbuild", "--version");
}

/** Why a platform's binary cannot be built on this machine; nothing where it can. */
export function obstacle({ target, os }) {
  if (os === "darwin" && process.platform !== "darwin") return "needs a Mac, for Apple's SDK";
  if (os === "win32" && process.platform !== "win32") return "needs Windows, for Microsoft's linker";
  return missingLibrary(target) ?? (os === "linux" ? missingZig() : undefined);
}

/** Why nothing can be built for a target of Rust: its standard library is not here. */
export function missingLibrary(target) {
  const { status, stdout } = spawnSync("rustc", ["--print", "target-libdir", "--target", target], { encoding: "utf8" });
  if (status === 0 && existsSync(stdout.trim())) return undefined;
  return `needs Rust's standard library for it: rustup target add ${target}`;
}

/** Why nothing can be linked for another system: there is no zig. */
export function missingZig() {
  return hasZig() ? undefined : "needs zig: pip install ziglang cargo-zigbuild";
}

/** The command that builds a platform's binary in the release profile, its environment, and the file that it leaves. */
export function buildOf({ target, os, abi, library }) {
  const zig = os === "linux";
  const wanted = abi === "gnu" && zig ? `${target}.${oldestGlibc}` : target;
  const variable = `CARGO_TARGET_${target.toUpperCase().replaceAll("-", "_")}_RUSTFLAGS`;
  return {
    command: ["cargo", zig ? "zigbuild" : "build", "--release", "--locked", "-p", "rkd-node", "--target", wanted],
    env: {
      // A library for musl that Node loads shares Node's; one for Windows brings Microsoft's runtime, which not every machine has.
      ...(abi === "musl" && { [variable]: "-C target-feature=-crt-static" }),
      ...(abi === "msvc" && { [variable]: "-C target-feature=+crt-static" }),
      ...(os === "darwin" && { MACOSX_DEPLOYMENT_TARGET: "11.0" }),
    },
    file: join(root, "target", target, "release", library),
  };
}
