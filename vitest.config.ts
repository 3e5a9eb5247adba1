import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    // Threads would share the addon's process-wide state with a runner that ends them; forks end like a user's process.
    pool: "forks",
    // The tests train on all cores; more files at once only make each other slow.
    maxWorkers: 2,
    testTimeout: 120_000,
    hookTimeout: 120_000,
    globalSetup: ["test/global-setup.ts"],
  },
});
