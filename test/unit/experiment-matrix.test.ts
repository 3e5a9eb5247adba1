import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { Clock } from "../../src/experiment/estimate.ts";
import { planMatrix } from "../../src/experiment/matrix.ts";
import type { PlacedOptions } from "../../src/experiment/options.ts";
import { conv4, experiment, glyphs, triplet } from "../../src/index.ts";
import { temporaryFolder } from "../support/folders.ts";

const data = glyphs({ classes: 20, writers: 8 });

/** A teacher, and a student of two lengths by triplet and by RKD. */
function options(out: string, more: Partial<PlacedOptions> = {}): PlacedOptions {
  return {
    name: "test",
    out,
    rows: ["teacher", "triplet", "rkd"],
    columns: ["4", "8"],
    cell: ({ row, column, model }) => {
      if (row === "teacher") return { train: { data, backbone: conv4({ width: 8 }), losses: [triplet()] } };
      const student = conv4({ width: 4, embedding: Number(column) });
      if (row === "triplet") return { train: { data, backbone: student } };
      return { distill: { data, teacher: model("teacher"), student } };
    },
    ...more,
  };
}

const ids = (out: string, more?: Partial<PlacedOptions>) =>
  planMatrix(options(out, more), [1]).runs.map(({ id }) => id);

describe("the matrix", () => {
  it("has one run for equal cells, each after those it builds on, seed by seed", () => {
    const { runs, cells } = planMatrix(options("x"), [1, 2]);
    expect(cells).toHaveLength(12);
    expect(runs.map(({ row, column, seed }) => `${row} ${column} ${seed}`)).toEqual(
      [1, 2].flatMap((seed) =>
        ["teacher 4", "triplet 4", "triplet 8", "rkd 4", "rkd 8"].map((run) => `${run} ${seed}`),
      ),
    );
    for (const run of runs)
      for (const before of run.after) expect(runs.indexOf(before)).toBeLessThan(runs.indexOf(run));
  });

  it("runs a model that no row shows", () => {
    const { runs, cells } = planMatrix(options("x", { rows: ["rkd"], columns: ["4"] }), [1]);
    expect(cells).toHaveLength(1);
    expect(runs.map(({ row }) => row)).toEqual(["teacher", "rkd"]);
  });

  it("knows a run by what it is, not by where it lies", () => {
    expect(ids("x")).toEqual(ids(join(temporaryFolder(), "y")));
    const other = options("x");
    const wider: PlacedOptions["cell"] = (at) => {
      const cell = other.cell(at);
      return at.row === "teacher" && cell.train ? { train: { ...cell.train, epochs: 3 } } : cell;
    };
    const [before, after] = [ids("x"), ids("x", { cell: wider })];
    // The teacher has changed, so its students are others too; the triplet students are the same.
    expect(before.map((id, i) => id === after[i])).toEqual([false, true, true, false, false]);
  });

  it("refuses a circle", () => {
    const cell: PlacedOptions["cell"] = ({ row, model }) => ({
      distill: { data, student: conv4(), teacher: model(row === "a" ? "b" : "a") },
    });
    expect(() => planMatrix(options("x", { rows: ["a"], columns: ["c"], cell }), [1])).toThrow(/builds on itself/);
  });

  it("lets the core choose when the teacher's features are computed, and keeps both weights", () => {
    const cellOf = (more: { teacherFeatures?: "live" }) => {
      const plain = glyphs();
      const cell: PlacedOptions["cell"] = ({ row, model }) =>
        row === "t"
          ? { train: { data: plain, backbone: conv4() } }
          : { distill: { data: plain, teacher: model("t"), student: conv4(), ...more } };
      return planMatrix(options("x", { rows: ["s"], columns: ["c"], cell }), [1]).cells[0]?.run.cell;
    };
    expect(cellOf({})).toMatchObject({ distill: { teacherFeatures: "auto", keep: "both" } });
    expect(cellOf({ teacherFeatures: "live" })).toMatchObject({ distill: { teacherFeatures: "live" } });
  });

  it("lets the test choose under the paper's protocol, and only then", () => {
    const first = (protocol: "honest" | "paper") => planMatrix(options("x", { protocol }), [1]).runs[0]?.cell.train;
    expect(first("paper")).toMatchObject({ evaluation: { part: "test" } });
    expect(first("honest")).not.toHaveProperty("evaluation");
  });
});

describe("bad options of an experiment", () => {
  it.each([
    [{ rows: [] }, "rows"],
    [{ rows: ["a", "a"] }, "rows[1]"],
    [{ columns: [""] }, "columns[0]"],
    [{ seeds: 0 }, "seeds"],
    [{ seeds: [1.5] }, "seeds[0]"],
    [{ figures: [] }, "figures"],
    [{ protocol: "fair" }, "protocol"],
    [{ claims: [{ says: "x", above: "rkb", below: "triplet" }] }, "claims[0].above"],
    [{ cell: undefined }, "cell"],
    [{ cell: () => ({}) }, "cell teacher, 4"],
    [{ cell: () => ({ trian: {} }) }, "cell teacher, 4.trian"],
    [{ name: " " }, "name"],
  ])("%j is refused", async (bad, subject) => {
    await expect(experiment({ ...options("never-made"), ...(bad as object) })).rejects.toMatchObject({ subject });
  });
});

describe("the time left", () => {
  it("goes by finished runs of the kind, then by trials times their error, then by all runs", () => {
    const clock = new Clock(
      new Map([
        ["a", 10],
        ["b", 20],
      ]),
    );
    expect(clock.seconds(["a", "b"])).toBe(30);
    clock.add("a", 14);
    clock.add("a", 16); // a trial said 10, it took 15
    expect(clock.seconds(["a", "b"])).toBe(15 + 30);
    expect(clock.seconds(["c"])).toBe(15);
    expect(new Clock(new Map()).seconds(["c"])).toBeNull();
    expect(new Clock(new Map()).seconds([])).toBe(0);
  });
});
