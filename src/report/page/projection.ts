/** The same images on a plane through each network's embeddings; pointing at one shows it in all. */

import type { DocumentImage, Widget } from "../blocks.ts";
import { colour, element, ink, onArrows, pictured, svg, whenColoursChange } from "./look.ts";

type Data = Extract<Widget, { widget: "projection" }>["data"];

/** Groups whose names stand beside their colours. */
const NAMED = 24;

/** Draws it into `place`. */
export function projection(place: HTMLElement, title: string, data: Data, images: readonly DocumentImage[]): void {
  const { images: of, groups, names, networks } = data;
  const pair = element("div", { class: "pair" });
  const said = element("div", { class: "said", role: "status" });
  const rings: SVGElement[] = [];
  let chosen = 0;
  const look = (at: number) => {
    chosen = (at + of.length) % of.length;
    for (const [i, ring] of rings.entries()) {
      const [x, y] = networks[i]?.points[chosen] ?? [0, 0];
      ring.setAttribute("cx", String(x));
      ring.setAttribute("cy", String(-y));
      ring.setAttribute("visibility", "visible");
    }
    const image = images[of[chosen] ?? -1];
    const name = image?.class || names[groups[chosen] ?? -1] || "";
    said.replaceChildren(
      ...(image?.src ? [pictured(image)] : []),
      element("span", {}, name, element("br"), element("small", {}, image?.id ?? "")),
    );
  };
  for (const { name, points, explained } of networks) {
    const drawing = svg("svg", { viewBox: "-1.08 -1.08 2.16 2.16" });
    drawing.setAttribute("aria-hidden", "true");
    const dots = points.map(([x, y], i) =>
      svg("circle", { cx: x, cy: -y, r: 0.022, fill: colour(groups[i] ?? 0), "fill-opacity": 0.75 }),
    );
    const ring = svg("circle", { r: 0.05, fill: "none", "stroke-width": 0.015, visibility: "hidden" });
    rings.push(ring);
    drawing.append(...dots, ring);
    const label = `${title}, ${name}. Arrows go from image to image.`;
    const plot = element("div", { class: "plot", tabindex: "0", role: "group", "aria-label": label }, drawing);
    const share = `${Math.round(100 * explained)} % of the variance is in this plane`;
    pair.append(element("div", {}, element("strong", {}, name), " ", element("small", {}, share), plot));
    plot.addEventListener("pointermove", (event) => {
      const box = plot.getBoundingClientRect();
      const x = ((event.clientX - box.left) / box.width) * 2.16 - 1.08;
      const y = 1.08 - ((event.clientY - box.top) / box.height) * 2.16;
      const far = points.map((point) => (point[0] - x) ** 2 + (point[1] - y) ** 2);
      const near = far.indexOf(Math.min(...far));
      if (near >= 0) look(near);
    });
    onArrows(plot, (byX, byY) => look(chosen + byX + byY));
  }
  const colours = () => {
    for (const ring of rings) ring.setAttribute("stroke", ink("ink"));
  };
  colours();
  whenColoursChange(place, colours);
  said.append(
    element("span", { class: "axis" }, "Point at a dot, or move with the arrow keys, to see the image in both."),
  );
  const key = element("ul", { class: "keys" });
  if (names.length <= NAMED) {
    for (const [i, name] of names.entries()) {
      key.append(element("li", {}, element("span", { style: `background:${colour(i)}` }), name));
    }
  }
  place.replaceChildren(pair, key, said);
}
