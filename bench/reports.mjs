// Makes the pages in bench/record/reports, of a run with labels and of one without, and the picture of one in docs/. All images
// are drawn by rkd itself. Needs Chromium for the picture.
//
//   node bench/reports.mjs
import { copyFileSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";
import { conv4, distill, glyphs, train } from "../dist/index.js";
import { chromium as executable } from "../scripts/chromium.mjs";
import { root } from "../scripts/setup.mjs";

const folder = mkdtempSync(join(tmpdir(), "rkd-reports-"));
const record = join(root, "bench", "record", "reports");
mkdirSync(record, { recursive: true });

const common = { batch: { size: 64 }, seed: 1 };
const student = conv4({ width: 16, embedding: 16 });
const optimizer = { kind: "adam", learningRate: 0.005 };
const teacher = join(folder, "teacher");
try {
  await train({ ...common, data: glyphs(), backbone: conv4({ width: 32, embedding: 64 }), epochs: 5, out: teacher });
  const out = (name) => join(folder, name);
  await distill({
    ...common,
    teacher,
    student,
    optimizer,
    data: glyphs(),
    epochs: 5,
    baseline: true,
    out: out("labelled"),
  });
  const flat = { ...glyphs(), labels: "none", split: { kind: "images", validation: 0.1, test: 0.1 } };
  await distill({ ...common, teacher, student, optimizer, data: flat, epochs: 8, out: out("unlabelled") });
  for (const name of ["labelled", "unlabelled"])
    copyFileSync(join(out(name), "report.html"), join(record, `${name}.html`));

  const browser = await chromium.launch({ executablePath: executable(), chromiumSandbox: process.getuid?.() !== 0 });
  const page = await browser.newPage({ viewport: { width: 1120, height: 760 } });
  await page.goto(pathToFileURL(join(record, "labelled.html")).href);
  await page.screenshot({ path: join(root, "docs", "report.png") });
  await browser.close();
} finally {
  rmSync(folder, { recursive: true, force: true });
}
