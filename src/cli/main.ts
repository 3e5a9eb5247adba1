/** The program `rkd`: help, signals, exit codes. */

import { Command, CommanderError } from "commander";
import { RkdError } from "../errors.ts";
import { printableLines } from "../printable.ts";
import { isTold } from "../run/ranks.ts";
import { version } from "../version.ts";
import { commands } from "./commands.ts";
import { isLoaded } from "./config.ts";
import {
  bearLostOutput,
  exitCodeOfStop,
  isStop,
  json,
  listenToStops,
  say,
  setTyped,
  stoppedBy,
  typed,
} from "./context.ts";
import { exitCodeOf, exitCodes } from "./exit.ts";
import { meantFlag, messageOf } from "./flags.ts";
import { writeJsonLine } from "./progress.ts";

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

/** What nothing has expected; of it one thing can befall anybody. */
function unforeseen(cause: unknown): RkdError {
  if ((cause as NodeJS.ErrnoException | undefined)?.syscall !== "uv_cwd")
    return new RkdError("ERR_INTERNAL", String(cause), { cause });
  const advice = "go to a folder that is there, and start again";
  return new RkdError("ERR_NOT_FOUND", "the folder in which rkd was started is gone", { advice, cause });
}

/** Shows a failure and returns the exit code. */
function fail(error: unknown): number {
  if (error instanceof CommanderError) {
    if (error.exitCode === 0) return 0; // --help and --version
    const flag = meantFlag(error.message, typed);
    const advice = flag && `Did you mean ${flag}?`;
    if (advice) process.stderr.write(`(${advice})\n`);
    const message = advice ? `${error.message}. ${advice}` : error.message;
    if (json) writeJsonLine({ type: "error", code: "ERR_UNKNOWN_OPTION", message });
    return 2;
  }
  const known = error instanceof RkdError ? error : unforeseen(error);
  const message = messageOf(known, typed);
  if (json && !isTold(error)) writeJsonLine({ type: "error", ...known.toJSON(), message });
  if (!isStop(known) && !isTold(error)) say(`rkd: ${message}`);
  if (known.code === "ERR_INTERNAL" && error instanceof Error && known !== error)
    process.stderr.write(`${printableLines(String(error.stack))}\n`);
  const stopped = isStop(known) || (isTold(error) && known.code === "ERR_CANCELLED");
  return stopped && stoppedBy ? exitCodeOfStop(stoppedBy) : exitCodeOf(known.code);
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
setTyped(program.commands.find((each) => each.name() === process.argv[2]));
try {
  await program.parseAsync();
} catch (error) {
  process.exitCode = fail(error);
}
if (isLoaded) {
  const written = [process.stdout, process.stderr].map((stream) => new Promise((done) => stream.write("", done)));
  await Promise.all(written);
  process.exit();
}
