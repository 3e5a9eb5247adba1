import { expect, it } from "vitest";
import { backboneOf, dataOf, type NetworkFlags } from "../../src/cli/options.ts";

const networks: NetworkFlags[] = [
  { backbone: "conv4", width: 8, embedding: 4, normalize: false },
  { backbone: "resnet18", width: 8, stem: "small" },
  { backbone: "vgg11", stem: "imagenet", embedding: 4 },
  { backbone: "mlp", hidden: [16, 8], embedding: 4, normalize: true },
];

it.each(networks)("takes a network as its flags say: %j", (flags) => {
  const { backbone: kind, ...rest } = flags;
  expect(backboneOf(flags)).toEqual({ kind, ...rest });
});

it.each([
  [{ backbone: "mlp", width: 8 }, "--width"],
  [{ backbone: "mlp", stem: "small" }, "--stem"],
  [{ backbone: "conv4", stem: "small" }, "--stem"],
  [{ backbone: "resnet18", hidden: [8] }, "--hidden"],
  [{ backbone: "efficientnet-lite0", stem: "small" }, "--stem"],
  [{ backbone: "mobilenet-v2", stem: "small" }, "--stem"],
  [{ backbone: "vit-tiny", stem: "small" }, "--stem"],
] as const)("refuses what a network has not: %j", (flags, subject) => {
  expect(() => backboneOf(flags as never)).toThrow(expect.objectContaining({ code: "ERR_INVALID_OPTION", subject }));
});

it.each([
  [{}, undefined],
  [{ validation: 0.3 }, { validation: 0.3 }],
  [{ test: 0.3 }, { test: 0.3 }],
  [
    { validation: 0, test: 0 },
    { validation: 0, test: 0 },
  ],
  [{ split: "source" }, { kind: "source", validation: 0.1 }],
  [{ split: "images" }, { kind: "images", validation: 0.1, test: 0.2 }],
  [{ split: "lists:a" }, { kind: "lists", train: "a" }],
  [{ split: "lists:a,b" }, { kind: "lists", train: "a", test: "b" }],
  [{ split: "lists:a,b,c" }, { kind: "lists", train: "a", validation: "b", test: "c" }],
])("splits as %j says", (flags, split) => {
  expect(dataOf({ data: "glyphs", ...flags })).toEqual({ source: "glyphs", ...(split && { split }) });
});

it.each([{ split: "source", test: 0.2 }, { split: "lists:" }, { split: "lists:a,b,c,d" }, { split: "class" }])(
  "refuses the split %j",
  (flags) => {
    expect(() => dataOf({ data: "glyphs", ...flags })).toThrow(expect.objectContaining({ code: "ERR_INVALID_OPTION" }));
  },
);
