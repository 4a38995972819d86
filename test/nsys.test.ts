import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import sqlite from 'node-sqlite3-wasm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openTrace } from '../src/analysis/open_trace.ts';
import { importNsys } from '../src/trace/import/nsys.ts';
import { openSqlite } from '../src/trace/import/sqlite_reader.ts';
import { wordAt } from '../src/trace/store/trace_columns.ts';
import type { Trace } from '../src/trace/store/trace_events.ts';
import { readTrace } from '../src/trace/store/trace_reader.ts';
import { saveTrace } from '../src/trace/store/trace_writer.ts';

const FIXTURE = readFileSync(fileURLToPath(new URL('./fixtures/nsys-unified-memory.sql', import.meta.url)), 'utf8');
let folder: string;
let count = 0;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'uvmlab-nsys-'));
});
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

/** A database made by SQL; its path. */
function made(sql: string): string {
  const path = join(folder, `${++count}.sqlite`);
  const database = new sqlite.Database(path);
  database.exec(sql);
  database.close();
  return path;
}
const fixture = (change: (sql: string) => string = (sql) => sql): string => made(change(FIXTURE));
/** By the package; Node's own is tried where there is one. */
const open = (path: string): Promise<Trace> => importNsys(path, { uvmlab: '0', builtIn: false });

function rowsOf({ columns }: Trace): string[] {
  const { time, timeEnd, offset, bytes, batch } = columns.arrays;
  return Array.from({ length: columns.count }, (_, row) => {
    const words = (['kind', 'src', 'dst', 'access', 'cause', 'buffer'] as const)
      .map((key) => wordAt(columns, key, row))
      .filter((word) => word !== '');
    return `${time[row]}-${timeEnd[row]} ${words.join(' ')} ${offset[row]} ${bytes[row]} ${batch[row]}`;
  });
}

describe('an export of Nsight Systems', () => {
  it('gives its faults and migrations, in order of time, and nothing of other copies', async () => {
    const trace = await open(fixture());
    // 139637976727552 is 7effe5000000 in hexadecimal, 139638000000000 lies 0x31a00 bytes behind a block of 2 MiB.
    const [first, second] = trace.info.allocations;
    expect(trace.info.allocations.map(({ bytes }) => bytes)).toEqual([2 ** 21, 2 ** 21]);
    const other = 139638000000000 % 2 ** 21;
    const start = 139637976727552 % 2 ** 21;
    expect(rowsOf(trace)).toEqual([
      `0-NaN cpuFault cpu ${first.name} ${start} -1 -1`,
      `100-NaN gpuFault gpu0 read ${first.name} ${start} -1 1`,
      `100-NaN gpuFault gpu0 write ${first.name} ${start + 4096} -1 2`,
      `110-140 migration cpu gpu0 coherence ${first.name} ${start} 65536 -1`,
      '160-NaN replay gpu0 -1 -1 1',
      '160-NaN replay gpu0 -1 -1 2',
      `300-NaN gpuFault gpu1 atomic ${second.name} ${other} -1 1`,
      '360-NaN replay gpu1 -1 -1 1',
      '460-NaN replay gpu0 -1 -1 3',
      `600-620 migration gpu0 gpu1 user ${second.name} ${other} 8192 -1`,
      `800-NaN cpuFault cpu ${first.name} ${start + 4096} -1 -1`,
      `850-890 migration gpu0 cpu prefetch ${first.name} ${start + 4096} 4096 -1`,
    ]);
    expect(trace.info).toMatchObject({
      source: 'nsys',
      clock: 'nsys',
      processors: [{ word: 'cpu' }, { word: 'gpu0', name: 'A GPU' }, { word: 'gpu1', name: 'Another GPU' }],
      leftOut: { 'a GPU fault whose access is not known': 1 },
    });
    expect(trace.info.notes.join('\n')).toContain('Of each of the 4 batches of GPU faults');
  });

  it('has no cause of a migration between GPUs, and names the GPU copied to by the device', async () => {
    const sql = FIXTURE.replace('0, 1, 1, 2, 1, NULL, 139638', '0, 1, NULL, NULL, NULL, NULL, 139638');
    const rows = rowsOf(await open(made(sql.replace('1000000000000720, 0, 1, 7', '1000000000000720, 1, 1, 7'))));
    expect(rows.find((row) => row.startsWith('600'))).toMatch(/^600-620 migration gpu0 gpu1 invalid /);
    // The hand-written rows of copies say another process than those of faults.
    expect((await open(fixture())).info.notes.join('\n')).toContain('The rows are of 2 processes');
    const unnamed = await open(made(FIXTURE.replace('0, 1, 1, 2, 1, NULL, 139638', 'NULL, 1, 1, 2, 1, NULL, 139638')));
    expect(unnamed.info.leftOut).toMatchObject({ 'a migration between GPUs that are not named': 1 });
  });

  it('puts rows into the managed allocations that it has, by address and time', async () => {
    const address = 139637976727552n;
    const megabyte = 1048576;
    const table =
      'CREATE TABLE CUDA_GPU_MEMORY_USAGE_EVENTS (start INTEGER, address INTEGER, bytes INTEGER, memKind INTEGER, ' +
      'memoryOperationType INTEGER);\nINSERT INTO CUDA_GPU_MEMORY_USAGE_EVENTS VALUES ';
    const usage = [
      [1000000000000150n, address, megabyte, 4, 0],
      [1000000000000160n, address + 8192n, 4096, 2, 0],
      [1000000000000650n, address, megabyte, 4, 1],
      [1000000000000660n, address + 4096n, 3 * megabyte, 6, 0],
    ];
    const { columns, info } = await open(made(FIXTURE + table + usage.map((row) => `(${row.join(', ')})`).join(', ')));
    const hex = address.toString(16);
    const block = (address - (address % 2097152n)).toString(16);
    const within = Number(address % 2097152n);
    const later = (address + 4096n).toString(16);
    const strange = info.allocations.slice(2);
    expect(info.allocations.slice(0, 2)).toEqual([
      { name: hex, bytes: within + megabyte, kind: 'managed', address: block },
      { name: later, bytes: within + 4096 + 3 * megabyte, kind: 'managed', address: block },
    ]);
    // The first fault of the CPU came before any allocation, and the second GPU's memory is nobody's.
    expect(strange.map(({ bytes }) => bytes)).toEqual([2 * megabyte, 2 * megabyte]);
    expect(rowsOf({ columns, info }).map((row) => row.split(' ').slice(-4).join(' '))).toEqual([
      `${strange[0].name} ${within} -1 -1`,
      `${hex} ${within} -1 1`,
      `${hex} ${within + 4096} -1 2`,
      `${hex} ${within} 65536 -1`,
      'gpu0 -1 -1 1',
      'gpu0 -1 -1 2',
      `${strange[1].name} ${139638000000000 % 2097152} -1 1`,
      'gpu1 -1 -1 1',
      'gpu0 -1 -1 3',
      `${strange[1].name} ${139638000000000 % 2097152} 8192 -1`,
      `${later} ${within + 4096} -1 -1`,
      `${later} ${within + 4096} 4096 -1`,
    ]);
    expect(info.notes.join('\n')).toContain('3 rows are at addresses without a managed allocation');
  });

  it('is the same by either reader', async () => {
    const path = fixture();
    expect(await importNsys(path, { uvmlab: '0' })).toEqual(await open(path));
  });

  it('keeps 64-bit numbers exact', async () => {
    const path = made('CREATE TABLE n (v INTEGER); INSERT INTO n VALUES (9223372036854775807), (-1), (5);');
    for (const builtIn of [false, true]) {
      const database = await openSqlite(path, builtIn);
      expect([...database.rows('SELECT v FROM n')].map(({ v }) => String(v))).toEqual([
        '9223372036854775807',
        '-1',
        '5',
      ]);
      expect([...database.tables]).toEqual([['n', ['v']]]);
      database.close();
    }
  });

  it('goes through the store as it is, and opens by its name', async () => {
    const trace = await openTrace(fixture());
    const path = join(folder, 'kept.parquet');
    saveTrace(path, trace, { overwrite: true });
    const again = await readTrace(path);
    expect(rowsOf(again)).toEqual(rowsOf(trace));
    expect(again.info).toEqual(trace.info);
  });

  it('leaves nothing beside the file, also one in a folder of its own', async () => {
    const its = join(folder, 'its');
    mkdirSync(its);
    writeFileSync(join(its, 'x.sqlite'), readFileSync(fixture()));
    await open(join(its, 'x.sqlite'));
    expect(readdirSync(its)).toEqual(['x.sqlite']);
  });

  it.each([[true], [false]])(
    'reads one that keeps a write-ahead log, and leaves it as it was; by Node %s',
    async (builtIn) => {
      const its = mkdtempSync(join(folder, 'log-'));
      const path = join(its, 'x.sqlite');
      const bytes = readFileSync(fixture());
      // Bytes 18 and 19 say how a file is written and read: 2 is with a log.
      bytes.fill(2, 18, 20);
      writeFileSync(path, bytes);
      expect(rowsOf(await importNsys(path, { uvmlab: '0', builtIn }))).toEqual(rowsOf(await open(fixture())));
      expect(readdirSync(its)).toEqual(['x.sqlite']);
      expect(readFileSync(path).equals(bytes)).toBe(true);
      writeFileSync(`${path}-wal`, 'changes');
      await expect(importNsys(path, { uvmlab: '0', builtIn })).rejects.toThrow(
        /x\.sqlite-wal lies beside it: a program writes it still, or did not close it\. Close it first/,
      );
    },
  );

  it.each([
    [
      'another version',
      (sql: string) => sql.replace("'3.16.0'", "'7.1'"),
      'has version "7.1"; the one that is known is 3',
    ],
    ['no version', (sql: string) => sql.replace('EXPORT_SCHEMA_VERSION', 'OTHER'), 'does not tell the version'],
    [
      'no table of the export',
      (sql: string) => sql.replaceAll('META_DATA_EXPORT', 'META'),
      'no table META_DATA_EXPORT',
    ],
    [
      'no table of migrations',
      (sql: string) => sql.replaceAll('CUPTI_ACTIVITY_KIND_MEMCPY', 'OTHER'),
      'has no table CUPTI_ACTIVITY_KIND_MEMCPY',
    ],
  ])('with %s is read, and says so', async (_, change, note) => {
    const { info } = await open(fixture(change));
    expect(info.notes.join('\n')).toContain(note);
  });

  it.each([
    [
      'none of the tables',
      made.bind(null, 'CREATE TABLE a (b INTEGER)'),
      /has none of the tables CUDA_UM_CPU_PAGE_FAULT_EVENTS, .* record with nsys profile .*Its tables: a$/,
    ],
    [
      'a table without a column',
      () => fixture((sql) => sql.replace('faultAccessType INTEGER NOT NULL', 'other INTEGER NOT NULL')),
      /table CUDA_UM_GPU_PAGE_FAULT_EVENTS: has no column faultAccessType; it has start, end, /,
    ],
    [
      'a text for a number',
      () => fixture((sql) => sql.replace('65536, 11', "'much', 11")),
      /table CUPTI_ACTIVITY_KIND_MEMCPY: bytes: "much"; expected a whole number/,
    ],
    [
      'a negative size',
      () => fixture((sql) => sql.replace('65536, 11', '-65536, 11')),
      /table CUPTI_ACTIVITY_KIND_MEMCPY: bytes: -65536; expected a whole number from 0 to 2\^53/,
    ],
    [
      'an end before its start',
      () => fixture((sql) => sql.replace('1000000000000240', '1000000000000209')),
      /table CUPTI_ACTIVITY_KIND_MEMCPY: end: 1000000000000209; expected a time not before the start/,
    ],
    [
      'a part of its bytes alone',
      () => {
        const path = join(folder, 'cut.sqlite');
        writeFileSync(path, readFileSync(fixture()).subarray(0, 5000));
        return path;
      },
      /cut\.sqlite: /,
    ],
  ])('with %s is refused', async (_, path, message) => {
    await expect(open(path())).rejects.toThrow(message);
    await expect(open(path())).rejects.toMatchObject({ name: 'TraceFileError' });
  });

  it('is refused where it is no database, no file, or a report that was not exported', async () => {
    writeFileSync(join(folder, 'text.sqlite'), 'a text that is longer than the head of a database');
    writeFileSync(join(folder, 'r.nsys-rep'), '');
    await expect(openTrace(join(folder, 'text.sqlite'))).rejects.toThrow(/byte 0: this is no SQLite database$/);
    await expect(openTrace(join(folder, 'none.sqlite'))).rejects.toThrow(/there is no such file$/);
    await expect(openTrace(join(folder, 'r.nsys-rep'))).rejects.toThrow(/nsys export --type sqlite/);
  });
});
