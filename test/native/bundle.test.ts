/** The package as people load it: required, bundled beside its installation and far from it. */

import { execFile } from "node:child_process";
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { build } from "esbuild";
import { describe, expect, it } from "vitest";
import { temporaryFolder } from "../support/folders.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const run = promisify(execFile);

const module = `import { evaluateLoss, version } from "rkd";
const side = { data: [0, 1, 4, 9, 16, 25], shape: [3, 2] };
const { value } = evaluateLoss({ kind: "rkd-distance" }, { student: side, teacher: side });
console.log(JSON.stringify({ value, version }));
`;
const common = module.replace(
  'import { evaluateLoss, version } from "rkd"',
  'const { evaluateLoss, version } = require("rkd")',
);
const { version } = await import("../../src/version.ts");
const says = { value: 0, version };

/** A folder of somebody who has installed the package, with programs that use it. */
function project(): string {
  const folder = temporaryFolder();
  mkdirSync(join(folder, "node_modules"));
  symlinkSync(root, join(folder, "node_modules", "rkd"), "junction");
  // Its own version is not the package's.
  writeFileSync(join(folder, "package.json"), '{"name":"app","version":"7.7.7"}');
  writeFileSync(join(folder, "a.mjs"), module);
  writeFileSync(join(folder, "b.cjs"), common);
  return folder;
}

/** What a program prints, run in its folder. */
async function printed(folder: string, file: string): Promise<unknown> {
  const { stdout } = await run(process.execPath, ["--no-warnings", file], { cwd: folder });
  return JSON.parse(stdout);
}

describe("the package", () => {
  it("is required from CommonJS, as the same module that is imported", async () => {
    const folder = project();
    expect(await printed(folder, "b.cjs")).toEqual(says);
    writeFileSync(
      join(folder, "same.mjs"),
      `import { createRequire } from "node:module";
import { RkdError } from "rkd";
console.log(createRequire(import.meta.url)("rkd").RkdError === RkdError);`,
    );
    expect(await printed(folder, "same.mjs")).toBe(true);
  });

  it.each([
    ["a.mjs", "esm", "mjs"],
    ["a.mjs", "cjs", "cjs"],
    ["b.cjs", "cjs", "cjs"],
  ] as const)("works in a bundle of %s as %s, left out of it or not", async (entry, format, ending) => {
    const folder = project();
    for (const external of [["rkd"], []]) {
      const outfile = join(folder, "out", `${external.length}.${ending}`);
      await build({
        entryPoints: [join(folder, entry)],
        outfile,
        bundle: true,
        platform: "node",
        format,
        external,
        logLevel: "silent",
      });
      expect(await printed(folder, outfile)).toEqual(says);
    }
  });

  it.each(["esm", "cjs"] as const)("says in a bundle far from it (%s) what to do", async (format) => {
    const outfile = join(temporaryFolder(), `b.${format === "esm" ? "mjs" : "cjs"}`);
    const entry = join(project(), "a.mjs");
    await build({
      entryPoints: [entry],
      outfile,
      bundle: true,
      platform: "node",
      format,
      logLevel: "silent",
    });
    const error = await run(process.execPath, ["--no-warnings", outfile], { cwd: temporaryFolder() }).catch((e) => e);
    expect(error.stderr).toContain("rkd is in a bundle, and the package with its native addon is not beside it");
    expect(error.stderr).toContain("esbuild --external:rkd");
    expect(error.stderr).toContain('serverExternalPackages: ["rkd"]');
    expect(error.stderr).toContain("code: 'ERR_NATIVE_LOAD'");
  });
});
