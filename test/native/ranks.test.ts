/** Runs of several processes under MPI: the same bytes, one voice, errors of all. Where there is no MPI a line says so. */

import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { lines, rkd, smallFlags, start } from "../support/cli.ts";
import { temporaryFolder } from "../support/folders.ts";
import { launchers, ranksWith, startRanks } from "../support/mpi.ts";

const folder = temporaryFolder();
const at = (name: string) => join(folder, name);
const model = (out: string) => readFileSync(join(out, "model.safetensors")).toString("base64");
const threads = ["--threads", "1"];

/** Each test starts a dozen processes, on whatever cores there are. */
const patience = { timeout: 600_000 };

it("says what was tried and what to install where there is no MPI", async () => {
  const env = { RKD_MPI: "/no/such/libmpi.so" };
  const { code, stderr } = await start(["train", ...smallFlags(at("none")), "--distributed", "mpi"], env).done;
  expect(code).toBe(4);
  expect(stderr).toContain("--distributed: there is no MPI to join the other ranks by");
  expect(stderr).toContain("received /no/such/libmpi.so (");
  expect(stderr).toContain("apt install openmpi-bin");
});

describe.each(launchers)("under the mpirun of %s", (bin) => {
  const name = bin.replaceAll(/\W/g, "-");
  const ranks = async (count: number, ...args: string[]) => await startRanks(bin, count, args).done;

  it("trains the model of one process, with one voice", patience, async () => {
    const one = at(`one${name}`);
    const alone = await rkd("train", ...smallFlags(one), ...threads, "--micro-batch", "2");
    expect(alone.code, alone.stderr).toBe(0);
    for (const count of [2, 4]) {
      const out = at(`${count}${name}`);
      const { code, stdout, stderr } = await ranks(count, "train", ...smallFlags(out), ...threads, "--json");
      expect(code, stderr).toBe(0);
      expect(model(out)).toBe(model(one));
      const events = lines(stdout);
      expect(events.filter(({ type }) => type === "end")).toHaveLength(1);
      expect(events.find(({ type }) => type === "start")).toMatchObject({ ranks: count, threads: 1 });
      expect(readdirSync(out).sort()).toEqual(readdirSync(one).sort());
    }
  });

  it("normalises by the whole batch with the bytes of one process, and measures the file alike", patience, async () => {
    const flags = (out: string, size: string) => [
      ...["train", ...smallFlags(out), ...threads, "--batch-norm", "sync", "--micro-batch", size],
    ];
    const [one, two] = [at(`sync-one${name}`), at(`sync-two${name}`)];
    const alone = await rkd(...flags(one, "2"));
    expect(alone.code, alone.stderr).toBe(0);
    const { code, stderr } = await ranks(2, ...flags(two, "2"));
    expect(code, stderr).toBe(0);
    expect(model(two)).toBe(model(one));
    const metrics = (out: string) => JSON.parse(readFileSync(join(out, "metrics.json"), "utf8")).metrics;
    expect(Object.keys(metrics(one))).toContain("recall@1");
    expect(metrics(two)).toEqual(metrics(one));
  });

  it.skipIf(process.platform !== "linux")(
    "goes on with fewer processes after one has died, the baseline too",
    patience,
    async () => {
      const teacher = at(`teacher${name}`);
      await rkd("train", ...smallFlags(teacher), ...threads);
      const flags = (out: string) => [
        ...["distill", ...smallFlags(out), ...threads, "--teacher", teacher, "--baseline", "--micro-batch", "2"],
        ...["--steps-per-epoch", "10", "--checkpoint-every", "3", "--json"],
      ];
      const whole = at(`whole${name}`);
      const alone = await rkd(...flags(whole));
      expect(alone.code, alone.stderr).toBe(0);
      const out = at(`killed${name}`);
      const child = startRanks(bin, 4, flags(out));
      // One of them is killed once there is something to go on with.
      let seen = "";
      child.stdout?.on("data", (chunk) => {
        seen += chunk;
      });
      while (!seen.includes('"checkpoint"') && child.exitCode === null) await sleep(20);
      const [victim, ...others] = ranksWith(out);
      expect(others).toHaveLength(3);
      process.kill(victim as number, "SIGKILL");
      expect((await child.done).code).not.toBe(0);
      while (ranksWith(out).length > 0) await sleep(20); // the launcher ends them all
      const { code, stderr } = await ranks(2, "resume", out, ...threads, "--json");
      expect(code, stderr).toBe(0);
      expect(model(out)).toBe(model(whole));
      expect(model(join(out, "baseline"))).toBe(model(join(whole, "baseline")));
    },
  );

  it("trains under npx, or says that it stands between", patience, async () => {
    const npx = { npm_command: "exec", npm_lifecycle_script: "rkd" };
    const { code, stderr } = await startRanks(bin, 2, ["train", ...smallFlags(at(`npx${name}`)), ...threads], npx).done;
    // Of Open MPI's launcher no open file is inherited.
    if (stderr.includes("2 ranks")) expect(code, stderr).toBe(0);
    else expect(stderr).toContain("Start rkd without npx: mpirun -n 4 node_modules/.bin/rkd");
  });

  it("lets runs that a program starts at once take turns, and stops all where one is told to", patience, async () => {
    const program = at(`program${name}.mjs`);
    const index = fileURLToPath(new URL("../../dist/index.js", import.meta.url));
    writeFileSync(
      program,
      `import { conv4, train } from ${JSON.stringify(index)};
const { PMI_RANK, OMPI_COMM_WORLD_RANK = PMI_RANK, PMI_ID = OMPI_COMM_WORLD_RANK } = process.env;
const data = { source: "glyphs:classes=20,writers=8" };
const common = { data, backbone: conv4({ width: 4, embedding: 8 }), batch: { size: 16 }, microBatch: 8, threads: 1 };
const run = (name, more) =>
  train({ ...common, epochs: 1, stepsPerEpoch: 3, report: false, out: ${JSON.stringify(at(name))} + name, ...more }).then(
    () => "done",
    ({ name, code }) => (name === "AbortError" ? name : code),
  );
const both = await Promise.all([run("a"), run("b", { seed: 2 })]);
const stopped = await run("c", { signal: PMI_ID === "1" ? AbortSignal.abort() : undefined });
console.log("told: " + [...both, stopped].join(" "));
`,
    );
    const { code, stdout, stderr } = await startRanks(bin, 2, [], {}, program).done;
    expect(code, stderr).toBe(0);
    const told = stdout.split("\n").flatMap((line) => /told: (.+)/.exec(line)?.[1] ?? []);
    expect(told.sort()).toEqual(["done done AbortError", "done done ERR_CANCELLED"]);
  });

  it("ends all with the error of one, told once", patience, async () => {
    const out = at(`bad${name}`);
    const flags = smallFlags(out);
    const { code, stdout, stderr } = await ranks(3, "train", ...flags, ...threads);
    expect(code).not.toBe(0);
    expect(`${stdout}${stderr}`.match(/cannot be shared out over the ranks/g)).toHaveLength(1);
    const fits = await ranks(2, "train", ...flags, ...threads, "--epochs", "1");
    expect(fits.code, fits.stderr).toBe(0);
    expect(fits.stderr).toContain(`if one is lost, all end, and \`rkd resume ${out}\` goes on`);
  });
});
