/** Images that tests draw where no class matters. */

import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

/** Grey waves of 28 x 28 pixels, no two alike, at the paths `name(i)`. */
export function waves(folder: string, count: number, name: (i: number) => string): string {
  for (let i = 0; i < count; i++) {
    const path = join(folder, name(i));
    mkdirSync(dirname(path), { recursive: true });
    const angle = (2.4 * i) % Math.PI;
    const pixels = Buffer.from(
      Array.from({ length: 784 }, (_, at) => {
        const along = Math.cos(angle) * (at % 28) + Math.sin(angle) * Math.floor(at / 28);
        return Math.round(127 + 120 * Math.sin(along * (0.2 + 0.01 * i)));
      }),
    );
    writeFileSync(path, Buffer.concat([Buffer.from("P5 28 28 255\n"), pixels]));
  }
  return folder;
}
