// What an ELF file needs of others: enough to tell on which systems a Linux binary runs, without binutils.
import { readFileSync } from "node:fs";

/** Kinds of sections. */
const kinds = { dynamic: 6, symbols: 11, neededVersions: 0x6ffffffe };
/** An entry of the dynamic section that names a library. */
const neededLibrary = 1n;

/** The bytes of a 64-bit little-endian ELF file with its section of a kind, and names by their place; throws on another file. */
function open(file, kind) {
  const bytes = readFileSync(file);
  if (bytes.readUInt32BE(0) !== 0x7f454c46 || bytes[4] !== 2 || bytes[5] !== 1) {
    throw new Error(`${file} is no 64-bit little-endian ELF file`);
  }
  const [table, size, count] = [Number(bytes.readBigUInt64LE(40)), bytes.readUInt16LE(58), bytes.readUInt16LE(60)];
  const sections = Array.from({ length: count }, (_, index) => {
    const at = table + index * size;
    return {
      type: bytes.readUInt32LE(at + 4),
      offset: Number(bytes.readBigUInt64LE(at + 24)),
      bytes: Number(bytes.readBigUInt64LE(at + 32)),
      link: bytes.readUInt32LE(at + 40),
      entries: bytes.readUInt32LE(at + 44),
    };
  });
  const section = sections.find(({ type }) => type === kind);
  const names = section && sections[section.link].offset;
  const nameAt = (offset) => bytes.toString("latin1", names + offset, bytes.indexOf(0, names + offset));
  return { bytes, section, nameAt };
}

/** The versions of symbols that a file needs, such as `GLIBC_2.17`, sorted. */
export function neededVersions(file) {
  const { bytes, section, nameAt } = open(file, kinds.neededVersions);
  if (!section) return [];
  const versions = new Set();
  for (let i = 0, library = section.offset; i < section.entries; i++) {
    let version = library + bytes.readUInt32LE(library + 8);
    for (let left = bytes.readUInt16LE(library + 2); left > 0; left--) {
      versions.add(nameAt(bytes.readUInt32LE(version + 8)));
      version += bytes.readUInt32LE(version + 12);
    }
    library += bytes.readUInt32LE(library + 12);
  }
  return [...versions].sort();
}

/** The libraries that are loaded with a file, such as `libm.so.6`. */
export function neededLibraries(file) {
  const { bytes, section, nameAt } = open(file, kinds.dynamic);
  const entries = Array.from({ length: (section?.bytes ?? 0) / 16 }, (_, index) => section.offset + 16 * index);
  const needed = entries.filter((at) => bytes.readBigInt64LE(at) === neededLibrary);
  return needed.map((at) => nameAt(Number(bytes.readBigUInt64LE(at + 8))));
}

/** The symbols that a file wants of what is loaded with it. */
export function undefinedSymbols(file) {
  const { bytes, section, nameAt } = open(file, kinds.symbols);
  const symbols = Array.from({ length: (section?.bytes ?? 0) / 24 }, (_, index) => section.offset + 24 * index);
  return symbols
    .filter((at) => bytes.readUInt16LE(at + 6) === 0)
    .map((at) => nameAt(bytes.readUInt32LE(at)))
    .filter(Boolean);
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
