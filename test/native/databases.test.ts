/** Rows as a teacher: from the iterable to the model, and the examples of docs/teachers.md as they stand there. */

import { existsSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import {
  conv4,
  type DistillOptions,
  distill,
  type Embedding,
  type Embeddings,
  evaluate,
  glyphs,
  resume,
  type TeacherGiven,
  train,
  triplet,
} from "../../src/index.ts";
import { temporaryFolder } from "../support/folders.ts";
import { smallRun } from "../support/small.ts";

const folder = temporaryFolder();
const CLASSES = 20;
const WRITERS = 6;
const data = glyphs({ classes: CLASSES, writers: WRITERS, labels: "none" });

/** What a teacher may have said of the glyph `i`: float32 numbers. */
const vector = (i: number) => [...Float32Array.from([Math.cos(i), Math.sin(i), i / 100, Math.cos(3 * i)])];

/** The ids of the images, as the data set has them. */
async function idsOf(): Promise<string[]> {
  const out = join(folder, "ids");
  if (!existsSync(out))
    await train(
      smallRun(out, { data: glyphs({ classes: CLASSES, writers: WRITERS }), epochs: 1, losses: [triplet()] }),
    );
  return JSON.parse(readFileSync(join(out, "data.json"), "utf8")).images;
}

async function* rows(): AsyncGenerator<Embedding> {
  for (const [i, id] of (await idsOf()).entries()) yield { id, vector: vector(i) };
}

const options = (out: string, teacher: TeacherGiven, more: Partial<DistillOptions> = {}) => ({
  teacher,
  data,
  student: conv4({ width: 4, embedding: 8 }),
  batch: { size: 16 },
  epochs: 2,
  out: join(folder, out),
  ...more,
});

const model = (out: string) => readFileSync(join(folder, out, "model.safetensors"), "base64");
const strays = (out: string) => readdirSync(join(folder, out)).filter((name) => name.endsWith(".tmp"));

describe("rows as a teacher", () => {
  it("teach as the file that they become, which is the run's own", async () => {
    const { verdict } = await distill(options("rows", { embeddings: rows() }));
    expect(verdict.teachers[0]?.metrics.neighbourOverlap).toBeCloseTo(1, 12);
    expect(strays("rows")).toEqual([]);
    const { plan, inputs } = JSON.parse(readFileSync(join(folder, "rows", "plan.json"), "utf8"));
    const file = join(folder, "rows", "teacher.npy");
    expect(plan.teachers[0].model).toBe(file);
    expect(Object.keys(inputs)).toEqual([file]);
    await distill(options("file", file));
    expect(model("file")).toBe(model("rows"));
    const again = { embeddings: [...(await idsOf())].map((id, i) => ({ id, vector: new Float64Array(vector(i)) })) };
    const { fidelity } = await evaluate({ model: join(folder, "rows"), teacher: again });
    expect(fidelity).toMatchObject([{ teacher: "teacher", ...verdict.teachers[0]?.fidelity }]);
    // The files are replaced with the run, and are no reason to refuse another in their place.
    await expect(distill(options("rows", { embeddings: rows() }))).rejects.toThrow("already holds a run");
    await distill(options("rows", { embeddings: rows() }, { overwrite: true }));
    expect(model("file")).toBe(model("rows"));
    await distill(options("rows", file.replace("rows", "file-copy"), { overwrite: true })).catch((error) => {
      expect(error.code).toBe("ERR_NOT_FOUND");
    });
    expect(existsSync(file)).toBe(true);
  });

  it("are read from the folder by a run that goes on", async () => {
    const stop = new AbortController();
    const run = distill(options("stopped", { embeddings: rows() }, { signal: stop.signal, checkpointEverySteps: 1 }));
    const watched = (async () => {
      for await (const event of run) if (event.type === "step") stop.abort(new Error("enough"));
    })();
    await expect(run).rejects.toThrow("enough");
    await watched.catch(() => {});
    renameSync(join(folder, "stopped"), join(folder, "moved"));
    await resume(join(folder, "moved"));
    expect(model("moved")).toBe(model("file"));
  });

  it("leave nothing behind where they are refused", async () => {
    const before = readdirSync(folder);
    const one = { id: "a", vector: [1, 2] };
    const bad: [unknown, string[]][] = [
      [[], ["teacher.embeddings: there are no rows", "walked only once"]],
      [
        [one, { id: "b", vector: [1] }],
        ['row 2 ("b"): vectors of different lengths', "expected 2 numbers"],
      ],
      [
        [one, { id: "b", vector: [1, Number.NaN] }],
        ["row 2", "not finite", "NaN at place 1"],
      ],
      [[{ id: "a", vector: [1e39, 2] }], ["finite float32 numbers", "1e+39 at place 0"]],
      [[{ path: "a", vector: [1, 2] }], ["row 1: the row has no id", "the row has path, vector"]],
      [[{ id: "a", embedding: [1, 2] }], ['row 1 ("a"): the row has no vector']],
      [[{ id: "a", vector: [] }], ["the vector is empty"]],
      [[{ id: "a", vector: "[1,2]" }], ["the vector is a text", "JSON.parse(row.vector)"]],
      [
        [{ id: "a", vector: Buffer.alloc(8) }],
        ["the vector is bytes", "new Float32Array(new Uint8Array(bytes).buffer)"],
      ],
      [[one, null], ["row 2: this is no row"]],
      [() => rows(), ["teacher.embeddings", "Call the function that makes it"]],
    ];
    for (const [embeddings, parts] of bad) {
      const teacher = { embeddings } as Embeddings;
      const error: Error = await distill(options("refused", teacher)).then(
        () => new Error("nothing was refused"),
        (error) => error,
      );
      for (const part of parts) expect(error.message).toContain(part);
    }
    await expect(distill(options("refused", { embeddings: [one], column: 1 } as Embeddings))).rejects.toThrow(
      "teacher.column",
    );
    const thrown = (function* (): Generator<Embedding> {
      yield one;
      throw new Error("the database has gone");
    })();
    await expect(distill(options("refused", { embeddings: thrown }))).rejects.toThrow("the database has gone");
    expect(readdirSync(folder)).toEqual(before);
  });

  it("may lack some images, and be refused for lacking most", async () => {
    const ids = (await idsOf()).slice(0, 80);
    const some = () => ids.map((id, i) => ({ id, vector: vector(i) }));
    await expect(distill(options("some", { embeddings: some() }))).rejects.toThrow("allowMissing");
    const run = distill(options("some", { embeddings: some(), allowMissing: true }));
    const warnings: string[] = [];
    for await (const event of run) if (event.type === "warning") warnings.push(event.message);
    expect(warnings.join()).toContain("images without a vector, left out of training: 40 of 120");
    expect((await run).steps).toBeGreaterThan(0);
  });

  it("do not take the place of a file that is somebody else's", async () => {
    const out = join(folder, "ids", "..", "mine");
    await train(smallRun(out, { epochs: 1 }));
    writeFileSync(join(folder, "teacher.npy"), "mine");
    await expect(distill({ ...options("x", { embeddings: rows() }), out: folder })).rejects.toThrow(
      "the folder holds teacher.npy, and no plan.json",
    );
    expect(readFileSync(join(folder, "teacher.npy"), "utf8")).toBe("mine");
  });
});

describe("the examples of docs/teachers.md", () => {
  const text = readFileSync(fileURLToPath(new URL("../../docs/teachers.md", import.meta.url)), "utf8");
  const examples = [...text.matchAll(/```ts\n(.*?)```/gs)].map(([, code = ""]) => code);
  const stored = ["a.jpg", "b.jpg", "c.jpg"].map((path, i) => ({ path, vector: vector(i) }));

  /** Runs the example that imports `name`, with `parts` in place of what it imports; the rows that come to `distill`. */
  async function rowsOf(name: string, parts: Record<string, unknown>): Promise<unknown[]> {
    const [example, ...more] = examples.filter((code) => code.includes(`from "${name}"`));
    expect(more).toEqual([]);
    const code = example?.replaceAll(/^import .*\n/gm, "") ?? "";
    const seen: unknown[] = [];
    const scope: Record<string, unknown> = {
      ...parts,
      conv4,
      distill: async ({ teacher }: { teacher: Embeddings }) => {
        for await (const { id, vector } of teacher.embeddings) seen.push({ path: id, vector: [...Array.from(vector)] });
      },
    };
    const AsyncFunction = (async () => {}).constructor as FunctionConstructor;
    await new AsyncFunction(...Object.keys(scope), code)(...Object.values(scope));
    return seen;
  }

  it("read sqlite-vec's bytes", async () => {
    const bytes = ({ vector }: { vector: number[] }) => Buffer.from(Float32Array.from(vector).buffer);
    class Database {
      loaded = false;
      prepare(sql: string) {
        expect([sql, this.loaded]).toEqual(["SELECT path, embedding FROM photos", true]);
        return { iterate: () => stored.map((row) => ({ path: row.path, embedding: bytes(row) })).values() };
      }
    }
    const load = (db: Database) => {
      db.loaded = true;
    };
    expect(await rowsOf("sqlite-vec", { Database, load })).toEqual(stored);
  });

  it("read pgvector's numbers", async () => {
    const calls: string[] = [];
    class QueryStream {
      readonly sql: string;
      constructor(sql: string) {
        this.sql = sql;
      }
    }
    class Client {
      connect = async () => calls.push("connect");
      end = async () => calls.push("end");
      async *query({ sql }: QueryStream) {
        calls.push(sql);
        yield* stored;
      }
    }
    expect(await rowsOf("pg", { Client, QueryStream })).toEqual(stored);
    expect(calls).toEqual(["connect", "SELECT path, embedding::real[] AS vector FROM photos", "end"]);
  });

  it("read LanceDB's batches", async () => {
    const batches = async function* () {
      yield stored.slice(0, 2);
      yield stored.slice(2);
    };
    const select = (columns: string[]) => {
      expect(columns).toEqual(["path", "vector"]);
      return batches();
    };
    const connect = async () => ({ openTable: async () => ({ query: () => ({ select }) }) });
    expect(await rowsOf("@lancedb/lancedb", { connect })).toEqual(stored);
  });
});
