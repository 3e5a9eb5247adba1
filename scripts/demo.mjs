// `npm run demo`: set-up, then the main job on the built-in data. Arguments after `--` go to `rkd demo`.

import { join } from "node:path";
import { must, root, setUp } from "./setup.mjs";

setUp();
must([process.execPath, join(root, "bin", "rkd.mjs"), "demo", ...process.argv.slice(2)], "the demo");
