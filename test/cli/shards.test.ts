/** `rkd embed --shard` and `--merge`: the rows of one `rkd embed`, and whatever does not add up refused. */

import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { embed, mergeShards, readVectors, train } from "../../src/index.ts";
import { lines, rkd, start } from "../support/cli.ts";
import { temporaryFolder } from "../support/folders.ts";
import { smallRun } from "../support/small.ts";
import { waves } from "../support/waves.ts";

const folder = temporaryFolder();
const run = join(folder, "run");
const other = join(folder, "other");
const photos = join(folder, "photos");
const at = (name: string) => join(folder, name);
const bytes = (name: string) => readFileSync(at(name)).toString("base64");

/** Of 20 images two are broken. */
beforeAll(async () => {
  await train(smallRun(run));
  await train(smallRun(other, { seed: 2, epochs: 1, stepsPerEpoch: 1 }));
  waves(photos, 18, (i) => `${i % 2 === 0 ? "even" : "odd"}/${i}.pgm`);
  writeFileSync(join(photos, "even/11.png"), "no picture");
  writeFileSync(join(photos, "odd/2.png"), "");
});

/** Embeds one shard. */
async function shard(which: string, out: string, ...more: string[]) {
  return await rkd("embed", run, "--data", photos, "--out", at(out), "--shard", which, ...more);
}

/** The file of a shard, by the name of the whole. */
const file = (out: string, index: number, count: number) =>
  out.replace(/(\.\w+)$/, `-${String(index).padStart(5, "0")}-of-${String(count).padStart(5, "0")}$1`);

/** Runs `rkd embed` with what a scheduler sets. */
async function scheduled(env: NodeJS.ProcessEnv, ...args: string[]) {
  return await start(["embed", run, "--data", photos, ...args], env).done;
}

describe("the shards of three", () => {
  it.each(["npy", "safetensors", "csv", "jsonl"])("make the bytes of one file: .%s", async (ending) => {
    await rkd("embed", run, "--data", photos, "--out", at(`whole.${ending}`));
    for (const index of [2, 0, 1]) {
      const { code, stdout, stderr } = await shard(`${index}/3`, `parts.${ending}`);
      expect(code, stderr).toBe(0);
      expect(stdout).toMatch(/^\d+ embeddings of length 8 in .*-of-00003\.\w+, shard \d\/3\n$/);
    }
    const { code, stdout, stderr } = await rkd("embed", "--merge", "--out", at(`parts.${ending}`));
    expect(code, stderr).toBe(0);
    expect(stdout).toBe(`18 embeddings of length 8 of 3 shards in ${at(`parts.${ending}`)}\n`);
    expect(stderr).toContain("left out: even/11.png ");
    expect(stderr).toContain("left out: odd/2.png is empty (0 bytes)");
    expect(bytes(`parts.${ending}`)).toBe(bytes(`whole.${ending}`));
    if (ending === "npy") expect(bytes("parts.npy.ids.json")).toBe(bytes("whole.npy.ids.json"));
  });

  it.each(["parquet", "arrow"])("make the rows of one file: .%s", async (ending) => {
    const whole = at(`whole.${ending}`);
    const report = await embed({ model: run, data: photos, out: whole });
    let images = 0;
    for (const index of [0, 1, 2]) {
      const part = await embed({ model: run, data: photos, out: at(`parts.${ending}`), shard: { index, count: 3 } });
      expect(part.shard).toEqual({ index, count: 3, skipped: false });
      expect(part.out).toBe(at(file(`parts.${ending}`, index, 3)));
      images += part.images;
    }
    expect(images).toBe(18);
    const merged = await mergeShards({ out: at(`parts.${ending}`) });
    const { leftOut } = report;
    expect(leftOut.map(({ path }) => path)).toEqual(["even/11.png", "odd/2.png"]);
    expect(merged).toEqual({ out: at(`parts.${ending}`), images: 18, embedding: 8, shards: 3, leftOut });
    const [rows, expected] = [await readVectors(at(`parts.${ending}`)), await readVectors(whole)];
    expect({ ...rows }).toEqual({ ...expected });
  });

  it("are as well those of an archive, which is read in its own order", async () => {
    const names = Array.from({ length: 9 }, (_, i) => `${8 - i}.pgm`);
    waves(at("packed"), 9, (i) => `${i}.pgm`);
    const { status } = spawnSync("tar", ["-cf", "packed.tar", "-C", "packed", ...names], { cwd: folder });
    expect(status).toBe(0);
    await embed({ model: run, data: at("packed"), out: at("unpacked.jsonl") });
    for (const index of [0, 1, 2, 3]) {
      await embed({ model: run, data: at("packed.tar"), out: at("packed.jsonl"), shard: { index, count: 4 } });
    }
    await mergeShards({ out: at("packed.jsonl") });
    expect(bytes("packed.jsonl")).toBe(bytes("unpacked.jsonl"));
  });

  it("may be without a usable image", async () => {
    const bad = waves(at("bad"), 12, (i) => `${i}.pgm`);
    for (const i of ["0", "1"]) writeFileSync(join(bad, `${i}.pgm`), "no picture");
    for (const ending of ["npy", "csv", "parquet"]) {
      const [whole, out] = [at(`bad-whole.${ending}`), at(`bad.${ending}`)];
      await embed({ model: run, data: bad, out: whole });
      const sizes: number[] = [];
      for (const index of [0, 1, 2, 3, 4, 5]) {
        sizes.push((await embed({ model: run, data: bad, out, shard: { index, count: 6 } })).images);
      }
      expect(sizes).toEqual([0, 2, 2, 2, 2, 2]);
      await mergeShards({ out });
      expect({ ...(await readVectors(out)) }).toEqual({ ...(await readVectors(whole)) });
    }
  });
});

describe("a finished shard", () => {
  it("is left as it is, and made anew where it is damaged", async () => {
    await shard("1/4", "again.npy");
    const path = at(file("again.npy", 1, 4));
    const before = { bytes: readFileSync(path), time: statSync(path).mtimeMs };
    const again = await shard("1/4", "again.npy", "--json");
    expect(lines(again.stdout).at(-1)).toMatchObject({ type: "end", shard: { index: 1, count: 4, skipped: true } });
    expect(lines(again.stdout).some(({ type }) => type === "data")).toBe(false);
    expect(statSync(path).mtimeMs).toBe(before.time);
    expect((await shard("1/4", "again.npy")).stdout).toContain(", shard 1/4, finished before\n");
    writeFileSync(path, before.bytes.subarray(0, -4));
    const anew = await shard("1/4", "again.npy");
    expect(anew.stderr).toContain("is damaged, so it is made anew");
    expect(readFileSync(path)).toEqual(before.bytes);
    // What a killed process leaves: the file without its note.
    rmSync(`${path}.shard.json`);
    writeFileSync(path, "half");
    expect((await shard("1/4", "again.npy")).code).toBe(0);
    expect(readFileSync(path)).toEqual(before.bytes);
  });

  it("is refused where it is of something else", async () => {
    await shard("0/2", "clash.npy");
    const of = async (model: string, data: string, ...more: string[]) =>
      await rkd("embed", model, "--data", data, "--out", at("clash.npy"), "--shard", "0/2", ...more);
    const model = await of(other, photos);
    expect([model.code, model.stderr]).toEqual([
      2,
      expect.stringContaining("a finished shard is here, of another model"),
    ]);
    expect(model.stderr).toContain("Remove its shards with their .shard.json, or write to another file");
    const fewer = waves(at("fewer"), 6, (i) => `${i}.pgm`);
    expect((await of(run, fewer)).stderr).toContain("of other images");
    expect((await of(run, photos, "--format", "csv")).stderr).toContain("of another format");
    const count = await shard("0/3", "clash.npy");
    expect([count.code, count.stderr]).toEqual([2, expect.stringContaining("shards of another number")]);
    expect(existsSync(at(file("clash.npy", 0, 3)))).toBe(false);
  });
});

describe("--merge", () => {
  it("names what is missing, damaged or of something else by its index", async () => {
    const none = await rkd("embed", "--merge", "--out", at("gaps.csv"));
    expect([none.code, none.stderr]).toEqual([3, expect.stringContaining("there is no finished shard of this file")]);
    for (const index of [1, 5]) await shard(`${index}/6`, "gaps.csv");
    const missing = await rkd("embed", "--merge", "--out", at("gaps.csv"));
    expect([missing.code, missing.stderr]).toEqual([
      3,
      expect.stringContaining("these shards of 6 are not finished: 0,2-4. Embed them: --shard 0/6"),
    ]);
    for (const index of [0, 2, 3, 4]) await shard(`${index}/6`, "gaps.csv");
    const damagedFile = at(file("gaps.csv", 3, 6));
    const text = readFileSync(damagedFile, "utf8");
    writeFileSync(
      damagedFile,
      text.replace(/\d(?=\n$)/, (digit) => (digit === "7" ? "8" : "7")),
    );
    const damaged = await rkd("embed", "--merge", "--out", at("gaps.csv"), "--json");
    expect([damaged.code, lines(damaged.stdout).at(-1)]).toEqual([
      3,
      expect.objectContaining({ code: "ERR_INVALID_ARTEFACT", message: expect.stringContaining("are damaged: 3. ") }),
    ]);
    writeFileSync(damagedFile, text);
    // The same shard of another model, put in its place.
    await rkd("embed", other, "--data", photos, "--out", at("foreign.csv"), "--shard", "2/6");
    for (const end of ["", ".shard.json"]) {
      copyFileSync(at(file("foreign.csv", 2, 6)) + end, at(file("gaps.csv", 2, 6)) + end);
    }
    const foreign = await rkd("embed", "--merge", "--out", at("gaps.csv"));
    expect([foreign.code, foreign.stderr]).toEqual([
      3,
      expect.stringContaining("these shards of 6 are of another model, unlike the others: 2. "),
    ]);
    expect(existsSync(at("gaps.csv"))).toBe(false);
  });

  it("stands alone", async () => {
    const out = ["--out", at("alone.npy")];
    for (const more of [[run], ["--data", photos], ["--shard", "0/3"], ["--format", "npy"]]) {
      const { code, stderr } = await rkd("embed", "--merge", ...out, ...more);
      expect([code, stderr]).toEqual([2, expect.stringContaining("--merge: invalid value: expected --out alone")]);
    }
    expect((await rkd("embed", "--merge")).stderr).toContain("--out: this option is needed");
    const model = await rkd("embed", "--data", photos, ...out);
    expect([model.code, model.stderr]).toEqual([2, expect.stringContaining("<model>: this argument is needed")]);
  });
});

describe("which shard it is", () => {
  it.each([
    ["4/3", "--shard: invalid value: expected a whole number from 0 to 2, as there are 3 shards, received 4"],
    ["3/3", "Shards count from 0"],
    ["0/0", "--shard: invalid value: expected a whole number at least 1"],
    ["3", "--shard: invalid value: expected a shard and how many there are"],
    ["-1/3", "--shard"],
    ["one/3", "--shard"],
    ["auto", "no scheduler says which shard this is"],
    ["auto/3", "no scheduler says which shard this is"],
    ["0/21", "there are more shards than images: expected at most 20"],
  ])("is refused: --shard=%s", async (which, message) => {
    const { code, stderr } = await rkd("embed", run, "--data", photos, "--out", at("refused.npy"), `--shard=${which}`);
    expect([code, stderr]).toEqual([2, expect.stringContaining(message)]);
  });

  it("is what the scheduler says, where it is asked", async () => {
    const env = {
      SLURM_ARRAY_TASK_ID: "2",
      SLURM_ARRAY_TASK_MIN: "1",
      SLURM_ARRAY_TASK_MAX: "3",
      SLURM_ARRAY_TASK_COUNT: "3",
    };
    const chance = await scheduled(env, "--out", at("chance.npy"));
    expect(chance.stdout).toBe(`18 embeddings of length 8 in ${at("chance.npy")}\n`);
    const slurm = await scheduled(env, "--out", at("slurm.npy"), "--shard", "auto");
    expect(slurm.stdout).toContain(`in ${at("slurm-00001-of-00003.npy")}, shard 1/3`);
    const kubernetes = await scheduled({ JOB_COMPLETION_INDEX: "2" }, "--out", at("k8s.npy"), "--shard", "auto/3");
    expect(kubernetes.stdout).toContain(`in ${at("k8s-00002-of-00003.npy")}, shard 2/3`);
    const count = await scheduled({ JOB_COMPLETION_INDEX: "2" }, "--out", at("k8s.npy"), "--shard", "auto");
    expect([count.code, count.stderr]).toEqual([2, expect.stringContaining("Kubernetes does not say it here")]);
    const run = { CLOUD_RUN_TASK_INDEX: "1", CLOUD_RUN_TASK_COUNT: "4" };
    const mismatch = await scheduled(run, "--out", at("run.npy"), "--shard", "auto/3");
    expect([mismatch.code, mismatch.stderr]).toEqual([
      2,
      expect.stringContaining("--shard: invalid value: expected 4, as CLOUD_RUN_TASK_COUNT says, received 3"),
    ]);
  });
});

it.each([
  ["embed", ["embed", run, "--data", photos, "--out", at("ranks.npy")], "--shard 0/4"],
  ["evaluate", ["evaluate", run], "start it without them"],
  ["export", ["export", run, "--to", "onnx", "--out", at("ranks")], "start it without them"],
  ["reproduce", ["reproduce", "metric-learning", "--scale", "smoke", "--out", at("ranks")], "start it without them"],
])("refuses to be one of several processes of mpirun: rkd %s", async (name, args, advice) => {
  const { code, stderr } = await start(args, { OMPI_COMM_WORLD_SIZE: "2", OMPI_COMM_WORLD_RANK: "0" }).done;
  expect(code).toBe(2);
  expect(stderr).toContain(`${name} does not share its work out over the processes of mpirun or srun`);
  expect(stderr.toLowerCase()).toContain(advice);
  const alone = await start(["embed", run, "--data", photos, "--out", at("alone.npy")], { OMPI_COMM_WORLD_SIZE: "1" })
    .done;
  expect(alone.code, alone.stderr).toBe(0);
});
