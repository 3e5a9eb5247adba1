/** `rkd embed` in every form, and `rkd nearest` on what it wrote. */

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { loadModel, nearest, readVectors, train } from "../../src/index.ts";
import { lines, rkd } from "../support/cli.ts";
import { temporaryFolder } from "../support/folders.ts";
import { smallRun } from "../support/small.ts";
import { waves } from "../support/waves.ts";

const folder = temporaryFolder();
const run = join(folder, "run");
const photos = join(folder, "photos");
const at = (name: string) => join(folder, name);

beforeAll(async () => {
  await train(smallRun(run));
  waves(photos, 24, (i) => `${i % 2 === 0 ? "even" : "odd"}/${i}.pgm`);
});

describe("rkd embed", () => {
  it("writes the same rows, ids and classes in every form, by the ending", async () => {
    const written = await Promise.all(
      ["npy", "safetensors", "csv", "jsonl", "parquet", "arrow"].map(async (ending) => {
        const out = at(`photos.${ending}`);
        const { code, stdout, stderr } = await rkd("embed", run, "--data", photos, "--out", out);
        expect(code, stderr).toBe(0);
        expect(stdout).toBe(`24 embeddings of length 8 in ${out}\n`);
        return readVectors(out);
      }),
    );
    const [first] = written;
    expect(first?.ids).toHaveLength(24);
    for (const { ids, data, dimension } of written) {
      expect({ ids, data, dimension }).toEqual({ ids: first?.ids, data: first?.data, dimension: 8 });
    }
    const [line] = lines(readFileSync(at("photos.jsonl"), "utf8"));
    expect(line).toMatchObject({ id: "even/0.pgm", class: "even" });
    expect(line.embedding).toEqual([...(first?.data.subarray(0, 8) ?? [])].map((value) => expect.closeTo(value, 6)));
    expect(readFileSync(at("photos.csv"), "utf8")).toMatch(/^id,class,embedding_0,.*,embedding_7\neven\/0\.pgm,even,/);
    const bad = await rkd("embed", run, "--data", photos, "--out", at("photos.txt"));
    expect(bad.code).toBe(2);
    expect(bad.stderr).toContain("one of .npy, .safetensors, .csv, .jsonl, .parquet, .arrow");
  });

  it("takes one file", async () => {
    const { code, stderr } = await rkd("embed", run, "--data", join(photos, "odd/3.pgm"), "--out", at("one.jsonl"));
    expect(code, stderr).toBe(0);
    const [one, ...more] = lines(readFileSync(at("one.jsonl"), "utf8"));
    expect(more).toEqual([]);
    await using model = await loadModel(run);
    const row = await model.embed(join(photos, "odd/3.pgm"));
    expect({ ...one, embedding: Float32Array.from(one.embedding) }).toEqual({ id: "3.pgm", embedding: row });
    writeFileSync(at("broken.png"), "no picture");
    const broken = await rkd("embed", run, "--data", at("broken.png"), "--out", at("none.npy"));
    expect(broken.code).toBe(3);
    expect(broken.stderr).toContain("broken.png is no image");
  });

  it("tells of every image that it left out", async () => {
    const some = waves(at("some"), 8, (i) => `${i}.pgm`);
    const broken = Array.from({ length: 7 }, (_, i) => `broken ${i}.png`);
    for (const name of broken) writeFileSync(join(some, name), "");
    const { code, stderr } = await rkd("embed", run, "--data", some, "--out", at("some.npy"));
    expect(code).toBe(0);
    for (const name of broken) expect(stderr).toContain(`left out: ${name} is empty (0 bytes)`);
    const { stdout } = await rkd("embed", run, "--data", some, "--out", at("some.npy"), "--json");
    const end = lines(stdout).find(({ type }) => type === "end");
    expect(end.leftOut).toEqual(broken.map((path) => ({ path, reason: "is empty (0 bytes)" })));
    expect(end.images).toBe(8);
  });
});

describe("rkd nearest", () => {
  it("finds what exact search finds, with the model that the index notes", async () => {
    await rkd("embed", run, "--data", photos, "--out", at("index.npy"));
    const query = join(photos, "odd/5.pgm");
    const { code, stdout, stderr } = await rkd("nearest", query, "--index", at("index.npy"), "-k", "3");
    expect(code, stderr).toBe(0);
    await using model = await loadModel(run);
    const [found = []] = await nearest([await model.embed(query)], await readVectors(at("index.npy")), 3);
    expect(found[0]).toMatchObject({ id: "odd/5.pgm", distance: 0 });
    const expected = found.map(({ id, distance }) => `${distance.toFixed(6).padStart(12)}  ${id}\n`);
    expect(stdout).toBe(expected.join(""));
    const several = await rkd("nearest", query, query, "--index", at("index.npy"), "-k", "3", "--json");
    const line = { type: "nearest", image: query, neighbours: found };
    expect(lines(several.stdout)).toEqual([line, line]);
  });

  it("refuses another model than that of the index, whatever its path, and takes it without a note", async () => {
    const [other, query] = [join(folder, "other"), join(photos, "odd/5.pgm")];
    await train(smallRun(other, { seed: 2, epochs: 1, stepsPerEpoch: 1 }));
    for (const ending of ["npy", "safetensors", "parquet", "arrow"]) {
      const index = at(`noted.${ending}`);
      await rkd("embed", run, "--data", photos, "--out", index);
      expect((await rkd("nearest", query, "--index", index, "-k", "1")).code, ending).toBe(0);
      const { code, stderr } = await rkd("nearest", query, "--index", index, "--model", other);
      expect({ code, stderr }).toEqual({ code: 3, stderr: expect.stringContaining("another model made this index") });
    }
    // An index of before, which notes the path alone.
    const noted = JSON.parse(readFileSync(at("noted.npy.ids.json"), "utf8"));
    writeFileSync(at("noted.npy.ids.json"), JSON.stringify({ ...noted, modelHash: undefined }));
    const unknown = await rkd("nearest", query, "--index", at("noted.npy"), "--model", other);
    expect(unknown).toMatchObject({ code: 0, stderr: expect.stringContaining("is not known: that was ") });
    expect((await rkd("nearest", query, "--index", at("noted.npy"))).stderr).toBe("");
    await rkd("embed", run, "--data", photos, "--out", at("plain.csv"));
    expect((await rkd("nearest", query, "--index", at("plain.csv"), "--model", other)).code).toBe(0);
  });

  it("gives what it finds of the good images, and then the error of the bad one", async () => {
    await rkd("embed", run, "--data", photos, "--out", at("good.npy"));
    writeFileSync(at("bad.png"), "no picture");
    const query = join(photos, "odd/5.pgm");
    const { code, stdout, stderr } = await rkd("nearest", at("bad.png"), query, "--index", at("good.npy"), "-k", "1");
    expect({ code, stdout }).toEqual({ code: 3, stdout: `${query}\n    0.000000  odd/5.pgm\n` });
    expect(stderr).toContain("bad.png: this image cannot be embedded");
  });

  it("says what is missing", async () => {
    await rkd("embed", run, "--data", photos, "--out", at("index.csv"));
    const query = join(photos, "odd/5.pgm");
    const unknown = await rkd("nearest", query, "--index", at("index.csv"));
    expect(unknown.code).toBe(2);
    expect(unknown.stderr).toContain("--model: this option is needed, as the index does not say which model made it");
    const known = await rkd("nearest", query, "--index", at("index.csv"), "--model", run, "-k", "1");
    expect(known.stdout).toContain("odd/5.pgm");
    expect((await rkd("nearest", query)).stderr).toContain("--index: this option is needed");
    const none = await rkd("nearest", at("none.jpg"), "--index", at("index.npy"), "--model", run);
    expect([none.code, none.stderr]).toEqual([3, expect.stringContaining("none.jpg")]);
    const k = await rkd("nearest", query, "--index", at("index.csv"), "--model", run, "-k", "0");
    expect([k.code, k.stderr]).toEqual([2, expect.stringContaining("-k")]);
  });
});
