/** The program `rkd`: help, signals, exit codes. */

import { Command, CommanderError } from "commander";
import { RkdError } from "../errors.ts";
import { printableLines } from "../printable.ts";
import { version } from "../version.ts";
import { commands } from "./commands.ts";
import { bearLostOutput, exitCodeOfStop, isStop, json, listenToStops, say, stoppedBy } from "./context.ts";
import { exitCodeOf, exitCodes } from "./exit.ts";
import { writeJsonLine } from "./report.ts";

const help = `
Examples:
  rkd demo
  rkd train --data glyphs --backbone conv4 --embedding 64 --loss triplet --epochs 3 --out runs/teacher
  rkd distill --teacher runs/teacher --backbone conv4 --width 16 --embedding 16 \\
      --loss rkd-distance:1 --loss rkd-angle:2 --data glyphs --epochs 3 --out runs/student
  rkd evaluate runs/student --data glyphs --json
  rkd resume runs/teacher

Exit codes:
${Object.entries(exitCodes)
  .map(([code, meaning]) => `  ${code.padStart(3)}  ${meaning}`)
  .join("\n")}`;

/** Options whose flag has another name. */
const flagNames: Readonly<Record<string, string>> = {
  learningRate: "lr",
  "batch.size": "batch",
  warmupSteps: "warmup",
  milestones: "schedule",
  clipGradientNorm: "clip",
  everyEpochs: "evaluate-every",
  everySteps: "evaluate-every-steps",
  checkpointEverySteps: "checkpoint-every",
  student: "backbone",
  "weights.except": "weights-except",
  "weights.key": "weights-key",
};

/** The message with the flag, where the command has one, in place of the API's option: `batch.size: ...` is `--batch: ...`. */
function messageOf({ subject, message }: RkdError): string {
  if (subject === undefined || !/^[a-z][\w.]*(\[[^\]]+\])?$/i.test(subject)) return message;
  const option = subject.replace(/\[[^\]]+\]$/, "");
  const last = option.split(".").at(-1) ?? option;
  const name = flagNames[option] ?? flagNames[last] ?? last.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
  const flag = `--${name}`;
  const running = program.commands.find((each) => each.name() === program.args[0]);
  const known = running?.options.some(({ long }) => long === flag);
  return known ? message.replace(subject, flag) : message;
}

/** Shows a failure and returns the exit code. */
function fail(error: unknown): number {
  if (error instanceof CommanderError) {
    if (error.exitCode === 0) return 0; // --help and --version
    if (json) writeJsonLine({ type: "error", code: "ERR_UNKNOWN_OPTION", message: error.message });
    return 2;
  }
  const known = error instanceof RkdError ? error : new RkdError("ERR_INTERNAL", String(error), { cause: error });
  if (json) writeJsonLine({ type: "error", ...known.toJSON() });
  if (!isStop(known)) say(`rkd: ${messageOf(known)}`);
  if (known !== error && error instanceof Error) process.stderr.write(`${printableLines(String(error.stack))}\n`);
  return isStop(known) && stoppedBy ? exitCodeOfStop(stoppedBy) : exitCodeOf(known.code);
}

listenToStops();
bearLostOutput();

const program = new Command("rkd")
  .description("Relational knowledge distillation: train a small embedding model that keeps a big one's relations.")
  .version(version)
  .showSuggestionAfterError()
  .addHelpText("after", help);
for (const each of commands()) program.addCommand(each);
for (const each of [program, ...program.commands]) {
  each.exitOverride().configureOutput({ writeErr: (text) => process.stderr.write(printableLines(text)) });
}
try {
  await program.parseAsync();
} catch (error) {
  process.exitCode = fail(error);
}
