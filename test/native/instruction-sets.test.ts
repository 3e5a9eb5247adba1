/** Every instruction set of this processor, each a run of its own: `RKD_ISA` decides, and the bits of the model tell. */

import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";

const smoke = fileURLToPath(new URL("../../scripts/smoke.mjs", import.meta.url));

it("gives one model with fused multiplication and one without, however wide the vectors are", {
  timeout: 300_000,
}, () => {
  const { status, stdout, stderr } = spawnSync(process.execPath, [smoke, "--all"], { encoding: "utf8" });
  expect(status, stderr).toBe(0);
  const models: Readonly<Record<string, string>> = JSON.parse(stdout).models;
  const { portable, "portable-wide": wide, avx2, avx512, neon } = models;
  expect(portable).toMatch(/^[0-9a-f]{64}$/);
  expect(wide).toBe(portable);
  if (avx2) expect(avx2).not.toBe(portable);
  if (avx512) expect(avx512).toBe(avx2);
  if (neon) expect(neon).not.toBe(portable);
});
