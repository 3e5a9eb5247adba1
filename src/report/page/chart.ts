/** Curves, by uPlot: with the mouse, with fingers, and with the keyboard. */

import uPlot from "uplot";
import sheet from "uplot/dist/uPlot.min.css";
import type { Chart, Line } from "../blocks.ts";
import { button, colour, element, ink, isDashed, onArrows, short, whenColoursChange } from "./look.ts";

document.head.prepend(element("style", {}, sheet));

/** What a chart shows of its x axis, and how; kept for when its numbers change. */
interface View {
  range: [number, number] | undefined;
  logarithmic: boolean;
}

const views = new Map<string, View>();
const HEIGHT = 260;

/** Draws a chart into `place`. */
export function chart(place: HTMLElement, title: string, id: string, data: Omit<Chart, "id" | "title">): void {
  const { lines, x, y } = data;
  const view = views.get(id) ?? { range: undefined, logarithmic: data.logarithmic ?? false };
  views.set(id, view);
  const aligned = align(lines);
  const xs = aligned[0];
  const [first = 0, last = 1] = [xs[0], xs.at(-1)];
  const positive = lines.every(({ points }) => points.every(([, value]) => value > 0));
  const canvas = element("div", { tabindex: "0", role: "group", "aria-label": described(title, lines, x, y) });
  const plot = () => {
    canvas.replaceChildren();
    const width = Math.max(240, place.clientWidth);
    const made = new uPlot(options(lines, x, y, width, view), aligned, canvas);
    made.root.setAttribute("aria-hidden", "true");
    if (view.range) zoom(view.range);
    return made;
  };
  let made: uPlot | undefined;
  const zoom = ([from, to]: [number, number]) => made?.setScale("x", { min: from, max: to });
  const change = (scale: number, shift: number) => {
    const [from, to] = view.range ?? [first, last];
    const [middle, half] = [(from + to) / 2 + (shift * (to - from)) / 4, ((to - from) / 2) * scale];
    const least = (last - first) / 1000 || 1;
    const next: [number, number] = [Math.max(first, middle - half), Math.min(last, middle + half)];
    if (next[1] - next[0] >= least) show(next);
  };
  const show = (range: [number, number] | undefined) => {
    view.range = range;
    zoom(range ?? [first, last]);
  };
  const buttons = element(
    "div",
    { class: "buttons" },
    button("+", `Zoom in: ${title}`, () => change(0.5, 0)),
    button("−", `Zoom out: ${title}`, () => change(2, 0)),
    button("←", `To the left: ${title}`, () => change(1, -1)),
    button("→", `To the right: ${title}`, () => change(1, 1)),
    button("all", `all: show the whole, ${title}`, () => show(undefined)),
  );
  const again = () => {
    made?.destroy();
    made = undefined;
    made = plot();
    if (view.range) zoom(view.range);
  };
  if (positive) {
    buttons.append(
      button("log", `log: logarithmic or linear, ${title}`, () => {
        view.logarithmic = !view.logarithmic;
        again();
      }),
    );
  } else view.logarithmic = false;
  place.replaceChildren(canvas, buttons);
  again();
  let at = xs.length - 1;
  onArrows(canvas, (by) => {
    if (!made) return;
    at = Math.min(xs.length - 1, Math.max(0, at + by));
    made.setCursor({ left: made.valToPos(xs[at] ?? 0, "x"), top: HEIGHT / 3 });
  });
  canvas.addEventListener("keydown", ({ key }) => {
    if (key === "+") change(0.5, 0);
    if (key === "-") change(2, 0);
    if (key === "0") show(undefined);
  });
  // By hand: a drag with the mouse, or a double click.
  canvas.addEventListener("mouseup", () => remember());
  canvas.addEventListener("dblclick", () => show(undefined));
  const remember = () =>
    setTimeout(() => {
      const { min, max } = made?.scales.x ?? {};
      if (min !== undefined && max !== undefined && (min > first || max < last)) view.range = [min, max];
    });
  whenColoursChange(place, () => made?.redraw(false));
  new ResizeObserver(() => {
    const width = Math.max(240, place.clientWidth);
    if (made && Math.abs(width - made.width) > 1) made.setSize({ width, height: HEIGHT });
  }).observe(place);
}

/** Steps and epochs are whole. */
const wholeSteps = Array.from({ length: 10 }, (_, power) => [1, 2, 5].map((digit) => digit * 10 ** power)).flat();

function options(lines: readonly Line[], x: string, y: string, width: number, view: View): uPlot.Options {
  const axis = {
    stroke: () => ink("faint"),
    grid: { stroke: () => ink("line"), width: 1 },
    ticks: { stroke: () => ink("line") },
  };
  const value = (_: uPlot, found: number | null) => (found === null || found === undefined ? "–" : short(found));
  return {
    width,
    height: HEIGHT,
    cursor: { drag: { x: true, y: false }, points: { size: 6 } },
    scales: { x: { time: false }, y: view.logarithmic ? { distr: 3, log: 10 } : {} },
    axes: [
      { ...axis, label: x, labelSize: 20, size: 34, incrs: wholeSteps },
      {
        ...axis,
        label: y,
        labelSize: 20,
        size: 58,
        values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : short(tick))),
      },
    ],
    series: [
      { label: x, value },
      ...lines.map(({ name, colour: place, thin, points }) => ({
        label: name,
        value,
        stroke: thin ? `${colour(place)}55` : colour(place),
        width: thin ? 1 : 2,
        spanGaps: true,
        points: { show: points.length < 30 && !thin, size: 5 },
        ...(isDashed(place) && { dash: [6, 4] }),
      })),
    ],
  };
}

/** All lines over one list of x. */
function align(lines: readonly Line[]): uPlot.AlignedData & [number[], ...(number | null)[][]] {
  const all = new Set<number>();
  for (const { points } of lines) for (const [x] of points) all.add(x);
  const xs = [...all].sort((a, b) => a - b);
  const values = lines.map(({ points }) => {
    const found = new Map(points);
    return xs.map((x) => found.get(x) ?? null);
  });
  return [xs, ...values];
}

/** The chart in words. */
function described(title: string, lines: readonly Line[], x: string, y: string): string {
  const ends = lines
    .filter(({ thin }) => !thin)
    .map(({ name, points }) => {
      const [first, last] = [points[0], points.at(-1)];
      return first && last ? `${name} from ${short(first[1])} to ${short(last[1])}` : `${name} without values`;
    });
  return `Chart: ${title}; ${y} over ${x}; ${ends.join(", ")}. Plus and minus zoom, 0 shows all, arrows read values.`;
}
