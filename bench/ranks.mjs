// What several processes under MPI are worth: time of a step and share of waiting on 1, 2, 4 and 8 ranks, the hash of what each number
// of them trains, and runs in which one of them dies. `node bench/ranks.mjs [--mpirun BIN[:BIN]] [--ranks 1,2,4,8] [--rounds 3]
// [--steps 40] [--backbone resnet18] [--image-size 32] [--batch 64] [--micro-batch 8] [--kills 50] [--link 5,1] [--threads 1] [--sync] [--out FILE]`.
//
// A BIN is the folder of an `mpirun`; without one it is that of the PATH. Numbers of ranks take turns, round by round; of the
// milliseconds the table has the median. More ranks than cores share these, and say nothing about scaling: the table marks them.
// The hashes of all runs are compared: one plan has one. Then each of `--kills` runs of 4 ranks loses one of them at a random
// moment and goes on with 1, 2 or 4: its hash must be that of the run that nobody disturbed. `--link 5,1` (milliseconds of delay and
// percent of packets lost) trains on two hosts, which are network namespaces with a cable of lossy_link.py: as root, by MPICH's mpirun.
// `--sync` measures each once more with `batchNorm: "sync"`, whose runs have one hash of their own.
// The addon is the published one, or RKD_NATIVE_PATH's. The table is printed and written to bench/record/.
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { allowed, ranksWith } from "../scripts/mpi.mjs";
import { publishedAddon, root, setUp } from "../scripts/setup.mjs";
import { circumstances, here, record, short } from "./programs.mjs";

const { values: options } = parseArgs({
  options: {
    mpirun: { type: "string" },
    ranks: { type: "string", default: "1,2,4,8" },
    rounds: { type: "string", default: "3" },
    steps: { type: "string", default: "40" },
    backbone: { type: "string", default: "resnet18" },
    "image-size": { type: "string", default: "32" },
    batch: { type: "string", default: "64" },
    "micro-batch": { type: "string", default: "8" },
    kills: { type: "string", default: "0" },
    link: { type: "string" },
    threads: { type: "string", default: "1" },
    sync: { type: "boolean", default: false },
    out: { type: "string", default: path.join(here, "record", "ranks.md") },
  },
});
const onPath = (process.env.PATH ?? "").split(path.delimiter).filter((bin) => existsSync(path.join(bin, "mpirun")));
const launchers = options.mpirun?.split(path.delimiter) ?? onPath.slice(0, 1);
if (launchers.length === 0) throw new Error("there is no mpirun in the PATH: apt install openmpi-bin, or --mpirun BIN");
const sizes = options.ranks.split(",").map(Number);
const [rounds, kills] = [Number(options.rounds), Number(options.kills)];

const cores = os.availableParallelism();
const addon = process.env.RKD_NATIVE_PATH ? "of RKD_NATIVE_PATH" : "of the release profile";
setUp();
process.env.RKD_NATIVE_PATH ??= publishedAddon();
const started = new Date();
const folder = mkdtempSync(path.join(os.tmpdir(), "rkd-ranks-"));
const command = path.join(root, "bin", "rkd.mjs");

/** Starts `rkd` on so many ranks. */
function start(bin, count, args) {
  const env = { ...allowed, PATH: `${bin}${path.delimiter}${process.env.PATH}` };
  // A core each, where there are enough.
  const pinned = options.threads === "1" && count > 1 && count <= cores ? ["--bind-to", "core"] : [];
  return begin(path.join(bin, "mpirun"), [...pinned, "-n", String(count)], args, env);
}

/** Starts `rkd` by a launcher. */
function begin(launcher, flags, args, variables) {
  const child = spawn(launcher, [...flags, process.execPath, command, ...args, "--threads", options.threads], {
    env: { ...process.env, ...variables },
    stdio: ["ignore", "ignore", "pipe"],
  });
  let said = "";
  child.stderr.on("data", (chunk) => {
    said += chunk;
  });
  const done = new Promise((resolve) => child.on("close", (code) => resolve({ code, said })));
  return Object.assign(child, { done });
}

async function must(bin, count, args) {
  const { code, said } = await start(bin, count, args).done;
  if (code !== 0) throw new Error(`${count} ranks of ${bin} ended with ${code}:\n${said}`);
}

/** The run that is measured: one epoch, whose test part is small. */
const timed = (out) => [
  ...["train", "--data", "glyphs:classes=40,writers=12", "--image-size", options["image-size"], "--channels", "3"],
  ...["--backbone", options.backbone, "--batch", options.batch, "--micro-batch", options["micro-batch"]],
  ...["--per-class", "4", "--epochs", "1", "--steps-per-epoch", options.steps, "--seed", "1", "--out", out],
];

/** A short run with checkpoints, to be killed. */
const killed = (out) => [
  ...["train", "--data", "glyphs:classes=20,writers=8", "--backbone", "conv4", "--width", "8", "--batch", "32"],
  ...["--per-class", "4", "--micro-batch", "4", "--epochs", "4", "--steps-per-epoch", "10", "--checkpoint-every", "3"],
  ...["--seed", "1", "--out", out],
];

const hashOf = (out) => {
  const hash = createHash("sha256").update(readFileSync(path.join(out, "model.safetensors")));
  return hash.digest("hex").slice(0, 16);
};
const events = (out) =>
  readFileSync(path.join(out, "events.jsonl"), "utf8")
    .split("\n")
    .filter((line) => line.includes('"type":"step"'))
    .map((line) => JSON.parse(line));

/** Milliseconds of a step after the first five, and the share of them that rank 0 waited for others. */
function measure(out) {
  const steps = events(out).filter(({ step }) => step >= 5);
  const [first, last] = [steps[0], steps.at(-1)];
  const milliseconds = (Date.parse(last.time) - Date.parse(first.time)) / (last.step - first.step);
  const shares = steps.slice(1).map(({ rankWaitShare }) => rankWaitShare);
  return { milliseconds, waiting: shares.reduce((sum, share) => sum + share, 0) / shares.length };
}

const median = (values) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)];
const rows = [];
const [hashes, synchronisedHashes] = [new Set(), new Set()];
try {
  for (const bin of launchers) {
    const found = new Map(sizes.map((size) => [size, []]));
    for (let round = 0; round < rounds; round++) {
      for (const size of sizes) {
        const out = path.join(folder, `${launchers.indexOf(bin)}-${size}-${round}`);
        const once = async (all, ...flags) => {
          await must(bin, size, [...timed(out), ...flags]);
          const hash = hashOf(out);
          all.add(hash);
          const measured = { ...measure(out), hash };
          rmSync(out, { recursive: true });
          return measured;
        };
        const plain = await once(hashes);
        const synchronised = options.sync ? await once(synchronisedHashes, "--batch-norm", "sync") : undefined;
        found.get(size).push({ ...plain, synchronised: synchronised?.milliseconds });
      }
    }
    const alone = median(found.get(sizes[0]).map(({ milliseconds }) => milliseconds));
    for (const [size, measured] of found) {
      const milliseconds = median(measured.map((each) => each.milliseconds));
      const waiting = median(measured.map((each) => each.waiting));
      const crowded = size * Number(options.threads) > cores ? ` (of ${cores} cores)` : "";
      const cells = [await named(bin), `${size}${crowded}`, short(milliseconds), (alone / milliseconds).toFixed(2)];
      const synchronised = options.sync ? [short(median(measured.map((each) => each.synchronised)))] : [];
      rows.push([...cells, `${Math.round(100 * waiting)} %`, ...synchronised, `\`${measured[0].hash}\``]);
    }
  }
  const deaths = kills > 0 ? await die() : [];
  const hosts = options.link === undefined ? [] : await onTwoHosts();
  record(render(deaths, hosts), options.out);
} finally {
  rmSync(folder, { recursive: true, force: true });
}

/** The first line of what an `mpirun` says of itself. */
async function named(bin) {
  const child = spawn(path.join(bin, "mpirun"), ["--version"], { stdio: ["ignore", "pipe", "ignore"] });
  let said = "";
  for await (const chunk of child.stdout) said += chunk;
  const version = /Version: *([\d.]+)/.exec(said)?.[1];
  return said.startsWith("HYDRA") ? `MPICH ${version}` : (said.split("\n")[0] ?? "").replace(/^mpirun \((.*)\)/, "$1");
}

/** Runs that lose a rank and go on with others: of each launcher how many, how soon all were gone, how many had one hash. */
async function die() {
  const whole = path.join(folder, "whole");
  const begun = Date.now();
  await must(launchers[0], 4, killed(whole));
  const [length, expected] = [Date.now() - begun, hashOf(whole)];
  const found = [];
  for (const bin of launchers) {
    const [gone, at] = [[], { hit: 0, same: 0, resumed: new Map() }];
    for (let i = 0; i < kills; i++) {
      const out = path.join(folder, `dies-${launchers.indexOf(bin)}-${i}`);
      const child = start(bin, 4, killed(out));
      await sleep(length * (0.15 + 0.8 * Math.random()));
      const all = ranksWith(out);
      if (all.length === 4) {
        process.kill(all[Math.floor(4 * Math.random())], "SIGKILL");
        at.hit++;
        const killedAt = Date.now();
        await child.done;
        while (ranksWith(out).length > 0) await sleep(5);
        gone.push(Date.now() - killedAt);
      } else await child.done;
      const next = [1, 2, 4][i % 3];
      // Killed before it had a folder, it begins anew.
      const goesOn = existsSync(path.join(out, "plan.json"));
      if (!existsSync(path.join(out, "model.safetensors"))) {
        await must(bin, next, goesOn ? ["resume", out] : killed(out));
      }
      at.resumed.set(next, (at.resumed.get(next) ?? 0) + 1);
      if (hashOf(out) === expected) at.same++;
      rmSync(out, { recursive: true });
    }
    const on = [...at.resumed].map(([size, count]) => `${count} on ${size}`).join(", ");
    const slowest = gone.length > 0 ? `${short(median(gone))} / ${short(Math.max(...gone))}` : "none";
    found.push([await named(bin), `${kills}`, `${at.hit}`, slowest, on, `${at.same} of ${kills}`]);
  }
  return found;
}

/**
 * The short run on one rank, and on two that have a host each: with a cable that carries everything at once, and with one that delays
 * and loses packets; and there with a rank that stands still for two seconds.
 */
async function onTwoHosts() {
  const bin = launchers.find((each) => existsSync(path.join(each, "mpiexec.hydra")));
  if (bin === undefined) throw new Error("--link needs MPICH's mpirun");
  const alone = path.join(folder, "alone");
  await must(bin, 1, killed(alone));
  const expected = hashOf(alone);
  // Hydra starts what is on another host by a program like ssh; here it is a namespace.
  const [ssh, names] = [path.join(folder, "ssh"), ["rkdbench0", "rkdbench1"]];
  const of =
    'case $1 in 10.9.0.1) name=rkdbench0;; *) name=rkdbench1;; esac; shift; exec ip netns exec $name sh -c "$*"';
  writeFileSync(ssh, `#!/bin/sh\nwhile [ "\${1#-}" != "$1" ]; do shift; done\n${of}\n`, { mode: 0o755 });
  const flags = [
    "-localhost",
    "10.9.0.1",
    "-hosts",
    "10.9.0.1,10.9.0.2",
    "-ppn",
    "1",
    "-launcher",
    "ssh",
    "-launcher-exec",
    ssh,
  ];
  const found = [];
  const [delay, loss] = options.link.split(",");
  const cables = [
    ["0", "0", false],
    [delay, loss, false],
    [delay, loss, true],
  ];
  for (const [milliseconds, percent, stands] of cables) {
    const cable = spawn("python3", [path.join(here, "lossy_link.py"), ...names, milliseconds, percent]);
    let said = "";
    cable.stdout.on("data", (chunk) => {
      said += chunk;
    });
    while (!said.includes("up") && cable.exitCode === null) await sleep(20);
    const out = path.join(folder, `hosts-${found.length}`);
    const command = ["netns", "exec", names[0], path.join(bin, "mpirun"), ...flags, "-n", "2"];
    const child = begin("ip", command, killed(out), {
      UCX_TLS: "tcp,self",
      PATH: `${bin}${path.delimiter}${process.env.PATH}`,
    });
    if (stands) {
      while (ranksWith(out).length < 2 && child.exitCode === null) await sleep(20);
      await sleep(700);
      const slow = ranksWith(out)[1];
      if (slow !== undefined) process.kill(slow, "SIGSTOP");
      await sleep(2000);
      if (slow !== undefined) process.kill(slow, "SIGCONT");
    }
    const { code, said: error } = await child.done;
    cable.stdin.end("x");
    await new Promise((resolve) => cable.on("close", resolve));
    if (code !== 0) throw new Error(`two hosts ended with ${code}:\n${error}`);
    const { carried, lost } = JSON.parse(said.slice(said.indexOf("{")));
    const [times, same] = [measure(out), hashOf(out) === expected];
    const what = [`${milliseconds} ms`, `${percent} %`, stands ? "2 s" : ""];
    found.push([...what, `${carried}`, `${lost}`, short(times.milliseconds), same ? "yes" : "**no**"]);
  }
  return found;
}

function sameness(found) {
  return found.size === 1 ? "One hash in every run." : `**${found.size} hashes: ${[...found].join(", ")}.**`;
}

function render(deaths, hosts) {
  const synchronised = options.sync ? ["the same, batch norm synchronised"] : [];
  const network = `${options.backbone} of ${options["image-size"]} pixels`;
  const said = process.argv.slice(2).map((word) => word.replaceAll(`${os.homedir()}/`, "~/"));
  const table = (head, body) => [head, head.map(() => "---"), ...body].map((cells) => `| ${cells.join(" | ")} |`);
  const lines = [
    "# Several processes under MPI",
    "",
    `${circumstances(started)}; Node ${process.version}, addon ${addon}.`,
    `Command: \`node bench/ranks.mjs${said.length > 0 ? ` ${said.join(" ")}` : ""}\`.`,
    `${network}, batches of ${options.batch} in micro batches of ${options["micro-batch"]}, ${options.steps} steps, ${options.threads} thread${options.threads === "1" ? "" : "s"} a rank; median of ${rounds} rounds by turns. Ranks that are more than the cores share them.`,
    "",
    ...table(
      ["MPI", "ranks", "ms a step", "times as fast", "waiting for others", ...synchronised, "hash of the model"],
      rows,
    ),
    "",
    `${sameness(hashes)}${options.sync ? ` With synchronised batch normalisation: ${sameness(synchronisedHashes)}` : ""}`,
    "",
  ];
  if (deaths.length > 0) {
    const head = [
      "MPI",
      "runs",
      "lost a rank",
      "ms until all were gone, median / most",
      "went on with ranks",
      "same bytes as undisturbed",
    ];
    lines.push(
      "Runs of 4 ranks (Conv-4, a checkpoint every 3 of 40 steps), of which a random one is killed at a random moment (SIGKILL):",
    );
    lines.push("", ...table(head, deaths), "");
  }
  if (hosts.length > 0) {
    const head = [
      "delay",
      "packets lost",
      "a rank stands still",
      "carried",
      "lost",
      "ms a step",
      "same bytes as on one rank",
    ];
    lines.push(
      "Two ranks on two hosts (network namespaces with a cable of bench/lossy_link.py), by MPICH over TCP, Conv-4:",
    );
    lines.push("", ...table(head, hosts), "");
  }
  return lines.join("\n");
}
