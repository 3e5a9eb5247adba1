import { expect, it } from "vitest";
import { galleryPictures } from "../../src/experiment/gallery.ts";

/** The corners `[x, y, right, bottom]` of every element of this name in an SVG. */
function boxes(svg: string, name: string): [number, number, number, number][] {
  return [...svg.matchAll(new RegExp(`<${name} ([^>]*)>`, "g"))].map(([, attributes = ""]) => {
    const at = (attribute: string) => Number(new RegExp(`(?:^| )${attribute}="([^"]*)"`).exec(attributes)?.[1]);
    return [at("x"), at("y"), at("x") + at("width"), at("y") + at("height")];
  });
}

it("shows every neighbour of every row whole, beside each other, with the right ones marked", () => {
  const image = (id: string) => ({ id, class: "a & b", png: "AA==" });
  const found = [true, false, true].map((right, i) => ({ ...image(`${i}`), right }));
  const rows = [
    { row: "teacher", neighbours: found },
    { row: "student", neighbours: found.slice(0, 2) },
  ];
  const [picture, ...others] = galleryPictures([{ ...image("query"), rows }]);
  expect(others).toEqual([]);
  expect(picture?.caption).toBe("a & b: teacher 2 of 3 right, student 1 of 2 right");
  const svg = picture?.svg ?? "";
  const [, width, height] = /viewBox="0 0 (\d+) (\d+)"/.exec(svg) ?? [];
  const [images, frames] = [boxes(svg, "image"), boxes(svg, "rect")];
  expect([images.length, frames.length]).toEqual([1 + 3 + 2, 3 + 2]);
  for (const [x, y, right, bottom] of [...images, ...frames]) {
    expect(x >= 0 && y >= 0 && x < right && y < bottom).toBe(true);
    expect(right <= Number(width) && bottom <= Number(height)).toBe(true);
  }
  for (const [i, [x, y, right, bottom]] of images.entries()) {
    const apart = images.slice(i + 1).map((other) => {
      return other[0] > right || other[1] > bottom || other[2] < x || other[3] < y;
    });
    expect(apart).not.toContain(false);
  }
  // No room is left beside and below that the other side has not.
  const edge = (corner: 2 | 3) => Math.max(...images.map((box) => box[corner]));
  expect(Number(width) - edge(2)).toBe(Number(height) - edge(3));
  expect(svg.match(/stroke-dasharray/g)).toHaveLength(2);
});
