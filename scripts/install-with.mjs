// Installs `rkd` into an empty folder by a package manager, and trains there (smoke.mjs). Needs Node alone.
//
//   node scripts/install-with.mjs MANAGER SOURCE [arguments of smoke.mjs]
//     MANAGER   npm, pnpm, yarn, yarn-pnp, deno or bun; what is not npm is fetched from the registry
//     SOURCE    a version on the registry, or a folder of tarballs
import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { npm, root, stop } from "./setup.mjs";

/** A command of a package of the registry. */
const fetched = (from, ...command) => npm("exec", "--yes", `--package=${from}`, "--", ...command);
const yarn = (...args) => fetched("@yarnpkg/cli-dist@4", "yarn", ...args);

/** How each installs and how it runs a program; a version that has just been published is too young for some by default. */
const managers = {
  npm: { install: npm("install", "--ignore-scripts", "--no-audit", "--no-fund"), run: [process.execPath] },
  pnpm: { install: fetched("pnpm@10", "pnpm", "install", "--ignore-scripts"), run: [process.execPath] },
  yarn: {
    install: yarn("install"),
    run: [process.execPath],
    yarnrc: "nodeLinker: node-modules\nnpmMinimalAgeGate: 0\n",
  },
  "yarn-pnp": { install: yarn("install"), run: yarn("node"), yarnrc: "nodeLinker: pnp\nnpmMinimalAgeGate: 0\n" },
  deno: {
    install: fetched("deno@2", "deno", "install", "--node-modules-dir=manual", "--minimum-dependency-age=0"),
    run: fetched("deno@2", "deno", "run", "--allow-all", "--node-modules-dir=manual"),
  },
  bun: { install: fetched("bun@1", "bun", "install", "--ignore-scripts"), run: fetched("bun@1", "bun") },
};

/** What the empty folder's package.json asks for. */
function dependencies(source) {
  if (!existsSync(source)) return { rkd: source };
  const named = readdirSync(source).flatMap((file) => {
    const [, name] = /^(rkd(?:-.+)?)-\d+\.\d+\.\d+.*\.tgz$/.exec(file) ?? [];
    return name ? [[name, `file:${resolve(source, file)}`]] : [];
  });
  return Object.fromEntries(named);
}

const [name, source, ...given] = process.argv.slice(2);
const manager = managers[name];
if (!manager || !source)
  stop(`give a package manager (${Object.keys(managers).join(", ")}) and a version or a folder of tarballs.`);
const rest = given.map((argument) => (argument.startsWith("--") ? argument : resolve(argument)));
const wanted = dependencies(source);
const { rkd: _, ...local } = existsSync(source) ? wanted : {};
const folder = mkdtempSync(join(tmpdir(), "rkd-install-"));

function run([command, ...args]) {
  const { status, error } = spawnSync(command, args, { cwd: folder, stdio: "inherit" });
  if (status !== 0) throw new Error(`${[command, ...args].join(" ")} failed with ${name} in ${folder} ${error ?? ""}`);
}

try {
  const write = (file, text) => writeFileSync(join(folder, file), text);
  // A tarball stands for the registry's package of its name, which rkd asks for: each manager has its own word for that.
  const own = { npm: {}, deno: {}, bun: { overrides: local } }[name] ?? { resolutions: local };
  write("package.json", JSON.stringify({ name: "user", private: true, type: "module", dependencies: wanted, ...own }));
  if (manager.yarnrc) write(".yarnrc.yml", manager.yarnrc);
  if (name === "pnpm") write("pnpm-workspace.yaml", JSON.stringify({ minimumReleaseAge: 0, overrides: local }));
  if (manager.yarnrc) write("yarn.lock", ""); // it would look for a project in the folders above
  copyFileSync(join(root, "scripts", "smoke.mjs"), join(folder, "smoke.mjs"));
  // Deno takes no tarballs, and runs on what npm has installed.
  run(name === "deno" && existsSync(source) ? managers.npm.install : manager.install);
  run([...manager.run, "smoke.mjs", ...rest]);
  const command = join("node_modules", "rkd", "bin", "rkd.mjs");
  if (existsSync(join(folder, command))) run([...manager.run, command, "doctor"]);
  console.log(`installed by ${name}, and it trains`);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
