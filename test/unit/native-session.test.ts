/** The order of replies and events, with the native side played here. */

import { setImmediate } from "node:timers/promises";
import { expect, it, vi } from "vitest";
import type { Reply } from "#native";
import { NativeSession } from "../../src/native/session.ts";
import type { Event } from "../../src/protocol/protocol.ts";

/** Hands the waiting session its next event, null at the end of the thread. */
let give: (text: string | null) => void;

class Binding {
  next() {
    return new Promise<string | null>((resolve) => {
      give = resolve;
    });
  }

  close() {
    give(null);
  }
}

const reply = (value: string) => ({ value }) as Reply<number>;

vi.mock("../../src/native/addon.ts", () => ({ addon: () => ({ BindingSession: Binding }) }));

it("resolves a command only when all its events have been seen", async () => {
  const seen: string[] = [];
  const session = new NativeSession((event: Event) => seen.push(event.type));
  const sent = session.send(async () => reply("1")).then(() => seen.push("reply"));
  await setImmediate();
  give(JSON.stringify({ type: "warning", message: "late" }));
  await setImmediate();
  give(JSON.stringify({ type: "done" }));
  await sent;
  expect(seen).toEqual(["warning", "reply"]);
  await session.close();
});

it("resolves what waits for events when the thread ends, and waits for none after", async () => {
  const session = new NativeSession(() => {});
  const sent = session.send(async () => reply("1"));
  await session.close();
  expect(await sent).toEqual(reply("1"));
  expect(await session.send(async () => reply("2"))).toEqual(reply("2"));
});
