import { defineConfig, type TestUserConfig } from "vitest/config";

/** What the tests in a browser (vitest.browser.config.mjs) share. */
export const test: TestUserConfig = {
  include: ["test/**/*.test.ts"],
  exclude: ["test/browser/**"],
  // Threads would share the addon's process-wide state with a runner that ends them; forks end like a user's process.
  pool: "forks",
  // The tests train on all cores; more files at once only make each other slow.
  maxWorkers: 2,
  testTimeout: 120_000,
  hookTimeout: 120_000,
  globalSetup: ["test/global-setup.ts"],
};

export default defineConfig({ test });
