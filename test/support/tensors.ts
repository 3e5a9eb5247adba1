/** A run's model: its tensors as bytes by name, and the document beside them. */

import { readFileSync } from "node:fs";
import { join } from "node:path";

function read(out: string) {
  const file = readFileSync(join(out, "model.safetensors"));
  const start = 8 + Number(file.readBigUInt64LE());
  return { file, start, header: JSON.parse(file.toString("utf8", 8, start)) };
}

export function readDocument(out: string) {
  return JSON.parse(Object.values<string>(read(out).header.__metadata__)[0] ?? "");
}

export function readTensors(out: string): Record<string, string> {
  const { file, start, ...rest } = read(out);
  const header: Record<string, { data_offsets: [number, number] }> = rest.header;
  const tensors = Object.entries(header).filter(([name]) => name !== "__metadata__");
  const bytes = ([from, to]: [number, number]) => file.toString("base64", start + from, start + to);
  return Object.fromEntries(tensors.map(([name, { data_offsets }]) => [name, bytes(data_offsets)] as const).sort());
}
