/** Rows as a teacher: from the iterable to the model, and the examples of docs/teachers.md as they stand there. */

import { existsSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import Database from "better-sqlite3";
import { load } from "sqlite-vec";
import { beforeAll, describe, expect, it } from "vitest";
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
import { exampleOf, hasLanceDb, install, runExample, withPostgres } from "../support/examples.ts";
import { temporaryFolder } from "../support/folders.ts";
import { smallRun } from "../support/small.ts";
import { waves } from "../support/waves.ts";

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

describe("rows under the ids of a manifest", () => {
  const place = join(folder, "shop");
  const names = Array.from({ length: 30 }, (_, i) => `images/${i}.pgm`);
  const rowsOf = (ids: readonly string[]) => ids.map((id, i) => ({ id, vector: vector(i) }));
  let runs = 0;

  beforeAll(() => {
    waves(place, names.length, (i) => names[i] ?? "");
  });

  /** How a run joins a teacher of rows under `ids`, where the file `name` says `text` of the images. */
  async function named(name: string, text: string, ids: readonly string[]): Promise<string | undefined> {
    writeFileSync(join(place, name), text);
    const data = name.startsWith("metadata") ? place : join(place, name);
    const run = distill(options(`shop-run${runs++}`, { embeddings: rowsOf(ids) }, { data, epochs: 1 }));
    let teacher: string | undefined;
    for await (const event of run) if (event.type === "start") teacher = event.teachers[0]?.backbone.split(", ").pop();
    const [of] = (await run).verdict.teachers;
    expect(of?.metrics.neighbourOverlap).toBeCloseTo(1, 12);
    return teacher;
  }

  const ids = names.map((_, i) => `sku-${(7 * i) % 30}`);
  const lines = (row: (name: string, i: number) => unknown) =>
    names.map((n, i) => JSON.stringify(row(n, i))).join("\n");
  const table = (row: (name: string, i: number) => string) => `path,id\n${names.map(row).join("\n")}\n`;

  it("are joined by them, and the run says so", async () => {
    const byId = "joined by the ids of the manifest";
    expect(
      await named(
        "a.csv",
        table((name, i) => `${name},${ids[i]}`),
        ids,
      ),
    ).toBe(byId);
    expect(
      await named(
        "b.jsonl",
        lines((path, i) => ({ path, id: ids[i] })),
        ids,
      ),
    ).toBe(byId);
    const metadata = (id: (i: number) => string | undefined) => lines((name, i) => ({ file_name: name, id: id(i) }));
    expect(
      await named(
        "metadata.jsonl",
        metadata((i) => ids[i]),
        ids,
      ),
    ).toBe(byId);
    const shared = named(
      "metadata.jsonl",
      metadata((i) => (i < 2 ? "sku-x" : ids[i])),
      ["sku-x", ...ids.slice(1)],
    );
    await expect(shared).rejects.toThrow(/several share a name.*by the ids of the manifest.*2 images/);
  });

  it("are joined by paths where rows have those, or the manifest has no ids", async () => {
    const byPath = "joined by the images' paths in the data set";
    expect(
      await named(
        "c.csv",
        table((name, i) => `${name},${ids[i]}`),
        names,
      ),
    ).toBe(byPath);
    expect(await named("d.txt", names.join("\n"), names)).toBe(byPath);
    await expect(named("e.txt", names.join("\n"), ids)).rejects.toThrow("0 of 30");
  });

  it("are refused where the manifest gives one twice", async () => {
    const twice = named(
      "f.csv",
      table((name, i) => `${name},${ids[i % 29]}`),
      ids,
    );
    await expect(twice).rejects.toThrow(/names images more than once.*1 again: sku-0/);
  });
});

describe("the examples of docs/teachers.md", () => {
  const stored = Array.from({ length: 30 }, (_, i) => ({ path: `${i}.pgm`, vector: vector(i) }));

  /** A folder of somebody who has images in `photos`, and has installed what the example that imports `name` imports. */
  function project(name: string): { at: string; code: string } {
    const at = temporaryFolder();
    waves(join(at, "photos"), stored.length, (i) => `${i}.pgm`);
    const code = exampleOf("teachers.md", name);
    install(at, code);
    return { at, code };
  }

  /** Runs the example; the vectors that the run has kept. */
  async function kept({ at, code }: { at: string; code: string }, env: NodeJS.ProcessEnv = {}) {
    await runExample(at, code, env);
    const out = join(at, "runs", "student");
    const { teachers } = JSON.parse(readFileSync(join(out, "metrics.json"), "utf8")).verdict;
    expect(teachers[0].metrics.neighbourOverlap).toBeCloseTo(1, 12);
    const ids: string[] = JSON.parse(readFileSync(join(out, "teacher.npy.ids.json"), "utf8"));
    const file = readFileSync(join(out, "teacher.npy"));
    const bytes = file.subarray(10 + file.readUInt16LE(8));
    const numbers = [...new Float32Array(new Uint8Array(bytes).buffer)];
    const rows = ids.map((path, i) => ({ path, vector: numbers.slice(4 * i, 4 * i + 4) }));
    // A table has no order of its own.
    return rows.sort((a, b) => Number.parseInt(a.path, 10) - Number.parseInt(b.path, 10));
  }

  it("read sqlite-vec", async () => {
    const { at, code } = project("sqlite-vec");
    const db = new Database(join(at, "photos.db"));
    load(db);
    db.exec("CREATE VIRTUAL TABLE photos USING vec0(path TEXT PRIMARY KEY, embedding FLOAT[4])");
    const insert = db.prepare("INSERT INTO photos VALUES (?, ?)");
    for (const { path, vector } of stored) insert.run(path, Float32Array.from(vector));
    db.close();
    expect(await kept({ at, code })).toEqual(stored);
  });

  it("read pgvector", async () => {
    const found = await withPostgres(async (db, env) => {
      await db.exec("CREATE EXTENSION vector; CREATE TABLE photos (path text PRIMARY KEY, embedding vector(4))");
      for (const { path, vector } of stored) {
        await db.query("INSERT INTO photos VALUES ($1, $2)", [path, JSON.stringify(vector)]);
      }
      return kept(project("pg"), env);
    });
    expect(found).toEqual(stored);
  });

  it.runIf(hasLanceDb)("read LanceDB", async () => {
    const { connect } = await import("@lancedb/lancedb");
    const { at, code } = project("@lancedb/lancedb");
    const db = await connect(join(at, "photos.lance"));
    await db.createTable("photos", stored);
    db.close();
    expect(await kept({ at, code })).toEqual(stored);
  });
});
