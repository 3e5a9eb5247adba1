import { Command } from "commander";
import { describe, expect, it } from "vitest";
import { meantFlag, messageOf } from "../../src/cli/flags.ts";
import { addRunFlags } from "../../src/cli/options.ts";
import { addTeacherFlags } from "../../src/cli/teacher.ts";
import { RkdError } from "../../src/index.ts";

const command = addRunFlags(new Command("train"), "train");

describe("an error on the command line", () => {
  const of = (subject: string, summary: string, advice?: string) =>
    messageOf(new RkdError("ERR_INVALID_OPTION", summary, { subject, advice }), command);

  it.each([
    ["batch.size", "--batch"],
    ["batch.perClass", "--per-class"],
    ["optimizer.learningRate", "--lr"],
    ["losses[1].weight", "--loss"],
    ["backbone.width", "--width"],
    ["student.kind", "--backbone"],
    ['learningRates["fc"]', "--learning-rates"],
    ["evaluation.ks[0]", "--ks"],
    ["data.split", "--split"],
    ["glyphs.split", "--split"],
    ["nothing.of.it", "nothing.of.it"],
    ["/data/batch/size", "/data/batch/size"],
  ])("names the flag of %s", (subject, flag) => {
    expect(of(subject, "it is wrong")).toBe(`${flag}: it is wrong`);
  });

  it.each([
    ["make the batch smaller or batch.perClass larger", "Make the batch smaller or --per-class larger"],
    ["go on with that run by resume()", "Go on with that run by rkd resume"],
    ["or allow it to be replaced by overwrite: true", "Or allow it to be replaced by --overwrite"],
    ['say split: { kind: "classes", validation: 0.1, test: 0.2 }', "Say --split classes"],
    ['say weights.key: "a.b c" for example', "Say --weights-key a.b c for example"],
    ['go on with resume("runs/a b")', "Go on with rkd resume runs/a b"],
    ["choose another folder with data.cache or RKD_CACHE", "Choose another folder with --cache or RKD_CACHE"],
    ['say device: "auto"', "Say --device auto"],
    ["leave imageSize out", "Leave --image-size out"],
    ["see /photos/imageSize/a.png", "See /photos/imageSize/a.png"],
    ['the class "imageSize" is empty', 'The class "imageSize" is empty'],
    ["a word like mapAtR is no flag", "A word like mapAtR is no flag"],
  ])("says %j as one types it", (advice, typed) => {
    expect(of("out", "it is wrong", advice)).toBe(`--out: it is wrong. ${typed}`);
  });

  it.each([
    ["teachers[1].weight", "--teacher-weight"],
    ["teacher.onnx.imageSize", "--teacher-image-size"],
    ["teachers[0].onnx.normalization.mean", "--teacher-mean"],
    ["losses[0].teacher", "--loss"],
    ["teachers[0].name", "--teacher"],
  ])("names the flag of %s, a part of a teacher", (subject, flag) => {
    const distill = addTeacherFlags(addRunFlags(new Command("distill"), "distill"), "what teaches");
    const error = new RkdError("ERR_INVALID_OPTION", "it is wrong", { subject });
    expect(messageOf(error, distill)).toBe(`${flag}: it is wrong`);
  });

  it("leaves the names alone of a module of options that has one too many", () => {
    const error = new RkdError("ERR_UNKNOWN_OPTION", "there is no such option", { subject: "batchSize" });
    expect(messageOf(error, command)).toBe("batchSize: there is no such option");
  });

  it("names an argument as the help does", () => {
    const resume = new Command("resume").argument("<out>");
    expect(messageOf(new RkdError("ERR_INVALID_OPTION", "it is wrong", { subject: "out" }), resume)).toBe(
      "<out>: it is wrong",
    );
  });

  it("leaves a path alone that bears a flag's name", () => {
    const error = new RkdError("ERR_NOT_FOUND", "there is no such folder", { subject: "data" });
    expect(messageOf(error, command)).toBe("data: there is no such folder");
  });
});

describe("a flag that is none", () => {
  it.each([
    ["--epohcs", "--epochs"],
    ["--learning-rate", "--lr"],
    ["--learning_rates", "--learning-rates"],
    ["--batch-size", "--batch"],
    ["--batch_size=8", "--batch"],
    ["--num-epochs", "--epochs"],
    ["--wd", "--weight-decay"],
    ["--samples-per-class", "--per-class"],
    ["--output-dir", "--out"],
    ["--workers", "--threads"],
    ["--img-size", "--image-size"],
    ["--embedding-dim", "--embedding"],
    ["--pretrained", "--weights"],
    ["--warmup-steps", "--warmup"],
  ])("%s is %s", (typed, flag) => {
    expect(meantFlag(`error: unknown option '${typed}'`, command)).toBe(flag);
  });

  it("is no flag at all", () => {
    expect(meantFlag("error: unknown option '--quantum'", command)).toBeUndefined();
    expect(meantFlag("error: too many arguments", command)).toBeUndefined();
  });
});
