// Runs a module of wasm32-wasip1-threads with one thread: node wasm_run.mjs module.wasm args
import { readFileSync } from "node:fs";
import { WASI } from "node:wasi";

const [file, ...args] = process.argv.slice(2);
const wasi = new WASI({ version: "preview1", args: [file, ...args] });
const memory = new WebAssembly.Memory({ initial: 2048, maximum: 16384, shared: true });
const noThreads = { "thread-spawn": () => -1 };
const imports = { ...wasi.getImportObject(), env: { memory }, wasi: noThreads };
const instance = new WebAssembly.Instance(new WebAssembly.Module(readFileSync(file)), imports);
wasi.start({ exports: { ...instance.exports, memory } });
