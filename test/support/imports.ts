/**
 * Who imports whom, read from the text of Rust and TypeScript files: enough to hold the layers of ARCHITECTURE.md against
 * the code. Comments, documentation and a Rust file's own tests do not count.
 */

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize, sep } from "node:path";

/** A file with the files of the same tree that it imports, all by their path from the tree's root, with `/`. */
export type Imports = ReadonlyMap<string, readonly string[]>;

/** The imports of all source files under `root`; `language` is their ending. */
export function importsOf(root: string, language: "rs" | "ts"): Imports {
  const files = readdirSync(root, { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(`.${language}`))
    .map((file) => file.split(sep).join("/"))
    .sort();
  const texts = new Map(files.map((file) => [file, readFileSync(join(root, file), "utf8")]));
  return language === "ts" ? typescript(texts) : rust(texts, root);
}

/** The circles among files: groups that reach each other, each sorted. */
export function circles(imports: Imports): string[][] {
  const reach = new Map([...imports.keys()].map((file) => [file, reachable(imports, file)]));
  const groups = new Set<string>();
  for (const [file, found] of reach) {
    const group = [...found].filter((other) => reach.get(other)?.has(file)).sort();
    if (group.length > 0) groups.add([...new Set([...group, file])].sort().join("\n"));
  }
  return [...groups].map((group) => group.split("\n"));
}

function reachable(imports: Imports, start: string): Set<string> {
  const found = new Set<string>();
  const open = [...(imports.get(start) ?? [])];
  for (let file = open.pop(); file !== undefined; file = open.pop()) {
    if (found.has(file)) continue;
    found.add(file);
    open.push(...(imports.get(file) ?? []));
  }
  return found;
}

function typescript(texts: ReadonlyMap<string, string>): Imports {
  const from = /(?:^|\n)\s*(?:import|export)\b[^;]*?from\s+"(\.[^"]+)"/g;
  const list = ([file, text]: [string, string]): [string, string[]] => [
    file,
    [...text.matchAll(from)].map(([, path = ""]) =>
      normalize(join(dirname(file), path))
        .split(sep)
        .join("/"),
    ),
  ];
  return new Map([...texts].map(list));
}

/** Rust: paths that begin with `crate::` or `super::`, those of a `use` with braces taken apart. */
function rust(texts: ReadonlyMap<string, string>, root: string): Imports {
  const codes = new Map([...texts].map(([file, text]) => [file, code(text)]));
  const modules = new Map([...codes.keys()].map((file) => [modulePath(file), file]));
  const names = new Map([...codes].map(([file, text]) => [file, exported(text, modulePath(file))]));
  const resolve = (path: string, depth = 0): string | undefined => {
    const parts = path.split("::");
    for (let length = parts.length; length > 0; length--) {
      const file = modules.get(parts.slice(0, length).join("::"));
      if (!file) continue;
      const next = parts[length];
      const through = next && depth < 8 ? names.get(file)?.get(next) : undefined;
      return through ? resolve([through, ...parts.slice(length + 1)].join("::"), depth + 1) : file;
    }
    return existsSync(join(root, "lib.rs")) ? "lib.rs" : undefined;
  };
  const list = ([file, text]: [string, string]): [string, string[]] => {
    const found = paths(text, modulePath(file)).map((path) => resolve(path));
    return [file, [...new Set(found)].filter((other): other is string => other !== undefined && other !== file)];
  };
  return new Map([...codes].map(list));
}

/** The text without comments, re-exports and the tests at its end. */
function code(text: string): string {
  const tests = text.search(/^#\[cfg\(test\)\]\n(pub(\(\w+\))? )?mod \w+ \{/m);
  return (tests < 0 ? text : text.slice(0, tests)).replace(/^\s*\/\/.*$/gm, "");
}

function modulePath(file: string): string {
  const parts = file.replace(/\.rs$/, "").split("/");
  if (parts.at(-1) === "mod" || parts.at(-1) === "lib" || parts.at(-1) === "main") parts.pop();
  return ["crate", ...parts].join("::");
}

/** The names that a file gives on, with where they come from. */
function exported(text: string, module: string): Map<string, string> {
  const names = new Map<string, string>();
  for (const [, path = ""] of text.matchAll(/^pub(?:\([\w ]+\))? use ([^;]+);/gm)) {
    for (const full of takenApart(path)) {
      const [target = "", alias] = full.split(" as ");
      const absolute = absolutePath(target, module) ?? `${module}::${target}`;
      names.set(alias ?? target.split("::").at(-1) ?? "", absolute);
    }
  }
  return names;
}

function paths(text: string, module: string): string[] {
  const found: string[] = [];
  const own = text.replace(/^pub(?:\([\w ]+\))? use [^;]+;/gm, "").replace(/^(\s*)use ([^;]+);/gm, (_, __, path) => {
    found.push(...takenApart(path));
    return "";
  });
  found.push(...[...own.matchAll(/\b(?:crate|super)(?:::\w+)+/g)].map(([path]) => path));
  return found.flatMap((path) => absolutePath(path.split(" as ")[0] ?? "", module) ?? []);
}

/** `a::{b, c::{d, e}}` as `a::b`, `a::c::d`, `a::c::e`. */
function takenApart(path: string): string[] {
  const text = path.replace(/\s+/g, " ").trim();
  const open = text.indexOf("{");
  if (open < 0) return [text];
  const head = text.slice(0, open);
  const inner = text.slice(open + 1, text.lastIndexOf("}"));
  let depth = 0;
  const parts = [""];
  for (const letter of inner) {
    if (letter === "{") depth++;
    if (letter === "}") depth--;
    if (letter === "," && depth === 0) parts.push("");
    else parts[parts.length - 1] += letter;
  }
  const filled = parts.map((part) => part.trim()).filter((part) => part !== "");
  return filled.flatMap((part) => takenApart(part === "self" ? head.replace(/::$/, "") : head + part));
}

function absolutePath(path: string, module: string): string | undefined {
  if (path.startsWith("crate::")) return path;
  const parts = module.split("::");
  let rest = path;
  if (!rest.startsWith("super::") && !rest.startsWith("self::")) return undefined;
  rest = rest.replace(/^self::/, "");
  for (; rest.startsWith("super::"); rest = rest.slice("super::".length)) parts.pop();
  return [...parts, rest].join("::");
}
