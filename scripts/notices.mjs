// Writes THIRD-PARTY-NOTICES anew, the licences of the crates that go into the addon on any of its platforms and of the
// packages in the script of the report page; or fails where it is stale.
//
//   node scripts/notices.mjs [--check]
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { root, stop } from "./setup.mjs";

const file = join(root, "THIRD-PARTY-NOTICES");
const own = (name) => readFileSync(join(root, name), "utf8");

function cargo(...args) {
  const options = { cwd: root, encoding: "utf8", maxBuffer: 1 << 28 };
  const { status, stdout, stderr } = spawnSync("cargo", [...args, "--locked"], options);
  if (status !== 0) stop(`cargo ${args[0]} failed:\n${stderr}`);
  return stdout;
}

/** The crates whose code is in the addon, not those that only build it. */
function crates() {
  const { targets } = JSON.parse(own("package.json")).napi;
  const tree = (target) =>
    cargo(
      "tree",
      "-p",
      "rkd-node",
      "-e",
      "normal,no-proc-macro",
      "--prefix",
      "none",
      "--format",
      "{p}",
      "--target",
      target,
    );
  const lines = targets.flatMap((target) => tree(target).split("\n"));
  const names = new Set(lines.map((line) => line.split(" ").slice(0, 2).join(" ").replace(" v", " ")));
  const { packages } = JSON.parse(cargo("metadata", "--format-version", "1"));
  const found = packages.filter(({ name, version, source }) => source && names.has(`${name} ${version}`));
  return found.sort((a, b) => (`${a.name} ${a.version}` < `${b.name} ${b.version}` ? -1 : 1));
}

/** One of each choice that a crate's licence expression leaves: Apache-2.0 where it is one, whose text is the same for all. */
function chosen({ name, license }) {
  if (!license) stop(`the crate ${name} names no licence.`);
  return license.split(" AND ").map((part) => {
    const choices = part
      .replace(/[()]/g, "")
      .split(/ OR |\//)
      .map((choice) => choice.trim());
    return (
      choices.find((choice) => choice === "Apache-2.0") ?? choices.find((choice) => choice === "MIT") ?? choices[0]
    );
  });
}

/** The text of `licence` in a crate: its file of that name, or its only one; standard words where it brings none. */
function textOf(licence, { name, manifest_path: manifest, authors }) {
  const folder = dirname(manifest);
  const files = readdirSync(folder).filter((each) => /^(licen[cs]e|copying)/i.test(each));
  const word = licence.split("-")[0].toLowerCase();
  const named = files.find((each) => each.toLowerCase().includes(word)) ?? (files.length === 1 ? files[0] : undefined);
  if (named) return readFileSync(join(folder, named), "utf8");
  if (licence !== "MIT") stop(`the crate ${name} has no text of ${licence}.`);
  return own("LICENSE-MIT").replace(
    /^Copyright.*$/m,
    `Copyright (c) ${authors.join(", ") || `the authors of ${name}`}`,
  );
}

/** Which crates are under which text; what differs from crate to crate, the lines of copyright, stands beside their names. */
function grouped() {
  const groups = new Map();
  const add = (title, text, entry) => {
    const key = `${title}\n${text.toLowerCase().replace(/[^a-z0-9]+/g, " ")}`;
    const group = groups.get(key) ?? { title, text, entries: [] };
    groups.set(key, { ...group, entries: [...group.entries, entry] });
  };
  for (const crate of crates()) {
    const label = `${crate.name} ${crate.version}`;
    for (const licence of chosen(crate)) {
      if (licence === "Apache-2.0") {
        add(licence, own("LICENSE-APACHE"), label);
        continue;
      }
      const lines = textOf(licence, crate).replaceAll("\r", "").split("\n");
      const rights = lines
        .filter((line) => /^\W*(copyright\b.*(\d{4}|\(c\)|©)|©)/i.test(line))
        .map((line) => line.trim());
      // Several are of parts of the crate, of which the text says which.
      const apart = rights.length > 2 ? [] : rights;
      const title = /^\W*(the )?(mit|isc|zlib|bsd|unicode)\b.*licen[cs]e\W*(v\d|\(mit\))?\W*$/i;
      const body = lines.filter((line) => !apart.includes(line.trim()) && !title.test(line));
      add(licence, body.join("\n"), apart.length > 0 ? `${label}: ${apart.join("; ")}` : label);
    }
    const notice = readdirSync(dirname(crate.manifest_path)).find((each) => /^notice/i.test(each));
    if (notice) add(`NOTICE of ${label}`, readFileSync(join(dirname(crate.manifest_path), notice), "utf8"), label);
  }
  for (const name of ["uplot"]) {
    const of = (file) => readFileSync(join(root, "node_modules", name, file), "utf8");
    const { version, license } = JSON.parse(of("package.json"));
    add(`${license} (the script of report pages)`, of("LICENSE"), `${name} ${version}`);
  }
  return [...groups.values()].sort((a, b) => (a.title < b.title ? -1 : a.title > b.title ? 1 : 0));
}

const head = `The native addon of rkd holds code of the crates below, and of Rust's standard library (MIT OR Apache-2.0). Where a crate
leaves the choice, Apache-2.0 is taken, else MIT. The pages that rkd writes hold code of the npm packages below. This file is made by \`node scripts/notices.mjs\`.
`;
const parts = grouped().map(({ title, text, entries }) => {
  const tidy = text
    .replace(/[ \t]+$/gm, "")
    .replace(/\n{3,}/g, "\n\n")
    .replace(/^\n+|\n+$/g, "");
  return `\n${"=".repeat(80)}\n${title}\n\n${entries.map((entry) => `  ${entry}`).join("\n")}\n\n${tidy}\n`;
});
const made = head + parts.join("");
if (!process.argv.includes("--check")) writeFileSync(file, made);
else if (!existsSync(file) || readFileSync(file, "utf8") !== made) {
  stop(
    "THIRD-PARTY-NOTICES is not of the crates in Cargo.lock and the packages of the report page; node scripts/notices.mjs writes it anew.",
  );
}
