/** Holds the layers that ARCHITECTURE.md draws against the imports of the code: nothing imports upward, and no circle. */

import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { circles, importsOf } from "../support/imports.ts";

interface Layers {
  readonly root: string;
  /** From the top; modules of one layer do not import each other. */
  readonly rows: readonly (readonly string[])[];
}

/** The blocks of ARCHITECTURE.md that begin with "layers" and a folder. */
function drawn(): Layers[] {
  const text = readFileSync("ARCHITECTURE.md", "utf8");
  return [...text.matchAll(/```text layers (\S+)\n([\s\S]*?)```/g)].map(([, root = "", body = ""]) => ({
    root,
    rows: body
      .trim()
      .split("\n")
      .map((line) =>
        line
          .replace(/ {2,}.*$/, "")
          .trim()
          .split(" "),
      ),
  }));
}

/** A folder's name, or that of a file directly in the root. */
function moduleOf(file: string): string {
  return (file.split("/")[0] ?? "").replace(/\.\w+$/, "");
}

/** The imports that go upward, or sideways, as `from > to`. */
function upward({ root, rows }: Layers): string[] {
  const height = new Map(rows.flatMap((row, i) => row.map((name) => [name, rows.length - i] as const)));
  const wrong: string[] = [];
  for (const [file, others] of importsOf(root, languageOf(root))) {
    for (const other of others) {
      const [from, to] = [moduleOf(file), moduleOf(other)];
      if (from !== to && (height.get(from) ?? 0) <= (height.get(to) ?? 0)) wrong.push(`${file} > ${other}`);
    }
  }
  return wrong;
}

function languageOf(root: string): "rs" | "ts" {
  return root.startsWith("crates") ? "rs" : "ts";
}

/** The modules there are: crates for the list of crates, else what a root holds. */
function modulesIn(root: string): string[] {
  const names = readdirSync(root, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() || /\.(rs|ts)$/.test(entry.name))
    .map(({ name }) => moduleOf(name));
  return [...new Set(names)].filter((name) => name !== "lib").sort();
}

describe("the layers of ARCHITECTURE.md", () => {
  const all = drawn();

  test("are drawn for the crates, the core and the TypeScript", () => {
    expect(all.map(({ root }) => root)).toEqual(["crates", "crates/core/src", "src"]);
  });

  test.each(all)("name every module of $root once", ({ root, rows }) => {
    expect([...rows.flat()].sort()).toEqual(modulesIn(root));
  });

  test.each(all.filter(({ root }) => root !== "crates"))("hold in $root: every import goes down", (layers) => {
    expect(importsOf(layers.root, languageOf(layers.root)).size).toBeGreaterThan(50);
    expect(upward(layers)).toEqual([]);
  });

  test("hold among the crates", () => {
    const rows = all[0]?.rows.flat() ?? [];
    for (const [i, name] of rows.entries()) {
      const manifest = readFileSync(join("crates", name, "Cargo.toml"), "utf8");
      const used = [...manifest.matchAll(/^rkd-(\w+)/gm)].map(([, other]) => other);
      expect(used.filter((other) => !rows.slice(i + 1).includes(other ?? ""))).toEqual([]);
    }
  });

  test.each(["crates/kernels/src", "crates/core/src", "crates/node/src", "src"])(
    "no files of %s go in a circle",
    (root) => {
      expect(circles(importsOf(root, languageOf(root)))).toEqual([]);
    },
  );
});

describe("the reader of imports", () => {
  function tree(files: Readonly<Record<string, string>>): string {
    const folder = mkdtempSync(join(tmpdir(), "rkd-imports-"));
    for (const [name, text] of Object.entries(files)) {
      mkdirSync(join(folder, name, ".."), { recursive: true });
      writeFileSync(join(folder, name), text);
    }
    return folder;
  }

  test("follows re-exports, braces and parents of Rust, and passes over comments and tests", () => {
    const root = tree({
      "lib.rs": "pub mod a;\npub mod b;\n",
      "a/mod.rs": "mod deep;\nmod other;\npub use deep::{Thing, Second as Renamed};\n",
      "a/deep.rs": "use super::other::Part;\npub struct Thing;\n",
      "a/other.rs":
        "/// see [`crate::b::Never`]\npub struct Part;\n#[cfg(test)]\nmod tests {\n    use crate::b::Never;\n}\n",
      "b.rs": "use crate::{a::{Thing, Renamed}};\nfn f() { crate::a::other::g() }\n",
    });
    const found = Object.fromEntries(importsOf(root, "rs"));
    expect(found["b.rs"]).toEqual(["a/deep.rs", "a/other.rs"]);
    expect(found["a/deep.rs"]).toEqual(["a/other.rs"]);
    expect(found["a/other.rs"]).toEqual([]);
    rmSync(root, { recursive: true });
  });

  test("finds circles, and only those", () => {
    const root = tree({
      "one.ts": 'import type { B } from "./two.ts";\n',
      "two.ts": 'export { c } from "./deep/three.ts";\n',
      "deep/three.ts": 'import { a } from "../one.ts";\n',
      "four.ts": 'import {\n  a,\n} from "./one.ts";\n',
    });
    expect(circles(importsOf(root, "ts"))).toEqual([["deep/three.ts", "one.ts", "two.ts"]]);
    rmSync(root, { recursive: true });
  });
});
