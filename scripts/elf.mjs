// What an ELF file needs of others: enough to tell on which systems a Linux binary runs, without binutils.
import { readFileSync } from "node:fs";

const neededVersionsSection = 0x6ffffffe; // SHT_GNU_verneed

/** The versions of symbols that a 64-bit little-endian ELF file needs, such as `GLIBC_2.17`, sorted; throws on another file. */
export function neededVersions(file) {
  const bytes = readFileSync(file);
  if (bytes.readUInt32BE(0) !== 0x7f454c46 || bytes[4] !== 2 || bytes[5] !== 1) {
    throw new Error(`${file} is no 64-bit little-endian ELF file`);
  }
  const [table, size, count] = [Number(bytes.readBigUInt64LE(40)), bytes.readUInt16LE(58), bytes.readUInt16LE(60)];
  const section = (index) => {
    const at = table + index * size;
    return {
      type: bytes.readUInt32LE(at + 4),
      offset: Number(bytes.readBigUInt64LE(at + 24)),
      link: bytes.readUInt32LE(at + 40),
      entries: bytes.readUInt32LE(at + 44),
    };
  };
  const found = Array.from({ length: count }, (_, i) => section(i)).find(({ type }) => type === neededVersionsSection);
  if (!found) return [];
  const names = section(found.link).offset;
  const nameAt = (offset) => bytes.toString("latin1", names + offset, bytes.indexOf(0, names + offset));
  const versions = new Set();
  for (let i = 0, library = found.offset; i < found.entries; i++) {
    let version = library + bytes.readUInt32LE(library + 8);
    for (let left = bytes.readUInt16LE(library + 2); left > 0; left--) {
      versions.add(nameAt(bytes.readUInt32LE(version + 8)));
      version += bytes.readUInt32LE(version + 12);
    }
    library += bytes.readUInt32LE(library + 12);
  }
  return [...versions].sort();
}

/** The newest glibc that such versions ask for, as `2.17`; nothing where they ask for none. */
export function neededGlibc(versions) {
  const numbers = versions.flatMap((version) => /^GLIBC_(\d+(?:\.\d+)+)$/.exec(version)?.[1] ?? []);
  return numbers.sort(compareVersions).at(-1);
}

/** Negative where `a` is older than `b`. */
export function compareVersions(a, b) {
  const [left, right] = [a, b].map((version) => version.split(".").map(Number));
  for (let i = 0; i < Math.max(left.length, right.length); i++) {
    const difference = (left[i] ?? 0) - (right[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}
