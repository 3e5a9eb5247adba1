import { expect, it } from "vitest";
import { exitCodeOf } from "../../src/cli/exit.ts";
import { fromNative, RkdError } from "../../src/errors.ts";
import { errorCodes, type RkdErrorCode } from "../../src/protocol/protocol.ts";

it("reads subject, summary, values, advice", () => {
  const error = new RkdError("ERR_INVALID_OPTION", "invalid value", {
    subject: "epochs",
    expected: "a whole number",
    received: "-1",
    advice: "count from 1",
  });
  expect(error.message).toBe("epochs: invalid value: expected a whole number, received -1. Count from 1");
  expect(error.toJSON()).toMatchObject({ code: "ERR_INVALID_OPTION", subject: "epochs", received: "-1" });
});

it("rebuilds the chain of causes that came out of the addon", () => {
  const error = fromNative({ code: "ERR_IO", message: "writing failed", causes: ["outer", "inner"] });
  expect(error.code).toBe("ERR_IO");
  expect(error.cause).toMatchObject({ message: "outer", cause: { message: "inner" } });
});

it("calls a code it does not know a defect", () => {
  expect(fromNative({ code: "ERR_NEW" as never, message: "x", causes: [] }).code).toBe("ERR_INTERNAL");
});

it("gives every code the exit code that scripts rely on", () => {
  const expected: Record<RkdErrorCode, number> = {
    ERR_INVALID_OPTION: 2,
    ERR_UNKNOWN_OPTION: 2,
    ERR_INVALID_SHAPE: 2,
    ERR_OUTPUT_EXISTS: 2,
    ERR_CLOSED: 2,
    ERR_RANKS_DIFFER: 2,
    ERR_NOT_FOUND: 3,
    ERR_PERMISSION_DENIED: 3,
    ERR_INVALID_DATA: 3,
    ERR_INVALID_ARCHIVE: 3,
    ERR_INVALID_ARTEFACT: 3,
    ERR_IO: 3,
    ERR_NATIVE_LOAD: 4,
    ERR_DEVICE: 4,
    ERR_MPI_MISSING: 4,
    ERR_MPI_MISMATCH: 4,
    ERR_NON_FINITE: 5,
    ERR_CANCELLED: 130,
    ERR_MPI_FAILED: 1,
    ERR_INTERNAL: 1,
  };
  const found = Object.keys(errorCodes).map((code) => [code, exitCodeOf(code as RkdErrorCode)]);
  expect(Object.fromEntries(found)).toEqual(expected);
});
