/** Chromium for the tests in a browser: one for each test file, ended with it. */

import { type Browser, type BrowserContextOptions, chromium, type Page } from "playwright-core";
import { afterAll } from "vitest";

let starting: Promise<Browser> | undefined;

/** The browser of this test file. */
function browser(): Promise<Browser> {
  starting ??= start();
  return starting;
}

async function start(): Promise<Browser> {
  const executablePath = process.env.RKD_CHROMIUM;
  if (!executablePath) throw new Error("no Chromium: install it, name it by RKD_CHROMIUM, or run npm run test:browser");
  // Root, as in a container, has no sandbox; the pages are the tests' own.
  return await chromium.launch({ executablePath, chromiumSandbox: process.getuid?.() !== 0 });
}

afterAll(async () => await (await starting?.catch(() => undefined))?.close());

/** A page, with what went wrong on it: errors of its console and uncaught ones; and every request but that of the page itself. */
export interface Watched {
  readonly page: Page;
  readonly errors: readonly string[];
  readonly requests: readonly string[];
}

/** A new page in a context of its own. */
export async function openPage(options: BrowserContextOptions = {}): Promise<Watched> {
  const context = await (await browser()).newContext(options);
  afterAll(() => context.close().catch(() => {}));
  const page = await context.newPage();
  const [errors, requests]: [string[], string[]] = [[], []];
  page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("request", (request) => {
    const own = request.isNavigationRequest() && request.frame() === page.mainFrame();
    if (!own && !request.url().startsWith("data:")) requests.push(request.url());
  });
  return { page, errors, requests };
}
