import { expect, it } from "vitest";
import { table } from "../../src/cli/table.ts";
import { printable, printableLines } from "../../src/printable.ts";
import { escaped } from "../../src/report/blocks.ts";

it.each([
  ["a\u001b[31mred\u001b[0m", String.raw`a\x1b[31mred\x1b[0m`],
  ["two\nlines\r\tand\u0000\u007f\u009b2J", String.raw`two\nlines\r\tand\x00\x7f\x9b2J`],
  ["gpj.\u202efdp\u202c \u2066x\u2069 \u200f\u2028", String.raw`gpj.\u202efdp\u202c \u2066x\u2069 \u200f\u2028`],
  ["half \ud83d of a pair", String.raw`half \ud83d of a pair`],
  ["größe 猫 👩‍🔬 \\x1b", "größe 猫 👩‍🔬 \\x1b"],
])("shows %j as a terminal may", (text, shown) => {
  expect(printable(text)).toBe(shown);
});

it("leaves the program's own line breaks, and has none in a cell", () => {
  expect(printableLines("a\n\u001b[2J")).toBe("a\n\\x1b[2J");
  expect(table(["class"], [["x\ny\u001b[0m"]])).toBe("class\n-----------\nx\\ny\\x1b[0m");
});

it("is part of what HTML shows", () => {
  expect(escaped("<b>\u202e")).toBe("&lt;b&gt;\\u202e");
});
