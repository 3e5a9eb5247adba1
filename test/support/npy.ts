/** Files of vectors. */

import { writeFileSync } from "node:fs";

/** NumPy's array file, and the ids beside it. */
export function writeNpy(file: string, ids: readonly string[], rows: readonly number[][]): string {
  const header = `{'descr': '<f4', 'fortran_order': False, 'shape': (${rows.length}, ${rows[0]?.length}), }`;
  const head = Buffer.from(`\x93NUMPY\x01\x00\x76\x00${header.padEnd(117)}\n`, "latin1");
  writeFileSync(file, Buffer.concat([head, Buffer.from(Float32Array.from(rows.flat()).buffer)]));
  writeFileSync(`${file}.ids.json`, JSON.stringify(ids));
  return file;
}
