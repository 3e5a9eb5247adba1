// Every check of the project, each also alone: `node scripts/check.mjs [format|lint|types|docs|unused|rust|arm64|cuda|ts|browser|soak|package]...`.
// Warnings are errors. `cuda` fetches the compiler it needs only where it is named. The last line is `N passed, N failed`: tests, and one for each step that is no test.
import { spawn } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { target as arm64, emulation } from "./arm64.mjs";
import { chromium } from "./chromium.mjs";
import { toolkit } from "./cuda.mjs";
import { cargoEnv, root, setUp, tool } from "./setup.mjs";

const cargo = (...args) => ["cargo", ...args];
const vitestReport = join(root, "target", "vitest.json");
const browserReport = join(root, "target", "vitest-browser.json");

const steps = {
  format: { says: "format", run: [tool("biome", "format", "."), cargo("fmt", "--all", "--check")] },
  lint: {
    says: "lint",
    run: [
      tool("biome", "check", "--formatter-enabled=false", "--error-on-warnings", "."),
      [process.execPath, "scripts/workflows.mjs"],
      cargo("clippy", "--workspace", "--locked", "--", "-D", "warnings"),
      // Not the binding: what Node calls looks unused to its test build.
      cargo("clippy", "--workspace", "--exclude", "rkd-node", "--all-targets", "--locked", "--", "-D", "warnings"),
    ],
  },
  types: {
    says: "types, with the API's type tests",
    run: ["tsconfig.json", "src/report/page/tsconfig.json", "test/browser/tsconfig.json"].map((project) =>
      tool("tsc", "-p", project),
    ),
  },
  docs: {
    says: "documentation, with the notices of others' licences",
    run: [cargo("doc", "--workspace", "--no-deps", "--locked"), [process.execPath, "scripts/notices.mjs", "--check"]],
  },
  unused: { says: "unused code and dependencies", run: [tool("knip")] },
  rust: {
    says: "Rust tests",
    run: [
      cargo("test", "--workspace", "--locked", "--no-fail-fast"),
      cargo("test", "--manifest-path", "crates/kernels/model/Cargo.toml", "--target-dir", "target/model", "--locked"),
    ],
    count: countCargo,
  },
  arm64: {
    says: "the kernels on an emulated arm64",
    before: () => {
      const found = emulation();
      if (typeof found !== "string") return { ...found.env, RKD_ISA: "neon", RKD_TEST_EMULATED: "1" };
      console.log(`left out: ${found}`);
    },
    run: [
      cargo("clippy", "-p", "rkd-kernels", "--target", arm64, "--all-targets", "--locked", "--", "-D", "warnings"),
      cargo("test", "-p", "rkd-kernels", "--target", arm64, "--lib", "--tests", "--locked", "--no-fail-fast"),
      [process.execPath, "scripts/arm64.mjs"],
    ],
    count: countCargo,
  },
  cuda: {
    says: "the device cuda, without a GPU",
    before: (isNamed) => {
      const { home, none } = toolkit(isNamed);
      if (home) return { RKD_CUDA_HOME: home };
      console.log(`left out: ${none}`);
    },
    run: [[process.execPath, "scripts/cuda.mjs"]],
    count: countCargo,
  },
  ts: { says: "TypeScript tests", run: [vitest(vitestReport)], count: countVitest(vitestReport) },
  browser: {
    says: "tests in a browser",
    before: () => {
      const path = chromium();
      return path && { RKD_CHROMIUM: path };
    },
    run: [vitest(browserReport, "--config", "vitest.browser.config.mjs")],
    count: countVitest(browserReport),
  },
  soak: { says: "two minutes of faults", run: [[process.execPath, "scripts/soak.mjs"]] },
  package: { says: "the packed package in an empty folder", run: [[process.execPath, "scripts/test-package.mjs"]] },
};

function vitest(report, ...flags) {
  return tool("vitest", "run", ...flags, "--reporter=default", "--reporter=json", `--outputFile.json=${report}`);
}

/** Runs one program; resolves with its exit code and what it printed. */
function execute([command, ...args], env) {
  return new Promise((resolve) => {
    const child = spawn(command, args, { cwd: root, env, stdio: ["ignore", "pipe", "inherit"] });
    let text = "";
    child.stdout.on("data", (chunk) => {
      text += chunk;
      process.stdout.write(chunk);
    });
    child.on("error", (error) => resolve({ code: 1, text: `${command}: ${error.message}` }));
    child.on("close", (code) => resolve({ code: code ?? 1, text }));
  });
}

/** How many tests passed, and the names of those that did not. */
function countCargo(text) {
  const counts = [...text.matchAll(/^test result: \w+\. (\d+) passed/gm)];
  const failed = [...text.matchAll(/^test (.+) \.\.\. FAILED$/gm)].map(([, name]) => name);
  return { passed: counts.reduce((sum, [, passed]) => sum + Number(passed), 0), failed };
}

function countVitest(report) {
  return () => {
    try {
      const { numPassedTests, testResults } = JSON.parse(readFileSync(report, "utf8"));
      const tests = testResults.flatMap(({ assertionResults }) => assertionResults);
      const failed = tests.filter(({ status }) => status === "failed");
      // With the first line of what was wrong: of a log only the end may be kept.
      const saying = ({ fullName, failureMessages }) => `${fullName}: ${failureMessages[0]?.split("\n")[0]}`;
      return { passed: numPassedTests, failed: failed.map(saying) };
    } catch {
      return { passed: 0, failed: [] };
    }
  };
}

async function runStep(name, env, isNamed) {
  const { says, before, run, count } = steps[name];
  console.log(`\n== ${says}`);
  const start = performance.now();
  let passed = 0;
  const failed = [];
  const needed = before ? before(isNamed) : {};
  if (!needed) {
    console.log(`== ${says}: NOT RUN, for the reason above`);
    return { passed, failed, says };
  }
  const own = { ...env, ...needed };
  for (const command of run) {
    const { code, text } = await execute(command, own);
    const counted = count ? count(text) : { passed: code === 0 ? 1 : 0, failed: [] };
    passed += counted.passed;
    failed.push(...counted.failed);
    if (code !== 0 && counted.failed.length === 0) failed.push(command.join(" "));
  }
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  console.log(`== ${says}: ${failed.length === 0 ? "passed" : "FAILED"} after ${seconds} s`);
  return { passed, failed, says };
}

const summaryFile = join(root, "target", "check-summary");
const wanted = process.argv.slice(2);
const unknown = wanted.find((name) => !(name in steps));
if (unknown) {
  console.error(`There is no check "${unknown}"; there are ${Object.keys(steps).join(", ")}.`);
  process.exit(2);
}
mkdirSync(join(root, "target"), { recursive: true });
rmSync(summaryFile, { force: true });
for (const report of [vitestReport, browserReport]) rmSync(report, { force: true });
setUp();
const env = {
  ...process.env,
  ...cargoEnv(),
  RUSTDOCFLAGS: "-D warnings",
  FORCE_COLOR: process.stdout.isTTY ? "1" : "0",
};
const outcomes = [];
const isNamed = wanted.length > 0;
for (const name of isNamed ? wanted : Object.keys(steps)) outcomes.push(await runStep(name, env, isNamed));
const passed = outcomes.reduce((sum, outcome) => sum + outcome.passed, 0);
const failed = outcomes.reduce((sum, outcome) => sum + outcome.failed.length, 0);
for (const { says, failed } of outcomes) for (const what of failed) console.log(`\nFailed, ${says}: ${what}`);
const summary = `${passed} passed, ${failed} failed`;
writeFileSync(summaryFile, `${summary}\n`);
console.log(`\n${summary}`);
process.exitCode = failed === 0 ? 0 : 1;
