/** `embed`: writes the embeddings of images to a file. */

import { checkFileApart, listsOf } from "./artefacts/apart.ts";
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
    return withSession(context, async (session) => {
      const plan = await session.call((core) => core.resolveEmbed(said));
      const { model, data, out } = plan;
      for (const file of [out, `${out}.ids.json`]) checkFileApart(file, { data, files: [model, ...listsOf(data)] });
      return await session.call((core) => core.embed(json(plan)));
    });
  }, options?.signal);
}
