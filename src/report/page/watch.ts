/** Follows a run: whatever section the server sends anew takes the place of the old one. */

import type { DocumentImage } from "../blocks.ts";

/** What the server sends: the sections that have changed, in the order of the page, and whether the run still goes. */
interface Change {
  readonly order: readonly string[];
  readonly sections: readonly { readonly id: string; readonly html: string }[];
  readonly images?: readonly DocumentImage[];
  readonly state: string;
  readonly over: boolean;
}

/** Listens, where the page says to whom. */
export function follow(draw: (root: ParentNode, images: readonly DocumentImage[]) => void): void {
  const status = document.getElementById("live");
  const from = status?.dataset.from;
  const main = document.querySelector("main");
  if (!status || !from || !main) return;
  let images: readonly DocumentImage[] = [];
  const source = new EventSource(from);
  source.addEventListener("change", (event) => {
    const change = JSON.parse(event.data) as Change;
    images = change.images ?? images;
    for (const { id, html } of change.sections) {
      const made = document.createElement("section");
      made.id = id;
      made.innerHTML = html;
      const old = document.getElementById(id);
      if (old && main.contains(old)) old.replaceWith(made);
      else main.append(made);
      draw(made, images);
    }
    for (const section of [...main.children]) if (!change.order.includes(section.id)) section.remove();
    for (const id of change.order) {
      const section = document.getElementById(id);
      // Moving a section that stands right would take the focus out of it.
      const right = main.children[change.order.indexOf(id)];
      if (section && right !== section) main.insertBefore(section, right ?? null);
    }
    status.textContent = change.state;
    if (change.over) source.close();
  });
  source.addEventListener("error", () => {
    if (source.readyState !== EventSource.CLOSED) status.textContent = "The connection is lost; trying again ...";
  });
}
