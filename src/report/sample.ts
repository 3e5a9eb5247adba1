/** A sample of a run's test images with what every network says of them, and the pictures that come of it. */

import { existsSync } from "node:fs";
import { join } from "node:path";
import type { BindingLook } from "#native";
import { type Embedding, readEmbeddings } from "../artefacts/embeddings.ts";
import { files } from "../artefacts/run-folder.ts";
import { json } from "../native/json.ts";
import type { NativeSession } from "../native/session.ts";
import type { PlanFile } from "../protocol/protocol.ts";
import type { Block, DocumentImage } from "./blocks.ts";
import {
  angleAt,
  densityOf,
  distancesOf,
  farthestPairs,
  farthestTriples,
  groupsOf,
  nearestTo,
  projectionOf,
  type Rows,
  TRIPLES,
} from "./geometry.ts";
import { named } from "./scores.ts";

/** Images that are looked at: neighbours are looked for among them, and some hundred of them are shown. */
export const SAMPLE = 1000;

/** Images whose distances are compared two by two, and which a plane shows. */
const COMPARED = 300;

const QUERIES = 8;
const NEIGHBOURS = 8;
const DISAGREEMENTS = 6;
const GRID = 64;
/** Groups of images without labels. */
const GROUPS = 8;

/** What the core looked at. */
export interface Sample {
  readonly images: readonly DocumentImage[];
  /** Images of the whole part. */
  readonly of: number;
  readonly student: Rows;
  /** The student with its initial weights, where they were looked at. */
  readonly before: Rows | undefined;
  readonly teachers: readonly { readonly name: string; readonly rows: Rows }[];
  /** What could not be looked at, in full sentences. */
  readonly missing: readonly string[];
}

/** Looks at the test images of the run in `out`, by its model and its teachers as far as they are still there. */
export async function sampleOf(
  { plan: { data, teachers, seed, splitSeed, threads } }: PlanFile,
  out: string,
  session: NativeSession,
): Promise<Sample> {
  const model = join(out, files.model);
  const look = (given: typeof teachers) => {
    const changed = { acceptChangedData: true, part: "test" } as const;
    const options = json({ model, data, teachers: given, seed, splitSeed, threads, ...changed });
    return session.send((core) => core.lookAt(options, SAMPLE));
  };
  const missing: string[] = [];
  let known = teachers;
  const { value } = await look(teachers).catch(async (error: unknown) => {
    if (teachers.length === 0) throw error;
    const why = error instanceof Error ? error.message : String(error);
    missing.push(`What the teacher says of single images is not shown, as it cannot be asked any more: ${why}`);
    known = [];
    return await look([]);
  });
  if (!value) throw new Error("the core looked at nothing");
  const { images, student, teachers: said, of } = value;
  const n = images.length;
  const ids = images.map(({ id }) => id);
  const before = teachers.length > 0 ? beforeOf(out, ids) : undefined;
  if (teachers.length > 0 && !before) {
    missing.push("The student before training is not shown, as the run has kept nothing of it.");
  }
  return {
    images: images.map(({ id, class: name, png }) => ({ id, class: name, src: png.length > 0 ? urlOf(png) : "" })),
    of,
    student: { values: floats(student), n },
    before,
    teachers: known.flatMap(({ name }, place) => {
      const rows = said[place];
      return rows ? [{ name, rows: { values: floats(rows), n } }] : [];
    }),
    missing,
  };
}

/** A sample's embeddings by the student, row by row with their ids. */
export function* rowsOf({ images, student }: BindingLook): Iterable<Embedding> {
  const values = floats(student);
  const d = values.length / images.length;
  for (const [i, { id }] of images.entries()) yield { id, vector: values.subarray(i * d, (i + 1) * d) };
}

function urlOf(picture: Uint8Array): string {
  const kind = picture[0] === 0xff ? "jpeg" : "png"; // how each of them begins
  return `data:image/${kind};base64,${Buffer.from(picture).toString("base64")}`;
}

function floats(bytes: Uint8Array): Float32Array {
  return new Float32Array(Uint8Array.from(bytes).buffer); // a buffer of its own, at a multiple of 4
}

/** What the run has kept of its student before training, of the images `ids`; nothing where one has no row. */
function beforeOf(out: string, ids: readonly string[]): Rows | undefined {
  const [file, list] = [join(out, files.before), join(out, files.beforeIds)];
  if (!existsSync(file) || !existsSync(list)) return undefined;
  const kept = readEmbeddings(file, list);
  if (!kept) return undefined;
  const places = new Map(kept.ids.map((id, place) => [id, place]));
  const chosen = ids.map((id) => places.get(id));
  // Images that came or went since have no row.
  if (chosen.some((place) => place === undefined)) return undefined;
  return some({ values: kept.values, n: kept.ids.length }, chosen as number[]);
}

/** The blocks of a sample, and the images that they show, each once. */
export function picturesOf(sample: Sample): { readonly blocks: Block[]; readonly images: readonly DocumentImage[] } {
  const shown = new Shown(sample.images);
  const labelled = sample.images.some(({ class: name }) => name !== "");
  const [heading, ...blocks] = [...neighboursOf(sample, labelled, shown), ...relationsOf(sample, labelled, shown)];
  const missing = sample.missing.map((text) => ({ kind: "note", text }) as const);
  return { blocks: [...(heading ? [heading] : []), ...missing, ...blocks], images: shown.images };
}

/** Gives images their places in the document's list, when they are first shown. */
class Shown {
  readonly images: DocumentImage[] = [];
  readonly #all: readonly DocumentImage[];
  readonly #places = new Map<number, number>();

  constructor(all: readonly DocumentImage[]) {
    this.#all = all;
  }

  place(i: number): number {
    const image = this.#all[i];
    const place = this.#places.get(i) ?? (image ? this.images.push(image) - 1 : 0);
    this.#places.set(i, place);
    return place;
  }
}

function neighboursOf({ images, of, student, before, teachers }: Sample, labelled: boolean, shown: Shown): Block[] {
  const n = images.length;
  const [first] = teachers;
  if (n < 3 || (!labelled && !first)) return [];
  const networks = [
    ...teachers.map((teacher) => ({ name: named("teacher", teacher, teachers), rows: teacher.rows })),
    ...(before ? [{ name: "student before", rows: before }] : []),
    { name: first ? "student after" : "network", rows: student },
  ];
  // Without labels, of few images fewer: else most would be right by chance.
  const k = Math.min(NEIGHBOURS, labelled ? n - 1 : Math.max(1, Math.floor(n / 4)));
  const queries = queriesOf(images, labelled);
  const reference = networks[0];
  const each = queries.map((query) => {
    const near = new Set(reference && !labelled ? nearestTo(reference.rows, query, k) : []);
    const isRight = (i: number) => (labelled ? images[i]?.class === images[query]?.class : near.has(i));
    return {
      image: shown.place(query),
      rows: networks.map(({ name, rows }) => ({
        name,
        found: nearestTo(rows, query, k).map((i) => ({ image: shown.place(i), right: isRight(i) })),
      })),
    };
  });
  const among =
    n < of
      ? `${n.toLocaleString("en")} of the ${of.toLocaleString("en")} test images, which were drawn`
      : `all ${n} test images`;
  const right = labelled ? "of the query's class" : `among the teacher's ${k} nearest`;
  return [
    { kind: "heading", text: "Nearest neighbours" },
    { kind: "paragraph", text: `Queries that were drawn, not chosen; their neighbours among ${among}.` },
    { kind: "neighbours", queries: each, right },
  ];
}

/** Evenly over the sample, each of another class while there are classes. */
function queriesOf(images: readonly DocumentImage[], labelled: boolean): number[] {
  const order = images.map((_, i) => (i * 7919) % images.length);
  const seen = new Set<string>();
  const fresh = order.filter((i) => {
    const name = images[i]?.class ?? "";
    return !labelled || (!seen.has(name) && seen.add(name));
  });
  return [...new Set([...fresh, ...order])].slice(0, QUERIES);
}

function relationsOf({ images, student, teachers }: Sample, labelled: boolean, shown: Shown): Block[] {
  const chosen = images
    .map((_, i) => i)
    .filter(
      (i) =>
        Math.floor((i * COMPARED) / images.length) !== Math.floor(((i - 1) * COMPARED) / images.length) ||
        images.length <= COMPARED,
    );
  const n = chosen.length;
  if (n < 3) return [];
  const [first] = teachers;
  const networks = [
    ...(first ? [{ name: named("teacher", first, teachers), rows: some(first.rows, chosen) }] : []),
    { name: first ? "student" : "network", rows: some(student, chosen) },
  ].map((network) => ({ ...network, distances: distancesOf(network.rows) }));
  const [reference, other] = networks;
  if (!reference) return [];
  const groups = labelled ? classesOf(chosen, images) : groupsOf(reference.distances, n, GROUPS);
  const names = labelled
    ? [...new Set(chosen.map((i) => images[i]?.class ?? ""))]
    : [...new Set(groups)].sort((a, b) => a - b).map((group) => `group ${group + 1}`);
  const place = (i: number) => shown.place(chosen[i] ?? 0);
  const of = teachers.length > 1 ? ` The teacher is ${first?.name}, the first of ${teachers.length}.` : "";
  const comparison: Block[] = other
    ? [
        {
          kind: "widget",
          widget: "density",
          id: "density",
          title: "Distances of all pairs",
          caption: `${((n * (n - 1)) / 2).toLocaleString("en")} pairs of ${n} test images; each network's distances are divided by their mean, as RKD compares them. The stronger the colour, the more pairs.${of}`,
          data: densityData(reference.distances, other.distances, n),
        },
      ]
    : [];
  return [
    { kind: "heading", text: other ? "Relations kept" : "The embedding space" },
    ...comparison,
    {
      kind: "widget",
      widget: "matrices",
      id: "matrices",
      title: "Distances image by image",
      caption: `${labelled ? "Ordered by class" : "Ordered by groups of what is near for the teacher"}: blocks on the diagonal are groups that lie together.`,
      data: matricesData(networks, groups, names, place, n),
    },
    {
      kind: "widget",
      widget: "projection",
      id: "projection",
      title: "On a plane",
      caption: `The first two principal components of each network's embeddings, each scaled to the drawing; colours are ${labelled ? "classes" : "groups of what is near for the teacher"}.`,
      data: {
        images: chosen.map((_, i) => place(i)),
        groups,
        names,
        networks: networks.map(({ name, rows }) => {
          const { points, explained } = projectionOf(rows);
          return {
            name,
            points: points.map(([x, y]) => [rounded(x), rounded(y)] as const),
            explained: rounded(explained),
          };
        }),
      },
    },
    ...(other ? disagreements(reference.distances, other.distances, n, place) : []),
  ];
}

function rounded(value: number): number {
  return Number(value.toFixed(3));
}

function some({ values, n }: Rows, chosen: readonly number[]): Rows {
  const d = values.length / n;
  const found = new Float32Array(chosen.length * d);
  for (const [i, place] of chosen.entries()) found.set(values.subarray(place * d, (place + 1) * d), i * d);
  return { values: found, n: chosen.length };
}

function classesOf(chosen: readonly number[], images: readonly DocumentImage[]): number[] {
  const numbers = new Map<string, number>();
  return chosen.map((i) => {
    const name = images[i]?.class ?? "";
    const number = numbers.get(name) ?? numbers.size;
    numbers.set(name, number);
    return number;
  });
}

function densityData(teacher: Float32Array, student: Float32Array, n: number) {
  const most = Math.max(2, ...[teacher, student].map((distances) => distances.reduce((a, b) => Math.max(a, b), 0)));
  return { size: GRID, most, counts: densityOf(teacher, student, n, GRID, most) };
}

function matricesData(
  networks: readonly { readonly name: string; readonly distances: Float32Array }[],
  groups: readonly number[],
  names: readonly string[],
  place: (i: number) => number,
  n: number,
) {
  const order = groups.map((_, i) => i).sort((a, b) => (groups[a] ?? 0) - (groups[b] ?? 0) || a - b);
  const starts = order.flatMap((i, at) => {
    const group = groups[i] ?? 0;
    return at === 0 || groups[order[at - 1] ?? 0] !== group ? [{ from: at, name: names[group] ?? "" }] : [];
  });
  const most = Math.max(1, ...networks.map(({ distances }) => distances.reduce((a, b) => Math.max(a, b), 0)));
  return {
    images: order.map(place),
    groups: starts,
    most,
    networks: networks.map(({ name, distances }) => {
      const bytes = Buffer.alloc(n * n);
      for (const [row, i] of order.entries()) {
        for (const [column, j] of order.entries()) {
          bytes[row * n + column] = Math.round(((distances[i * n + j] ?? 0) / most) * 255);
        }
      }
      return { name, bytes: bytes.toString("base64") };
    }),
  };
}

function disagreements(teacher: Float32Array, student: Float32Array, n: number, place: (i: number) => number): Block[] {
  const far = (distances: Float32Array, i: number, j: number) => (distances[i * n + j] ?? 0).toFixed(2);
  const pairs = farthestPairs(teacher, student, n, DISAGREEMENTS).map(([i, j]) => ({
    images: [place(i), place(j)],
    teacher: far(teacher, i, j),
    student: far(student, i, j),
  }));
  const triples = farthestTriples(teacher, student, n, DISAGREEMENTS).map(([i, j, k]) => ({
    images: [place(i), place(j), place(k)],
    teacher: `${Math.round(angleAt(teacher, n, j, i, k))}°`,
    student: `${Math.round(angleAt(student, n, j, i, k))}°`,
  }));
  return [
    { kind: "heading", text: "Where they disagree most" },
    {
      kind: "relations",
      relations: pairs,
      caption: "Pairs: distances, in times the mean distance of each network; no image stands in two pairs",
    },
    {
      kind: "relations",
      relations: triples,
      caption: `Triples: angles at the image in the middle; the largest differences of ${TRIPLES.toLocaleString("en")} triples`,
    },
  ];
}
