// Whether MLflow and TensorBoard understand what the reporters write: a real MLflow server and TensorBoard's own reader, both
// of PyPI in `bench/.venv-trackers` (some minutes the first time), get a small run and are asked for its numbers.
//
//   node bench/trackers.mjs
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { conv4, csv, glyphs, mlflow, tensorboard, train } from "../dist/index.js";
import { must, root } from "../scripts/setup.mjs";

const environment = process.env.RKD_TRACKERS ?? join(root, "bench", ".venv-trackers");
const bin = (name) => join(environment, process.platform === "win32" ? "Scripts" : "bin", name);
if (!existsSync(bin("mlflow"))) {
  must(["python3", "-m", "venv", environment], "making a virtual environment");
  must(
    [bin("python"), "-m", "pip", "install", "--quiet", "mlflow", "tensorboard"],
    "installing MLflow and TensorBoard",
  );
}

const PORT = 5099;
const url = `http://127.0.0.1:${PORT}`;
const folder = mkdtempSync(join(tmpdir(), "rkd-trackers-"));
const out = join(folder, "run");
const store = ["--backend-store-uri", `sqlite:///${join(folder, "mlflow.db")}`, "--default-artifact-root", folder];
const server = spawn(
  bin("mlflow"),
  ["server", "--host", "127.0.0.1", "--port", String(PORT), "--workers", "1", ...store],
  {
    detached: true, // its workers end with it
    stdio: "ignore",
  },
);

async function ask(method, body) {
  const sent = body && { method: "POST", body: JSON.stringify(body), headers: { "content-type": "application/json" } };
  const response = await fetch(`${url}/api/2.0/mlflow/${method}`, sent);
  return await response.json();
}

try {
  for (let tries = 0; !(await fetch(`${url}/health`).catch(() => undefined))?.ok; tries++) {
    if (tries > 600) throw new Error("the MLflow server does not start");
    await sleep(500);
  }
  const run = train({
    data: glyphs({ classes: 20, writers: 8 }),
    backbone: conv4({ width: 4, embedding: 8 }),
    batch: { size: 16 },
    epochs: 2,
    out,
    reporters: [csv(), tensorboard(), mlflow({ url, experiment: "trackers" })],
  });
  const warnings = [];
  for await (const event of run) if (event.type === "warning") warnings.push(event.message);
  assert.deepEqual(warnings, []);
  const rows = readFileSync(join(out, "scalars.csv"), "utf8").trim().split("\n").slice(1);
  const losses = rows.filter((row) => row.includes(",train/loss,")).map((row) => Number(row.split(",").at(-1)));

  const { experiment } = await ask("experiments/get-by-name?experiment_name=trackers");
  const { runs } = await ask("runs/search", { experiment_ids: [experiment.experiment_id] });
  assert.equal(runs.length, 1);
  const { info, data } = runs[0];
  assert.equal(info.status, "FINISHED");
  assert.equal(data.params.find(({ key }) => key === "backbone.kind").value, "conv4");
  const history = await ask(`metrics/get-history?run_id=${info.run_id}&metric_key=train/loss`);
  assert.deepEqual(
    history.metrics.map(({ value }) => value),
    losses,
  );
  assert.ok(data.metrics.some(({ key }) => key === "validation/recall_at_1"));

  const program = `
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0})
events.Reload()
print(json.dumps({tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}))`;
  const { stdout, stderr, status } = spawnSync(bin("python"), ["-c", program, join(out, "tensorboard")], {
    encoding: "utf8",
  });
  assert.equal(status, 0, stderr);
  const tags = JSON.parse(stdout);
  assert.deepEqual(
    tags["train/loss"].map(([, value]) => value),
    losses.map(Math.fround),
  );
  assert.deepEqual(
    tags["train/loss"].map(([step]) => step),
    losses.map((_, i) => i + 1),
  );
  assert.ok("validation/recall@1" in tags && "test/recall@1" in tags);
  console.log(
    `MLflow and TensorBoard have all ${losses.length} steps, and ${Object.keys(tags).length} kinds of numbers.`,
  );
} finally {
  process.kill(-server.pid);
  rmSync(folder, { recursive: true, force: true });
}
