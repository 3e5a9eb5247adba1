/** Options as the command line writes them: in messages, and for a flag that is none. */

import type { Command } from "commander";
import type { RkdError } from "../errors.ts";
import { meant } from "../options/check.ts";

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
  losses: "loss",
  teachers: "teacher",
  "teacher.weight": "teacher-weight",
  "teachers.weight": "teacher-weight",
  "teachers.onnx.imageSize": "teacher-image-size",
  "teachers.onnx.normalization": "teacher-mean",
  "losses.teacher": "loss",
  "teacher.onnx.imageSize": "teacher-image-size",
  "teacher.onnx.normalization": "teacher-mean",
  "weights.except": "weights-except",
  "weights.key": "weights-key",
  "weights.normalization": "weights-mean",
};

/** The flag or argument of `command` for the option `option` of the API, or for what the option is a part of. */
function flagOf(option: string, command: Command): string | undefined {
  const parts = option.replaceAll(/\[[^\]]*\]/g, "").split(".");
  for (let count = parts.length; count > 0; count--) {
    const last = parts[count - 1] as string;
    const name = flagNames[parts.slice(0, count).join(".")] ?? flagNames[last] ?? inWords(last);
    if (has(command, `--${name}`)) return `--${name}`;
  }
  return command.registeredArguments.some((argument) => argument.name() === option) ? `<${option}>` : undefined;
}

function has(command: Command, flag: string): boolean {
  return command.options.some(({ long }) => long === flag);
}

function inWords(name: string): string {
  return name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

/** The message of `error` with flags and commands for what code writes: `batch.size: ...` is `--batch: ...`. */
export function messageOf({ code, subject, message }: RkdError, command: Command | undefined): string {
  // A flag that there is not is commander's matter: this is a name in a module of options.
  if (code === "ERR_UNKNOWN_OPTION") return message;
  if (!command || subject === undefined || !message.startsWith(subject)) return asTyped(message, command);
  const isOption = code !== "ERR_NOT_FOUND" && /^[a-z]\w*(\.\w+|\[[^\]]+\])*$/i.test(subject);
  const flag = isOption ? flagOf(subject, command) : undefined;
  const rest = asTyped(message.slice(subject.length), command);
  return (flag ?? subject) + (flag === "--per-class" ? rest.replace("received null", 'received "any"') : rest);
}

/** The text with flags and commands for what code writes: `overwrite: true` is `--overwrite`, `resume()` is `rkd resume`. */
export function asTyped(text: string, command: Command | undefined): string {
  if (!command) return text;
  const flag = (option: string, value = "") => [flagOf(option, command), value].filter(Boolean).join(" ");
  const known = (option: string) => flagOf(option, command) !== undefined;
  return text
    .replaceAll(/\b(\w+): \{ kind: "([\w-]+)"[^}]*\}/g, (code, option, kind) =>
      known(option) ? flag(option, kind) : code,
    )
    .replaceAll(/\b([\w.]+): (?:true|"([^"]+)")/g, (code, option, value) =>
      known(option) ? flag(option, value) : code,
    )
    .replaceAll(/\b(train|distill|evaluate|embed|resume)\((?:"([^"]*)")?\)/g, (_, name, what) =>
      ["rkd", name, what].filter(Boolean).join(" "),
    )
    .replaceAll(option, (name) => flagOf(name, command) ?? name);
}

/** A name that only an option has: of several words, or a part of another; no part of a path, and no text in quotes. */
const option =
  /(?<![\w./\\"'-])(?:(?:batch|data|evaluation|optimizer|schedule|weights)\.[a-zA-Z.]*[a-zA-Z]|[a-z]+(?:[A-Z][a-z]+)+)(?![\w/\\"'(-])/g;

/** The flag of `command` that was probably meant by one that it has not, of which commander's `message` tells. */
export function meantFlag(message: string, command: Command | undefined): string | undefined {
  const [, word] = /unknown option '--?([\w-]+)/.exec(message) ?? [];
  if (word === undefined || !command) return undefined;
  const flags = new Map<string, string>();
  for (const { long } of command.options) if (long) flags.set(long.slice(2), long);
  for (const [option, name] of Object.entries(flagNames)) if (has(command, `--${name}`)) flags.set(option, `--${name}`);
  const found = meant(word, [...flags.keys()]);
  return found === undefined ? undefined : (flags.get(found) ?? flagOf(found, command));
}

/** A path as a shell takes it. */
export function quoted(path: string): string {
  return /^[\w./-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`;
}
