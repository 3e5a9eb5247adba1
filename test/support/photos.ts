/** Photographs that tests draw: PNG files that every program decodes to the same pixels. */

import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { crc32, deflateSync } from "node:zlib";

/** A PNG file of `pixels [height, width, 3]`. */
function png(width: number, height: number, pixels: Buffer): Buffer {
  const chunk = (type: string, content: Buffer) => {
    const body = Buffer.concat([Buffer.from(type, "latin1"), content]);
    const [length, check] = [Buffer.alloc(4), Buffer.alloc(4)];
    length.writeUInt32BE(content.length);
    check.writeUInt32BE(crc32(body));
    return Buffer.concat([length, body, check]);
  };
  const head = Buffer.alloc(13);
  head.writeUInt32BE(width, 0);
  head.writeUInt32BE(height, 4);
  head.set([8, 2, 0, 0, 0], 8); // 8 bits, RGB
  const rows = Array.from({ length: height }, (_, y) => [
    Buffer.from([0]), // no filter
    pixels.subarray(3 * width * y, 3 * width * (y + 1)),
  ]);
  const signature = Buffer.from("\x89PNG\r\n\x1a\n", "latin1");
  return Buffer.concat([
    signature,
    chunk("IHDR", head),
    chunk("IDAT", deflateSync(Buffer.concat(rows.flat()))),
    chunk("IEND", Buffer.alloc(0)),
  ]);
}

/** Kinds of photographs that {@link photos} draws. */
export const KINDS = 12;

/** `count` photographs at the paths `name(i)`: coloured waves, those of one of the {@link KINDS} `i % KINDS` alike. */
export function photos(
  folder: string,
  count: number,
  name: (i: number) => string,
  size: readonly [number, number] = [40, 32],
): string {
  const [width, height] = size;
  for (let i = 0; i < count; i++) {
    const path = join(folder, name(i));
    mkdirSync(dirname(path), { recursive: true });
    const kind = i % KINDS;
    const angle = (2.4 * kind) % Math.PI;
    const shift = 0.7 * Math.floor(i / KINDS);
    const pixels = Buffer.alloc(3 * width * height);
    for (let at = 0; at < width * height; at++) {
      const [x, y] = [at % width, Math.floor(at / width)];
      const along = (Math.cos(angle) * x + Math.sin(angle) * y) * (0.2 + 0.03 * kind) + shift;
      for (const colour of [0, 1, 2]) {
        const tint = 60 * Math.cos(0.9 * kind + 2.1 * colour);
        pixels[3 * at + colour] = Math.round(127 + tint + 60 * Math.sin(along + 0.5 * colour));
      }
    }
    writeFileSync(path, png(width, height, pixels));
  }
  return folder;
}
