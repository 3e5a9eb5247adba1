/** Why the native addon could not be loaded, and the cure, told from what is installed and from the words of the system's loader. */

import { closeSync, existsSync, fstatSync, openSync, readFileSync, readSync } from "node:fs";
import { dirname, join, sep } from "node:path";
import { RkdError } from "../errors.ts";
import { ownRequire, version } from "../version.ts";
import { oldestGlibc, type Platform, platformInWords, platforms } from "./platform.ts";

/** What was tried. */
export interface Attempt {
  readonly platform: Platform;
  /** The package of the platform. */
  readonly name: string;
  /** The file that was found. */
  readonly file: string | undefined;
  /** Whether `RKD_NATIVE_PATH` named it. */
  readonly given: boolean;
  /** The version of the package where it is not `rkd`'s. */
  readonly other?: string | undefined;
  /** What resolving or loading threw. */
  readonly cause?: unknown;
}

/** What is wrong, and what to do; both without a capital or full stop. */
interface Diagnosis {
  readonly reason: string;
  readonly advice: string;
}

/** The error of an addon that could not be loaded. */
export function loadFailure(attempt: Attempt): RkdError {
  const { platform, name, file, given, cause } = attempt;
  const { reason, advice } = diagnose(attempt);
  const libc = platform.libc ? `, by ${platform.libc.by}` : "";
  const where = `this is ${platformInWords(platform)}${libc}; tried ${file ?? `${name} from ${root()}`}`;
  return new RkdError("ERR_NATIVE_LOAD", `the native addon could not be loaded: ${reason} (${where})`, {
    subject: given ? "RKD_NATIVE_PATH" : name,
    advice,
    cause,
  });
}

/**
 * Checks that a file of Linux is as long as its header says: the system would load one that was cut off, and end the process when it
 * comes to what is not there. Any other file is left to the system's loader.
 * @throws {Error} how long it is, and how long it should be
 */
export function checkWhole(file: string): void {
  if (!existsSync(file)) return;
  const header = Buffer.alloc(64);
  const opened = openSync(file, "r");
  try {
    const read = readSync(opened, header, 0, header.length, 0);
    if (read < header.length || header.readUInt32BE(0) !== elf) return;
    // The table of sections is what linkers write last.
    const end = Number(header.readBigUInt64LE(0x28)) + header.readUInt16LE(0x3a) * header.readUInt16LE(0x3c);
    const { size } = fstatSync(opened);
    if (size < end) throw new Error(`file too short: ${size} bytes, and its header speaks of ${end}`);
  } finally {
    closeSync(opened);
  }
}

/** The first four bytes of a file for Linux. */
const elf = 0x7f454c46;

/** The error of a bundle that lies far from the installed package. */
export function bundled(): RkdError {
  return new RkdError("ERR_NATIVE_LOAD", "rkd is in a bundle, and the package with its native addon is not beside it", {
    advice:
      "keep it out of the bundle, and install it where the bundle runs: esbuild --external:rkd; webpack " +
      'externals: { rkd: "import rkd" }; Next.js serverExternalPackages: ["rkd"]; see docs/serving.md',
  });
}

function diagnose(attempt: Attempt): Diagnosis {
  const { platform, name, file, given, other, cause } = attempt;
  if (given) return { reason: firstLine(cause), advice: "correct or unset RKD_NATIVE_PATH" };
  if (!platforms.includes(platform.name) && file === undefined) {
    return {
      reason: `there is no package for ${platform.name}`,
      advice: `there are packages for ${platforms.join(", ")}; elsewhere build it in a clone of the repository with "npm run setup"`,
    };
  }
  if (other !== undefined) {
    return {
      reason: `${name} is of version ${other}, and rkd of ${version}`,
      advice: `install both of one version: npm install rkd@${version} ${name}@${version}`,
    };
  }
  return file === undefined ? missing(attempt) : unloadable(attempt, firstLine(cause));
}

/** The package is not there. */
function missing({ platform, name }: Attempt): Diagnosis {
  if (isCheckout()) return { reason: "it has not been built here", advice: 'run "npm run setup"' };
  const { os, cpu, libc } = platform;
  const flags = [`--os=${os}`, `--cpu=${cpu}`, ...(libc ? [`--libc=${libc.name}`] : [])].join(" ");
  const elsewhere = `npm install ${flags} (pnpm, Yarn: supportedArchitectures)`;
  if (isInstalled(name)) {
    return {
      reason: `the package ${name} is there without its file rkd.${platform.name}.node`,
      advice: `install it again: npm install --force ${name}@${version}; where a tool copies the package, let it copy files that end in .node too`,
    };
  }
  const others = platforms.filter((other) => isInstalled(`rkd-${other}`));
  if (process.env.LAMBDA_TASK_ROOT) {
    return {
      reason: `the deployed package is without ${name}${others.length > 0 ? `, with ${listed(others)}` : ""}`,
      advice: `install for Lambda before packing, on whichever machine: ${elsewhere}`,
    };
  }
  if (others.length > 0) {
    const found = `${name} is not installed, but ${listed(others)}`;
    const [otherCpu] = others.map((other) => other.split("-")).flatMap(([its, cpu]) => (its === os ? [cpu] : []));
    if (otherCpu === cpu && libc) {
      const [here, there] =
        libc.name === "musl" ? ["musl, such as Alpine", "glibc"] : ["glibc", "musl, such as Alpine"];
      return {
        reason: `${found}: node_modules is of a Linux with ${there}, and this is one with ${here}`,
        advice: `install in the image where it runs, or for it: ${elsewhere}`,
      };
    }
    if (otherCpu && otherCpu !== cpu) {
      const translated = os === "darwin" ? ", under Rosetta if this Mac is an Apple one" : "";
      return {
        reason: `${found}: node_modules was installed by a Node for ${otherCpu}, and this is a Node for ${cpu}${translated}`,
        advice: `use one Node for both, or install again with this one; for another machine: ${elsewhere}`,
      };
    }
    return {
      reason: `${found}: node_modules comes from another system`,
      advice: `install where it runs, without copying node_modules, or for it: ${elsewhere}`,
    };
  }
  const lock = lockWithout(name);
  if (lock) {
    return {
      reason: `${name} is not installed, and ${lock} does not list it: npm before 11.3 leaves out the packages of other platforms than the one that wrote the file (npm/cli#4828)`,
      advice: "delete package-lock.json and node_modules, and run npm install again with npm 11.3 or newer",
    };
  }
  return {
    reason: `${name} is not installed, nor is the package of any other platform`,
    advice: `install with optional dependencies (npm install --include=optional; not --omit=optional or --no-optional), or by name: npm install ${name}@${version}`,
  };
}

/** The file is there, and the system does not load it. */
function unloadable({ platform, name, file = "", cause }: Attempt, said: string): Diagnosis {
  const { libc } = platform;
  if ((cause as { code?: string }).code === "ERR_DLOPEN_DISABLED") {
    return {
      reason: `this Node does not load addons: ${said}`,
      advice: "start Node without --no-addons, and with --allow-addons where --permission is",
    };
  }
  const needed = /version [`'"]?(GLIBC(?:XX)?)_([\d.]+)/.exec(said);
  if (needed) {
    return {
      reason: `this system's glibc is too old: ${said}`,
      advice: `the packages need glibc ${oldestGlibc} or newer${libc?.version ? `, and this is ${libc.version}` : ""}: use a newer system, or install ${name} again if another build was put in its place`,
    };
  }
  if (
    /libc\.musl-|ld-musl-/.test(said) ||
    (libc?.name === "musl" && /libc\.so\.6|ld-linux|symbol not found/.test(said))
  ) {
    return {
      reason: `the file is for another C library than this Node's: ${said}`,
      advice: `install again with this Node: npm install --force ${name}@${version}; on Alpine use a Node for musl, such as the image node:alpine`,
    };
  }
  if (/\.asar([\\/]|$)/.test(file)) {
    return {
      reason: `the file lies in an asar archive: ${said}`,
      advice:
        'keep it out of the archive: electron-builder asarUnpack: ["**/*.node"]; Electron Forge packagerConfig: { asar: { unpack: "**/*.node" } }',
    };
  }
  if (
    /invalid ELF header|wrong ELF class|file too short|Exec format|incompatible architecture|not a mach-o|not a valid Win32/i.test(
      said,
    )
  ) {
    return {
      reason: `the file is damaged or of another processor: ${said}`,
      advice: `install again with this Node, without copying node_modules: npm install --force ${name}@${version}`,
    };
  }
  if (platform.os === "win32") {
    const forced = process.env.NODE_SKIP_PLATFORM_CHECK
      ? "; NODE_SKIP_PLATFORM_CHECK hides that Node asks for it too"
      : "";
    return { reason: said, advice: `the addon needs Windows 10, Windows Server 2016 or newer${forced}` };
  }
  return { reason: said, advice: `install again: npm install --force ${name}@${version}` };
}

/** The folder of this package. */
function root(): string {
  return dirname(ownRequire?.resolve("rkd/package.json") ?? "");
}

function isCheckout(): boolean {
  return existsSync(join(root(), "crates"));
}

function isInstalled(name: string): boolean {
  try {
    ownRequire?.resolve(`${name}/package.json`);
    return true;
  } catch {
    return false;
  }
}

function listed(platforms: readonly string[]): string {
  return platforms.map((platform) => `rkd-${platform}`).join(" and ");
}

/** The package-lock.json that this package was installed by, where it lacks the platform's package. */
function lockWithout(name: string): string | undefined {
  const modules = root().lastIndexOf(`${sep}node_modules${sep}`);
  if (modules < 0) return undefined;
  const file = join(root().slice(0, modules), "package-lock.json");
  try {
    const lock = JSON.parse(readFileSync(file, "utf8")) as { packages?: object };
    const paths = Object.keys(lock.packages ?? {});
    const lists = (wanted: string) => paths.some((path) => path.endsWith(`node_modules/${wanted}`));
    return lists("rkd") && !lists(name) ? file : undefined;
  } catch {
    return undefined;
  }
}

/** The first line of an error: Node adds the stack of requires below. */
function firstLine(cause: unknown): string {
  return (cause instanceof Error ? cause.message : String(cause)).split("\n")[0] ?? "";
}
