/** This package on disk, and its version; also of code that a bundler has put into a file of its own. */

// Not imported: webpack puts something else in the place of a `createRequire` that it sees.
const { createRequire } = process.getBuiltinModule("node:module");

/** CommonJS that a bundler made has it, and no `import.meta.url`. */
declare const __filename: string | undefined;

/** A `require`, in words that need no types of Node: this module's own types are read by users who have none. */
export interface Require {
  (module: string): unknown;
  /** The file that a module's name leads to. */
  resolve(module: string): string;
}

/** A `require` inside this package. Nothing where a bundle lies far from the package. */
export const ownRequire: Require | undefined = find();

/** As in package.json. */
export const version: string =
  (ownRequire?.("rkd/package.json") as { readonly version: string } | undefined)?.version ?? "unknown";

function find(): Require | undefined {
  const url: string | undefined = import.meta.url;
  const here = url ?? (typeof __filename === "string" ? __filename : undefined);
  // The package's own name leads from its files to itself, and from a bundle to the package that is installed around it.
  return around(() => here) ?? around(() => `${process.cwd()}/`);
}

function around(place: () => string | undefined): Require | undefined {
  try {
    return createRequire(createRequire(place() ?? "").resolve("rkd/package.json"));
  } catch {
    return undefined; // not there, or there is no such place
  }
}
