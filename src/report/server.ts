/** Serves the page of a run on this machine alone, and sends what changes while the run goes (server-sent events). */

import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { RkdError } from "../errors.ts";
import type { NativeSession } from "../native/session.ts";
import type { Document } from "./blocks.ts";
import { sectionsOf, toHtml } from "./html.ts";
import { RecordReader, type RunRecord } from "./record.ts";
import { runPage } from "./run-page.ts";
import { duration } from "./scores.ts";
import { documentOfRun } from "./write.ts";

/** Between two looks at the folder. */
const INTERVAL_MS = 500;

/** Without an event for so long, the page says since when. */
const SILENCE_MS = 30_000;

/** Who hears of changes, and what it has. */
interface Listener {
  readonly response: ServerResponse;
  readonly has: Map<string, string>;
}

/** Serves the page of one run. */
export class ReportServer {
  readonly #reader: RecordReader;
  readonly #session: NativeSession;
  readonly #listeners = new Set<Listener>();
  readonly #server = createServer((request, response) => this.#answer(request, response));
  #record: RunRecord;
  #document: Document;
  #pictures: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #seen = "";
  /** Whether nothing will change any more. */
  #complete = false;

  /** @throws {RkdError} `ERR_NOT_FOUND` where there is no run */
  constructor(out: string, session: NativeSession) {
    this.#reader = new RecordReader(out);
    this.#session = session;
    this.#record = this.#reader.read();
    this.#document = runPage(this.#record, undefined);
  }

  /** Begins to listen; the page's address. @throws {RkdError} `ERR_IO` where the port is taken */
  async listen(port: number): Promise<string> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", (cause) => {
        const advice = "choose another one, or none: then the system does";
        reject(new RkdError("ERR_IO", `the port cannot be used: ${cause.message}`, { subject: "port", advice, cause }));
      });
      this.#server.listen(port, "127.0.0.1", resolve);
    });
    this.#look();
    this.#timer = setInterval(() => this.#look(), INTERVAL_MS);
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/`;
  }

  /** Ends every connection. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.#pictures;
    for (const { response } of this.#listeners) response.end();
    this.#server.closeAllConnections();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    // A page from elsewhere that has a name for this address must not read it.
    const host = (request.headers.host ?? "").replace(/:\d+$/, "");
    if (!["127.0.0.1", "localhost"].includes(host)) {
      response.writeHead(403).end();
      return;
    }
    if (request.method !== "GET") return void response.writeHead(405).end();
    if (request.url === "/") {
      response.writeHead(200, { "content-type": "text/html; charset=utf-8", "cache-control": "no-store" });
      return void response.end(toHtml(this.#document, "events"));
    }
    if (request.url !== "/events") return void response.writeHead(404).end();
    response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
    const listener = { response, has: new Map<string, string>() };
    this.#listeners.add(listener);
    request.on("close", () => this.#listeners.delete(listener));
    this.#send(listener);
  }

  /** Looks for what is new. */
  #look(): void {
    try {
      this.#record = this.#reader.read();
    } catch {
      return; // the run is just being replaced, or its folder has gone: the next look tells
    }
    const { result, log } = this.#record;
    const now = `${log.to?.getTime()} ${log.steps.length} ${log.evaluations.length} ${result?.steps}`;
    if (now !== this.#seen) {
      this.#seen = now;
      if (result) this.#pictures ??= this.#finish();
      else this.#document = runPage(this.#record, undefined);
    }
    for (const listener of this.#listeners) this.#send(listener);
  }

  /** The run has ended: now there is a model to look with. */
  async #finish(): Promise<void> {
    this.#document = runPage(this.#record, undefined);
    this.#document = await documentOfRun(this.#record, this.#session);
    this.#complete = true;
    for (const listener of this.#listeners) this.#send(listener);
  }

  #send({ response, has }: Listener): void {
    const all = sectionsOf(this.#document);
    const sections = all.filter(({ id, html }) => has.get(id) !== html).map(({ id, html }) => ({ id, html }));
    for (const { id, html } of sections) has.set(id, html);
    const order = all.map(({ id }) => id);
    const change = {
      order,
      sections,
      images: sections.length > 0 ? this.#document.images : undefined,
      ...this.#state(),
    };
    response.write(`event: change\ndata: ${JSON.stringify(change)}\n\n`);
  }

  /** Where the run is, in words. */
  #state(): { readonly state: string; readonly over: boolean } {
    const { result } = this.#record;
    if (!result) return { state: progressOf(this.#record), over: false };
    const state = `The run has ended after ${result.epochs} epochs${this.#complete ? "" : "; its images are being looked at ..."}.`;
    return { state, over: this.#complete };
  }
}

function progressOf({ log: { start, steps, to, startedAt } }: RunRecord): string {
  const last = steps.at(-1);
  if (!start || !startedAt) return "Data and networks are being read.";
  const step = last?.step ?? start.step;
  const done = step - start.step;
  const seconds = to ? (to.getTime() - startedAt.getTime()) / 1000 : 0;
  const left = done > 0 ? `${duration((seconds / done) * (start.totalSteps - step))} left` : "? left";
  const epochs = Math.round(start.totalSteps / start.stepsPerEpoch);
  const silent =
    to && Date.now() - to.getTime() > SILENCE_MS ? `; nothing heard since ${to.toISOString().slice(11, 19)} UTC` : "";
  const rate = last
    ? `, ${Math.round(last.imagesPerSecond).toLocaleString("en")} images/s, loss ${last.loss.toPrecision(4)}`
    : "";
  return `${left}, epoch ${Math.min(epochs, Math.floor(step / start.stepsPerEpoch) + 1)}/${epochs}, step ${step}/${start.totalSteps}${rate}${silent}`;
}
