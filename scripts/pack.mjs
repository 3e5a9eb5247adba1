// Packs what is published: the package `rkd`, and the package of a platform's binary in the release profile.
//
//   node scripts/pack.mjs [folder]                 this platform's and the main one; then: npm install folder/*.tgz
//   node scripts/pack.mjs [folder] --all           every platform's that can be built here, and in words which cannot
//   node scripts/pack.mjs [folder] --only NAME     that one alone: a platform such as linux-x64-musl; or "main", as published
import { spawnSync } from "node:child_process";
import { copyFileSync, cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { compareVersions, neededGlibc, neededVersions } from "./elf.mjs";
import { buildOf, hasZig, obstacle, oldestGlibc, ownPlatform, platforms } from "./platforms.mjs";
import { must, npm, publishedAddon, root, setUp, stop } from "./setup.mjs";

/** The most that a tarball may take, in bytes; ARCHITECTURE.md says what a binary consists of. */
const most = { main: 500e3, binary: 11e6 };
const licences = ["LICENSE", "LICENSE-APACHE", "LICENSE-MIT", "THIRD-PARTY-NOTICES"];
const quiet = { npm_config_loglevel: "error", npm_config_audit: "false", npm_config_fund: "false" };

/** Runs a program and returns what it printed. */
export function output([command, ...args], cwd, env = {}) {
  const all = { ...process.env, ...quiet, ...env };
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd, env: all, encoding: "utf8" });
  if (status !== 0)
    throw new Error(`${command} ${args.join(" ")} failed in ${cwd}:\n${stdout}\n${stderr}${error ?? ""}`);
  return stdout;
}

const manifest = () => JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
const nameOf = (platform) => `rkd-${platform.name}`;

/**
 * The package.json that is published: without what only a clone needs, and with the platforms' packages as optional
 * dependencies. The one in the repository does not have them: there they would have to be on the registry for `npm ci`.
 */
export function publishedManifest(listed) {
  const { scripts: _, devDependencies: _dev, allowScripts: _allow, napi: _napi, ...rest } = manifest();
  const optionalDependencies = Object.fromEntries(listed.map((platform) => [nameOf(platform), rest.version]));
  return { ...rest, optionalDependencies };
}

/** The package.json of a platform's package. */
export function platformManifest({ os, cpu, abi, target, name }) {
  const { version, license, repository, bugs, homepage, engines, publishConfig } = manifest();
  const file = `rkd.${name}.node`;
  return {
    name: `rkd-${name}`,
    version,
    description: `The binary of rkd for ${target}`,
    license,
    repository,
    bugs,
    homepage,
    engines,
    os: [os],
    cpu: [cpu],
    ...(os === "linux" && { libc: [abi === "musl" ? "musl" : "glibc"] }),
    main: file,
    files: [file, "THIRD-PARTY-NOTICES", "LICENSE-*"],
    publishConfig,
  };
}

/**
 * Packs the main package into `folder`. Its optional dependencies are the packages of `listed`: of those alone that are packed
 * with it, where they are not on the registry, which npm would ask for each.
 */
export function packMain(folder, listed = platforms) {
  const [{ files }] = JSON.parse(output(npm("pack", "--json", "--dry-run", "--ignore-scripts"), root));
  return staged("main", folder, (source) => {
    for (const { path } of files) {
      mkdirSync(dirname(join(source, path)), { recursive: true });
      if (path.endsWith(".js")) writeFileSync(join(source, path), withoutMap(readFileSync(join(root, path), "utf8")));
      else copyFileSync(join(root, path), join(source, path));
    }
    writeFileSync(join(source, "package.json"), `${JSON.stringify(publishedManifest(listed), null, 2)}\n`);
  });
}

/** JavaScript without the line that leads to its source map: the maps are two fifths of everything, and stay here. */
function withoutMap(text) {
  return text.replace(/\n\/\/# sourceMappingURL=\S+\s*$/, "\n");
}

/** Packs the package of a platform's `binary` into `folder`, with the licences of what is in it. */
export function packBinary(folder, platform, binary) {
  return staged("binary", folder, (source) => {
    cpSync(binary, join(source, `rkd.${platform.name}.node`));
    for (const name of licences) cpSync(join(root, name), join(source, name));
    writeFileSync(join(source, "package.json"), `${JSON.stringify(platformManifest(platform), null, 2)}\n`);
    const words = `The binary of [rkd](${manifest().homepage}) for ${platform.target}. Installing \`rkd\` brings it.\n`;
    writeFileSync(join(source, "README.md"), `# ${nameOf(platform)}\n\n${words}`);
  });
}

/** Packs a folder that `fill` fills; fails where the tarball is larger than its `kind` may be. */
function staged(kind, folder, fill) {
  const source = mkdtempSync(join(tmpdir(), "rkd-pack-"));
  try {
    fill(source);
    const packing = npm("pack", "--json", "--ignore-scripts", "--pack-destination", folder);
    const [{ filename, files, size }] = JSON.parse(output(packing, source));
    if (size > most[kind]) throw new Error(`${filename} has ${size} bytes, and may have ${most[kind]}`);
    return { tarball: join(folder, filename), names: files.map(({ path }) => path), size };
  } finally {
    rmSync(source, { recursive: true });
  }
}

/** Builds a platform's binary in the release profile; its path. */
export function build(platform) {
  const { command, env, file } = buildOf(platform);
  must(command, `building for ${platform.target}`, env);
  return file;
}

/** The binary of this platform: for every system with the oldest glibc where zig is there, else for systems like this one. */
export function ownBinary() {
  const platform = ownPlatform();
  if (!platform) stop("there is no package for the platform that this Rust compiles for.");
  return { platform, binary: platform.os === "linux" && hasZig() ? build(platform) : publishedAddon() };
}

/** What a Linux binary needs of the system, in words; fails where that is another C library than its package's. */
export function systemOf({ os, abi, name }, binary) {
  if (os !== "linux") return "";
  const glibc = neededGlibc(neededVersions(binary));
  if (abi === "musl") {
    if (glibc) throw new Error(`the binary for ${name} needs glibc ${glibc}`);
    return "musl";
  }
  return `glibc ${glibc}`;
}

/** Whether a binary runs on every system that its package is for. */
export function runsWherePromised({ os, abi }, binary) {
  if (os !== "linux" || abi === "musl") return true;
  return compareVersions(neededGlibc(neededVersions(binary)), oldestGlibc) <= 0;
}

/** What was packed, and what is to be said of it. */
class Packing {
  rows = {};
  notes = [];
  failures = [];

  constructor(folder) {
    this.folder = folder;
    mkdirSync(folder, { recursive: true });
  }

  main(listed) {
    setUp();
    this.#add("rkd", packMain(this.folder, listed));
  }

  /** `lenient` for a binary that this machine alone is to run. */
  platform(platform, binary, { lenient = false } = {}) {
    const system = systemOf(platform, binary);
    this.#add(nameOf(platform), packBinary(this.folder, platform, binary), { size: statSync(binary).size, system });
    if (runsWherePromised(platform, binary)) return;
    const words = `${nameOf(platform)} needs ${system}, newer than the ${oldestGlibc} of what is published`;
    if (lenient) this.notes.push(`${words}: zig makes it older (pip install ziglang cargo-zigbuild)`);
    else this.failures.push(words);
  }

  #add(name, { tarball, size }, { size: binary, system = "" } = {}) {
    const megabytes = (bytes) => (bytes === undefined ? "" : (bytes / 1e6).toFixed(2));
    this.rows[name] = {
      tarball: basename(tarball),
      "tarball MB": megabytes(size),
      "binary MB": megabytes(binary),
      needs: system,
    };
  }

  /** Prints the table; ends the program with a failure where there is one. */
  finish() {
    console.table(this.rows);
    for (const note of this.notes) console.log(note);
    if (this.failures.length > 0) stop(`${this.failures.join("\n")}.`);
  }

  get command() {
    return `npm install ${Object.values(this.rows)
      .map(({ tarball }) => join(this.folder, tarball))
      .join(" ")}`;
  }
}

function packOne(packing, name) {
  if (name === "main") return packing.main(platforms);
  const platform = platforms.find((one) => one.name === name);
  if (!platform)
    stop(`there is no platform "${name}"; there are main, ${platforms.map((one) => one.name).join(", ")}.`);
  const reason = obstacle(platform);
  if (reason) stop(`${name} ${reason}.`);
  packing.platform(platform, build(platform));
}

function packAll(packing) {
  const possible = [];
  for (const platform of platforms) {
    const reason = obstacle(platform);
    if (reason) packing.notes.push(`${nameOf(platform)} is not built: it ${reason}`);
    else possible.push(platform);
  }
  for (const platform of possible) packing.platform(platform, build(platform));
  packing.main(possible);
}

function packOwn(packing) {
  const { platform, binary } = ownBinary();
  packing.platform(platform, binary, { lenient: true });
  packing.main([platform]);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const options = { all: { type: "boolean" }, only: { type: "string" } };
  const { values, positionals } = parseArgs({ options, allowPositionals: true });
  const packing = new Packing(resolve(positionals[0] ?? "packed"));
  if (values.only) packOne(packing, values.only);
  else if (values.all) packAll(packing);
  else packOwn(packing);
  packing.finish();
  if (!values.only) console.log(packing.command);
}
