// Rounds of faults, drawn at random from a seed: kills, stops, moved folders, full disks, hostile files. After each one
// the run must end with the same bytes as one that nothing happened to, and no failure may come without its words.
//
//   node scripts/soak.mjs [--seconds 120] [--rounds N] [--seed S] [--only kill,stop,...]
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { constants, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { root, setUp } from "./setup.mjs";

const { values } = parseArgs({
  options: {
    seconds: { type: "string", default: "120" },
    rounds: { type: "string", default: "1000000" },
    seed: { type: "string", default: "1" },
    only: { type: "string" },
  },
});
const command = join(root, "bin", "rkd.mjs");
const work = mkdtempSync(join(tmpdir(), "rkd-soak-"));
const cache = join(work, "cache");
process.on("exit", () => rmSync(work, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 }));
process.on("SIGINT", () => process.exit(130));

/** A linear congruential generator: the same seed draws the same faults. */
let state = Number(values.seed);
function random() {
  state = (state * 1_103_515_245 + 12_345) % 2 ** 31;
  return state / 2 ** 31;
}
const below = (end) => Math.floor(random() * end);
const oneOf = (list) => list[below(list.length)];

/** What a round found wrong. */
class Fault extends Error {}

function must(condition, text) {
  if (!condition) throw new Fault(text);
}

/** Starts `rkd`; `kib`: no file may become larger, as with a quota or a full disk. */
function start(args, { kib } = {}) {
  const shell = kib ? ["bash", "-c", `ulimit -f ${kib}; exec "$@"`, "bash"] : [];
  const [program, ...rest] = [...shell, process.execPath, command, ...args];
  const child = spawn(program, rest, { cwd: work, env: { ...process.env, RKD_CACHE: cache, NO_COLOR: "1" } });
  let text = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => (text += chunk));
  child.done = new Promise((resolve) => child.on("close", (code, signal) => resolve({ code, signal, text })));
  return child;
}

const rkd = (...args) => start(args).done;

const data = ["--data", "glyphs:classes=20,writers=8", "--validation", "0.2", "--test", "0.2"];
const network = ["--backbone", "conv4", "--width", "4", "--embedding", "8", "--batch", "16", "--ks", "1"];
const length = ["--epochs", "3", "--steps-per-epoch", "40", "--checkpoint-every", "7", "--threads", "1"];
const flags = (out) => [...data, ...network, ...length, "--out", out];

const hash = (file) => createHash("sha256").update(readFileSync(file)).digest("hex");
const modelOf = (out) => hash(join(out, "model.safetensors"));
const isFinished = (out) => existsSync(join(out, "metrics.json"));
const begin = (out) => (existsSync(join(out, "plan.json")) ? ["resume", out] : ["train", ...flags(out)]);

/** Longer and longer, so that a round ends on any machine. */
const moment = (attempt) => sleep((0.2 + random()) * 600 * 1.25 ** attempt);

let whole; // the model that every run must end with
let kills = 0;

/** The run's folder holds one whole run and nothing else, at the latest after the next start. */
async function checkFolder(out) {
  must(modelOf(out) === whole, "the model is another one");
  const left = () => readdirSync(out, { recursive: true }).filter((name) => /\.tmp$|\.lock$|\.aside$/.test(name));
  if (left().length > 0) await rkd("resume", out); // killed after its last file, before its end
  must(modelOf(out) === whole, "the model is another one after one more start");
  const strange = left();
  must(strange.length === 0, `left behind: ${strange.join(", ")}`);
  JSON.parse(readFileSync(join(out, "plan.json"), "utf8"));
  JSON.parse(readFileSync(join(out, "metrics.json"), "utf8"));
}

/** Ends of a program that stopped for a reason of its own: told by a code that scripts know, never by a signal. */
function checkWords({ code, signal, text }) {
  must(signal === null && code !== null, `ended by ${signal}: ${text.slice(-300)}`);
  must(code !== 1 && !text.includes("ERR_INTERNAL"), `a defect: ${text.slice(-600)}`);
  must(code === 0 || text.trim() !== "", "failed without a word");
}

async function finish(out) {
  if (isFinished(out)) return;
  const end = await rkd(...begin(out));
  must(end.code === 0, `did not go on: ${end.text.slice(-400)}`);
}

const kinds = {
  /** Killed at random moments, in a new run and while it goes on, until it is done. */
  async kill(out) {
    for (let attempt = 0; !isFinished(out); attempt++) {
      const child = start(begin(out));
      await Promise.race([moment(attempt), child.done]);
      if (child.exitCode === null) kills += 1;
      child.kill("SIGKILL");
      const end = await child.done;
      if (end.signal === null) checkWords(end);
    }
    await finish(out);
  },

  /** Stopped by each of the signals. */
  async stop(out) {
    for (let attempt = 0; !isFinished(out); attempt++) {
      const child = start(begin(out));
      await Promise.race([sleep(250 + below(400) * 1.25 ** attempt), child.done]);
      const name = oneOf(["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"]);
      const alive = child.exitCode === null;
      child.kill(name);
      const sent = performance.now();
      const { code, signal, text } = await child.done;
      if (signal === name) continue; // before the program had begun to listen; nothing is lost
      must(!alive || performance.now() - sent < 10_000, `${name} was not heard`);
      must(code === 0 || code === 128 + constants.signals[name], `${name}: code ${code}: ${text.slice(-300)}`);
      if (code === 0) must(isFinished(out), "0 without a model");
    }
  },

  /** A second and a third process on the folder; one of them may be killed. */
  async crowd(out) {
    for (let attempt = 0; !isFinished(out); attempt++) {
      const others = [
        ["train", ...flags(out)],
        ["resume", out],
        ["train", ...flags(out), "--overwrite", "--seed", "9"],
      ];
      const first = start(begin(out));
      while (first.exitCode === null && !existsSync(join(out, "plan.json"))) await sleep(20);
      const second = start(oneOf(others.slice(0, 2)));
      await Promise.race([moment(attempt), first.done]);
      let replaced = false;
      if (first.exitCode === null) {
        const { code, text } = await start(others[2]).done;
        // Where the first one ended meanwhile, the third has replaced its run: that is what it was asked for.
        replaced = code === 0;
        if (first.exitCode === null)
          must(code === 2 && text.includes("in use by process"), `not kept out: ${code} ${text}`);
        if (random() < 0.5) first.kill("SIGKILL");
      }
      const ends = [await first.done, await second.done];
      for (const end of ends) if (end.signal === null) checkWords(end);
      if (replaced) rmSync(out, { recursive: true });
      else if (ends.some(({ code }) => code === 0)) must(isFinished(out), "0 without a model");
    }
  },

  /** The folder is renamed while the run is at it. */
  async move(out) {
    const child = start(["train", ...flags(out)]);
    await Promise.race([sleep(300 + below(1200)), child.done]);
    if (!existsSync(join(out, "plan.json"))) {
      await child.done;
      return;
    }
    renameSync(out, `${out}-moved`);
    const end = await child.done;
    checkWords(end);
    if (end.code === 0) must(isFinished(`${out}-moved`), "0 without a model");
    must(!existsSync(out), "the old folder was made again");
    await finish(`${out}-moved`);
    renameSync(`${out}-moved`, out);
  },

  /** No file may grow beyond a limit; what was written before stays whole. */
  async full(out) {
    let limit = 1 + below(40);
    for (let attempt = 0; !isFinished(out) && attempt < 6; attempt++) {
      const end = await start(begin(out), { kib: limit }).done;
      checkWords(end);
      if (end.code === 0) must(isFinished(out), "0 without a model");
      if (existsSync(join(out, "plan.json"))) JSON.parse(readFileSync(join(out, "plan.json"), "utf8"));
      if (existsSync(join(out, "events.jsonl")) && random() < 0.3) appendFileSync(join(out, "events.jsonl"), '{"half');
      limit *= 2;
    }
    await finish(out);
  },

  /** The folder is a link: one folder by both names. */
  async link(out) {
    mkdirSync(`${out}-real`);
    symlinkSync(`${out}-real`, out);
    const end = await rkd("train", ...flags(out));
    must(end.code === 0, end.text.slice(-300));
    const again = await rkd("train", ...flags(`${out}-real`));
    must(again.code === 2, "a run was replaced without being asked");
  },

  /** A recipe's experiment, killed and called again. */
  async recipe(out) {
    const args = ["reproduce", "ablation", "--scale", "smoke", "--threads", "1", "--out", out];
    for (let attempt = 0; attempt < 4; attempt++) {
      const child = start(args);
      await Promise.race([sleep((0.3 + random()) * 2500), child.done]);
      if (child.exitCode === null) kills += 1;
      child.kill("SIGKILL");
      await child.done;
    }
    const end = await rkd(...args);
    must(end.code === 0, `did not go on: ${end.text.slice(-400)}`);
    const figures = ({ runs }) => JSON.stringify(runs.map(({ figures, failed }) => [figures, failed]));
    const table = figures(JSON.parse(readFileSync(join(out, "table.json"), "utf8")));
    recipeTable ??= table;
    must(table === recipeTable, "the table is another one");
    const left = readdirSync(out, { recursive: true }).filter((name) => /\.tmp$|\.lock$|^trials/.test(name));
    must(left.length === 0, `left behind: ${left.join(", ")}`);
  },

  /** Files that are not what their names say. */
  async hostile(out) {
    const folder = `${out}-data`;
    for (const each of ["a", "b", "c"]) {
      mkdirSync(join(folder, each), { recursive: true });
      for (let i = 0; i < 4; i++) writeFileSync(join(folder, each, `${i}.${oneOf(endings)}`), hostileBytes());
    }
    if (random() < 0.3) symlinkSync(folder, join(folder, "a", "loop"));
    if (random() < 0.3) symlinkSync("nowhere", join(folder, "b", "x.png"));
    const single = join(folder, `one.${oneOf(["zip", "tar", "tar.gz", "png", "mat"])}`);
    writeFileSync(single, hostileBytes());
    for (const args of [
      ["doctor", "data", oneOf([folder, single])],
      ["train", "--data", oneOf([folder, single]), ...network, "--out", out],
    ]) {
      const child = start(args);
      const slow = setTimeout(() => child.kill("SIGKILL"), 30_000);
      const end = await child.done;
      clearTimeout(slow);
      must(end.signal !== "SIGKILL", `hung on ${args.join(" ")}`);
      checkWords(end);
    }
  },
};

let recipeTable;
const endings = ["png", "jpg", "jpeg", "webp", "bmp", "gif", "tif", "tiff"];
const heads = [
  "89504e470d0a1a0a0000000d49484452",
  "ffd8ffe000104a464946",
  "52494646ffffffff57454250",
  "424d",
  "474946383961",
]
  .concat(["49492a00080000", "4d4d002a", "504b0304", "504b0506", "1f8b0800", "00000803", "00000801", "4d41544c4142"])
  .map((hex) => Buffer.from(hex, "hex"));

/** A head that promises something, and then noise. */
function hostileBytes() {
  const noise = Buffer.from(Array.from({ length: below(600) }, () => below(256)));
  return random() < 0.1 ? Buffer.alloc(0) : Buffer.concat([oneOf(heads), noise]);
}

setUp();
const wanted = values.only?.split(",") ?? Object.keys(kinds);
const counts = {};
const failures = [];
const begun = performance.now();
const reference = await rkd("train", ...flags(join(work, "whole")));
if (reference.code !== 0) throw new Error(reference.text);
whole = modelOf(join(work, "whole"));
const compared = ["kill", "stop", "crowd", "move", "full", "link"];
let rounds = 0;
for (; rounds < Number(values.rounds) && performance.now() - begun < 1000 * Number(values.seconds); rounds++) {
  const kind = rounds < wanted.length ? wanted[rounds] : oneOf(wanted);
  const out = join(work, `${kind}-${rounds}`);
  try {
    await kinds[kind](out);
    if (compared.includes(kind)) await checkFolder(out);
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    failures.push(`round ${rounds}, ${kind}: ${error.message}`);
    console.log(`FAILED: ${failures.at(-1)}`);
  }
  counts[kind] = (counts[kind] ?? 0) + 1;
  for (const name of readdirSync(work)) {
    if (name.startsWith(`${kind}-${rounds}`)) rmSync(join(work, name), { recursive: true, force: true });
  }
}
const seconds = ((performance.now() - begun) / 1000).toFixed(0);
const each = Object.entries(counts).map(([kind, count]) => `${kind} ${count}`);
const size = statSync(cache, { throwIfNoEntry: false }) ? readdirSync(cache).length : 0;
console.log(`${rounds} rounds in ${seconds} s (${each.join(", ")}), ${kills} kills, ${size} files in the cache`);
console.log(failures.length === 0 ? "all ended with the same bytes" : `${failures.length} FAILED`);
process.exitCode = failures.length === 0 ? 0 : 1;
