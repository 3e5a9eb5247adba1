/** Gives all tests one cache of decoded images, away from the user's, and removes it at the end. */

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export default function setup(): () => void {
  const cache = mkdtempSync(join(tmpdir(), "rkd-test-cache-"));
  process.env.RKD_CACHE = cache;
  return () => rmSync(cache, { recursive: true, force: true });
}
