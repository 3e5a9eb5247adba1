/** The loader of the addon, in prepared folders: of each way in which an installation fails, what it says and advises. */

import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseTriple } from "@napi-rs/cli";
import { expect, it } from "vitest";
// @ts-expect-error: a script, without types
import * as scripts from "../../scripts/platforms.mjs";
import { oldestGlibc, platforms, thisPlatform } from "../../src/native/platform.ts";
import { version } from "../../src/version.ts";
import { temporaryFolder } from "../support/folders.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** Node's report of a process with this C library. */
const glibc = { header: { glibcVersionRuntime: "2.31" }, sharedObjects: ["/lib/x86_64-linux-gnu/libc.so.6"] };
const musl = { header: {}, sharedObjects: ["/lib/ld-musl-x86_64.so.1"] };

interface Case {
  /** The folder of the installation, below which is `node_modules`. */
  readonly at?: string;
  /** Packages of platforms, each with its version and the error that loading it throws, or a file of no use. */
  readonly packages?: Readonly<Record<string, { version?: string; throws?: string; file?: string | Buffer | null }>>;
  readonly files?: Readonly<Record<string, string>>;
  readonly os?: string;
  readonly cpu?: string;
  readonly report?: object | null;
  readonly env?: NodeJS.ProcessEnv;
  readonly flags?: readonly string[];
}

/** An installation of `rkd` beside packages of platforms. */
function install({ at = "app", packages = {}, files = {} }: Case): string {
  const folder = join(temporaryFolder(), at);
  const own = join(folder, "node_modules", "rkd");
  const filter = (name: string) => !/\.(node|map)$/.test(name);
  for (const part of ["dist", "package.json"]) cpSync(join(root, part), join(own, part), { recursive: true, filter });
  for (const [name, { version: its = version, throws, file = "no library" }] of Object.entries(packages)) {
    const home = join(folder, "node_modules", `rkd-${name}`);
    mkdirSync(home);
    const main = throws === undefined ? `rkd.${name}.node` : "index.js";
    writeFileSync(join(home, "package.json"), JSON.stringify({ name: `rkd-${name}`, version: its, main }));
    if (throws !== undefined) writeFileSync(join(home, main), `throw new Error(${JSON.stringify(throws)});`);
    else if (file !== null) writeFileSync(join(home, main), file);
  }
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
  return folder;
}

/** What loading says there, in a process that takes itself for one of another platform. */
function said(given: Case): { code: string; message: string } {
  const folder = install(given);
  const { os = "linux", cpu = "x64", report = glibc, env = {}, flags = [] } = given;
  const fakes = `
const set = (name, value) => Object.defineProperty(process, name, { value });
set("platform", ${JSON.stringify(os)});
set("arch", ${JSON.stringify(cpu)});
set("report", ${report === null ? "undefined" : `{ getReport: () => (${JSON.stringify(report)}) }`});`;
  const addon = pathToFileURL(join(folder, "node_modules", "rkd", "dist", "native", "addon.js")).href;
  writeFileSync(
    join(folder, "main.mjs"),
    `${fakes}
const { addon } = await import(${JSON.stringify(addon)});
try {
  addon();
} catch ({ code, message }) {
  console.log(JSON.stringify({ code, message }));
}`,
  );
  const { NODE_OPTIONS: _, RKD_NATIVE_PATH: _path, ...outer } = process.env;
  const options = { cwd: folder, env: { ...outer, ...env }, encoding: "utf8" } as const;
  const { stdout, stderr } = spawnSync(process.execPath, [...flags, "main.mjs"], options);
  expect(stderr).toBe("");
  return JSON.parse(stdout);
}

/** The beginning of a file for Linux whose table of sections is at byte 1,000. */
function cutOff(): Buffer {
  const header = Buffer.alloc(64);
  header.write("\x7fELF", "latin1");
  header.writeBigUInt64LE(1000n, 0x28);
  header.writeUInt16LE(64, 0x3a);
  header.writeUInt16LE(9, 0x3c);
  return header;
}

const lock = (...names: string[]) =>
  JSON.stringify({ packages: Object.fromEntries(["rkd", ...names].map((name) => [`node_modules/${name}`, {}])) });
const forLinux = "npm install --os=linux --cpu=x64 --libc=glibc";

it.each<[string, Case, RegExp[]]>([
  [
    "without any platform's package",
    {},
    [
      /^rkd-linux-x64-gnu: the native addon could not be loaded: rkd-linux-x64-gnu is not installed, nor is the package of any other/,
      /\(this is linux x64 with glibc 2\.31, by Node's process report; tried rkd-linux-x64-gnu from .+node_modules.rkd\)/,
      new RegExp(`--include=optional.+npm install rkd-linux-x64-gnu@${version.replaceAll(".", "\\.")}$`),
    ],
  ],
  [
    "by a package-lock.json of another platform",
    { files: { "package-lock.json": lock("rkd-darwin-arm64") } },
    [/app.package-lock\.json does not list it.+npm\/cli#4828/, /Delete package-lock\.json and node_modules.+npm 11\.3/],
  ],
  [
    "by a package-lock.json that lists it, without optional dependencies",
    { files: { "package-lock.json": lock("rkd-linux-x64-gnu") } },
    [/nor is the package of any other platform/, /--include=optional/],
  ],
  [
    "with glibc's package on Alpine",
    { report: musl, packages: { "linux-x64-gnu": {} } },
    [
      /^rkd-linux-x64-musl: /,
      /not installed, but rkd-linux-x64-gnu: node_modules is of a Linux with glibc, and this is one with musl, such as Alpine/,
      /linux x64 with musl, by the library \/lib\/ld-musl-x86_64\.so\.1 of this process/,
      /npm install --os=linux --cpu=x64 --libc=musl/,
    ],
  ],
  [
    "with musl's package on Debian",
    { packages: { "linux-x64-musl": {} } },
    [/node_modules is of a Linux with musl, such as Alpine, and this is one with glibc/, new RegExp(forLinux)],
  ],
  [
    "on a system with an older glibc",
    {
      packages: {
        "linux-x64-gnu": {
          throws: "/lib64/libm.so.6: version `GLIBC_2.38' not found (required by /x.node)\nRequire stack",
        },
      },
    },
    [
      /this system's glibc is too old: .+GLIBC_2\.38' not found/,
      new RegExp(`need glibc ${oldestGlibc} .+ this is 2\\.31`),
    ],
  ],
  [
    "in a Lambda that was packed on a Mac",
    { packages: { "darwin-arm64": {} }, env: { LAMBDA_TASK_ROOT: "/var/task" } },
    [
      /the deployed package is without rkd-linux-x64-gnu, with rkd-darwin-arm64/,
      new RegExp(`Install for Lambda.+${forLinux}`),
    ],
  ],
  [
    "with the packages of another system",
    { packages: { "darwin-arm64": {}, "win32-x64-msvc": {} } },
    [/but rkd-darwin-arm64 and rkd-win32-x64-msvc: node_modules comes from another system/, new RegExp(forLinux)],
  ],
  [
    "by a Node for another processor, under Rosetta",
    { os: "darwin", cpu: "x64", packages: { "darwin-arm64": {} } },
    [
      /installed by a Node for arm64, and this is a Node for x64, under Rosetta/,
      /Use one Node for both/,
      /--os=darwin --cpu=x64 /,
    ],
  ],
  [
    "in an archive of Electron",
    { at: "app.asar", packages: { "linux-x64-gnu": {} } },
    [
      /the file lies in an asar archive/,
      /asarUnpack: \["\*\*\/\*\.node"\]/,
      /tried .+app\.asar.+rkd\.linux-x64-gnu\.node\)/,
    ],
  ],
  [
    "with a file of another processor",
    { packages: { "linux-x64-gnu": {} } },
    [/damaged or of another processor: /, /npm install --force rkd-linux-x64-gnu@/],
  ],
  [
    "with a file that was cut off, which the system would load",
    { packages: { "linux-x64-gnu": { file: cutOff() } } },
    [/damaged or of another processor: file too short: 64 bytes, and its header speaks of 1576/, /npm install --force/],
  ],
  [
    "with a file for musl in a process with glibc",
    { packages: { "linux-x64-gnu": { throws: "libc.musl-x86_64.so.1: cannot open shared object file" } } },
    [/for another C library than this Node's/],
  ],
  [
    "with the package, without its file",
    { packages: { "linux-x64-gnu": { file: null } } },
    [/the package rkd-linux-x64-gnu is there without its file rkd\.linux-x64-gnu\.node/, /files that end in \.node/],
  ],
  [
    "with a package of another version",
    { packages: { "linux-x64-gnu": { version: "0.0.1" } } },
    [/is of version 0\.0\.1, and rkd of /, /npm install rkd@.+ rkd-linux-x64-gnu@/],
  ],
  [
    "in a Node without addons",
    { packages: { "linux-x64-gnu": {} }, flags: ["--no-addons"] },
    [/this Node does not load addons/, /without --no-addons, and with --allow-addons where --permission is/],
  ],
  [
    "on a Windows that Node is told to run on",
    {
      os: "win32",
      packages: { "win32-x64-msvc": { throws: "The specified procedure could not be found." } },
      env: { NODE_SKIP_PLATFORM_CHECK: "1" },
    },
    [/^rkd-win32-x64-msvc: /, /The specified procedure/, /needs Windows 10.+NODE_SKIP_PLATFORM_CHECK hides/],
  ],
  [
    "on a platform without a package",
    { os: "freebsd" },
    [/there is no package for freebsd-x64/, new RegExp(`There are packages for ${platforms.join(", ")}`)],
  ],
  [
    "by a runtime that reports nothing of itself",
    { report: null },
    [/linux x64 with glibc, by default: nothing told it/],
  ],
  [
    "by a file that RKD_NATIVE_PATH names",
    { env: { RKD_NATIVE_PATH: "none.node" } },
    [/^RKD_NATIVE_PATH: /, /tried \/.+none\.node\)/, /Correct or unset RKD_NATIVE_PATH$/],
  ],
  [
    "by another module that RKD_NATIVE_PATH names",
    { files: { "other.cjs": "module.exports = {};" }, env: { RKD_NATIVE_PATH: "other.cjs" } },
    [/^RKD_NATIVE_PATH: .+ it is not the addon of rkd, or one of another version/, /Correct or unset RKD_NATIVE_PATH$/],
  ],
])("says what is wrong %s", (_, given, wanted) => {
  const { code, message } = said(given);
  expect(code).toBe("ERR_NATIVE_LOAD");
  for (const words of wanted) expect(message).toMatch(words);
});

it("takes the C library from the process, whatever else it has loaded", () => {
  const both = { ...glibc, sharedObjects: [...musl.sharedObjects, ...glibc.sharedObjects] };
  expect(said({ report: both }).message).toMatch(/^rkd-linux-x64-gnu: /);
  expect(said({ report: { sharedObjects: glibc.sharedObjects } }).message).toMatch(
    /glibc, by the library \/lib\/x86_64.+libc\.so\.6/,
  );
});

it("says in a clone that nothing has been built", () => {
  const folder = install({});
  mkdirSync(join(folder, "node_modules", "rkd", "crates"));
  const program = join(folder, "node_modules", "rkd", "dist", "native", "addon.js");
  const code = `const { addon } = await import(${JSON.stringify(pathToFileURL(program).href)}); addon();`;
  const { stderr } = spawnSync(process.execPath, ["--input-type=module", "-e", code], { encoding: "utf8" });
  expect(stderr).toMatch(/it has not been built here .+Run "npm run setup"/);
});

it("loads the package of this platform where it is installed", () => {
  const { name } = thisPlatform();
  const folder = install({ packages: { [name]: { file: null } } });
  const built = readdirSync(join(root, "dist", "native")).find((file) => file === `rkd.${name}.node`) ?? "";
  const file = join(folder, "node_modules", `rkd-${name}`, built);
  symlinkSync(join(root, "dist", "native", built), file);
  const program = join(folder, "node_modules", "rkd", "dist", "native", "addon.js");
  const code = `const m = await import(${JSON.stringify(pathToFileURL(program).href)}); m.addon().defaultCache(); console.log(m.addonFile());`;
  const { stdout, stderr } = spawnSync(process.execPath, ["--input-type=module", "-e", code], { encoding: "utf8" });
  expect(stderr).toBe("");
  expect(stdout).toContain(built);
});

it("knows the platforms that are packed, by napi's names for their files, and their oldest glibc", () => {
  const packed: { name: string; target: string }[] = scripts.platforms;
  expect(platforms).toEqual(packed.map(({ name }) => name));
  expect(platforms).toEqual(packed.map(({ target }) => parseTriple(target).platformArchABI));
  expect(oldestGlibc).toBe(scripts.oldestGlibc);
});
