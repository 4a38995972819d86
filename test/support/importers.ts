/**
 * The importers of traces, for the fuzz test (test/fuzz_traces.slow.test.ts): for each some small inputs that are right,
 * and how bytes are opened.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import sqlite from 'node-sqlite3-wasm';
import { openTrace } from '../../src/analysis/open_trace.ts';
import { createPrng, prngBelow } from '../../src/base/prng.ts';
import { EVENT_TYPE } from '../../src/device/abi/events.ts';
import { createLineWriter } from '../../src/trace/jsonl.ts';
import { createRecordingWriter } from '../../src/trace/recording_file.ts';
import { decodeTrace } from '../../src/trace/store/trace_decode.ts';
import type { Trace } from '../../src/trace/store/trace_events.ts';
import { createTraceWriter } from '../../src/trace/store/trace_writer.ts';
import { writeTraceLines } from '../../src/trace/trace_lines.ts';
import { randomTrace } from './random_trace.ts';
import { entries, entry, GPU0, range, recordingHeader } from './recordings.ts';

export interface Importer {
  name: string;
  /** Share of the inputs that it gets. */
  share: number;
  /** Inputs that are right, each a few kilobytes; `folder` is empty and may be used. */
  seeds(folder: string): Uint8Array[];
  /** Opens bytes; `folder` may be used. Rejects with an error for people where they are wrong. */
  open(bytes: Uint8Array, folder: string): Promise<Trace>;
  /** What the message of each error has to match: the place. */
  place: RegExp;
}

const IN_MEMORY = 'x.parquet';

/** A trace in memory, as a page has one. */
async function openParquet(bytes: Uint8Array): Promise<Trace> {
  return decodeTrace({ path: IN_MEMORY, size: bytes.length, read: (at, length) => bytes.slice(at, at + length) });
}

function parquetSeeds(folder: string): Uint8Array[] {
  return [1, 2, 3].map((seed) => {
    const { trace } = randomTrace(seed, 25 * seed, { pushes: seed === 2 });
    const path = join(folder, `${seed}.parquet`);
    const { pushes } = trace.columns;
    const writer = createTraceWriter(path, { info: trace.info, pushes, rowGroupRows: seed === 3 ? 1000 : 30 });
    writer.append(trace.columns);
    writer.close();
    return readFileSync(path);
  });
}

function through(name: string) {
  return (bytes: Uint8Array, folder: string): Promise<Trace> => {
    const path = join(folder, name);
    writeFileSync(path, bytes);
    return openTrace(path);
  };
}

/** No steps: a case that loses what was recorded is run, and a step could be long. */
const SCENARIO = { name: 's', machine: 'h200-pcie5', allocations: [{ name: 'a', bytes: 2097152 }], steps: [] };

function lineSeeds(folder: string): Uint8Array[] {
  const exported = [4, 5].map((seed) => {
    const path = join(folder, `${seed}.jsonl`);
    const out = createLineWriter(path);
    writeTraceLines(out, randomTrace(seed, 12, { pushes: seed === 5 }).trace);
    out.commit();
    return readFileSync(path);
  });
  const { events } = randomTrace(6, 15);
  const lines = [
    events.map((event) => `${JSON.stringify(event)}\n`).join(''),
    `${JSON.stringify({ scenario: 's', wallMicroseconds: [1, null], events, copies: [{ step: 1 }], notes: ['n'] })}\n`,
    `${JSON.stringify({ scenario: SCENARIO, recordedFromStep: 0, observed: { wallMicroseconds: 3, events } })}\n`,
    `${JSON.stringify(SCENARIO)}\n`,
  ];
  return [...exported, ...lines.map((text) => Buffer.from(text))];
}

function recordingSeeds(folder: string): Uint8Array[] {
  const p = createPrng(11);
  return [7, 8].map((seed) => {
    const path = join(folder, `${seed}.uvmrec`);
    const writer = createRecordingWriter(path, recordingHeader({ machine: null }));
    writer.appendMaps({ time: 1, ranges: [range(0x7f12_a000_0000, 2 ** 22)] });
    for (let frame = 0; frame < 3; frame++) {
      const address = 0x7f12_a000_0000 + prngBelow(p, 4096) * 4096;
      writer.appendEvents(
        entries(
          entry('cpuFault', { accessType: 2, address, timeStamp: frame * 1000 }),
          entry('gpuFault', {
            faultType: 1,
            accessType: 2,
            gpuIndex: GPU0,
            address,
            batchId: frame,
            timeStamp: 5,
            timeStampGpu: 7,
          }),
          entry('migration', { srcIndex: 0, dstIndex: GPU0, address, migratedBytes: 65536, migrationCause: 2 }),
          entry('replay', { gpuIndex: GPU0, batchId: frame, timeStamp: 9 }),
        ),
      );
      writer.appendDrops([[EVENT_TYPE.gpuFault, 3]]);
      writer.appendNote('a note', 5);
      writer.appendMaps({ time: frame, ranges: [range(0x7f12_a000_0000, 2 ** 22), range(0x7f13_0000_0000, 2 ** 21)] });
    }
    if (seed === 7) writer.end('target exited');
    writer.close();
    return readFileSync(path);
  });
}

/** Exports of Nsight Systems with pages of 512 bytes, so that few bytes are of no use. */
function databaseSeeds(folder: string): Uint8Array[] {
  const sql = readFileSync(new URL('../fixtures/nsys-unified-memory.sql', import.meta.url), 'utf8');
  const usage =
    'CREATE TABLE CUDA_GPU_MEMORY_USAGE_EVENTS (start, address, bytes, memKind, memoryOperationType); ' +
    'INSERT INTO CUDA_GPU_MEMORY_USAGE_EVENTS VALUES (1000000000000050, 139637976727552, 8192, 4, 0), ' +
    '(1000000000000650, 139637976727552, 8192, 4, 1), (1000000000000660, 139637976723456, 65536, 6, 0); ' +
    'CREATE TABLE CUPTI_ACTIVITY_KIND_KERNEL (start, "end", deviceId, shortName); ' +
    'INSERT INTO CUPTI_ACTIVITY_KIND_KERNEL VALUES (1000000000000150, 1000000000000350, 0, 1);';
  const path = join(folder, 'seed.sqlite');
  const database = new sqlite.Database(path);
  database.exec(`PRAGMA page_size = 512; ${sql} ${usage}`);
  database.close();
  return [readFileSync(path)];
}

export const IMPORTERS: readonly Importer[] = [
  { name: 'parquet', share: 0.74, seeds: parquetSeeds, open: openParquet, place: /^x\.parquet: byte \d+: ./ },
  {
    name: 'jsonl',
    share: 0.12,
    seeds: lineSeeds,
    open: through('x.jsonl'),
    place: /\/x\.jsonl(:\d+: .|: holds |: has )/,
  },
  {
    name: 'jsonl.gz',
    share: 0.02,
    seeds: (folder) => lineSeeds(folder).map((bytes) => gzipSync(bytes)),
    open: through('x.jsonl.gz'),
    place: /\/x\.jsonl\.gz(:\d+: .|: holds |: has )/,
  },
  {
    name: 'uvmrec',
    share: 0.1,
    seeds: recordingSeeds,
    open: through('x.uvmrec'),
    place: /\/x\.uvmrec: (byte \d+: .|the range at )/,
  },
  {
    name: 'sqlite',
    share: 0.02,
    seeds: databaseSeeds,
    open: through('x.sqlite'),
    place: /\/x\.sqlite: ./,
  },
];
