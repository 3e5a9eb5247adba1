import { expect, it } from "vitest";
import { galleryPictures } from "../../src/report/pictures.ts";

it("shows every neighbour of every row, each image once in the document, with the right ones marked", () => {
  const image = (id: string) => ({ id, class: "a & b", png: `${id}AA=` });
  const found = [true, false, true].map((right, i) => ({ ...image(`${i}`), right }));
  const rows = [
    { row: "teacher", neighbours: found },
    { row: "student", neighbours: found.slice(0, 2) },
  ];
  const { block, images } = galleryPictures([{ ...image("query"), rows }]);
  expect(images.map(({ id }) => id)).toEqual(["query", "0", "1", "2"]);
  expect(images[1]?.src).toBe("data:image/png;base64,0AA=");
  if (block.kind !== "neighbours") throw new Error(block.kind);
  expect(block.queries).toEqual([
    {
      image: 0,
      rows: [
        {
          name: "teacher",
          found: [
            { image: 1, right: true },
            { image: 2, right: false },
            { image: 3, right: true },
          ],
        },
        {
          name: "student",
          found: [
            { image: 1, right: true },
            { image: 2, right: false },
          ],
        },
      ],
    },
  ]);
});
