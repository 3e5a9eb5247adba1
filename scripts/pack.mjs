// Packs what would be published for this platform: the package, and the package of its binary in the release profile.
//
//   node scripts/pack.mjs [folder]      then, elsewhere: npm install folder/*.tgz
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { publishedAddon, root, setUp, tool } from "./setup.mjs";

const quiet = { npm_config_loglevel: "error", npm_config_audit: "false", npm_config_fund: "false" };

/** Runs a program and returns what it printed. */
export function output([command, ...args], cwd, env = {}) {
  const all = { ...process.env, ...quiet, ...env };
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd, env: all, encoding: "utf8" });
  if (status !== 0)
    throw new Error(`${command} ${args.join(" ")} failed in ${cwd}:\n${stdout}\n${stderr}${error ?? ""}`);
  return stdout;
}

/** Packs the package into `folder`; returns the tarball's path and the names in it. */
export function packMain(folder) {
  return pack(root, folder);
}

/** Packs the package of a platform's `binary` into `folder`, with the licences of what is in it. */
export function packBinary(folder, binary = publishedAddon()) {
  const platform = /^rkd\.(.+)\.node$/.exec(basename(binary))[1];
  output(tool("napi", "create-npm-dirs", "--npm-dir", "npm"), root); // git ignores it; the tool wants it in the project
  const source = mkdtempSync(join(tmpdir(), "rkd-binary-"));
  try {
    cpSync(join(root, "npm", platform), source, { recursive: true });
    const licences = ["LICENSE", "LICENSE-APACHE", "LICENSE-MIT", "THIRD-PARTY-NOTICES"];
    for (const file of [binary, ...licences.map((name) => join(root, name))])
      cpSync(file, join(source, basename(file)));
    const manifest = JSON.parse(readFileSync(join(source, "package.json"), "utf8"));
    const files = [basename(binary), ...licences];
    writeFileSync(join(source, "package.json"), JSON.stringify({ ...manifest, files }, null, 2));
    return pack(source, folder);
  } finally {
    for (const made of [source, join(root, "npm")]) rmSync(made, { recursive: true });
  }
}

function pack(source, folder) {
  const args = ["pack", "--json", "--ignore-scripts", "--pack-destination", folder];
  const [{ filename, files }] = JSON.parse(output(["npm", ...args], source));
  return { tarball: join(folder, filename), names: files.map(({ path }) => path) };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const folder = resolve(process.argv[2] ?? "packed");
  setUp();
  mkdirSync(folder, { recursive: true });
  const tarballs = [packBinary(folder), packMain(folder)].map(({ tarball }) => tarball);
  console.log(`npm install ${tarballs.join(" ")}`);
}
