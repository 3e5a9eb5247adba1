/**
 * A reporter that writes TensorBoard's event files.
 *
 * A file is a list of TFRecords: the length of the data (8 bytes), its checksum, the data, their checksum; a checksum is
 * CRC-32C, turned by 15 bits and moved by a constant. The data are a protocol buffer `Event` (tensorboard/compat/proto/event.proto)
 * with a time, a step, and a summary of named floats. All numbers are in little-endian order.
 */

import { closeSync, openSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { makeFolder } from "../artefacts/make-folder.ts";
import { withErrors, writeAll } from "../artefacts/run-folder.ts";
import { path } from "../options/check.ts";
import type { Reporter } from "../options/reporter.ts";
import { scalarsOf } from "./scalars.ts";

/** What {@link tensorboard} takes. */
export interface TensorBoardOptions {
  /** The folder for the event file. @default `tensorboard` in the run's folder */
  readonly folder?: string | URL;
}

/** Writes every number of every step and evaluation for `tensorboard --logdir`. */
export function tensorboard({ folder }: TensorBoardOptions = {}): Reporter {
  const given = folder === undefined ? undefined : path("folder", folder);
  let descriptor: number | undefined;
  const write = (event: Buffer) => {
    if (descriptor !== undefined) writeAll(descriptor, record(event));
  };
  return {
    name: "tensorboard",
    event(event) {
      const seconds = Date.now() / 1000;
      if (event.type === "start") {
        const place = given ?? join(event.out, "tensorboard");
        const name = `events.out.tfevents.${Math.floor(seconds)}.${hostname()}.${process.pid}.rkd`;
        descriptor = withErrors(place, () => {
          makeFolder(place);
          return openSync(join(place, name), "w");
        });
        write(Buffer.concat([double(1, seconds), bytes(3, Buffer.from("brain.Event:2"))]));
      }
      const found = scalarsOf(event);
      if (!found) return;
      const values = found.values.map(([tag, value]) => {
        return bytes(1, Buffer.concat([bytes(1, Buffer.from(tag)), float(2, value)]));
      });
      write(Buffer.concat([double(1, seconds), integer(2, found.step), bytes(5, Buffer.concat(values))]));
    },
    end() {
      if (descriptor !== undefined) closeSync(descriptor);
      descriptor = undefined;
    },
  };
}

/** Fields of protocol buffers: a key of number and kind, then the value. */
function double(field: number, value: number): Buffer {
  const buffer = Buffer.alloc(9);
  buffer[0] = (field << 3) | 1;
  buffer.writeDoubleLE(value, 1);
  return buffer;
}

function float(field: number, value: number): Buffer {
  const buffer = Buffer.alloc(5);
  buffer[0] = (field << 3) | 5;
  buffer.writeFloatLE(value, 1);
  return buffer;
}

function integer(field: number, value: number): Buffer {
  return Buffer.from([field << 3, ...varint(value)]);
}

function bytes(field: number, value: Buffer): Buffer {
  return Buffer.concat([Buffer.from([(field << 3) | 2, ...varint(value.length)]), value]);
}

/** Seven bits a byte, the lowest first. */
function varint(value: number): number[] {
  const low = value % 128;
  return value < 128 ? [low] : [low + 128, ...varint(Math.floor(value / 128))];
}

/** The data as a TFRecord. */
function record(event: Buffer): Buffer {
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(event.length));
  return Buffer.concat([length, checksum(length), event, checksum(event)]);
}

const table = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0x82f63b78 : value >>> 1;
  return value;
});

/** CRC-32C (Castagnoli). */
export function crc32c(data: Uint8Array): number {
  let value = 0xffffffff;
  for (const byte of data) value = (table[(value ^ byte) & 0xff] as number) ^ (value >>> 8);
  return ~value >>> 0;
}

function checksum(data: Uint8Array): Buffer {
  const plain = crc32c(data);
  const buffer = Buffer.alloc(4);
  buffer.writeUInt32LE((((plain >>> 15) | (plain << 17)) + 0xa282ead8) >>> 0);
  return buffer;
}
