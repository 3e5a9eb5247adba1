/** `watchRun`: the page of a run while it goes. */

import { integer, path } from "./options/check.ts";
import { ReportServer } from "./report/server.ts";
import { withSession } from "./run/command.ts";
import { type Run, startRun } from "./run/run.ts";

/** What `watchRun` takes beside the run. */
export interface WatchOptions {
  /** The port on 127.0.0.1, 0 to 65535; 0: one that is free. @default 0 */
  readonly port?: number;
  /** Ends it. */
  readonly signal?: AbortSignal;
}

/** Where the page is. */
export interface WatchEvent {
  readonly type: "listening";
  /** The page's address. */
  readonly url: string;
}

/**
 * Serves the page of the run in a folder on this machine alone, and sends what changes while the run goes, in whatever process
 * that is. It does not end by itself: abort it, or dispose of it.
 * @throws {RkdError} by rejection: `ERR_NOT_FOUND` where there is no run, `ERR_IO` where the port is taken; the signal's reason
 */
export function watchRun(run: string | URL, { port = 0, signal }: WatchOptions = {}): Run<never, WatchEvent> {
  return startRun<never, WatchEvent>(async ({ emit, signal: stop }) => {
    const out = path("run", run);
    const at = integer("port", port, { from: 0, to: 65_535 });
    return await withSession({ emit: () => {}, signal: stop }, async (session) => {
      const server = new ReportServer(out, session);
      try {
        emit({ type: "listening", url: await server.listen(at) });
        await new Promise<void>((resolve) => stop.addEventListener("abort", () => resolve(), { once: true }));
        throw stop.reason;
      } finally {
        await server.close();
      }
    });
  }, signal);
}
