/** What docs/machines.md tells people to give to Kubernetes and Slurm: by their schemas, and by the flags that there are. */

import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Job } from "kubernetes-models/batch/v1";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { commands } from "../../src/cli/commands.ts";
import { temporaryFolder } from "../support/folders.ts";
import type { IMPIJob } from "../support/mpi-job.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const text = readFileSync(join(root, "docs/machines.md"), "utf8");

/** The code of the document in a language. */
const blocks = (language: string) =>
  [...text.matchAll(new RegExp(`\`\`\`${language}\\n(.*?)\`\`\``, "gs"))].map(([, code = ""]) => code);

const resources = blocks("yaml").map((block) => parse(block, { strict: true, uniqueKeys: true }));
const job = resources.find(({ kind }) => kind === "Job");
const mpiJob: IMPIJob = resources.find(({ kind }) => kind === "MPIJob");

/**
 * What the types of Kubernetes, and of the MPI Operator, say against each of these: a field that there is not, as the API server's strict
 * validation would, a missing one, or one of another type.
 */
function faultsOf(documents: readonly { readonly kind: string }[]): string[][] {
  const at = temporaryFolder();
  mkdirSync(join(at, "node_modules"));
  for (const name of ["kubernetes-models", "@kubernetes-models"]) {
    symlinkSync(join(root, "node_modules", name), join(at, "node_modules", name), "junction");
  }
  copyFileSync(join(root, "test/support/mpi-job.ts"), join(at, "mpi-job.ts"));
  const types = { Job: ["IJob", "kubernetes-models/batch/v1"], MPIJob: ["IMPIJob", "./mpi-job.ts"] };
  const files = documents.map((document, index) => {
    const [type, from] = types[document.kind as keyof typeof types];
    const code = `import type { ${type} } from "${from}";\nexport const it: ${type} = ${JSON.stringify(document)};\n`;
    writeFileSync(join(at, `document${index}.ts`), code);
    return `document${index}.ts`;
  });
  const flags = [
    "--ignoreConfig",
    "--noEmit",
    "--strict",
    "--skipLibCheck",
    "--allowImportingTsExtensions",
    "--pretty",
    "false",
  ];
  const tsc = join(root, "node_modules/typescript/bin/tsc");
  const options = { cwd: at, encoding: "utf8" } as const;
  const { stdout } = spawnSync(process.execPath, [tsc, ...flags, "--module", "nodenext", ...files], options);
  const lines = stdout.split("\n").filter((line) => line.includes("error"));
  const strange = lines.filter((line) => !files.some((file) => line.startsWith(file)));
  if (strange.length > 0) throw new Error(strange.join("\n"));
  return files.map((file) => lines.filter((line) => line.startsWith(file)));
}

/** A copy in which `change` has changed something. */
function changed<T>(document: T, change: (copy: T) => void): T {
  const copy = structuredClone(document);
  change(copy);
  return copy;
}

describe("the resources of Kubernetes", () => {
  it("are a Job and an MPIJob by their schemas, which would see a mistake", () => {
    expect(resources.map(({ apiVersion, kind }) => `${apiVersion} ${kind}`).sort()).toEqual([
      "batch/v1 Job",
      "kubeflow.org/v2beta1 MPIJob",
    ]);
    const wrong = [
      changed(job, ({ spec }) => Object.assign(spec, { completionz: 100 })),
      changed(job, ({ spec }) => Object.assign(spec, { completions: "100" })),
      changed(job, ({ spec }) => Object.assign(spec.template.spec.containers[0], { cmd: ["npx"] })),
      changed(job, ({ spec }) => delete spec.template),
      changed(mpiJob, ({ spec }) => Object.assign(spec, { slots: 1 })),
      changed(mpiJob, ({ spec }) => Object.assign(spec.mpiReplicaSpecs, { Workers: spec.mpiReplicaSpecs.Worker })),
      changed(mpiJob, ({ spec }) => Object.assign(spec.mpiReplicaSpecs.Worker.template, { containers: [] })),
    ];
    const [ofJob, ofMpiJob, ...ofWrong] = faultsOf([job, mpiJob, ...wrong]);
    expect([ofJob, ofMpiJob]).toEqual([[], []]);
    for (const [index, faults] of ofWrong.entries()) expect(faults, JSON.stringify(wrong[index])).not.toEqual([]);
    // What types do not say, patterns and ranges of numbers, the schema does.
    new Job(job).validate();
    const half = changed(job, ({ spec }) => Object.assign(spec, { completions: 1.5 }));
    expect(() => new Job(half).validate()).toThrow("completions");
  });

  it("ask for as many shards as there are tasks, and as many ranks as there are slots", () => {
    const { completionMode, completions, template } = job.spec;
    expect(completionMode).toBe("Indexed");
    const { args } = template.spec.containers[0];
    expect(args[args.indexOf("--shard") + 1]).toBe(`auto/${completions}`);
    const { slotsPerWorker = 1, mpiReplicaSpecs } = mpiJob.spec;
    const [launcher] = mpiReplicaSpecs.Launcher.template.spec?.containers ?? [];
    const command = launcher?.command ?? [];
    const ranks = Number(command[command.indexOf("-n") + 1]);
    expect(ranks).toBe(slotsPerWorker * (mpiReplicaSpecs.Worker.replicas ?? 1));
  });
});

describe("the scripts", () => {
  const scripts = blocks("sh");

  // Windows has no bash of its own to read them.
  it.skipIf(process.platform === "win32")("are such", () => {
    for (const script of scripts) {
      const { status, stderr } = spawnSync("bash", ["-n"], { input: script, encoding: "utf8" });
      expect(status, stderr).toBe(0);
    }
  });

  it("begin with what sbatch reads, and ask for as many shards as the array has tasks", () => {
    const arrays = scripts.filter((script) => script.includes("--array"));
    expect(arrays).toHaveLength(1);
    expect(arrays[0]).toMatch(/^#!\/bin\/bash\n#SBATCH /);
    const [, last, count] = /--array=0-(\d+)[\s\S]*--shard auto\/(\d+)/.exec(arrays[0] ?? "") ?? [];
    expect(Number(count)).toBe(Number(last) + 1);
  });

  it("and the resources use commands and flags that there are", () => {
    const pods = [
      job.spec.template,
      ...Object.values(mpiJob.spec.mpiReplicaSpecs).map(({ template }) => template),
    ].flatMap(({ spec }) => spec.containers);
    const typed = pods.map(({ command = [], args = [] }) => [...command, ...args].join(" "));
    const all = [...scripts, ...typed].flatMap((code) => [
      ...code.matchAll(/(?:\bnpx |node_modules\/\.bin\/)rkd (\w+)([^\n#"]*)/g),
    ]);
    expect(all.length).toBeGreaterThan(10);
    for (const [line, name, rest = ""] of all) {
      const command = commands().find((each) => each.name() === name);
      expect(command, line).toBeDefined();
      for (const [flag] of rest.matchAll(/--[a-z][\w-]*/g)) {
        expect(
          command?.options.map(({ long }) => long),
          line,
        ).toContain(flag);
      }
    }
  });
});
