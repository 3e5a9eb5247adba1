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

/** The path of Chromium, which is installed first where there is none. Ends the program where that cannot be done. */
export function chromium() {
  const found = findChromium();
  if (found && isProgram(found)) return found;
  if (process.env.RKD_CHROMIUM) stop(`RKD_CHROMIUM names ${found}, which is no program.`);
  const advice = "Install it (on Debian: apt-get install chromium), or name it by RKD_CHROMIUM.";
  if (process.getuid?.() !== 0 || !existsSync("/etc/debian_version")) {
    stop(`the browser tests need Chromium, and there is none on the PATH. ${advice}`);
  }
  console.error("rkd set-up: installing Chromium ...");
  for (const args of [["update"], ["install", "-y", "--no-install-recommends", "chromium"]]) {
    const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
    const { status } = spawnSync("apt-get", args, { stdio: ["ignore", "ignore", "inherit"], env });
    if (status !== 0) stop(`the browser tests need Chromium, and apt-get ${args[0]} failed. ${advice}`);
  }
  return findChromium() ?? stop(`apt-get has installed no Chromium. ${advice}`);
}

function isProgram(file) {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
