// Ends worker threads in the middle of a run, with the addon loaded in the main thread too. A use after free in the
// addon would end this process with a signal. Arguments: how many workers, the folder to work in.
import { join } from "node:path";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { conv4, evaluateLoss, glyphs, resume, rkdDistance, train } from "../../dist/index.js";

const options = (out) => ({
  data: glyphs({ classes: 20, writers: 8, split: { kind: "classes", validation: 0.2, test: 0.2 } }),
  backbone: conv4({ width: 4, embedding: 8 }),
  batch: { size: 16, perClass: 4 },
  stepsPerEpoch: 100_000,
  out,
});

if (isMainThread) {
  const [count, folder] = process.argv.slice(2);
  const features = { data: [0, 1, 2, 3], shape: [2, 2] };
  evaluateLoss(rkdDistance(), { student: features, teacher: features });
  for (let i = 0; i < Number(count); i++) {
    const worker = new Worker(new URL(import.meta.url), { workerData: join(folder, String(i)) });
    await new Promise((resolve, reject) => worker.once("message", resolve).once("error", reject));
    await worker.terminate();
  }
  // An ended thread holds no folder: its run goes on here.
  for await (const event of resume(join(folder, "0"))) if (event.type === "step") break;
  console.log("alive");
} else {
  for await (const event of train(options(workerData))) if (event.type === "step") parentPort.postMessage("step");
}
