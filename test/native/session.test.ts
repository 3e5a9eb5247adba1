import { describe, expect, it } from "vitest";
import { json } from "../../src/native/json.ts";
import { NativeSession } from "../../src/native/session.ts";

describe("the session's thread", () => {
  it("turns a panic into a rejection with the place it happened at, and lives on", async () => {
    const session = new NativeSession(() => {});
    await expect(session.call((core) => core.panic("on purpose"))).rejects.toMatchObject({
      name: "RkdError",
      code: "ERR_INTERNAL",
      message: expect.stringMatching(/defect in rkd: on purpose \(at crates.+session\.rs:\d+:\d+\)/),
    });
    await expect(session.call((core) => core.panic("again"))).rejects.toThrow("again");
    await session.close();
  });

  it("refuses a command before open, and a plan with a field it does not know", async () => {
    const session = new NativeSession(() => {});
    await expect(session.call((core) => core.keep())).rejects.toMatchObject({ code: "ERR_INTERNAL" });
    const plan = json({ epoch: 3 } as never);
    const stored = session.call((core) => core.resolveStored("train", plan, json({} as never), "x", json({})));
    await expect(stored).rejects.toMatchObject({ code: "ERR_UNKNOWN_OPTION", subject: "plan.epoch" });
    await session.close();
  });

  it("answers a command after close with an error, and closes twice", async () => {
    const session = new NativeSession(() => {});
    await session.close();
    await session.close();
    await expect(session.call((core) => core.keep())).rejects.toMatchObject({ code: "ERR_CANCELLED" });
  });

  it("starts and ends many threads", async () => {
    for (let i = 0; i < 50; i++) {
      const session = new NativeSession(() => {});
      const pending = session.call((core) => core.panic(String(i)));
      await Promise.all([expect(pending).rejects.toThrow(String(i)), session.close()]).catch(() => {});
    }
  });
});
