/** The page of one run. */

import { statSync } from "node:fs";
import { join } from "node:path";
import { files } from "../artefacts/run-folder.ts";
import type { Metrics, Verdict } from "../events.ts";
import { percent, score } from "../run/figures.ts";
import { goalOf } from "../run/state.ts";
import type { Block, Document, TableBlock } from "./blocks.ts";
import { chartsOf } from "./curves.ts";
import type { RunRecord } from "./record.ts";
import { picturesOf, type Sample } from "./sample.ts";
import { bytesInWords, duration, metricsLine, named, shortName, sizeCells, verdictRows } from "./scores.ts";
import { settingsOf } from "./settings.ts";

/** The document of a run; `sample` is what was looked at, or why nothing was, in a sentence. */
export function runPage(run: RunRecord, sample: Sample | string | undefined): Document {
  const pictures = typeof sample === "object" ? picturesOf(sample) : undefined;
  const charts = chartsOf([run]);
  return {
    title: `${run.name}: ${titleOf(run)}`,
    blocks: [
      ...verdictBlocks(run),
      ...(charts.length > 0 ? [{ kind: "heading", text: "Curves" } as const, { kind: "charts", charts } as const] : []),
      ...(pictures?.blocks ?? []),
      ...(typeof sample === "string"
        ? [{ kind: "heading", text: "Nearest neighbours" } as const, { kind: "note", text: sample } as const]
        : []),
      ...sizeBlocks(run),
      ...dataBlocks(run),
      ...planBlocks(run),
    ],
    images: pictures?.images ?? [],
  };
}

function titleOf({ plan: { job, plan } }: RunRecord): string {
  const network = plan.backbone.kind;
  const teachers = plan.teachers.map(({ name }) => name).join(" and ");
  return job === "distill" ? `${network} that learned from ${teachers}` : `${network} that learned from labels`;
}

function verdictBlocks(run: RunRecord): Block[] {
  const { result, log } = run;
  const findings = (result?.findings ?? []).map(({ message }) => ({ kind: "note", text: message }) as const);
  const warnings: Block[] =
    log.warnings.length > 0
      ? [
          { kind: "heading", text: "Warnings" },
          { kind: "list", items: log.warnings },
        ]
      : [];
  if (!result) return [...unfinished(run), ...warnings];
  if (!("verdict" in result)) return [...trained(run), ...findings, ...warnings];
  const { verdict } = result;
  const { titles, rows, notes } = verdictRows(verdict);
  const table: TableBlock = {
    kind: "table",
    caption: "On the test part, which was neither trained on nor chosen by",
    titles,
    rows,
  };
  return [
    { kind: "heading", text: "Verdict" },
    ...sentences(verdict).map((text) => ({ kind: "paragraph", text }) as const),
    ...findings,
    table,
    { kind: "list", items: notes.flatMap((note) => note.split("\n")).map((note) => note.trim()) },
    ...ends(run),
    ...warnings,
  ];
}

/** The verdict in words: of the first teacher, which the others stand beside in the table. */
function sentences({ labels, teachers, studentBefore, studentAfter, baseline, gapFrom }: Verdict): string[] {
  const [teacher] = teachers;
  if (!teacher) return [];
  const goal = goalOf(studentAfter.metrics);
  const what =
    labels === "none"
      ? `of each image's ${teacher.fidelity.neighbours} nearest images in common with the teacher`
      : `${shortName(goal, 0)} on the test part`;
  const scored = (metrics: Metrics) => score(goal, metrics[goal]);
  const times = teacher.parameters / studentAfter.parameters;
  const faster = teacher.millisecondsPerImage / studentAfter.millisecondsPerImage;
  const smaller =
    times >= 1
      ? `${Number(times.toPrecision(2))} times fewer weights`
      : `${Number((1 / times).toPrecision(2))} times as many weights`;
  const quick =
    faster >= 1
      ? `${Number(faster.toPrecision(2))} times as fast`
      : `${Number((1 / faster).toPrecision(2))} times slower`;
  const closed = teacher.gapClosed[goal];
  const from = gapFrom === "baseline" ? "the same student without a teacher" : "its start";
  return [
    labels === "none"
      ? `The student has ${scored(studentAfter.metrics)} ${what}; before training it had ${scored(studentBefore.metrics)}.`
      : `The student reaches ${scored(studentAfter.metrics)} ${what}; the teacher ${scored(teacher.metrics)}, the student before training ${scored(studentBefore.metrics)}${baseline ? `, without a teacher ${scored(baseline.metrics)}` : ""}.`,
    ...(closed === null || closed === undefined
      ? []
      : [`From ${from} it has gone ${percent(closed, 0)} of the way to the teacher.`]),
    teacher.parameters === 0
      ? `Its embedding has ${studentAfter.embedding} numbers in place of ${teacher.embedding}.`
      : `It has ${smaller}, an embedding of ${studentAfter.embedding} numbers in place of ${teacher.embedding}, and is ${quick} on this machine.`,
  ];
}

function trained(run: RunRecord): Block[] {
  const { metrics, network } = run.result ?? {};
  if (!metrics) {
    return [
      { kind: "heading", text: "Verdict" },
      { kind: "paragraph", text: "There are no test images, so there is no final score." },
      ...ends(run),
    ];
  }
  return [
    { kind: "heading", text: "Verdict" },
    {
      kind: "paragraph",
      text: `${network?.backbone ?? "The network"}, learned from labels alone, on the test part: ${metricsLine(metrics)}.`,
    },
    {
      kind: "table",
      caption: "On the test part, which was neither trained on nor chosen by",
      titles: ["metric", "value"],
      rows: Object.entries(metrics).map(([name, value]) => [name, score(name, value)]),
    },
    ...ends(run),
  ];
}

function unfinished({ log: { start, steps, last, evaluations } }: RunRecord): Block[] {
  const step = steps.at(-1)?.step ?? start?.step ?? 0;
  const doing = start
    ? `${step.toLocaleString("en")} of ${start.totalSteps.toLocaleString("en")} steps are done`
    : "data and networks are being read";
  const best = evaluations.findLast((evaluation) => evaluation.best);
  return [
    { kind: "heading", text: "Verdict" },
    { kind: "paragraph", text: `The run has not ended: ${doing}${last ? "" : "; it has no events yet"}.` },
    ...(best
      ? [{ kind: "paragraph", text: `Best so far, after ${best.epoch} epochs: ${metricsLine(best.metrics)}.` } as const]
      : []),
  ];
}

/** How the run ended. */
function ends({ result }: RunRecord): Block[] {
  if (!result) return [];
  const { epochs, epoch, steps, stoppedEarly, seconds, dataWaitShare } = result;
  const early = stoppedEarly ? " It ended early, as the validation had not been better for so long (patience)." : "";
  const waited = dataWaitShare >= 0.05 ? `, ${percent(dataWaitShare, 0)} of it waiting for data` : "";
  const text = `Trained for ${epochs} ${epochs === 1 ? "epoch" : "epochs"}, ${steps.toLocaleString("en")} steps, in ${duration(seconds)}${waited}; the model has the weights after epoch ${epoch}.${early}`;
  return [{ kind: "paragraph", text }];
}

function sizeBlocks({ out, result }: RunRecord): Block[] {
  if (!result) return [];
  const bytes = sizeOf(join(out, files.model));
  const verdict = "verdict" in result ? result.verdict : undefined;
  const rows = verdict
    ? [
        ...verdict.teachers.map((row) => [named("teacher", row, verdict.teachers), row] as const),
        ["student", verdict.studentAfter] as const,
      ]
    : [];
  const cells = rows.map(([name, row]) => [name, row.backbone, ...sizeCells(row)]);
  const own = [
    [
      "network",
      result.network.backbone,
      result.network.parameters.toLocaleString("en"),
      String(result.network.embedding),
      "-",
    ],
  ];
  return [
    { kind: "heading", text: "Size and speed" },
    {
      kind: "table",
      caption: "Milliseconds are of one image within a batch, forward pass alone, on the machine of the run",
      titles: ["", "network", "parameters", "embedding", "ms/image"],
      rows: cells.length > 0 ? cells : own,
    },
    ...(bytes === undefined ? [] : [{ kind: "paragraph", text: `${files.model}: ${bytesInWords(bytes)}.` } as const]),
  ];
}

function sizeOf(file: string): number | undefined {
  return statSync(file, { throwIfNoEntry: false })?.size;
}

function dataBlocks({ log: { start }, plan: { plan } }: RunRecord): Block[] {
  const labelled = plan.data.labels === "classes";
  const parts =
    start &&
    (["train", "validation", "test"] as const).map((part) => [
      part,
      start[part].images.toLocaleString("en"),
      ...(labelled ? [start[part].classes.toLocaleString("en")] : []),
    ]);
  return [
    { kind: "heading", text: "Data" },
    ...(start ? [{ kind: "paragraph", text: start.data } as const] : []),
    ...(parts
      ? [
          {
            kind: "table",
            caption: "The parts; what was left out stands under Warnings",
            titles: ["part", "images", ...(labelled ? ["classes"] : [])],
            rows: parts,
          } as const,
        ]
      : []),
    { kind: "list", items: [plan.data.source, ...plan.data.more] },
  ];
}

function planBlocks({ out, plan, log: { start, from, to } }: RunRecord): Block[] {
  const machine = start
    ? `${start.device} in ${start.precision}, ${start.threads} ${start.threads === 1 ? "thread" : "threads"}, ${start.instructionSet}; memory about ${bytesInWords(start.memory.total)} at its peak.`
    : "";
  const time =
    from && to
      ? `From ${from.toISOString().slice(0, 16).replace("T", " ")} to ${to.toISOString().slice(0, 16).replace("T", " ")} UTC.`
      : "";
  return [
    { kind: "heading", text: "How it was made" },
    { kind: "paragraph", text: `${settingsOf(plan)}.` },
    {
      kind: "list",
      items: [
        `rkd ${plan.rkd}; seed ${plan.plan.seed}, split ${plan.plan.splitSeed}.`,
        machine,
        time,
        `In ${out}`,
      ].filter((text) => text !== ""),
    },
    { kind: "code", title: "The whole plan (plan.json)", text: JSON.stringify(plan, null, 2) },
  ];
}
