/** Which platform this process runs on: its name is that of the package with its addon, after `rkd-`. */

import { existsSync } from "node:fs";

/** The platforms that have a package; `napi.targets` in package.json are the same ones as Rust calls them. */
export const platforms: readonly string[] = [
  "linux-x64-gnu",
  "linux-x64-musl",
  "linux-arm64-gnu",
  "linux-arm64-musl",
  "darwin-x64",
  "darwin-arm64",
  "win32-x64-msvc",
  "win32-arm64-msvc",
];

/** The oldest glibc that the packages for it run on. */
export const oldestGlibc = "2.17";

/** The C library of a Linux process. */
interface Libc {
  readonly name: "glibc" | "musl";
  /** Of glibc, where Node tells it. */
  readonly version?: string | undefined;
  /** What it was told by. */
  readonly by: string;
}

/** A platform, as this process finds it. */
export interface Platform {
  readonly name: string;
  readonly os: string;
  readonly cpu: string;
  /** On Linux only. */
  readonly libc?: Libc;
}

/** The platform of this process. */
export function thisPlatform(): Platform {
  const { platform: os, arch: cpu } = process;
  if (os !== "linux") return { name: `${os}-${cpu}${os === "win32" ? "-msvc" : ""}`, os, cpu };
  const libc = libcOfProcess();
  return { name: `${os}-${cpu}-${libc.name === "musl" ? "musl" : "gnu"}`, os, cpu, libc };
}

/** A platform in words: `linux x64 with glibc 2.36`. */
export function platformInWords({ os, cpu, libc }: Platform): string {
  return `${os} ${cpu}${libc ? ` with ${[libc.name, libc.version].filter(Boolean).join(" ")}` : ""}`;
}

/**
 * The C library that this process has loaded. Files of the system come last: beside a glibc Node on Alpine, or in an AppImage, they
 * are of another library than the process.
 */
function libcOfProcess(): Libc {
  const { glibc, libraries } = report();
  if (glibc) return { name: "glibc", version: glibc, by: "Node's process report" };
  const musl = libraries.find((file) => /\/(ld-musl-|libc\.musl-)/.test(file));
  if (musl) return { name: "musl", by: `the library ${musl} of this process` };
  const glibcFile = libraries.find((file) => /\/(libc\.so\.6|ld-linux)/.test(file));
  if (glibcFile) return { name: "glibc", by: `the library ${glibcFile} of this process` };
  const release = "/etc/alpine-release";
  return existsSync(release) ? { name: "musl", by: release } : { name: "glibc", by: "default: nothing told it" };
}

/** What Node reports of the process; other runtimes leave parts of it out. */
function report(): { glibc?: string | undefined; libraries: readonly string[] } {
  const report: (typeof process.report & { excludeNetwork?: boolean }) | undefined = process.report;
  if (!report) return { libraries: [] };
  const network = report.excludeNetwork ?? false;
  report.excludeNetwork = true; // it would look up names of hosts, which takes seconds
  try {
    const { header, sharedObjects } = report.getReport() as {
      header?: { glibcVersionRuntime?: string };
      sharedObjects?: string[];
    };
    return { glibc: header?.glibcVersionRuntime, libraries: sharedObjects ?? [] };
  } catch {
    return { libraries: [] };
  } finally {
    report.excludeNetwork = network;
  }
}
