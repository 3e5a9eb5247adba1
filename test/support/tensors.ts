/** The tensors of a run's model, as bytes by name. */

import { readFileSync } from "node:fs";
import { join } from "node:path";

export function readTensors(out: string): Record<string, string> {
  const file = readFileSync(join(out, "model.safetensors"));
  const start = 8 + Number(file.readBigUInt64LE());
  const header: Record<string, { data_offsets: [number, number] }> = JSON.parse(file.toString("utf8", 8, start));
  const tensors = Object.entries(header).filter(([name]) => name !== "__metadata__");
  const bytes = ([from, to]: [number, number]) => file.toString("base64", start + from, start + to);
  return Object.fromEntries(tensors.map(([name, { data_offsets }]) => [name, bytes(data_offsets)] as const).sort());
}
