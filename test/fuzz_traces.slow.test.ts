/**
 * Bytes that are wrong in every way, for each importer of traces (test/support/importers.ts): each input opens, or is
 * refused with an error that names its place; nothing crashes, hangs, or takes memory that the input does not account
 * for. What opens can be stored and read back.
 *
 * UVMLAB_FUZZ_SEED and UVMLAB_FUZZ_INPUTS choose other inputs, and more of them.
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { afterAll, describe, expect, it } from 'vitest';
import { createPrng, type Prng, prngBelow, prngChance } from '../src/base/prng.ts';
import { eventAt, pushAt, type Trace } from '../src/trace/store/trace_events.ts';
import { readTrace } from '../src/trace/store/trace_reader.ts';
import { columnKeys } from '../src/trace/store/trace_schema.ts';
import { saveTrace } from '../src/trace/store/trace_writer.ts';
import { IMPORTERS, type Importer } from './support/importers.ts';

const SEED = Number(process.env['UVMLAB_FUZZ_SEED'] ?? 20);
const INPUTS = Number(process.env['UVMLAB_FUZZ_INPUTS'] ?? 100_000);
/** Errors that are meant for people. */
const FOR_PEOPLE = ['TraceFileError', 'RecordingFileError', 'CaseFileError'];
/** Bytes of columns for each byte of input, and for none. */
const COLUMN_BYTES_SHARE = 40;
const COLUMN_BYTES_OF_NONE = 2 ** 20;
/** What the process may take more than before, with the inputs and everything that waits to be collected. */
const PROCESS_BYTES_MAX = 600 * 2 ** 20;
/** One of so many that open is stored. */
const STORED = 32;

const root = mkdtempSync(join(tmpdir(), 'uvmlab-fuzz-'));
afterAll(() => rmSync(root, { recursive: true }));

const EDGES = [0, 1, 0x7f, 0x80, 0xff, 0x15, 0x22, 0x7b, 0x30];

function changeBytes(p: Prng, bytes: Uint8Array, at: number): Uint8Array {
  const out = Uint8Array.from(bytes);
  const count = 1 + prngBelow(p, 8);
  const form = prngBelow(p, 3);
  for (let i = at; i < Math.min(at + count, out.length); i++) {
    if (form === 0) out[i] ^= 1 << prngBelow(p, 8);
    else if (form === 1) out[i] = EDGES[prngBelow(p, EDGES.length)];
    else out[i] = prngBelow(p, 256);
  }
  return out;
}

const isDigit = (byte: number): boolean => byte >= 48 && byte < 58;
const isLetter = (byte: number): boolean => byte >= 97 && byte < 123;

/** The next digit or letter from a place on becomes another one: what is text stays text. */
function changeSign(p: Prng, bytes: Uint8Array, at: number): Uint8Array {
  const out = Uint8Array.from(bytes);
  const digits = prngChance(p, 3, 4);
  const found = out.subarray(at).findIndex(digits ? isDigit : isLetter);
  if (found >= 0) out[at + found] = digits ? 48 + prngBelow(p, 10) : 97 + prngBelow(p, 26);
  return out;
}

/** Takes some bytes out, and puts some in, from anywhere in another input. */
function splice(p: Prng, bytes: Uint8Array, other: Uint8Array, at: number): Uint8Array {
  const removed = prngChance(p, 1, 2) ? prngBelow(p, 64) : 0;
  const from = prngBelow(p, other.length);
  const added = other.subarray(from, from + prngBelow(p, 64));
  return Buffer.concat([bytes.subarray(0, at), added, bytes.subarray(Math.min(bytes.length, at + removed))]);
}

/** An input that was right, changed in one place or a few. */
function mutate(p: Prng, seeds: readonly Uint8Array[]): Uint8Array {
  let bytes = seeds[prngBelow(p, seeds.length)];
  for (let n = 1 + prngBelow(p, 3); n > 0 && bytes.length > 0; n--) {
    // Formats have what matters at one end or the other.
    const near = Math.min(bytes.length, 400);
    const form = prngBelow(p, 4);
    const at =
      form === 0 ? bytes.length - 1 - prngBelow(p, near) : form === 1 ? prngBelow(p, near) : prngBelow(p, bytes.length);
    const kind = prngBelow(p, 12);
    if (kind < 5) bytes = changeBytes(p, bytes, at);
    else if (kind < 9) bytes = changeSign(p, bytes, at);
    else if (kind < 11) bytes = splice(p, bytes, seeds[prngBelow(p, seeds.length)], at);
    else bytes = bytes.subarray(0, at);
  }
  return bytes;
}

function columnBytes({ columns }: Trace): number {
  return columnKeys(columns.pushes).reduce((sum, key) => sum + columns.arrays[key].byteLength, 0);
}

/** Every row as an event or a push. */
function allRows({ columns }: Trace): unknown[] {
  return Array.from({ length: columns.count }, (_, row) => eventAt(columns, row) ?? pushAt(columns, row));
}

interface Tally {
  opened: number;
  refused: number;
}

async function fuzz(importer: Importer, seed: number, inputs: number, folder: string): Promise<Tally> {
  const p = createPrng(seed);
  const seeds = importer.seeds(folder);
  for (const bytes of seeds) expect(allRows(await importer.open(bytes, folder)).length).toBeGreaterThanOrEqual(0);
  const tally = { opened: 0, refused: 0 };
  for (let n = 0; n < inputs; n++) {
    const bytes = mutate(p, seeds);
    const what = `${importer.name}, seed ${seed}, input ${n}`;
    let trace: Trace;
    try {
      trace = await importer.open(bytes, folder);
    } catch (error) {
      const { name, message, stack } = error as Error;
      if (!FOR_PEOPLE.includes(name) || !importer.place.test(message)) throw new Error(`${what}: ${stack}`);
      tally.refused++;
      continue;
    }
    tally.opened++;
    const rows = allRows(trace);
    if (columnBytes(trace) > bytes.length * COLUMN_BYTES_SHARE + COLUMN_BYTES_OF_NONE) {
      throw new Error(`${what}: ${columnBytes(trace)} bytes of columns for ${bytes.length} bytes`);
    }
    if (tally.opened % STORED !== 0) continue;
    const path = join(folder, 'stored.parquet');
    try {
      saveTrace(path, trace, { overwrite: true });
    } catch (error) {
      throw new Error(`${what}: stored: ${(error as Error).stack}`);
    }
    if (!isDeepStrictEqual(allRows(await readTrace(path)), rows)) throw new Error(`${what}: stored, it is another`);
  }
  return tally;
}

describe(`importers, ${INPUTS} inputs from seed ${SEED}`, () => {
  for (const [i, importer] of IMPORTERS.entries()) {
    it(`${importer.name} takes anything`, async () => {
      const before = process.memoryUsage().rss;
      const folder = join(root, String(i));
      mkdirSync(folder);
      const inputs = Math.ceil(INPUTS * importer.share);
      const { opened, refused } = await fuzz(importer, SEED + i, inputs, folder);
      console.log(`fuzz ${importer.name}: seed ${SEED + i}, ${inputs} inputs: ${opened} opened, ${refused} refused`);
      expect(opened).toBeGreaterThan(inputs / 100);
      expect(refused).toBeGreaterThan(inputs / 100);
      expect(process.memoryUsage().rss - before).toBeLessThan(PROCESS_BYTES_MAX);
    }, 600_000);
  }

  it('have all of the inputs between them', () => {
    expect(IMPORTERS.reduce((sum, { share }) => sum + share, 0)).toBeGreaterThanOrEqual(1);
  });
});
