// Runs a fuzz target without cargo-fuzz, with whatever compiler is there: the instrumentation is LLVM's own.
//
//   node fuzz/run.mjs <target> [seconds]
//
// What is found goes to target/fuzz/<target>, a crash to a file beside it.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL(".", import.meta.url));
const root = join(here, "..");
const [target, seconds = "60"] = process.argv.slice(2);
if (!target || !existsSync(join(here, `${target}.rs`)) || !(Number(seconds) > 0)) {
  console.error("node fuzz/run.mjs <target> [seconds]; a target is a file fuzz/<target>.rs");
  process.exit(2);
}

const coverage = [
  "-Cpasses=sancov-module",
  "-Cllvm-args=-sanitizer-coverage-level=4",
  "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
  "-Cllvm-args=-sanitizer-coverage-pc-table",
  "-Cllvm-args=-sanitizer-coverage-trace-compares",
  "--cfg=fuzzing",
  "-Ccodegen-units=1",
];
const env = {
  ...process.env,
  RUSTFLAGS: coverage.join(" "),
  CARGO_TARGET_DIR: join(root, "target", "fuzz-build"),
};
const host = /host: (\S+)/.exec(spawnSync("rustc", ["-vV"], { encoding: "utf8" }).stdout)[1];
// With --target, build scripts are not instrumented, which they could not be linked with.
const build = ["build", "--release", "--target", host, "--manifest-path", join(here, "Cargo.toml"), "--bin", target];
if (spawnSync("cargo", build, { stdio: "inherit", env }).status !== 0) process.exit(1);

const found = join(root, "target", "fuzz", target);
mkdirSync(found, { recursive: true });
const corpora = {
  images: "crates/core/tests/data/fixtures",
  onnx: "crates/core/tests/onnx",
  vectors: "crates/core/tests/vectors",
  weights: "crates/core/tests/weights",
};
const corpus = corpora[target];
const program = join(env.CARGO_TARGET_DIR, host, "release", target);
const options = [`-max_total_time=${seconds}`, "-rss_limit_mb=2048", "-timeout=300", `-artifact_prefix=${found}-`];
const run = spawnSync(program, [found, join(root, corpus ?? `fuzz/corpus/${target}`), ...options], {
  stdio: "inherit",
});
process.exit(run.status ?? 1);
