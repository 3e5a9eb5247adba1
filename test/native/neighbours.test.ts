import { join } from "node:path";
import { expect, it } from "vitest";
import { conv4, neighbours, train } from "../../src/index.ts";
import { temporaryFolder } from "../support/folders.ts";
import { smallRun } from "../support/small.ts";

it("looks at the same queries with every model, each of another class, and never at the query itself", async () => {
  const folder = temporaryFolder();
  const [a, b] = [join(folder, "a"), join(folder, "b")];
  await train(smallRun(a));
  await train(smallRun(b, { backbone: conv4({ width: 8, embedding: 4 }) }));
  const [first, second] = [
    await neighbours({ model: a, queries: 4, k: 5 }),
    await neighbours({ model: b, queries: 4, k: 5 }),
  ];
  expect(first.map(({ query }) => query.id)).toEqual(second.map(({ query }) => query.id));
  expect(new Set(first.map(({ query }) => query.class)).size).toBe(4); // the test part has four classes
  for (const { query, neighbours: found } of first) {
    expect(found).toHaveLength(5);
    expect(new Set([query, ...found].map(({ id }) => id)).size).toBe(6);
    expect(Buffer.from(query.png).subarray(1, 4).toString()).toBe("PNG");
  }
  // More queries than classes: the classes come again, with other images.
  const many = await neighbours({ model: a, queries: 7, k: 1 });
  expect(new Set(many.map(({ query }) => query.id)).size).toBe(7);
  expect(many.slice(0, 4).map(({ query }) => query.id)).toEqual(first.map(({ query }) => query.id));
});

it.each([
  [{ queries: 0 }, "queries"],
  [{ k: 0 }, "k"],
  [{ part: "all" }, "part"],
])("%j is refused", async (bad, subject) => {
  const model = join(temporaryFolder(), "a");
  await train(smallRun(model, { epochs: 1 }));
  await expect(neighbours({ model, ...(bad as object) })).rejects.toMatchObject({ subject });
});
