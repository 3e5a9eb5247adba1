// Writes src/protocol/protocol.ts and src/options/losses.ts anew from the Rust types, which crates/core/src/protocol.rs checks.
import { cargoEnv, must } from "./setup.mjs";

const test = [
  "cargo",
  "test",
  "--workspace",
  "--locked",
  "--lib",
  "--",
  "protocol::what_typescript_has_is_what_crosses",
];
must(test, "writing the protocol", { ...cargoEnv(), RKD_WRITE_PROTOCOL: "1" });
