// One model in several worker threads: each embeds the image many times at once, some are ended in the middle of it, and the
// main thread embeds it last. Arguments: the model, the image. Prints all rows as JSON.
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { loadModel } from "../../dist/index.js";

if (isMainThread) {
  const [location, image] = process.argv.slice(2);
  const workerData = { location, image };
  const start = () => new Worker(new URL(import.meta.url), { workerData });
  const said = (worker) => new Promise((resolve, reject) => worker.once("message", resolve).once("error", reject));
  const workers = [start(), start(), start(), start()];
  const rows = await Promise.all(workers.map(said));
  await Promise.all(workers.map((worker) => worker.terminate()));
  const model = await loadModel(location);
  rows.push([...(await model.embed(image))]);
  process.stdout.write(JSON.stringify(rows));
} else {
  const model = await loadModel(workerData.location);
  const all = Array.from({ length: 200 }, () => model.embed(workerData.image));
  parentPort.postMessage([...(await all[0])]);
  await Promise.all(all);
}
