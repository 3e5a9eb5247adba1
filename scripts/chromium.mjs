// Where Chromium is, for the tests that need a browser. On Debian as root a missing one is installed.
import { spawnSync } from "node:child_process";
import { accessSync, constants, existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { stop } from "./setup.mjs";

const names = ["chromium", "chromium-browser", "google-chrome"];

/** The path of Chromium: RKD_CHROMIUM, else the first on the PATH; undefined where there is none. */
export function findChromium() {
  if (process.env.RKD_CHROMIUM) return process.env.RKD_CHROMIUM;
  const folders = (process.env.PATH ?? "").split(delimiter);
  return names.flatMap((name) => folders.map((folder) => join(folder, name))).find(isProgram);
}

/**
 * The path of Chromium, which is installed first where there is none; undefined, after words about it, where that cannot be done:
 * the set-up of a machine asks for no more than Node, Rust and a C compiler.
 */
export function chromium() {
  const found = findChromium();
  if (found && isProgram(found)) return found;
  if (process.env.RKD_CHROMIUM) stop(`RKD_CHROMIUM names ${found}, which is no program.`);
  if (process.getuid?.() === 0 && existsSync("/etc/debian_version")) {
    console.error("rkd set-up: installing Chromium ...");
    for (const args of [["update"], ["install", "-y", "--no-install-recommends", "chromium"]]) {
      const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
      spawnSync("apt-get", args, { stdio: ["ignore", "ignore", "inherit"], env });
    }
  }
  const installed = findChromium();
  if (!installed) {
    const advice = "Install it (on Debian: apt-get install chromium), or name it by RKD_CHROMIUM.";
    console.error(`The browser tests need Chromium, and there is none on the PATH. ${advice}`);
  }
  return installed;
}

function isProgram(file) {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
