/** The first command of the README, as it stands there, and the table that it shows. */

import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { temporaryFolder } from "../support/folders.ts";
import { waves } from "../support/waves.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** The names of rows and columns of a table of the verdict; how many neighbours are counted follows from the images. */
function names(text: string) {
  const lines = text.split("\n");
  const from = lines.findIndex((line) => line.startsWith("test images"));
  const table = lines.slice(from, lines.findIndex((line) => line.startsWith("gap closed: ")) + 1);
  const columns = table[0]?.replace(/\d+ nearest/, "N nearest").split(/ {2,}/);
  return { columns, rows: table.slice(2, -1).map((line) => line.split(/ {2,}/)[0]), way: table.at(-1) };
}

it("opens with a job that runs as it stands there, but for its epochs, and prints such a table", () => {
  const readme = readFileSync(join(root, "README.md"), "utf8");
  const [, command = "", shown = ""] = /```sh\n(npx rkd distill [^\n]*)\n```\n.*?```text\n(.*?)```/s.exec(readme) ?? [];
  // On the first screen, and so are the demo and the tests right after it.
  expect(readme.indexOf(command)).toBeLessThan(1200);
  expect(readme.indexOf("npm run demo")).toBeLessThan(5000);

  const at = temporaryFolder();
  waves(join(at, "photos"), 60, (i) => `${i}.pgm`);
  copyFileSync(join(root, "crates/core/tests/onnx/fixed.onnx"), join(at, "model.onnx"));
  const [npx, , ...args] = command.split(" ");
  expect(npx).toBe("npx");
  const program = [join(root, "bin/rkd.mjs"), ...args, "--epochs", "1"];
  const { status, stdout, stderr } = spawnSync(process.execPath, program, {
    cwd: at,
    encoding: "utf8",
    env: { ...process.env, NO_COLOR: "1" },
  });
  expect(status, stderr).toBe(0);
  expect(names(stdout)).toEqual(names(shown));
  expect(names(shown).rows).toEqual(["teacher", "student before", "student after", "gap closed"]);
  expect(existsSync(join(at, "runs/small/model.safetensors"))).toBe(true);
});
