/** Colours, elements, and the numbers of a page: what its drawings share. */
import type { DocumentImage } from "../blocks.ts";

/** Told apart on light and dark ground, by most people's eyes. */
const colours = ["#3b82f6", "#ef4444", "#10a37f", "#d98e04", "#8b5cf6", "#0ea5b7", "#db2777", "#6b8e23"];

/** The colour of a group or line. */
export function colour(place: number): string {
  return colours[place % colours.length] ?? "#888888";
}

/** Lines beyond the colours are dashed. */
export function isDashed(place: number): boolean {
  return place >= colours.length;
}

let printing = false;
const redraws = new Set<() => void>();

/** A colour of the style sheet, as it is now; paper is white. */
export function ink(name: "ink" | "faint" | "line" | "paper" | "accent"): string {
  if (printing) return { ink: "#000", faint: "#444", line: "#bbb", paper: "#fff", accent: "#1d5fd1" }[name];
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

/** Calls `redraw` whenever the colours change, for as long as `place` is on the page. */
export function whenColoursChange(place: HTMLElement, redraw: () => void): void {
  const own = () => (place.isConnected ? redraw() : void redraws.delete(own));
  redraws.add(own);
}

function redrawAll(): void {
  for (const redraw of redraws) redraw();
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawAll);
for (const [event, now] of [
  ["beforeprint", true],
  ["afterprint", false],
] as const) {
  addEventListener(event, () => {
    printing = now;
    redrawAll();
  });
}

/** An element with attributes and children. */
export function element<Name extends keyof HTMLElementTagNameMap>(
  name: Name,
  attributes: Readonly<Record<string, string>> = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[Name] {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** An image, or the name of what is none. */
export function pictured({ src, id }: DocumentImage): HTMLElement {
  return src ? element("img", { src, alt: id }) : element("small", {}, id);
}

/** An SVG element. */
export function svg(name: string, attributes: Readonly<Record<string, string | number>>): SVGElement {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  return made;
}

/** A button that says what it does. */
export function button(text: string, label: string, action: () => void): HTMLButtonElement {
  const made = element("button", { type: "button", "aria-label": label, title: label }, text);
  made.addEventListener("click", action);
  return made;
}

/** A number with as many digits as are read. */
export function short(value: number): string {
  if (value === 0) return "0";
  return Math.abs(value) >= 1e4 || Math.abs(value) < 1e-3
    ? value.toExponential(2)
    : String(Number(value.toPrecision(4)));
}

/** Moves something by the arrow keys while `place` has the focus; `by` steps at a time with shift. */
export function onArrows(place: HTMLElement, move: (x: number, y: number) => void, by = 10): void {
  place.addEventListener("keydown", (event) => {
    const step = event.shiftKey ? by : 1;
    const moves: Record<string, [number, number]> = {
      ArrowLeft: [-step, 0],
      ArrowRight: [step, 0],
      ArrowUp: [0, step],
      ArrowDown: [0, -step],
    };
    const found = moves[event.key];
    if (!found) return;
    event.preventDefault();
    move(...found);
  });
}
