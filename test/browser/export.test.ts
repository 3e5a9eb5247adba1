/** From a folder of photographs to a page that searches them: distill, export, and transformers.js in Chromium. */

import { readFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { createRequire } from "node:module";
import type { AddressInfo } from "node:net";
import { dirname, extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, it } from "vitest";
import { openPage } from "../support/browser.ts";
import { rkd } from "../support/cli.ts";
import { temporaryFolder } from "../support/folders.ts";
import { KINDS, photos } from "../support/photos.ts";
import { apart, cosine, readVectors } from "../support/vectors.ts";

const folder = temporaryFolder();
const place = (name: string) => join(folder, name);
const here = (name: string) => fileURLToPath(new URL(name, import.meta.url));
const names = Array.from({ length: 48 }, (_, i) => `${String(i).padStart(3, "0")}.png`);

const types: Readonly<Record<string, string>> = {
  ".html": "text/html",
  ".js": "text/javascript",
  ".mjs": "text/javascript",
  ".json": "application/json",
  ".wasm": "application/wasm",
  ".png": "image/png",
};

/** Where a package's files lie. */
function packageFolder(name: string, from: string = import.meta.url): string {
  const [file] = createRequire(from)
    .resolve(name)
    .split(`${join("node_modules", name)}/`)
    .slice(-1);
  return createRequire(from)
    .resolve(name)
    .slice(0, -(file ?? "").length);
}

let server: Server;
let origin: string;
/** What was asked for and is not there. */
const missing: string[] = [];

beforeAll(async () => {
  // Of the model's own size: what browsers make of other sizes depends on their filter.
  photos(place("photos"), names.length, (i) => names[i] ?? "", [32, 32]);
  photos(place("query"), KINDS + 1, (i) => `${i}.png`, [32, 32]);
  const teacher = here("../../crates/core/tests/onnx/fixed.onnx");
  const student = ["--backbone", "conv4", "--width", "8", "--embedding", "8", "--image-size", "32", "--channels", "3"];
  const cache = ["--cache", place("cache")];
  for (const args of [
    [
      "distill",
      "--teacher",
      teacher,
      "--data",
      place("photos"),
      ...student,
      "--normalize",
      "--epochs",
      "4",
      "--out",
      place("run"),
      ...cache,
    ],
    ["export", place("run"), "--to", "transformers", "--dtype", "float32,int8", "--out", place("models/student")],
    ["embed", place("run"), "--data", place("photos"), "--out", place("vectors.npy"), ...cache],
  ]) {
    expect(await rkd(...args)).toMatchObject({ code: 0 });
  }
  const transformers = packageFolder("@huggingface/transformers");
  const web = packageFolder("onnxruntime-web", join(transformers, "package.json"));
  const common = packageFolder("onnxruntime-common", join(transformers, "package.json"));
  const roots: Readonly<Record<string, string>> = {
    models: place("models"),
    photos: place("photos"),
    transformers: join(transformers, "dist"),
    onnxruntime: join(web, "dist"),
    "onnxruntime-common": join(common, "dist", "esm"),
  };
  server = createServer((request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url ?? "/", "http://x").pathname));
    const [, root = "", ...rest] = path.split("/");
    try {
      const content =
        path === "/photos.json"
          ? JSON.stringify(names)
          : readFileSync(path === "/" ? here("search.html") : join(roots[root] ?? dirname(folder), ...rest));
      response.writeHead(200, {
        "content-type": path === "/" ? "text/html" : (types[extname(path)] ?? "application/octet-stream"),
      });
      response.end(content);
    } catch {
      missing.push(path);
      response.writeHead(404).end();
    }
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});

afterAll(() => {
  server?.close();
});

interface Embedded {
  readonly name: string;
  readonly vector: number[];
}

it.each([
  ["", 1e-4],
  ["q8", 0.2],
])(
  "a page embeds a photograph and finds its neighbours (dtype: %s)",
  async (dtype, tolerance) => {
    const { page, errors, requests } = await openPage();
    await page.goto(`${origin}/#${dtype}`);
    await page.getByText(`${names.length} photographs`).waitFor({ timeout: 240_000 }); // 48 photographs by WebAssembly, on a machine that others use
    const vectors: Embedded[] = await page.evaluate("globalThis.vectors");
    const own = readVectors(place("vectors.npy"));
    for (const { name, vector } of vectors) expect(apart(vector, own.get(name) ?? []), name).toBeLessThan(tolerance);

    await page.getByLabel("Photograph").setInputFiles(join(place("query"), `${KINDS}.png`));
    await page.getByText("found", { exact: true }).waitFor();
    const shown = await page
      .getByRole("listitem")
      .getByRole("img")
      .evaluateAll((images) => images.map((image) => image.getAttribute("alt")));
    const query: number[] = await page.evaluate("globalThis.query");
    const nearest = [...own].sort(([, a], [, b]) => cosine(query, b) - cosine(query, a)).slice(0, 5);
    if (dtype === "") expect(shown).toEqual(nearest.map(([name]) => name));
    // The query is a picture of the gallery.
    expect(shown[0]).toBe(names[KINDS]);
    expect(missing).toEqual([]);
    expect(errors).toEqual([]);
    expect(requests.filter((url) => !url.startsWith(origin) && !url.startsWith("blob:"))).toEqual([]);
  },
  300_000,
);
