/** `exportModel`: writes a stored model for other programs, and measures it as they load it. */

import type { Json } from "#native";
import { json } from "./native/json.ts";
import type { ExportOptions } from "./options/run.ts";
import type * as protocol from "./protocol/protocol.ts";
import type { ExportReport } from "./protocol/protocol.ts";
import { withoutSignal, withSession } from "./run/command.ts";
import { rowsOf, withTeacherFiles } from "./run/embeddings.ts";
import { type Run, startRun } from "./run/run.ts";

/**
 * Writes a model as an ONNX file, as a folder that transformers.js or timm load, or as weights alone, with a README that says
 * what it is. What was written is read again, run by onnxruntime where its library is found, else by rten, and held against the
 * model on the test images.
 *
 * A gate (`minRecall`, `maxBytes`, `minCosine`) that is missed is no error: `missed` tells.
 * @throws {RkdError} by rejection: bad options, `ERR_OUTPUT_EXISTS`, `ERR_NOT_FOUND`, `ERR_INVALID_ARTEFACT`, bad data,
 *   `ERR_NON_FINITE` for weights beyond float16
 */
export function exportModel(options: ExportOptions): Run<ExportReport> {
  return startRun((context) => {
    const rows = rowsOf(options);
    const write = (given: ExportOptions) => {
      const said = json(withoutSignal(given)) as Json<protocol.ExportOptions>;
      return withSession(context, (session) => session.call((core) => core.exportModel(said)));
    };
    return withTeacherFiles(options, rows, context.signal, write);
  }, options?.signal);
}
