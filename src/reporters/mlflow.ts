/** A reporter to an MLflow tracking server, by its REST interface (https://mlflow.org/docs/latest/rest-api.html). */

import { basename } from "node:path";
import { RkdError } from "../errors.ts";
import type { StartEvent } from "../events.ts";
import { text } from "../options/check.ts";
import type { Reporter } from "../options/reporter.ts";
import { scalarsOf } from "./scalars.ts";

/** What {@link mlflow} takes. */
export interface MlflowOptions {
  /** The server, for example `http://127.0.0.1:5000`. @default `MLFLOW_TRACKING_URI` of the environment */
  readonly url?: string | URL;
  /** The experiment, which is made where there is none of the name. @default `MLFLOW_EXPERIMENT_NAME`, else "rkd" */
  readonly experiment?: string;
  /** What the run is called. @default the name of its folder */
  readonly runName?: string;
}

/** What the server takes at once. */
const [MOST_METRICS, MOST_PARAMETERS, LONGEST] = [1000, 100, 500];
const PATIENCE_MS = 30_000;

interface Metric {
  readonly key: string;
  readonly value: number;
  readonly timestamp: number;
  readonly step: number;
}

/**
 * Logs the plan as parameters and every number of every step and evaluation as metrics; `@` and `#`, which MLflow does not take,
 * become `_at_` and `_`: `validation/recall_at_1`. Logs in by `MLFLOW_TRACKING_TOKEN`, or by `MLFLOW_TRACKING_USERNAME` and
 * `MLFLOW_TRACKING_PASSWORD`, where they are set. A resumed run is a run of its own there.
 */
export function mlflow({ url, experiment, runName }: MlflowOptions = {}): Reporter {
  const server = serverOf(url);
  const name = text("experiment", experiment ?? process.env.MLFLOW_EXPERIMENT_NAME ?? "rkd");
  let run: string | undefined;
  let waiting: Metric[] = [];
  const flush = async () => {
    const some = waiting;
    waiting = [];
    if (run !== undefined && some.length > 0) await call(server, "runs/log-batch", { run_id: run, metrics: some });
  };
  return {
    name: "mlflow",
    async event(event) {
      if (event.type === "start") run = await begin(server, name, runName, event);
      const found = scalarsOf(event);
      if (!found) return;
      const timestamp = Date.now();
      for (const [key, value] of found.values) {
        if (Number.isFinite(value)) waiting.push({ key: keyOf(key), value, timestamp, step: found.step });
        if (waiting.length >= MOST_METRICS) await flush();
      }
      if (event.type === "evaluation") await flush();
    },
    async end(how) {
      await flush();
      if (run === undefined) return;
      const status = { finished: "FINISHED", stopped: "KILLED", failed: "FAILED" }[how];
      await call(server, "runs/update", { run_id: run, status, end_time: Date.now() });
    },
  };
}

function serverOf(url: MlflowOptions["url"]): string {
  const given = url ?? process.env.MLFLOW_TRACKING_URI;
  const whole = given !== undefined && URL.canParse(String(given)) ? new URL(given) : undefined;
  if (whole && /^https?:$/.test(whole.protocol)) return String(whole).replace(/\/+$/, "");
  throw new RkdError("ERR_INVALID_OPTION", "an MLflow server is needed", {
    subject: "url",
    expected: "an address that begins with http:// or https://",
    received: given === undefined ? "nothing" : JSON.stringify(String(given)),
    advice: "start one with `mlflow server`, and give its address or set MLFLOW_TRACKING_URI",
  });
}

/** Makes the experiment where there is none, and a run with the plan. */
async function begin(server: string, experiment: string, runName: string | undefined, start: StartEvent) {
  const named = `experiments/get-by-name?experiment_name=${encodeURIComponent(experiment)}`;
  const known = await call(server, named).catch((error: unknown) => {
    if (error instanceof RkdError && error.received === "RESOURCE_DOES_NOT_EXIST") return undefined;
    throw error;
  });
  const id =
    known?.experiment?.experiment_id ?? (await call(server, "experiments/create", { name: experiment })).experiment_id;
  const run_name = runName ?? basename(start.out);
  const tags = [{ key: "mlflow.source.name", value: "rkd" }];
  const { run } = await call(server, "runs/create", { experiment_id: id, run_name, start_time: Date.now(), tags });
  const run_id = run?.info?.run_id;
  const params = parameters({ job: start.job, ...start.plan });
  for (let from = 0; from < params.length; from += MOST_PARAMETERS) {
    await call(server, "runs/log-batch", { run_id, params: params.slice(from, from + MOST_PARAMETERS) });
  }
  return run_id;
}

/** `{ batch: { size: 64 } }` as `batch.size`. */
function parameters(value: object, before = ""): { readonly key: string; readonly value: string }[] {
  return Object.entries(value).flatMap(([name, part]) => {
    const key = before ? `${before}.${name}` : name;
    if (typeof part === "object" && part !== null) return parameters(part, key);
    return [{ key: keyOf(key), value: String(part).slice(0, LONGEST) }];
  });
}

function keyOf(name: string): string {
  return name.replaceAll("@", "_at_").replaceAll(/[^\w\-./ :]/g, "_");
}

/** What of the server's answers is read. */
interface Answer {
  readonly experiment?: { readonly experiment_id?: string };
  readonly experiment_id?: string;
  readonly run?: { readonly info?: { readonly run_id?: string } };
  readonly error_code?: string;
  readonly message?: string;
}

async function call(server: string, method: string, body?: object): Promise<Answer> {
  const address = `${server}/api/2.0/mlflow/${method}`;
  const {
    MLFLOW_TRACKING_TOKEN: token,
    MLFLOW_TRACKING_USERNAME: user,
    MLFLOW_TRACKING_PASSWORD: password,
  } = process.env;
  const basic = user && `Basic ${Buffer.from(`${user}:${password ?? ""}`).toString("base64")}`;
  const authorization = token ? `Bearer ${token}` : basic;
  const headers = { "content-type": "application/json", ...(authorization && { authorization }) };
  const sent = body ? { method: "POST", body: JSON.stringify(body) } : {};
  const fail = (message: string, received?: string, cause?: unknown) =>
    new RkdError("ERR_IO", message, {
      subject: address,
      received,
      cause,
      advice: "look whether the MLflow server runs there",
    });
  let response: Response;
  try {
    response = await fetch(address, { ...sent, headers, signal: AbortSignal.timeout(PATIENCE_MS) });
  } catch (cause) {
    throw fail("the MLflow server does not answer", undefined, cause);
  }
  const answer = (await response.json().catch(() => ({}))) as Answer;
  if (response.ok) return answer;
  throw fail(answer.message ?? `the MLflow server answered ${response.status}`, answer.error_code);
}
