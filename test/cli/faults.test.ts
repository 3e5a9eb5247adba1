/** What a shell, a scheduler and a terminal do to the command line: signals, and output that nobody takes. */

import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { constants } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { lines, type Outcome, outcome, rkd, smallFlags, start } from "../support/cli.ts";
import { temporaryFolder } from "../support/folders.ts";

const command = join(import.meta.dirname, "../../bin/rkd.mjs");
const long = ["--steps-per-epoch", "20000"];

/** Resolves when `text` has come out of the child's standard output. */
function says(child: ReturnType<typeof start>, text: string): Promise<void> {
  return new Promise((resolve) => {
    child.stdout?.on("data", (chunk) => String(chunk).includes(text) && resolve());
    child.on("close", () => resolve());
  });
}

/** Runs a shell script with `$RKD`. */
function shell(script: string, folder: string): Promise<Outcome> {
  const child = spawn("bash", ["-c", `rkd() { "${process.execPath}" "${command}" "$@"; }; ${script}`], { cwd: folder });
  return outcome(child);
}

describe.skipIf(process.platform === "win32")("a signal", () => {
  it.each(["SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"] as const)("%s stops a run at a checkpoint", async (name) => {
    const out = join(temporaryFolder(), "run");
    const child = start(["train", ...smallFlags(out), ...long, "--json"]);
    await says(child, '"step"');
    child.kill(name);
    child.kill(name); // as `timeout` and `npx` do: the same one by another way
    const { code, stdout, stderr } = await child.done;
    expect(code).toBe(128 + constants.signals[name]);
    expect(stderr).toContain(`Stopping after a checkpoint (${name})`);
    expect(stderr).not.toContain("Ctrl-C");
    expect(stderr).toContain(`Go on with: rkd resume ${out}`);
    expect(lines(stdout).at(-1)).toMatchObject({ code: "ERR_CANCELLED", message: `stopped by ${name}` });
    expect(existsSync(join(out, "checkpoint", "latest.safetensors"))).toBe(true);
  });

  it("while images are decoded leaves an older run alone, and does not speak of it", async () => {
    const out = join(temporaryFolder(), "run");
    expect((await rkd("train", ...smallFlags(out), "--epochs", "1")).code).toBe(0);
    const before = readFileSync(join(out, "metrics.json"), "utf8");
    const many = ["--data", "glyphs:classes=2000,writers=40", "--image-size", "128"];
    const child = start(["train", ...smallFlags(out), ...many, "--overwrite", "--json"]);
    await says(child, '"decode"');
    child.kill("SIGINT");
    const { code, stderr } = await child.done;
    expect(code).toBe(130);
    expect(stderr).not.toContain("Go on with");
    expect(readFileSync(join(out, "metrics.json"), "utf8")).toBe(before);
  });

  it.runIf(existsSync("/usr/bin/script"))("of a terminal that is closed is heard like any other", async () => {
    const folder = temporaryFolder();
    // The shell outlives its terminal, to hand the signal on and to write down how the run ended.
    const train = `"${process.execPath}" "${command}" train ${[...smallFlags("run"), ...long].join(" ")}`;
    const script = `${train} & run=$!; trap 'kill -HUP $run' HUP; wait; wait $run; echo $? >code.tmp; mv code.tmp code`;
    writeFileSync(join(folder, "inside.sh"), script);
    const terminal = spawn("/usr/bin/script", ["-qfc", "sh inside.sh", "/dev/null"], { cwd: folder });
    const until = async (name: string) => {
      while (!existsSync(join(folder, name))) await sleep(50);
    };
    await until("run/checkpoint");
    terminal.kill("SIGKILL");
    await until("code");
    expect(readFileSync(join(folder, "code"), "utf8").trim()).toBe("129");
    expect(existsSync(join(folder, "run", "checkpoint", "latest.safetensors"))).toBe(true);
  });

  it("ends what has nothing to save", async () => {
    const child = start(["bench", "--only", "vgg11bn-32px-b64-train", "--seconds", "1000"]);
    await new Promise<void>((resolve) => child.stderr?.on("data", () => resolve()));
    child.kill("SIGTERM");
    expect((await child.done).code).toBe(143);
  });
});

describe.skipIf(process.platform === "win32")("output", () => {
  const train = (out: string) => `rkd train --json ${smallFlags(out).join(" ")}`;

  it("that nobody reads any more does not end a run", async () => {
    const folder = temporaryFolder();
    const { stdout } = await shell(`${train("run")} | head -1 >head; echo "\${PIPESTATUS[0]}"`, folder);
    expect(stdout.trim()).toBe("0");
    expect(existsSync(join(folder, "run", "model.safetensors"))).toBe(true);
    const quiet = await shell(`${train("quiet")} 2> >(head -c 1 >/dev/null) >/dev/null; echo $?`, folder);
    expect(quiet.stdout.trim()).toBe("0");
  });

  it.runIf(existsSync("/dev/full"))("that does not fit does not end a run, and is no success", async () => {
    const folder = temporaryFolder();
    const full = await shell(`${train("run")} >/dev/full; echo $?`, folder);
    expect(full.stdout.trim()).toBe("3");
    expect(full.stderr).toContain("standard output could not be written");
    expect(existsSync(join(folder, "run", "model.safetensors"))).toBe(true);
    const quiet = await shell(`${train("quiet")} 2>/dev/full >/dev/null; echo $?`, folder);
    expect(quiet.stdout.trim()).toBe("0");
  });
});

describe("embed", () => {
  it("replaces no model and no run, whatever the name", async () => {
    const folder = temporaryFolder();
    const at = (name: string) => join(folder, name);
    expect((await rkd("train", ...smallFlags(at("run")), "--epochs", "1")).code).toBe(0);
    expect((await rkd("train", ...smallFlags(at("other")), "--epochs", "1")).code).toBe(0);
    const models = ["run", "other"].map((run) => join(at(run), "model.safetensors"));
    const before = models.map((model) => readFileSync(model, "hex"));
    symlinkSync(at("run"), at("link"));
    for (const out of [...models, join(at("link"), "model.safetensors")]) {
      const { code, stderr } = await rkd("embed", at("run"), "--data", "glyphs:classes=20,writers=8", "--out", out);
      expect(stderr).toMatch(/--out: this file is an input|belongs to a run/);
      expect(code).toBe(2);
    }
    expect(models.map((model) => readFileSync(model, "hex"))).toEqual(before);
    const train = await rkd("train", ...smallFlags(at("run")), "--weights", at("run"), "--overwrite");
    expect(train.stderr).toContain("--out: an input lies in this folder");
    expect(models.map((model) => readFileSync(model, "hex"))).toEqual(before);
  });

  it.skipIf(process.platform === "win32")("writes through links and into what is no file", async () => {
    const folder = temporaryFolder();
    const data = "--data glyphs:classes=20,writers=8";
    mkdirSync(join(folder, "store"));
    symlinkSync("store/real.npy", join(folder, "link.npy"));
    const { stdout, stderr } = await shell(
      `rkd train ${smallFlags("run").join(" ")} --epochs 1 >/dev/null 2>&1
       rkd embed run ${data} --out link.npy >/dev/null; stat -c %F link.npy store/real.npy
       mkfifo pipe; wc -c <pipe >count & rkd embed run ${data} --format npy --out pipe >/dev/null; wait
       stat -c %F pipe; stat -c %s store/real.npy; cat count; ls`,
      folder,
    );
    const [link, real, pipe, size, count, ...names] = stdout.trim().split("\n");
    expect([link, real, pipe], stderr).toEqual(["symbolic link", "regular file", "fifo"]);
    expect(count?.trim()).toBe(size);
    expect(names).toEqual(["count", "link.npy", "link.npy.ids.json", "pipe", "run", "store"]);
  });
});

it.runIf(process.platform === "linux")(
  "decodes into a temporary folder where the cache cannot be written",
  async () => {
    const folder = temporaryFolder();
    const env = { RKD_CACHE: "/sys/rkd", TMPDIR: folder }; // where nobody may write, not even root
    const { code, stderr } = await start(["train", ...smallFlags(join(folder, "run"))], env).done;
    expect(code, stderr).toBe(0);
    for (const word of ["warning", "--cache", "RKD_CACHE", "/sys/rkd"]) expect(stderr).toContain(word);
    expect(readdirSync(folder)).toEqual(["run"]);
  },
);
