/** The version of this package. */

import { createRequire } from "node:module";

/** As in package.json. */
export const version: string = createRequire(import.meta.url)("../package.json").version;
