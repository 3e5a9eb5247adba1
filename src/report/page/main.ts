/** The script of a page: fills in its images, draws its charts and widgets, and follows a run where the page is watched. */

import type { Chart, DocumentImage, Widget } from "../blocks.ts";
import { chart } from "./chart.ts";
import { density } from "./density.ts";
import { matrices } from "./matrices.ts";
import { projection } from "./projection.ts";
import { follow } from "./watch.ts";

type Data<Kind extends Widget["widget"]> = Extract<Widget, { widget: Kind }>["data"];

/** Draws everything in `root`. */
function draw(root: ParentNode, images: readonly DocumentImage[]): void {
  for (const image of root.querySelectorAll<HTMLImageElement>("img[data-image]")) {
    const found = images[Number(image.dataset.image)];
    if (found) image.src = found.src;
  }
  for (const figure of root.querySelectorAll<HTMLElement>("figure[data-widget]")) {
    const place = figure.querySelector<HTMLElement>(".drawing");
    const data = JSON.parse(figure.querySelector("script")?.textContent ?? "null");
    const title = figure.querySelector("h3")?.textContent ?? "";
    if (!place || data === null) continue;
    switch (figure.dataset.widget) {
      case "chart":
        chart(place, title, figure.dataset.id ?? "", data as Omit<Chart, "id" | "title">);
        break;
      case "density":
        density(place, title, data as Data<"density">);
        break;
      case "matrices":
        matrices(place, title, data as Data<"matrices">, images);
        break;
      case "projection":
        projection(place, title, data as Data<"projection">, images);
        break;
    }
  }
}

const images = JSON.parse(document.getElementById("images")?.textContent ?? "[]") as DocumentImage[];
draw(document, images);
follow(draw);
