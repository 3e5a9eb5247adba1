/** The examples of the documentation, run word for word as programs of somebody who has installed what they import. */

import { spawn } from "node:child_process";
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { PGlite } from "@electric-sql/pglite";
import { vector as pgvector } from "@electric-sql/pglite-pgvector";
import { PGLiteSocketServer } from "@electric-sql/pglite-socket";
import { outcome } from "./cli.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** The one example of `document`, a file of docs/, that imports `name`. */
export function exampleOf(document: string, name: string): string {
  const text = readFileSync(join(root, "docs", document), "utf8");
  const examples = [...text.matchAll(/```ts\n(.*?)```/gs)].map(([, code = ""]) => code);
  const [code, ...more] = examples.filter((code) => code.includes(`from "${name}"`));
  if (code === undefined || more.length > 0) throw new Error(`not one example of ${document} imports ${name}`);
  return code;
}

/** Links what `code` imports into the folder `at`. */
export function install(at: string, code: string): void {
  for (const [, imported = ""] of code.matchAll(/^import .* from "(.*)";$/gm)) {
    if (imported.startsWith("node:")) continue;
    const link = join(at, "node_modules", imported);
    mkdirSync(dirname(link), { recursive: true });
    symlinkSync(imported === "rkd" ? root : join(root, "node_modules", imported), link, "junction");
  }
}

/** Runs `code` in the folder `at`, and gives what it printed. */
export async function runExample(at: string, code: string, env: NodeJS.ProcessEnv = {}): Promise<string> {
  writeFileSync(join(at, "example.mjs"), code);
  const child = spawn(process.execPath, ["example.mjs"], { cwd: at, env: { ...process.env, ...env } });
  const { code: status, stdout, stderr } = await outcome(child);
  if (status !== 0) throw new Error(`the example ended with ${status}:\n${stderr}`);
  return stdout;
}

/** Postgres with pgvector, compiled to WebAssembly, for as long as `work` takes; pg speaks to it as to any other. */
export async function withPostgres<T>(work: (db: PGlite, env: NodeJS.ProcessEnv) => Promise<T>): Promise<T> {
  const db = await PGlite.create({ extensions: { vector: pgvector } });
  const server = new PGLiteSocketServer({ db, host: "127.0.0.1", port: 0 });
  try {
    await server.start();
    const [PGHOST, PGPORT] = server.getServerConn().split(":");
    return await work(db, { PGHOST, PGPORT, PGUSER: "postgres", PGSSLMODE: "disable" });
  } finally {
    await server.stop();
    await db.close();
  }
}

/** LanceDB has no binary for Intel Macs. */
export const hasLanceDb = process.platform !== "darwin" || process.arch !== "x64";
