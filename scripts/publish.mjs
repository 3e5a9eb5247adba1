// Publishes packed tarballs: the platforms' packages first, `rkd` last, so that nobody installs it without them. What is on the
// registry already is left, so that a run that broke off is run again.
//
//   node scripts/publish.mjs folder [flags of npm publish]
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { npm, stop } from "./setup.mjs";

const [folder = "packed", ...flags] = process.argv.slice(2);

function run([command, ...args], stdio = "pipe") {
  return spawnSync(command, args, { encoding: "utf8", stdio });
}

/** The tarballs with their package.json. */
const packed = readdirSync(folder)
  .filter((file) => file.endsWith(".tgz"))
  .map((file) => {
    const path = resolve(join(folder, file));
    const { status, stdout, stderr } = run(["tar", "-xzOf", path, "package/package.json"]);
    if (status !== 0) stop(`${path} cannot be read: ${stderr}`);
    return { path, ...JSON.parse(stdout) };
  });
const main = packed.find(({ name }) => name === "rkd");
if (!main) stop(`${folder} has no tarball of rkd.`);
const platforms = packed.filter((one) => one !== main);
const listed = Object.entries(main.optionalDependencies).map((entry) => entry.join("@"));
const present = platforms.map(({ name, version }) => `${name}@${version}`);
const apart = [...listed.filter((one) => !present.includes(one)), ...present.filter((one) => !listed.includes(one))];
if (apart.length > 0) stop(`the packages are not those that rkd ${main.version} lists: ${apart.join(", ")}.`);

const registry = process.env.npm_config_registry ?? "https://registry.npmjs.org/";

/** Whether the registry has this version of a package; `unknown` where it has none at all. */
async function look({ path, name, version }) {
  const response = await fetch(new URL(name, registry));
  if (response.status === 404) return { path, name, version, unknown: true };
  if (!response.ok) stop(`the registry cannot be asked for ${name}: ${response.status} ${response.statusText}`);
  return { path, name, version, there: version in (await response.json()).versions };
}

const ordered = await Promise.all([...platforms, main].map(look));
const unknown = ordered.filter((one) => one.unknown).map(({ name }) => name);
if (unknown.length > 0) {
  stop(
    `the registry has no ${unknown.join(", ")}, and a workflow cannot create packages: see CONTRIBUTING.md, "Releases".`,
  );
}
for (const { path, name, version, there } of ordered) {
  if (there) {
    console.log(`${name}@${version} is there already`);
    continue;
  }
  const tag = version.includes("-") ? "next" : "latest";
  const { status } = run(npm("publish", path, "--tag", tag, ...flags), "inherit");
  if (status !== 0) stop(`${name}@${version} could not be published; run this again once the reason is gone.`);
}
