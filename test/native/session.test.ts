import { describe, expect, it } from "vitest";
import { NativeSession } from "../../src/native/session.ts";

describe("the session's thread", () => {
  it("turns a panic into a rejection with the place it happened at, and lives on", async () => {
    const session = new NativeSession(() => {});
    await expect(session.call("panic", { message: "on purpose" })).rejects.toMatchObject({
      name: "RkdError",
      code: "ERR_INTERNAL",
      message: expect.stringMatching(/defect in rkd: on purpose \(at crates.+command\.rs:\d+:\d+\)/),
    });
    await expect(session.call("panic", { message: "again" })).rejects.toThrow("again");
    await session.close();
  });

  it("refuses a command before open, and a plan with a field it does not know", async () => {
    const session = new NativeSession(() => {});
    await expect(session.call("keep", {})).rejects.toMatchObject({ code: "ERR_INTERNAL" });
    const plan = { epoch: 3 } as never;
    await expect(session.call("open", { plan, resume: null })).rejects.toMatchObject({
      code: "ERR_INVALID_OPTION",
      message: expect.stringContaining("epoch"),
    });
    await session.close();
  });

  it("answers a command after close with an error, and closes twice", async () => {
    const session = new NativeSession(() => {});
    await session.close();
    await session.close();
    await expect(session.call("keep", {})).rejects.toMatchObject({ code: "ERR_CANCELLED" });
  });

  it("starts and ends many threads", async () => {
    for (let i = 0; i < 50; i++) {
      const session = new NativeSession(() => {});
      const pending = session.call("panic", { message: String(i) });
      await Promise.all([expect(pending).rejects.toThrow(String(i)), session.close()]).catch(() => {});
    }
  });
});
