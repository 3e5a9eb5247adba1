// Packs the package as it would be published (main package and this platform's binary in the release profile), installs
// both into an empty folder, and runs the library and the command line there.
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { output, ownBinary, packBinary, packMain, runsWherePromised, systemOf } from "./pack.mjs";
import { must, npm, root, tool } from "./setup.mjs";

const folder = mkdtempSync(join(tmpdir(), "rkd-package-"));
const empty = join(folder, "somewhere else");
mkdirSync(empty);
const program = `
import { evaluateLoss, RkdError, rkdDistance, train, version } from "rkd";
import { createRequire } from "node:module";
import assert from "node:assert/strict";
assert.equal(createRequire(import.meta.url)("rkd").version, version);
const matrix = (...data) => ({ data: Float32Array.from(data), shape: [3, 2] });
const student = matrix(0, 0, 1, 0, 0, 2);
const { value, gradients } = evaluateLoss(rkdDistance(), { student, teacher: matrix(0, 0, 2, 0, 0, 4) });
assert.ok(value < 1e-10 && gradients.student.length === 6, "a scaled copy costs nothing");
await assert.rejects(async () => await train({ data: "no/such", out: "x" }), (error) => error instanceof RkdError);
`;

/** Compiles every example of the guides that is a module of its own, as strictly as a user can, with nothing but the package. */
function compileGuides() {
  const guides = ["README.md", "docs/recipes.md", "docs/reports.md"].map((name) =>
    readFileSync(join(root, name), "utf8"),
  );
  const blocks = guides.flatMap((text) => [...text.matchAll(/```ts\n(import .*?)```/gs)].map(([, code]) => code));
  const given = "declare const studentEmbeddings: Float32Array, teacherEmbeddings: Float32Array;\n";
  blocks.forEach((code, i) => {
    writeFileSync(join(empty, `example-${i}.mts`), given + code);
  });
  const options = { module: "nodenext", target: "es2023", strict: true, noEmit: true, types: [] };
  writeFileSync(join(empty, "tsconfig.json"), JSON.stringify({ compilerOptions: options, include: ["*.mts"] }));
  output(tool("tsc", "-p", "."), empty);
  return blocks.length;
}

try {
  must(tool("publint", "--strict"), "publint");
  const { platform, binary: file } = ownBinary();
  const main = packMain(folder, [platform]);
  const stray = main.names.filter(
    (name) => !/^(dist|bin|docs)\/|^(package\.json|README\.md|LICENSE.*|CHANGELOG\.md|THIRD-PARTY-NOTICES)$/.test(name),
  );
  const linked = [...readFileSync(join(root, "README.md"), "utf8").matchAll(/\]\((docs\/[^)#]+)/g)];
  const missing = linked.map(([, name]) => name).filter((name) => !main.names.includes(name));
  if (linked.length === 0 || missing.length > 0) throw new Error(`the README leads to what is not packed: ${missing}`);
  if (stray.length > 0 || main.names.some((name) => name.endsWith(".node"))) throw new Error(`stray files: ${stray}`);
  const binary = packBinary(folder, platform, file);
  for (const { names, tarball } of [main, binary]) {
    const lacking = ["LICENSE", "LICENSE-APACHE", "LICENSE-MIT", "THIRD-PARTY-NOTICES"].filter(
      (name) => !names.includes(name),
    );
    if (lacking.length > 0) throw new Error(`${tarball} is packed without ${lacking}`);
  }
  writeFileSync(join(empty, "package.json"), '{ "name": "user", "private": true }');
  output(npm("install", "--prefer-offline", "--ignore-scripts", binary.tarball, main.tarball), empty);
  writeFileSync(join(empty, "main.mjs"), program);
  output([process.execPath, "main.mjs"], empty);
  const examples = compileGuides();
  const data = ["--data", "glyphs:classes=20,writers=8", "--validation", "0.2", "--test", "0.2"];
  const run = [
    "--backbone",
    "conv4",
    "--width",
    "4",
    "--embedding",
    "8",
    "--batch",
    "16",
    "--epochs",
    "1",
    "--out",
    "run",
  ];
  const cache = { RKD_CACHE: join(folder, "cache") };
  output(["npx", "--no-install", "rkd", "train", ...data, ...run], empty, cache);
  const printed = output(["npx", "--no-install", "rkd", "evaluate", "run", "--json"], empty, cache);
  const recall = JSON.parse(printed.trim().split("\n").at(-1)).metrics["recall@1"];
  if (!(recall >= 0 && recall <= 1)) throw new Error(`no recall in ${printed}`);
  const measured = output(
    ["npx", "--no-install", "rkd", "bench", "--only", "rkd-da-n128-d512", "--seconds", "0", "--json"],
    empty,
  );
  const { profile } = JSON.parse(measured);
  if (profile !== "release") throw new Error(`the packed binary is of the ${profile} profile`);
  copyFileSync(join(root, "scripts", "smoke.mjs"), join(empty, "smoke.mjs"));
  const bits = (env) => JSON.parse(output([process.execPath, "smoke.mjs", "--all"], empty, env)).models;
  const built = { RKD_NATIVE_PATH: join(root, "dist", "native", `rkd.${platform.name}.node`) };
  const [models, others] = [bits({}), bits(built)];
  if (JSON.stringify(models) !== JSON.stringify(others)) {
    throw new Error(`the release profile gives other bits than the dev profile: ${JSON.stringify({ models, others })}`);
  }
  const system = systemOf(platform, file);
  const promised = runsWherePromised(platform, file) ? "" : ", newer than published ones, as zig is not here";
  console.log(
    `rkd-${platform.name} needs ${system || platform.os}${promised}; ${(main.size / 1e6).toFixed(2)} MB and ${(binary.size / 1e6).toFixed(2)} MB`,
  );
  console.log(`the same bits in both profiles with ${Object.keys(models).join(", ")}`);
  console.log(
    `packed, installed and run: ${main.names.length} files, ${examples} examples compiled, recall@1 ${recall.toFixed(3)}`,
  );
} finally {
  rmSync(folder, { recursive: true, force: true });
}
