// What 2 to 1,000 ranks would cost, on paper: `node bench/ranks_model.mjs [--step-ms 500] [--parameters 11.7e6] [--embedding 128]
// [--images 64] [--gigahertz 3] [--threads 8] [--cycles 2]`. Every rank has so many images a step, so the batch grows with the ranks; the formulas
// stand in docs/machines.md. Prints the table there.
import { parseArgs } from "node:util";

const { values } = parseArgs({
  options: {
    "step-ms": { type: "string", default: "500" },
    parameters: { type: "string", default: "11.7e6" },
    embedding: { type: "string", default: "128" },
    images: { type: "string", default: "64" },
    gigahertz: { type: "string", default: "3" },
    threads: { type: "string", default: "8" },
    cycles: { type: "string", default: "2" },
  },
});
const [step, parameters, embedding, images, gigahertz, threads, cycles] = Object.values({
  ...values,
  "step-ms": Number(values["step-ms"]) / 1e3,
}).map(Number);

/** Numbers of one message of the transport, `LARGEST` in crates/core/src/ranks/mod.rs. */
const MESSAGE_BYTES = 1 << 24;
/** Shares of the angles' sum, crates/core/src/losses/rkd_angle.rs. */
const [WHOLE, SHARES] = [1024, 8];
/** Bytes and seconds of a network: what a link carries, and what a message takes beside its bytes. */
const networks = { "10 GbE": [1.1e9, 30e-6], "100 GbE": [11e9, 10e-6] };

const sum = (ranks, [bytes, latency]) => {
  const messages = Math.ceil((4 * parameters) / MESSAGE_BYTES);
  return ((2 * (ranks - 1)) / ranks) * ((4 * parameters) / bytes) + messages * 2 * (ranks - 1) * latency;
};
const gather = (ranks, [bytes, latency]) =>
  ((ranks - 1) * images * embedding * 8) / bytes + 2 * Math.ceil(Math.log2(ranks)) * latency;
const angles = (ranks) => {
  const n = ranks * images;
  const working = n <= WHOLE ? 1 : Math.min(SHARES, 2 ** Math.floor(Math.log2(ranks)));
  return (cycles * n ** 3) / (gigahertz * 1e9 * threads * working);
};

const time = (seconds) => {
  if (seconds < 1) return `${seconds < 0.01 ? (seconds * 1e3).toPrecision(1) : Math.round(seconds * 1e3)} ms`;
  return `${Math.round(seconds)} s`;
};
const row = (cells) => `| ${cells.join(" | ")} |`;
const sizes = [2, 4, 8, 16, 64, 256, 1000];
console.log(
  row(["ranks", "images a batch", ...Object.keys(networks).map((name) => `share of a step, ${name}`), "RKD-A"]),
);
console.log(row(["---:", "---:", ...Object.keys(networks).map(() => "---:"), "---:"]));
for (const ranks of sizes) {
  const share = (network) => {
    const sent = sum(ranks, network) + gather(ranks, network);
    return `${Math.round((100 * sent) / (sent + step))} %`;
  };
  console.log(row([ranks, ranks * images, ...Object.values(networks).map(share), time(angles(ranks))]));
}
