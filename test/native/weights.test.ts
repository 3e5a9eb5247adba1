/** Weights that a run begins with: what is taken, what is frozen, what is refused. */

import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { conv4, glyphs, mlp, type RunEvent, resnet, resume, train } from "../../src/index.ts";
import { temporaryFolder } from "../support/folders.ts";
import { smallRun } from "../support/small.ts";
import { readTensors } from "../support/tensors.ts";

/** torchvision's resnet18 with one channel where it has 64, saved by PyTorch. */
const checkpoint = resolve("crates/core/tests/weights/resnet18.pth");
const colour = glyphs({ classes: 20, writers: 8, channels: 3, imageSize: 32 });
const tiny = resnet(18, { width: 1, embedding: 5, stem: "imagenet" });

const warningsOf = (events: readonly RunEvent[]) =>
  events.flatMap((event) => (event.type === "warning" ? [event.message] : []));

async function run(options: Parameters<typeof train>[0]): Promise<RunEvent[]> {
  const events: RunEvent[] = [];
  for await (const event of train(options)) events.push(event);
  return events;
}

describe("weights", () => {
  it("of PyTorch are where the run begins, and what is frozen stays as it was", async () => {
    const out = join(temporaryFolder(), "run");
    // By the running statistics of the file, which belong to no images, nothing of it is above 0.
    const tuning = { freeze: ["conv1", "layer1"], batchNorm: "batch" } as const;
    const options = { data: colour, backbone: tiny, epochs: 1, weights: checkpoint, ...tuning };
    const events = await run(smallRun(out, options));
    expect(warningsOf(events)).toEqual([]);
    const other = join(temporaryFolder(), "run");
    await run(smallRun(other, { ...options, seed: 2 }));
    const [first, second] = [readTensors(out), readTensors(other)];
    for (const name of ["conv1.weight", "layer1.0.conv1.weight", "layer1.1.bn2.bias"]) {
      expect(first[name], name).toEqual(second[name]);
    }
    expect(first["layer2.0.conv1.weight"]).not.toEqual(second["layer2.0.conv1.weight"]);
  });

  it("of another head are taken but for it, and a warning says so", async () => {
    const out = join(temporaryFolder(), "run");
    const backbone = resnet(18, { width: 1, embedding: 4, stem: "imagenet" });
    const events = await run(smallRun(out, { data: colour, backbone, epochs: 1, weights: checkpoint }));
    expect(warningsOf(events).join()).toMatch(/120 tensors were taken.*random start: fc.weight, fc.bias/);
  });

  it("of another network are refused with a list of what does not fit", async () => {
    const out = join(temporaryFolder(), "run");
    const failure = run(smallRun(out, { data: colour, weights: checkpoint }));
    await expect(failure).rejects.toMatchObject({ code: "ERR_INVALID_ARTEFACT", subject: checkpoint });
    await expect(failure).rejects.toThrow(/missing: blocks.0.0.weight.*unexpected: bn1.bias/);
  });

  it("may be those of a run, and a pattern that chooses nothing is refused with near names", async () => {
    const teacher = join(temporaryFolder(), "run");
    await run(smallRun(teacher, { epochs: 1 }));
    const backbone = conv4({ width: 4, embedding: 6 });
    const out = join(temporaryFolder(), "run");
    const options = { backbone, epochs: 1, weights: teacher, learningRates: { fc: 10 } };
    expect(warningsOf(await run(smallRun(out, options))).join()).toContain("random start: fc.weight, fc.bias");
    expect(readTensors(out)["blocks.0.1.running_mean"]).toEqual(readTensors(teacher)["blocks.0.1.running_mean"]);
    // What begins with trained weights can forget them: it moves less, and keeps their statistics and its best ones.
    const planOf = (folder: string) => JSON.parse(readFileSync(join(folder, "plan.json"), "utf8"));
    const usual = [teacher, out]
      .map(planOf)
      .map(({ plan: { tuning, optimizer }, policy }) => [policy.keep, tuning.batchNorm, optimizer.learningRate]);
    expect(usual).toEqual([
      ["last", "batch", 1e-3],
      ["best", "running", 1e-4],
    ]);
    const failure = run(smallRun(join(temporaryFolder(), "run"), { ...options, freeze: ["block.0"] }));
    await expect(failure).rejects.toMatchObject({ code: "ERR_INVALID_OPTION", subject: "freeze" });
    await expect(failure).rejects.toThrow(/such as blocks.0/);
  });
});

describe("a run from weights", () => {
  it("that was stopped and resumed ends with the same bytes, and a changed file is refused", async () => {
    const folder = temporaryFolder();
    const weights = join(folder, "tiny.pth");
    copyFileSync(checkpoint, weights);
    const backbone = resnet(18, { width: 1, embedding: 4, stem: "imagenet" });
    const tuning = { weights, freeze: ["conv1", "layer3.*.bn2"], learningRates: { fc: 3 } };
    const options = smallRun(join(folder, "whole"), { data: colour, backbone, stepsPerEpoch: 20, ...tuning });
    await run(options);
    const out = join(folder, "cut");
    const controller = new AbortController();
    const cut = train({ ...options, out, signal: controller.signal });
    const reading = (async () => {
      for await (const event of cut) if (event.type === "step") controller.abort(new Error("enough"));
    })();
    await expect(cut).rejects.toThrow("enough");
    await expect(reading).rejects.toThrow("enough");
    const events: RunEvent[] = [];
    for await (const event of resume(out)) events.push(event);
    expect(warningsOf(events)).toEqual([]); // said once, when the run began
    expect(readTensors(out)).toEqual(readTensors(join(folder, "whole")));
    writeFileSync(weights, "other");
    await expect(resume(out)).rejects.toMatchObject({ code: "ERR_INVALID_ARTEFACT", subject: weights });
  });
});

describe("a perceptron", () => {
  it("learns from flattened images", async () => {
    const out = join(temporaryFolder(), "run");
    await run(smallRun(out, { backbone: mlp({ hidden: [16], embedding: 4 }), epochs: 1 }));
    expect(Object.keys(readTensors(out))).toEqual(["fc.bias", "fc.weight", "layers.0.bias", "layers.0.weight"]);
  });
});
