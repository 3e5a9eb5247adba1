/** The distances of the same images by each network, as heat maps side by side. */

import type { DocumentImage, Widget } from "../blocks.ts";
import { element, ink, onArrows, pictured, svg, whenColoursChange } from "./look.ts";

type Data = Extract<Widget, { widget: "matrices" }>["data"];

/** From near to far; even steps in lightness, for every eye and in print. */
const shades: readonly (readonly [number, number, number])[] = [
  [13, 8, 65],
  [84, 2, 163],
  [139, 10, 165],
  [185, 50, 137],
  [219, 92, 104],
  [244, 136, 73],
  [254, 188, 43],
  [240, 249, 33],
];

/** Draws them into `place`. */
export function matrices(place: HTMLElement, title: string, data: Data, images: readonly DocumentImage[]): void {
  const { images: of, groups, networks, most } = data;
  const n = of.length;
  const bytes = networks.map(({ bytes: text }) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)));
  const pair = element("div", { class: "pair" });
  const said = element("div", { class: "said", role: "status" });
  const probes: SVGElement[] = [];
  let [column, row] = [0, Math.min(1, n - 1)];
  const nameOf = (at: number) => groups.findLast(({ from }) => from <= at)?.name ?? "";
  const look = (toColumn: number, toRow: number) => {
    [column, row] = [toColumn, toRow].map((value) => Math.min(n - 1, Math.max(0, value))) as [number, number];
    for (const probe of probes) {
      probe.setAttribute("d", `M${column + 0.5} 0V${n}M0 ${row + 0.5}H${n}`);
    }
    const shown = [row, column].map((at) => {
      const image = images[of[at] ?? -1];
      return image ? pictured(image) : "";
    });
    const far = networks.map(
      ({ name }, i) => `${name} ${(((bytes[i]?.[row * n + column] ?? 0) / 255) * most).toFixed(2)}`,
    );
    const names = [row, column].map((at) => nameOf(at) || images[of[at] ?? -1]?.id || "").join(" and ");
    said.replaceChildren(...shown, element("span", {}, `${names}: ${far.join(", ")}`));
  };
  for (const [i, { name }] of networks.entries()) {
    const canvas = element("canvas", { width: String(n), height: String(n) });
    const marks = svg("svg", { viewBox: `0 0 ${n} ${n}`, "aria-hidden": "true" });
    marks.setAttribute("style", "position:absolute;inset:0;border:0;background:none");
    const lines = groups.slice(1).map(({ from }) => `M${from} 0V${n}M0 ${from}H${n}`);
    // Many groups would be all lines.
    if (groups.length <= 30)
      marks.append(svg("path", { d: lines.join(""), stroke: "#fff", "stroke-opacity": 0.55, "stroke-width": n / 400 }));
    const probe = svg("path", { fill: "none", "stroke-width": n / 300 });
    marks.append(probe);
    probes.push(probe);
    const label = `${title}, ${name}. Arrows move the probe.`;
    const plot = element("div", { class: "plot", tabindex: "0", role: "group", "aria-label": label }, canvas, marks);
    pair.append(element("div", {}, element("strong", {}, name), plot));
    paint(canvas, bytes[i] ?? new Uint8Array(), n);
    plot.addEventListener("pointermove", (event) => {
      const box = canvas.getBoundingClientRect();
      const at = (value: number, from: number, length: number) => Math.floor(((value - from) / length) * n);
      look(at(event.clientX, box.left, box.width), at(event.clientY, box.top, box.height));
    });
    onArrows(plot, (x, y) => look(column + x, row - y));
  }
  const colours = () => {
    for (const probe of probes) probe.setAttribute("stroke", ink("paper"));
  };
  colours();
  whenColoursChange(place, colours);
  said.append(
    element("span", { class: "axis" }, "Point at a field, or move with the arrow keys, to see which images it is of."),
  );
  place.replaceChildren(pair, scale(most), said);
}

function paint(canvas: HTMLCanvasElement, values: Uint8Array, n: number): void {
  const context = canvas.getContext("2d");
  if (!context || n === 0) return;
  const pixels = context.createImageData(n, n);
  for (const [at, value] of values.entries()) pixels.data.set([...shade(value / 255), 255], 4 * at);
  context.putImageData(pixels, 0, 0);
}

function shade(share: number): [number, number, number] {
  const place = share * (shades.length - 1);
  const [low, high] = [shades[Math.floor(place)], shades[Math.ceil(place)]];
  const part = place - Math.floor(place);
  const mix = (i: 0 | 1 | 2) => Math.round((low?.[i] ?? 0) * (1 - part) + (high?.[i] ?? 0) * part);
  return [mix(0), mix(1), mix(2)];
}

/** Which colour is which distance. */
function scale(most: number): HTMLElement {
  const stops = shades.map((_, i) => `rgb(${shade(i / (shades.length - 1)).join(" ")})`);
  const bar = element("span", {
    style: `display:inline-block;width:8rem;height:0.8em;background:linear-gradient(90deg,${stops.join()})`,
  });
  return element("p", { class: "axis" }, "0 ", bar, ` ${most.toFixed(1)} times the mean distance`);
}
