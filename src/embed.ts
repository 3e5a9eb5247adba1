/** `embed`: writes the embeddings of images to a file. */

import { json } from "./native/json.ts";
import type { EmbedOptions } from "./options/run.ts";
import type { EmbedReport } from "./protocol/protocol.ts";
import { withoutSignal, withSession } from "./run/command.ts";
import { type Run, startRun } from "./run/run.ts";

/**
 * Embeds every image of a source, without augmentation, and writes one row an image with its id.
 * @throws {RkdError} by rejection: bad options, `ERR_NOT_FOUND`, `ERR_INVALID_ARTEFACT`, bad data, `ERR_IO`
 */
export function embed(options: EmbedOptions): Run<EmbedReport> {
  return startRun((context) => {
    const said = json(withoutSignal(options));
    return withSession(context, (session) => session.call((core) => core.embed(said)));
  }, options?.signal);
}
