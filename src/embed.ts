/** `embed`: writes the embeddings of images to a file, or of a shard of them; `mergeShards`: makes one file of the shards. */

import { checkFileApart, listsOf } from "./artefacts/apart.ts";
import { json } from "./native/json.ts";
import type { EmbedOptions, MergeOptions } from "./options/run.ts";
import type { EmbedReport, MergeReport } from "./protocol/protocol.ts";
import { withoutSignal, withSession } from "./run/command.ts";
import { type Run, startRun } from "./run/run.ts";

/**
 * Embeds every image of a source, without augmentation, and writes one row an image with its id. With `shard` it does a part of them,
 * and leaves one that is finished as it is; the rows of all shards are those of the whole, bit by bit.
 * @throws {RkdError} by rejection: bad options, `ERR_NOT_FOUND`, `ERR_INVALID_ARTEFACT`, bad data, `ERR_IO`; `ERR_OUTPUT_EXISTS` where
 *   a finished shard is of another model, of other images or of another number of shards
 */
export function embed(options: EmbedOptions): Run<EmbedReport> {
  return startRun((context) => {
    const said = json(withoutSignal(options));
    return withSession(context, async (session) => {
      const plan = await session.call((core) => core.resolveEmbed(said));
      const { model, data, out, file } = plan;
      const written = [...new Set([out, file])].flatMap((path) => [path, `${path}.ids.json`]);
      for (const path of written) checkFileApart(path, { data, files: [model, ...listsOf(data)] });
      return await session.call((core) => core.embed(json(plan)));
    });
  }, options?.signal);
}

/**
 * Makes one file of all shards that `embed` wrote for `options.out`, in the order of the whole. The shards stay. In memory are the ids
 * of all images where the file has them in one piece (`.npy`, `.safetensors`), never all the numbers.
 * @throws {RkdError} by rejection: `ERR_NOT_FOUND` for shards that are not finished, `ERR_INVALID_ARTEFACT` for damaged ones and
 *   those of another model or of other images, by their indices; `ERR_INVALID_DATA` where more than half of the images are broken
 */
export function mergeShards(options: MergeOptions): Run<MergeReport> {
  return startRun((context) => {
    const said = json(withoutSignal(options));
    return withSession(context, (session) => session.call((core) => core.mergeShards(said)));
  }, options?.signal);
}
