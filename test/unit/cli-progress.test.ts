import { expect, it, vi } from "vitest";
import { stepLine, textReporter } from "../../src/cli/progress.ts";
import type { EvaluationEvent, StepEvent } from "../../src/events.ts";

const term = (name: string, value: number) => ({ name, weight: 1, value, gradientNorm: 0 });
const step: StepEvent = {
  type: "step",
  step: 700,
  totalSteps: 3000,
  epoch: 14,
  loss: 0.043_125,
  terms: [term("rkd-distance", 0.012_3), term("rkd-angle", 0.031)],
  learningRate: 1e-3,
  gradientNorm: 1,
  imagesPerSecond: 1812.4,
  dataWaitShare: 0.124,
  rankWaitShare: 0,
};
const standing = { secondsLeft: 752, epochs: 60, score: { name: "recall@1", last: 0.412, best: 0.43 } };

it("begins with the time left and has all that matters, with room for each term", () => {
  const line = stepLine(step, standing, 200);
  expect(line).toBe(
    "12 min 32 s left  epoch 14/60  1,812 images/s  loss 0.04312  recall@1 41.2 %, best 43.0 %  waited for data 12 %  rkd-distance 0.0123  rkd-angle 0.0310",
  );
});

it("says all but the terms in 80 columns, in shorter words", () => {
  const line = stepLine(step, standing, 79);
  expect(line).toBe("12m32s left epoch 14/60 1812 img/s loss 0.0431 recall@1 41.2 best 43.0 wait 12%");
  expect(line.length).toBeLessThanOrEqual(79);
});

it("cuts off what matters least where there is hardly any room", () => {
  expect(stepLine(step, standing, 30)).toBe("12m32s left epoch 14/60 1812 i");
});

it("knows no time and no score before there are any", () => {
  expect(stepLine(step, { secondsLeft: Number.NaN, epochs: 60, score: undefined }, 79)).toBe(
    "? left  epoch 14/60  1,812 images/s  loss 0.04312  waited for data 12 %",
  );
});

it("shows the metric that says which epoch is best, however the metrics are ordered", () => {
  const written = vi.spyOn(process.stderr, "write").mockReturnValue(true);
  const clock = vi.spyOn(performance, "now").mockReturnValue(60_000); // a line is due
  const reporter = textReporter();
  const of = (overlap: number, correlation: number, best: boolean) => {
    const metrics = { distanceRankCorrelation: correlation, neighbourOverlap: overlap };
    const at = {
      step: 700,
      epoch: 14,
      part: "validation",
      who: "student",
      teacher: null,
      images: 80,
      classes: 0,
    } as const;
    const rest = { intervals: {}, fidelity: [], prefixes: [], millisecondsPerImage: 1 };
    reporter.event({ type: "evaluation", ...at, best, metrics, ...rest } as unknown as EvaluationEvent);
  };
  of(0.4, 0.3, true);
  of(0.25, 0.9, false);
  reporter.event(step);
  const said = written.mock.calls.map(([text]) => String(text)).join("");
  written.mockRestore();
  clock.mockRestore();
  expect(said).toContain("neighbourOverlap 25.0 %, best 40.0 %");
});
