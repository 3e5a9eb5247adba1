// The device "cuda" as far as it can be checked without a GPU: assembles its kernels for sm_80 and sm_90, runs its tests on the CPU
// twin, builds the addon with it, and loads that here, where nothing of CUDA is needed. nvcc is that of RKD_CUDA_HOME or CUDA_HOME, else of
// NVIDIA's packages on PyPI, which pip puts into target/cuda-toolkit. The TypeScript is to be compiled (`npm run setup`).
import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdtempSync, renameSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { neededLibraries, undefinedSymbols } from "./elf.mjs";
import { cargoEnv, root } from "./setup.mjs";

/** CUDA 13.0: its kernels run on driver 580 and later, those of 13.1 do not. Versions are exact, since the parts must fit. */
const packages = [
  "nvidia-cuda-nvcc==13.0.88",
  "nvidia-nvvm==13.0.88",
  "nvidia-cuda-crt==13.0.88",
  "nvidia-cuda-runtime==13.0.96",
  "nvidia-cuda-cccl==13.0.85",
];
const folder = join(root, "target", "cuda-toolkit");

/** The folder of a toolkit, or a sentence that says why there is none; `fetches` says that pip may get one. */
export function toolkit(fetches) {
  if (process.platform !== "linux" || process.arch !== "x64")
    return { none: "the toolkit's wheels are for Linux on x64" };
  const given = process.env.RKD_CUDA_HOME ?? process.env.CUDA_HOME;
  if (given) return existsSync(join(given, "bin", "nvcc")) ? { home: given } : { none: `${given} has no bin/nvcc` };
  const home = join(folder, "nvidia", "cu13");
  if (existsSync(join(home, "bin", "nvcc"))) return { home };
  if (!fetches)
    return { none: "there is no nvcc: name a toolkit in RKD_CUDA_HOME, or get one by `npm run check cuda` (105 MB)" };
  const fresh = `${folder}.new`;
  rmSync(fresh, { recursive: true, force: true });
  const flags = ["--quiet", "--no-deps", "--only-binary=:all:", "--no-cache-dir", "--root-user-action=ignore"];
  const pip = spawnSync("python3", ["-m", "pip", "install", ...flags, "--target", fresh, ...packages], {
    encoding: "utf8",
  });
  if (pip.status !== 0)
    return { none: `pip could not fetch nvcc: ${(pip.stderr ?? pip.error?.message ?? "").trim().split("\n").at(-1)}` };
  rmSync(folder, { recursive: true, force: true });
  renameSync(fresh, folder);
  symlinkSync("lib", join(home, "lib64")); // where nvcc looks
  return { home };
}

function run(command, args, env) {
  console.log(`$ ${command} ${args.join(" ")}`);
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: "inherit", env: { ...process.env, ...env } });
  if (status !== 0) throw new Error(`${command} failed${error ? `: ${error.message}` : ""}`);
}

if (process.argv[1] === import.meta.filename) {
  const { home, none } = toolkit(true);
  if (!home) throw new Error(none);
  const env = { ...cargoEnv(), RKD_CUDA_HOME: home };
  const out = mkdtempSync(join(tmpdir(), "rkd-cuda-"));
  try {
    const ptx = join(out, "kernels.ptx");
    run(
      join(home, "bin", "nvcc"),
      ["-ptx", "-arch=compute_80", "-O3", "-o", ptx, "crates/cuda/kernels/module.cu"],
      env,
    );
    for (const arch of ["sm_80", "sm_90"])
      run(join(home, "bin", "ptxas"), [`-arch=${arch}`, "-o", join(out, arch), ptx], env);
  } finally {
    rmSync(out, { recursive: true, force: true });
  }
  const lints = ["--locked", "--", "-D", "warnings"];
  run("cargo", ["clippy", "-p", "rkd-cuda", "--features", "gpu,twin", "--all-targets", ...lints], env);
  run("cargo", ["test", "-p", "rkd-cuda", "--features", "gpu,twin", "--locked"], env);
  run("cargo", ["clippy", "-p", "rkd-node", "--features", "cuda", ...lints], env);
  run("cargo", ["build", "-p", "rkd-node", "--features", "cuda", "--locked"], env);
  checkAddon(join(root, "target", env.CARGO_BUILD_TARGET ?? process.env.CARGO_BUILD_TARGET, "debug", "librkd_node.so"));
}

/** The addon with CUDA on this machine: it loads without anything of CUDA, and says in words why there is no GPU. */
function checkAddon(library) {
  const ofCuda = /^(lib)?(cuda|cublas|cudnn|curand|nvrtc|nvidia)|^cu[A-Z]/;
  const found = [...neededLibraries(library), ...undefinedSymbols(library)].filter((name) => ofCuda.test(name));
  check("the addon needs nothing of CUDA to be loaded", found.length === 0, found.join(", "));
  const folder = mkdtempSync(join(tmpdir(), "rkd-addon-"));
  try {
    const addon = join(folder, "rkd.node");
    copyFileSync(library, addon);
    const rkd = (...args) => {
      const env = { ...process.env, RKD_NATIVE_PATH: addon };
      return spawnSync(process.execPath, [join(root, "bin", "rkd.mjs"), ...args], {
        cwd: folder,
        env,
        encoding: "utf8",
      });
    };
    const doctor = rkd("doctor", "--json");
    check("rkd doctor with it is well", doctor.status === 0, doctor.stderr);
    const { cuda } = JSON.parse(doctor.stdout.trim().split("\n").at(-1));
    const line = rkd("doctor")
      .stdout.split("\n")
      .find((line) => line.startsWith("device"));
    console.log(line);
    if (!cuda.problem) return console.log("left out: there is a GPU here, and what is said where there is none");
    check("its line says why there is no GPU", line.includes(cuda.problem), cuda.problem);
    const train = (device, out) =>
      rkd(
        ...["train", "--data", "glyphs:classes=20,writers=8", "--backbone", "conv4", "--width", "4", "--epochs", "1"],
        ...["--batch", "16", "--device", device, "--out", out, "--json"],
      );
    const asked = train("cuda", "asked");
    const said = asked.stdout.trim().split("\n").at(-1);
    const { code, message } = JSON.parse(said);
    const refused = asked.status === 4 && code === "ERR_DEVICE" && message.includes(cuda.problem);
    check("--device cuda ends with ERR_DEVICE and the reason", refused, said);
    const warns = ({ stdout }) =>
      stdout.split("\n").some((line) => line.includes('"warning"') && line.includes(cuda.problem));
    const best = train("auto", "best");
    check("--device auto trains on the CPU, and warns", best.status === 0 && warns(best), best.stdout);
    const own = train("cpu", "own");
    check("--device cpu warns of nothing", own.status === 0 && !warns(own), own.stdout);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** A line of its own, as a test's. */
function check(what, holds, words) {
  if (!holds) throw new Error(`not so: ${what}: ${words}`);
  console.log(`it holds: ${what}`);
}
