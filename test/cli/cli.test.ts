import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { lines, rkd, smallFlags, start } from "../support/cli.ts";
import { temporaryFolder } from "../support/folders.ts";

describe("help", () => {
  it("shows commands, examples and exit codes", async () => {
    const { code, stdout } = await rkd("--help");
    expect(code).toBe(0);
    for (const word of ["train", "distill", "evaluate", "embed", "resume", "demo", "Examples:", "Exit codes:", "130"]) {
      expect(stdout).toContain(word);
    }
  });

  it.each(["train", "distill", "evaluate", "embed", "resume", "demo"])("of %s names its options", async (command) => {
    const { code, stdout } = await rkd(command, "--help");
    expect(code).toBe(0);
    expect(stdout).toContain("--json");
  });

  it("comes with a doctor", async () => {
    const { code, stdout } = await rkd("doctor");
    expect(stdout).toContain("everything is in order");
    expect(code).toBe(0);
    const broken = await start(["doctor", "--json"], { RKD_NATIVE_PATH: "/no/addon.node" }).done;
    expect(lines(broken.stdout)[0]).toMatchObject({ healthy: false, node: process.version });
    expect(broken.code).toBe(4);
  });

  it("has a version", async () => {
    const { version } = JSON.parse(readFileSync("package.json", "utf8"));
    expect((await rkd("--version")).stdout.trim()).toBe(version);
  });
});

const complete = ["train", "--data", "glyphs", "--backbone", "conv4", "--out", "x"];

describe("mistakes", () => {
  it.each([
    [["trian"], 2, "Did you mean train?"],
    [["train", "--epohcs", "3"], 2, "Did you mean --epochs?"],
    [["train"], 2, "--data: this option is needed"],
    [["train", "--data", "glyphs", "--backbone", "conv5", "--out", "x"], 2, 'Did you mean "conv4"?'],
    [[...complete, "--loss", "tripet"], 2, 'Did you mean "triplet-squared"?'],
    [[...complete, "--loss", "rkd_angle"], 2, "For rkd-angle, which compares with a teacher, use rkd distill"],
    [["train", "--batch-size", "8"], 2, "(Did you mean --batch?)"],
    [["train", "--learning_rate", "8"], 2, "(Did you mean --lr?)"],
    [["train", "--output", "x"], 2, "(Did you mean --out?)"],
    [["train", "--data", "s3://bucket/photos", ...complete.slice(3)], 2, "Nothing is downloaded"],
    [[...complete, "--loss", "triplet:1@a/b/c"], 2, "with @student/teacher"],
    [[...complete, "--loss", "prototypical"], 2, "Give --episode 5,1,5"],
    [[...complete, "--loss", "triplet:much"], 2, 'received "triplet:much"'],
    [[...complete, "--loss", "triplet@layer3"], 2, "triplet-squared.studentFeature"],
    [[...complete, "--epochs", "many"], 2, "--epochs: invalid value"],
    [[...complete, "--batch", "1"], 2, "--batch: invalid value: expected a whole number at least 2"],
    [[...complete, "--lr", "0"], 2, "--lr: invalid value"],
    [[...complete, "--lr", "abc"], 2, 'greater than 0, received "abc"'],
    [["evaluate", "no/such", "--image-size", "64"], 2, "--image-size: invalid value: expected --data beside it"],
    [
      [...complete, "--per-class", "any"],
      2,
      '--per-class: invalid value: expected 2 to 63 with triplet-squared, received "any"',
    ],
    [[...complete, "--warmup", "-1"], 2, "--warmup: invalid value"],
    [[...complete, "--ks", "1,two"], 2, "--ks: invalid value"],
    [[...complete, "--device", "cuda"], 4, "CPU only"],
    [["train", "--data", "no/such", "--backbone", "conv4", "--out", "x"], 3, "no/such: there is no such folder"],
    [[...complete, "--hidden", "8"], 2, "--hidden: invalid value: expected --backbone mlp"],
    [["train", "--data", "glyphs", "--backbone", "mlp", "--width", "8", "--out", "x"], 2, "Give --hidden"],
    [[...complete, "--weights", "no/such.pth"], 3, "no/such.pth: weights: there is no such folder or file"],
    [[...complete, "--weights-except", "fc"], 2, "--weights: this option is needed"],
    [[...complete, "--learning-rates", "fc"], 2, "--learning-rates: invalid value: expected pattern=factor"],
    [[...complete, "--learning-rates", "fc=0"], 2, "--learning-rates: invalid value"],
    [[...complete, "--freeze", "blocks.9"], 2, "--freeze: the pattern chooses no parameter"],
    [["evaluate", "no/such"], 3, "no/such"],
    [["resume", "."], 3, "there is no run in this folder"],
    [["embed", "no/such", "--data", "glyphs", "--out", "x.npy"], 3, "no/such"],
  ] as const)("%j exits with %i", async (args, expected, message) => {
    const { code, stderr } = await rkd(...args);
    expect(stderr).toContain(message);
    expect(code).toBe(expected);
    expect(existsSync("x")).toBe(false);
  });

  it("are one JSON line with --json", async () => {
    const { code, stdout } = await rkd("evaluate", "no/such", "--json");
    expect(code).toBe(3);
    expect(lines(stdout)).toEqual([expect.objectContaining({ type: "error", code: "ERR_NOT_FOUND" })]);
    expect(lines((await rkd("train", "--seeed", "1", "--json")).stdout)).toEqual([
      expect.objectContaining({ type: "error", code: "ERR_UNKNOWN_OPTION" }),
    ]);
  });

  it("say what to do where the addon cannot be loaded", async () => {
    const args = ["train", ...smallFlags(join(temporaryFolder(), "x"))];
    const { code, stderr } = await start(args, { RKD_NATIVE_PATH: "/no/addon.node" }).done;
    expect(stderr).toMatch(/native addon could not be loaded.+Correct or unset RKD_NATIVE_PATH/);
    expect(code).toBe(4);
  });
});

describe("the way of a user", () => {
  it("trains, distills, evaluates and embeds", async () => {
    const folder = temporaryFolder();
    const [teacher, student] = [join(folder, "a teacher"), join(folder, "schüler")];
    const trained = await rkd("train", ...smallFlags(teacher), "--loss", "triplet", "--json");
    expect(trained.code, trained.stderr).toBe(0);
    const events = lines(trained.stdout);
    expect(new Set(events.map(({ type }) => type))).toEqual(
      new Set(["data", "start", "step", "evaluation", "checkpoint", "end"]),
    );
    expect(events.at(-1)).toMatchObject({ type: "end", result: { steps: 12 } });

    const losses = ["--loss", "rkd-distance:1", "--loss", "rkd-angle:2"];
    const distilled = await rkd("distill", "--teacher", teacher, ...smallFlags(student), ...losses);
    expect(distilled.code, distilled.stderr).toBe(0);
    for (const word of ["teacher", "student before", "student after", "gap closed", "parameters", "ms/image"]) {
      expect(distilled.stdout).toContain(word);
    }
    expect(distilled.stderr).toContain("epoch 2, validation classes: recall@1");
    expect(distilled.stderr).not.toContain("\r");

    const short = [
      "--data",
      "glyphs:classes=20,writers=8",
      "--teacher",
      teacher,
      "--epochs",
      "1",
      "--steps-per-epoch",
      "2",
    ];
    const usual = await rkd("distill", ...short, "--baseline", "--out", join(folder, "usual"));
    expect(usual.code, usual.stderr).toBe(0);
    expect(usual.stdout).toMatch(/^without a teacher +\d/m);
    expect(usual.stdout).toContain("gap closed: the student's way from the one without a teacher");
    expect(usual.stderr).toMatch(/^without a teacher: epoch 1, validation classes: recall@1/m);
    const wild = await rkd(
      "distill",
      ...short,
      "--loss",
      "rkd-angle",
      "--lr",
      "1000",
      "--epochs",
      "5",
      "--out",
      join(folder, "wild"),
    );
    expect(wild.stdout).toContain("note: The gradient is dead");
    const kindless = await rkd("train", ...short.slice(0, 2), "--width", "8", "--out", join(folder, "kindless"));
    expect([kindless.code, kindless.stderr]).toEqual([2, expect.stringContaining("--backbone: this option is needed")]);

    const evaluated = await rkd("evaluate", student, "--data", "glyphs:classes=20,writers=8", "--json");
    const last = lines(evaluated.stdout).at(-1);
    const stored = JSON.parse(readFileSync(join(student, "metrics.json"), "utf8"));
    expect(last.metrics["recall@1"]).toBe(stored.metrics["recall@1"]);

    for (const name of ["vectors.npy", "vectors.safetensors"]) {
      const out = join(folder, name);
      const embedded = await rkd("embed", student, "--data", "glyphs:classes=20,writers=8", "--out", out, "--json");
      expect(embedded.code, embedded.stderr).toBe(0);
      expect(lines(embedded.stdout).at(-1)).toMatchObject({ type: "end", out, embedding: 8 });
      expect(existsSync(out)).toBe(true);
    }
  });

  it("stops on Ctrl-C at a checkpoint, says how to go on, and does", async () => {
    const out = join(temporaryFolder(), "run");
    const child = start(["train", ...smallFlags(out), "--steps-per-epoch", "20000", "--json"]);
    await new Promise<void>((resolve) => {
      child.stdout?.on("data", (chunk) => String(chunk).includes('"step"') && resolve());
      child.on("close", () => resolve());
    });
    child.kill("SIGINT");
    const { code, stdout, stderr } = await child.done;
    expect(code).toBe(130);
    expect(stderr).toContain(`Go on with: rkd resume ${out}`);
    const [checkpoint, error] = lines(stdout).slice(-2);
    expect(checkpoint).toMatchObject({ type: "checkpoint" });
    expect(error).toMatchObject({ type: "error", code: "ERR_CANCELLED" });
    const resumed = start(["resume", out, "--json"]);
    await new Promise<void>((resolve) => {
      resumed.stdout?.on("data", (chunk) => String(chunk).includes('"start"') && resolve());
      resumed.on("close", () => resolve());
    });
    resumed.kill("SIGINT");
    resumed.kill("SIGINT");
    const second = await resumed.done;
    expect(second.code).toBe(130);
    expect(lines(second.stdout).find(({ type }) => type === "start")).toMatchObject({ step: checkpoint.step });
  });
});

describe("bench", () => {
  const smallest = "conv4-28px-b64-train";

  it("lists workloads, and suggests the nearest of a mistyped one", async () => {
    const { code, stdout } = await rkd("bench", "--list");
    expect(code).toBe(0);
    const names = stdout.trim().split("\n");
    for (const name of [smallest, "vgg11bn-32px-b64-train", "rkd-da-n512-d128"]) expect(names).toContain(name);
    for (const flag of ["--only", "--profile"]) {
      const mistyped = await rkd("bench", flag, "conv4-28px-b64");
      expect(mistyped.stderr).toContain(`${flag}: invalid value`);
      expect(mistyped.stderr).toContain(`Did you mean "${smallest}"?`);
      expect(mistyped.code).toBe(2);
    }
    expect((await rkd("bench", "--seconds", "-1")).stderr).toContain("--seconds: invalid value");
  });

  it("measures each workload in a process of its own, as JSON lines or a table", async () => {
    const only = ["--only", "rkd-da-n128-d512", smallest, "--seconds", "0", "--threads", "1"];
    const { code, stdout, stderr } = await rkd("bench", ...only, "--json");
    expect(code, stderr).toBe(0);
    const [losses, network] = lines(stdout);
    expect(losses).toMatchObject({ workload: "rkd-da-n128-d512", threads: 1, runs: 3, gflops: null, layout: "n/a" });
    expect(losses.profile).toBe("dev");
    expect(network).toMatchObject({ workload: smallest, layout: "channels_last", gflops: expect.any(Number) });
    expect(network.peak_share).toBeCloseTo(network.gflops / network.peak_gflops, 2);
    if (process.platform === "linux") expect(network.peak_mib).toBeGreaterThan(losses.peak_mib);
    const text = await rkd("bench", ...only);
    expect(text.stderr).toContain(`measuring ${smallest} (2 of 2)`);
    for (const word of [smallest, "ms/step", "peak MiB", "GFLOP/s", "profile: dev", "Winograd"]) {
      expect(text.stdout).toContain(word);
    }
  });

  it("runs with the instruction set that RKD_ISA names, and lists those there are for another", async () => {
    const args = ["bench", "--only", "rkd-da-n128-d512", "--seconds", "0", "--json"];
    const forced = await start(args, { RKD_ISA: "portable" }).done;
    expect(lines(forced.stdout)[0]).toMatchObject({ instruction_set: "portable" });
    const unknown = await start(args, { RKD_ISA: "mmx" }).done;
    expect(unknown.code).toBe(2);
    expect(unknown.stderr).toMatch(/RKD_ISA: expected an instruction set .+portable, portable-wide.+received "mmx"/i);
  });

  it("profiles a step, category by category and layer by layer", async () => {
    const { code, stdout, stderr } = await rkd("bench", "--profile", smallest, "--seconds", "0", "--json");
    expect(code, stderr).toBe(0);
    const [report] = lines(stdout);
    expect(report).toMatchObject({ workload: smallest, runs: 3 });
    const first = report.records.find(
      (record: { layer: string; operation: string }) => record.layer === "blocks.0.0" && record.operation === "conv2d",
    );
    // 64 images of 28 x 28 pixels, 3 x 3 windows over one channel, 64 output channels; two operations each.
    expect(first).toMatchObject({ shape: [64, 28, 28, 1], calls: 1, flops: 2 * 64 * 28 * 28 * 9 * 64 });
    expect(report.categories.map(({ category }: { category: string }) => category)).toContain("weight-gradient");
    const text = await rkd("bench", "--profile", smallest, "--seconds", "0");
    for (const word of ["optimizer", "between operations", "blocks.3.0 conv2d_backward_weight"]) {
      expect(text.stdout).toContain(word);
    }
  });
});

/** A picture of 8 x 8 pixels. */
const png = Buffer.from(
  "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAAAAADhZOFXAAAAU0lEQVR42gFIALf/AAAfPl18m7rZABEwT26NrMvqACJBYH+evdz7ADNScZCvzu0MAERjgqHA3/4dAFV0k7LR8A8uAGaFpMPiASA/AHeWtdTzEjFQaAQgATsnB90AAAAASUVORK5CYII=",
  "base64",
);

describe("names from outside", () => {
  it.skipIf(process.platform === "win32")("reach a terminal escaped, and JSON as they are", async () => {
    const folder = temporaryFolder();
    const name = "cat\u001b[31m\nrkd: done \u202e";
    for (const [label, count] of [
      [name, 4],
      ["dog", 4],
    ] as const) {
      mkdirSync(join(folder, "d", label), { recursive: true });
      for (let i = 0; i < count; i++) writeFileSync(join(folder, "d", label, `${i}.png`), i === 0 ? "no image" : png);
    }
    const args = ["train", "--data", join(folder, "d"), "--backbone", "mlp", "--image-size", "8", "--batch", "4"];
    const more = [
      "--per-class",
      "2",
      "--epochs",
      "1",
      "--test",
      "0",
      "--validation",
      "0",
      "--cache",
      join(folder, "c"),
    ];
    const text = await rkd(...args, ...more, "--out", join(folder, "o"));
    const shown = text.stdout + text.stderr;
    expect(shown).toContain(String.raw`cat\x1B[31m\x0Arkd: done \u202e`); // bytes are the core's, direction the terminal's
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
    expect(shown).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u202e]|^rkd: done/mu);
    const json = await rkd(...args, ...more, "--out", join(folder, "p"), "--json");
    const warnings = lines(json.stdout).filter(({ type }) => type === "warning");
    expect(warnings.some(({ message }) => message.includes("cat\\x1B[31m\\x0Arkd: done \u202e"))).toBe(true);
    const missing = await rkd("doctor", "data", join(folder, "no\u001b[2Jfolder"));
    expect(missing.stderr).toContain(String.raw`no\x1b[2Jfolder`);
  });
});

describe("memory", () => {
  it("is estimated before the first step, and a run that fits nowhere is refused with what fits", async () => {
    const folder = temporaryFolder();
    const data = ["--data", "glyphs:classes=20,writers=8", "--cache", join(folder, "c"), "--per-class", "any"];
    const args = ["train", ...data, "--backbone", "conv4", "--loss", "cross-entropy", "--epochs", "1"];
    const small = await rkd(...args, "--batch", "8", "--steps-per-epoch", "1", "--out", join(folder, "a"), "--json");
    const [start] = lines(small.stdout).filter(({ type }) => type === "start");
    const { total, ...parts } = start.memory;
    expect(Object.values(parts as Record<string, number>).reduce((sum, bytes) => sum + bytes)).toBe(total);
    const large = await rkd(...args, "--batch", "65536", "--image-size", "256", "--out", join(folder, "b"));
    if (process.platform !== "linux") return;
    expect(large.stderr).toMatch(/--batch: the run does not fit into memory: expected at most .*--batch \d+ would fit/);
    expect(large.code).toBe(2);
  });
});
