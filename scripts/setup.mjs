// Makes a checkout ready: npm packages, the native addon, the compiled TypeScript. Needs Node, Rust and a C compiler.
// Each part remembers a hash of what it was made from, so that a second call takes a fraction of a second.
//
//   node scripts/setup.mjs
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

/** Root of the repository. */
export const root = fileURLToPath(new URL("..", import.meta.url));
const stampFile = join(root, ".rkd-setup");
const bin = (name) => join(root, "node_modules", ".bin", process.platform === "win32" ? `${name}.cmd` : name);

/** The command of a tool that npm installed. */
export function tool(name, ...args) {
  return [bin(name), ...args];
}

/** A command of npm: on Windows its script, since Node starts no `npm.cmd` without a shell. */
export function npm(...args) {
  if (process.platform !== "win32") return ["npm", ...args];
  return [process.execPath, join(dirname(process.execPath), "node_modules", "npm", "bin", "npm-cli.js"), ...args];
}

/** Ends the program with a message that says what to do. */
export function stop(message) {
  console.error(`\nrkd set-up: ${message}`);
  process.exit(1);
}

/** Runs a program in the root and stops where it fails. */
export function must([command, ...args], what, env = {}) {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: "inherit", env: { ...process.env, ...env } });
  if (error?.code === "ENOENT") stop(`${command} is not installed, and ${what} needs it.`);
  if (status !== 0) stop(`${what} failed; the reason stands above.`);
}

/** Rust's name of the platform that it runs on. */
export function hostTarget() {
  const { status, stdout } = spawnSync("rustc", ["-vV"], { encoding: "utf8" });
  if (status !== 0) stop("Rust is not installed. Install it from https://rustup.rs and try again.");
  return /^host: (.+)$/m.exec(stdout)[1];
}

/** Cargo's target is named for every call, as the addon's build does it, so that dependencies compile once. */
export function cargoEnv() {
  return process.env.CARGO_BUILD_TARGET ? {} : { CARGO_BUILD_TARGET: hostTarget() };
}

/** Some fields of package.json, as an input. */
function manifest(...fields) {
  const all = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  return { text: JSON.stringify(fields.map((field) => all[field])) };
}

/** Hash of the names and contents of files and folders (which end in a slash), and of texts. */
function hashOf(...inputs) {
  const hash = createHash("sha256").update(process.version);
  const visit = (path) => {
    if (!existsSync(path)) return;
    for (const entry of readdirSync(path, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1))) {
      const child = join(path, entry.name);
      if (entry.isDirectory()) visit(child);
      else add(child);
    }
  };
  const add = (file) => existsSync(file) && hash.update(relative(root, file)).update("\0").update(readFileSync(file));
  for (const input of inputs) {
    if (input.text) hash.update(input.text);
    else if (input.endsWith("/")) visit(join(root, input));
    else add(join(root, input));
  }
  return hash.digest("hex");
}

/** What the addon is made from. */
const sources = ["crates/", "Cargo.toml", "Cargo.lock", manifest("version", "napi")];

const parts = [
  {
    name: "packages",
    says: "installing npm packages (a few minutes the first time)",
    inputs: ["package-lock.json", ".npmrc", manifest("dependencies", "devDependencies")],
    // `npm ci` refuses a lock that lacks a foreign platform's build; `--no-save` leaves the lock as it is.
    // onnxruntime-node would download CUDA's libraries, 300 MB that nothing here uses.
    build: () =>
      must(npm("install", "--no-save", "--no-audit", "--no-fund", "--loglevel=error"), "npm install", {
        ONNXRUNTIME_NODE_INSTALL: "skip",
      }),
    made: "node_modules/.package-lock.json",
  },
  {
    name: "addon",
    says: "compiling the native addon (a few minutes the first time)",
    inputs: sources,
    build: () => must(addonBuild("dist/native"), "building the native addon", cargoEnv()),
    made: "dist/native/index.d.cts",
  },
  {
    name: "typescript",
    says: "compiling TypeScript",
    inputs: ["src/", "dist/native/index.d.cts", "tsconfig.json", "tsconfig.build.json", "scripts/page.mjs"],
    build: () => {
      for (const name of existsSync(join(root, "dist")) ? readdirSync(join(root, "dist")) : []) {
        if (name !== "native") rmSync(join(root, "dist", name), { recursive: true });
      }
      // The addon's types name the protocol's, which lie beside them.
      const types = [
        "--ignoreConfig",
        "--target",
        "es2023",
        "--module",
        "nodenext",
        "--declaration",
        "--emitDeclarationOnly",
      ];
      must(tool("tsc", ...types, "--outDir", "dist/native", "src/protocol/protocol.ts"), "compiling the protocol");
      must(tool("tsc", "-p", "tsconfig.build.json"), "compiling TypeScript");
      must([process.execPath, "scripts/page.mjs"], "making the script of the report page");
    },
    made: "dist/index.js",
  },
];

/** The addon in the profile that is published and measured. */
const published = {
  name: "published addon",
  says: "compiling the native addon in the release profile (some minutes the first time)",
  inputs: sources,
  build: () => must(addonBuild("target/published", "--release"), "building the published addon", cargoEnv()),
  made: "target/published/index.d.cts",
};

/** The build of the addon: in the tuned dev profile, which the tests share, unless `flags` say otherwise. */
function addonBuild(folder, ...flags) {
  const where = ["--manifest-path", "crates/node/Cargo.toml", "--output-dir", folder];
  // No loader: src/native/addon.ts is it.
  const names = ["--no-js", "--dts", "index.d.cts", "--no-const-enum"];
  return tool("napi", "build", "--platform", ...flags, ...where, ...names, "--", "--locked");
}

/** Brings the addon of the release profile up to date; its path. */
export function publishedAddon() {
  update([published]);
  const folder = join(root, "target", "published");
  return join(
    folder,
    readdirSync(folder).find((name) => name.endsWith(".node")),
  );
}

/** Brings every part up to date. */
export function setUp() {
  const [major, minor] = process.versions.node.split(".").map(Number);
  if (major < 20 || (major === 20 && minor < 19)) stop(`Node 20.19 or newer is needed; this is ${process.version}.`);
  update(parts);
}

/** Builds those of `parts` that are out of date. */
function update(parts) {
  const stamps = existsSync(stampFile) ? JSON.parse(readFileSync(stampFile, "utf8")) : {};
  for (const { name, says, inputs, build, made } of parts) {
    const stamp = hashOf(...inputs);
    if (stamps[name] === stamp && existsSync(join(root, made))) continue;
    console.error(`rkd set-up: ${says} ...`);
    const start = performance.now();
    build();
    stamps[name] = stamp; // of what was there before: a file changed meanwhile is built next time
    writeFileSync(stampFile, JSON.stringify(stamps));
    console.error(`rkd set-up: ${name} ready after ${((performance.now() - start) / 1000).toFixed(1)} s`);
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) setUp();
