import { mkdirSync, readdirSync, readFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import type { RunEvent } from "../../src/events.ts";
import { csv, mlflow, type Reporter, tensorboard } from "../../src/index.ts";
import { crc32c } from "../../src/reporters/tensorboard.ts";
import { Reporters } from "../../src/run/reporter.ts";
import { temporaryFolder } from "../support/folders.ts";

const terms = [{ name: "rkd-distance", weight: 1, value: 0.25, gradientNorm: 1 }];
const events = (out: string) =>
  [
    {
      type: "start",
      job: "distill",
      out,
      resumed: false,
      plan: { epochs: 2, batch: { size: 64 }, losses: [{ kind: "triplet" }] },
    },
    ...[1, 2, 3].map((step) => ({
      type: "step",
      step,
      totalSteps: 3,
      epoch: 1,
      loss: step / 8,
      terms,
      learningRate: 0.001,
      gradientNorm: 2,
      imagesPerSecond: 100,
      dataWaitShare: 0,
      rankWaitShare: 0,
    })),
    {
      type: "evaluation",
      who: "student",
      part: "validation",
      epoch: 1,
      step: 3,
      best: true,
      metrics: { "recall@1": 0.5 },
      millisecondsPerImage: 1,
    },
    {
      type: "evaluation",
      who: "teacher",
      teacher: "a, b",
      part: "test",
      epoch: 1,
      step: 3,
      best: false,
      metrics: { "recall@1": 0.75 },
      millisecondsPerImage: 2,
    },
  ] as unknown as RunEvent[];

async function tell(reporter: Reporter, out: string, how: "finished" | "stopped" = "finished"): Promise<string[]> {
  const warnings: string[] = [];
  const reporters = new Reporters([reporter], (message) => warnings.push(message));
  for (const event of events(out)) reporters.tell(event);
  await reporters.end(how);
  return warnings;
}

it("csv has a line for every number", async () => {
  const out = temporaryFolder();
  expect(await tell(csv(), out)).toEqual([]);
  const [head, ...lines] = readFileSync(join(out, "scalars.csv"), "utf8").trim().split("\n");
  expect(head).toBe("step,epoch,name,value");
  expect(lines).toHaveLength(3 * 6 + 2 * 2);
  expect(lines).toContain("2,1,train/loss,0.25");
  expect(lines).toContain("3,1,train/rkd-distance,0.25");
  expect(lines).toContain("3,1,validation/recall@1,0.5");
  expect(lines).toContain('3,1,"test/a, b/recall@1",0.75');
});

describe("tensorboard", () => {
  it("has the checksum of RFC 3720", () => {
    expect(crc32c(new Uint8Array(32)).toString(16)).toBe("8a9136aa");
    expect(crc32c(Uint8Array.from({ length: 32 }, (_, i) => i)).toString(16)).toBe("46dd794e");
  });

  it("writes whole records, each with its length and tags", async () => {
    const out = temporaryFolder();
    expect(await tell(tensorboard(), out)).toEqual([]);
    const [name = ""] = readdirSync(join(out, "tensorboard"));
    expect(name).toMatch(/^events\.out\.tfevents\.\d+\./);
    const file = readFileSync(join(out, "tensorboard", name));
    const records: Buffer[] = [];
    for (let at = 0; at < file.length; ) {
      const length = Number(file.readBigUInt64LE(at));
      const masked = crc32c(file.subarray(at, at + 8));
      expect(file.readUInt32LE(at + 8)).toBe((((masked >>> 15) | (masked << 17)) + 0xa282ead8) >>> 0);
      records.push(file.subarray(at + 12, at + 12 + length));
      at += 12 + length + 4;
    }
    expect(records).toHaveLength(1 + 3 + 2);
    expect(records[0]?.includes("brain.Event:2")).toBe(true);
    expect(records[1]?.includes("train/loss")).toBe(true);
    expect(records[4]?.includes("validation/recall@1")).toBe(true);
  });
});

describe("mlflow", () => {
  const servers: Server[] = [];
  afterAll(() => servers.forEach((server) => void server.close()));

  /** What a server is asked; `known`: whether it has the experiment. */
  async function fake(known: boolean) {
    const calls: { method: string; body: Record<string, never> }[] = [];
    const server = createServer(async (request, response) => {
      let text = "";
      for await (const chunk of request) text += chunk;
      const method = (request.url ?? "").replace(/^\/api\/2\.0\/mlflow\//, "").replace(/\?.*/, "");
      calls.push({ method, body: JSON.parse(text || "{}") });
      const missing = method === "experiments/get-by-name" && !known;
      const answers: Record<string, object> = {
        "experiments/get-by-name": { experiment: { experiment_id: "7" } },
        "experiments/create": { experiment_id: "7" },
        "runs/create": { run: { info: { run_id: "r1" } } },
      };
      response.writeHead(missing ? 404 : 200, { "content-type": "application/json" });
      response.end(
        JSON.stringify(missing ? { error_code: "RESOURCE_DOES_NOT_EXIST", message: "none" } : (answers[method] ?? {})),
      );
    });
    servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`, calls };
  }

  it.each([true, false])("logs plan and numbers in batches, experiment there: %s", async (known) => {
    const { url, calls } = await fake(known);
    const out = join(temporaryFolder(), "run-1");
    mkdirSync(out);
    expect(await tell(mlflow({ url, experiment: "photos" }), out, "stopped")).toEqual([]);
    const methods = calls.map(({ method }) => method);
    const made = known ? [] : ["experiments/create"];
    expect(methods.slice(0, 3 + made.length)).toEqual([
      "experiments/get-by-name",
      ...made,
      "runs/create",
      "runs/log-batch",
    ]);
    const of = (name: string) => calls.filter(({ method }) => method === name).map(({ body }) => body);
    expect(of("runs/create")).toMatchObject([{ experiment_id: "7", run_name: "run-1" }]);
    const [params, ...batches] = of("runs/log-batch") as {
      params?: object[];
      metrics?: { key: string; value: number; step: number }[];
    }[];
    expect(params?.params).toContainEqual({ key: "batch.size", value: "64" });
    const metrics = batches.flatMap((batch) => batch.metrics ?? []);
    expect(metrics).toHaveLength(3 * 6 + 2 * 2);
    expect(metrics).toContainEqual(expect.objectContaining({ key: "validation/recall_at_1", value: 0.5, step: 3 }));
    expect(metrics).toContainEqual(expect.objectContaining({ key: "test/a_ b/recall_at_1", value: 0.75 }));
    expect(of("runs/update")).toMatchObject([{ run_id: "r1", status: "KILLED" }]);
  });

  it("is a warning where nobody answers, and an error where no server is named", async () => {
    const [warning, ...others] = await tell(mlflow({ url: "http://127.0.0.1:9" }), temporaryFolder());
    expect(warning).toMatch(
      /^The reporter mlflow has ended, and the run goes on without it: .*does not answer\. Look whether/,
    );
    expect(others).toEqual([]);
    expect(() => mlflow({ url: "file:///mlruns" })).toThrow(
      /begins with http:\/\/ or https:\/\/, received "file:\/\/\/mlruns"/,
    );
  });
});

describe("any function", () => {
  it("gets every event in order, one at a time", async () => {
    const seen: string[] = [];
    let busy = false;
    const warnings: string[] = [];
    const reporters = new Reporters(
      [
        async ({ type }: RunEvent) => {
          expect(busy).toBe(false);
          busy = true;
          await new Promise((resolve) => setTimeout(resolve, 1));
          seen.push(type);
          busy = false;
        },
      ],
      (message) => warnings.push(message),
    );
    const all = events("x");
    for (const event of all) reporters.tell(event);
    await reporters.end("finished");
    expect(seen).toEqual(all.map(({ type }) => type));
    expect(warnings).toEqual([]);
  });

  it("ends with its first error, and a warning that names it", async () => {
    const warnings: string[] = [];
    const calls: string[] = [];
    const broken = (event: RunEvent) => {
      calls.push(event.type);
      throw new Error("no room");
    };
    const reporters = new Reporters([broken], (message) => warnings.push(message));
    for (const event of events("x")) reporters.tell(event);
    await reporters.end("finished");
    expect(calls).toEqual(["start"]);
    expect(warnings).toEqual(["The reporter broken has ended, and the run goes on without it: no room"]);
  });

  it("is told from what is none", () => {
    expect(() => new Reporters("csv", () => {})).toThrow(
      /reporters: invalid value: expected a list of reporters, received "csv"/,
    );
    expect(() => new Reporters(["csv"], () => {})).toThrow(/reporters\[0\]: invalid value: expected a reporter/);
  });
});
