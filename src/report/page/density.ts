/** How many pairs have which distance for the teacher and for the student. */

import type { Widget } from "../blocks.ts";
import { element, ink, onArrows, svg, whenColoursChange } from "./look.ts";

type Data = Extract<Widget, { widget: "density" }>["data"];

/** Draws it into `place`. */
export function density(place: HTMLElement, title: string, { size, most, counts }: Data): void {
  const canvas = element("canvas", { width: String(size), height: String(size) });
  const marks = svg("svg", { viewBox: `0 0 ${size} ${size}`, "aria-hidden": "true" });
  marks.setAttribute("style", "position:absolute;inset:0;border:0;background:none");
  const label = `${title}: teacher to the right, student upwards. Arrows move the probe.`;
  const plot = element("div", { class: "plot", tabindex: "0", role: "group", "aria-label": label }, canvas, marks);
  const said = element("p", { class: "axis", role: "status" });
  const axes = element(
    "p",
    { class: "axis" },
    `to the right: the teacher's distance, upwards: the student's, both from 0 to ${most.toFixed(1)} times the mean; the line is where they are equal`,
  );
  place.replaceChildren(plot, axes, said);
  const highest = Math.max(...counts, 1);
  const diagonal = svg("line", { x1: 0, y1: size, x2: size, y2: 0, "stroke-width": 0.4, "stroke-dasharray": "1.5 1" });
  const probe = svg("rect", { width: 1, height: 1, fill: "none", "stroke-width": 0.3, visibility: "hidden" });
  marks.append(diagonal, probe);
  const paint = () => {
    const context = canvas.getContext("2d");
    if (!context) return;
    context.clearRect(0, 0, size, size);
    context.fillStyle = ink("accent");
    for (const [at, count] of counts.entries()) {
      if (count === 0) continue;
      // By the logarithm, so that a single pair is seen beside thousands.
      context.globalAlpha = 0.12 + (0.88 * Math.log1p(count)) / Math.log1p(highest);
      context.fillRect(at % size, size - 1 - Math.floor(at / size), 1, 1);
    }
    for (const mark of [diagonal, probe]) mark.setAttribute("stroke", ink("ink"));
  };
  paint();
  whenColoursChange(place, paint);
  let [x, y] = [Math.floor(size / 2), Math.floor(size / 2)];
  const look = (toX: number, toY: number) => {
    [x, y] = [toX, toY].map((value) => Math.min(size - 1, Math.max(0, value))) as [number, number];
    probe.setAttribute("x", String(x));
    probe.setAttribute("y", String(size - 1 - y));
    probe.setAttribute("visibility", "visible");
    const range = (step: number) =>
      `${((step / size) * most).toFixed(2)} to ${(((step + 1) / size) * most).toFixed(2)}`;
    said.textContent = `teacher ${range(x)}, student ${range(y)}: ${(counts[y * size + x] ?? 0).toLocaleString("en")} pairs`;
  };
  plot.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    look(
      Math.floor(((event.clientX - box.left) / box.width) * size),
      Math.floor((1 - (event.clientY - box.top) / box.height) * size),
    );
  });
  onArrows(plot, (byX, byY) => look(x + byX, y + byY));
}
