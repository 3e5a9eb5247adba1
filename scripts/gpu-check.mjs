// Packs all that needs a GPU into one file for a machine that has one and neither Node nor cargo nor a registry:
// `node scripts/gpu-check.mjs`, then there `tar xzf gpu-check.tar.gz && gpu-check/run.sh` (its head says what it does). In the file
// are the programs of tests, built with the feature `cuda` and stripped, the bench, the golden values and the scripts.
import { execFileSync } from "node:child_process";
import { chmodSync, copyFileSync, mkdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { basename, join, relative } from "node:path";
import { toolkit } from "./cuda.mjs";
import { neededGlibc, neededVersions } from "./elf.mjs";
import { cargoEnv, root } from "./setup.mjs";

/** What travels to such a machine. */
const most = 64 * 1024 * 1024;
const folder = join(root, "target", "gpu-check");
const packed = `${folder}.tar.gz`;

const { home, none } = toolkit(true);
if (!home) throw new Error(none);
const env = { ...process.env, ...cargoEnv(), RKD_CUDA_HOME: home };

/** Builds a program with the feature `cuda`; its path. */
function built(name, ...args) {
  const command = [...args, "--locked", "--message-format=json-render-diagnostics"];
  const lines = execFileSync("cargo", command, {
    cwd: root,
    env,
    maxBuffer: 2 ** 28,
    stdio: ["ignore", "pipe", "inherit"],
  });
  const messages = lines
    .toString()
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line));
  const file = messages.find(({ target, executable }) => executable && target.name === name)?.executable;
  if (!file) throw new Error(`cargo made no program ${name}`);
  return file;
}

// Both crates in every call, so that features, and with them dependencies, are those of the tests.
const crates = ["-p", "rkd-core", "-p", "rkd-cuda", "--features", "rkd-core/cuda,rkd-cuda/twin"];
const programs = {
  all: built("all", "test", "--no-run", ...crates, "--test", "all"),
  operations: built("operations", "test", "--no-run", ...crates, "--test", "operations"),
  gpu_check: built("gpu_check", "build", ...crates, "--example", "gpu_check"),
};
rmSync(folder, { recursive: true, force: true });
mkdirSync(join(folder, "golden"), { recursive: true });
for (const [name, file] of Object.entries(programs)) {
  execFileSync("strip", ["-o", join(folder, name), file]);
  chmodSync(join(folder, name), 0o755);
}
copyFileSync(join(root, "test", "golden", "networks.json"), join(folder, "golden", "networks.json"));
for (const name of ["run.sh", "speed.py"]) copyFileSync(join(root, "scripts", "gpu-check", name), join(folder, name));
const git = (...args) => execFileSync("git", args, { cwd: root, encoding: "utf8" }).trim();
const changed = git("status", "--porcelain") ? ", with changes" : "";
writeFileSync(join(folder, "commit"), `${git("rev-parse", "--short", "HEAD")}${changed}\n`);
execFileSync("tar", ["czf", packed, "-C", join(root, "target"), basename(folder)]);
const { size } = statSync(packed);
const glibc = neededGlibc(Object.keys(programs).flatMap((name) => neededVersions(join(folder, name))));
console.log(`${relative(root, packed)}: ${(size / 2 ** 20).toFixed(1)} MiB; its programs need glibc ${glibc}`);
if (size > most) throw new Error(`it is to be below ${most / 2 ** 20} MiB`);
