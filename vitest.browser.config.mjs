// Tests that need Chromium: `npm run test:browser`; one file: `npx vitest run --config vitest.browser.config.mjs FILE`.
import { defineConfig } from "vitest/config";
import { findChromium } from "./scripts/chromium.mjs";
import { test } from "./vitest.config.ts";

export default defineConfig({
  test: {
    ...test,
    include: ["test/browser/**/*.test.ts"],
    exclude: [],
    testTimeout: 300_000,
    expect: { poll: { timeout: 100_000 } },
    env: { RKD_CHROMIUM: findChromium() ?? "" },
  },
});
