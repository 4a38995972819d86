import { mkdtempSync, readFileSync, rmSync, statSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { randomTrace } from '../../test/support/random_trace.ts';
import { wordAt } from '../trace/store/trace_columns.ts';
import { eventAt, type Trace } from '../trace/store/trace_events.ts';
import { type ColumnKey, TRACE_COLUMNS } from '../trace/store/trace_schema.ts';
import { BATCHES_TABLE, INFO_TABLES, TRACE_VIEWS } from '../trace/store/trace_views.ts';
import { saveTrace } from '../trace/store/trace_writer.ts';
import { exportParquet } from './export_parquet.ts';
import {
  DUCKDB_PACKAGE,
  DUCKDB_VERSION,
  openTraceDatabase,
  type QueryCell,
  type TraceDatabase,
} from './trace_query.ts';

const folder = mkdtempSync(join(tmpdir(), 'uvmlab-query-'));
const path = join(folder, "a trace's file.parquet");
const { trace } = randomTrace(77, 2000, { pushes: true });
const other = join(folder, 'other.parquet');
let database: TraceDatabase;

beforeAll(async () => {
  Object.assign(trace.info, {
    parameters: { uvm_a: 1, uvm_b: "it's" },
    wallMicroseconds: [1.5, null, 3],
    steps: [{ step: 2, begin: 10, end: 20 }],
    scenario: { steps: [{ do: 'read' }] },
    dropped: { gpuFault: 3 },
    leftOut: { 'an odd one': 2 },
    allocations: [{ name: 'a', bytes: 2 ** 40, kind: 'managed', address: null }],
    command: ['./a', '--b'],
  });
  saveTrace(path, trace);
  saveTrace(other, randomTrace(78, 100).trace);
  database = await openTraceDatabase([
    { name: null, path },
    { name: 'other', path: other },
  ]);
});
afterAll(() => {
  database.close();
  rmSync(folder, { recursive: true });
});

async function rows(sql: string): Promise<QueryCell[][]> {
  const all: QueryCell[][] = [];
  for await (const piece of (await database.query(sql)).rows) all.push(...piece);
  return all;
}

/** What a view should have for a row of the trace. */
function cell({ columns }: Trace, key: ColumnKey, row: number): QueryCell {
  const { type } = TRACE_COLUMNS[key];
  if (type === 'word' || type === 'text') return wordAt(columns, key, row) || null;
  const value = columns.arrays[key][row];
  return Number.isNaN(value) || (type !== 'time' && value === -1) ? null : value;
}

function expectedRows({ kinds, columns: own }: (typeof TRACE_VIEWS)[number], given: Trace): QueryCell[][] {
  const expected: QueryCell[][] = [];
  for (let row = 0; row < given.columns.count; row++) {
    if (kinds !== null && !kinds.includes(wordAt(given.columns, 'kind', row))) continue;
    const cells = own.map(({ of }) => {
      if (typeof of === 'string') return cell(given, of, row);
      return of.value((key) => cell(given, key, row) as number | null);
    });
    expected.push([row, ...cells]);
  }
  return expected;
}

describe('the tables of a trace', () => {
  it('have what its rows have', async () => {
    for (const view of TRACE_VIEWS) {
      const expected = expectedRows(view, trace);
      expect(expected.length, view.name).toBeGreaterThan(0);
      const answer = await rows(`SELECT * FROM ${view.name} ORDER BY "row"`);
      // A page is divided in SQL, a duration is a difference of large numbers: both are exact.
      expect(answer, view.name).toEqual(expected);
    }
    expect(await rows('SELECT count(*), count(push) FROM other.rows')).toEqual([[100, 0]]);
  });

  it('have batches that were counted', async () => {
    const wanted = new Map<string, { faults: number; pages: Set<string>; first: number; last: number; step: number }>();
    const replays: { gpu: string; batch: number; time: number }[] = [];
    const { columns } = trace;
    for (let row = 0; row < columns.count; row++) {
      const event = eventAt(columns, row);
      if (event?.event === 'replay') replays.push(event);
      if (event?.event !== 'gpuFault') continue;
      const key = `${event.gpu} ${event.batch}`;
      const page = `${event.buffer} ${Math.floor(event.offset / 4096)}`;
      const one = wanted.get(key) ?? { faults: 0, pages: new Set(), first: Infinity, last: -Infinity, step: Infinity };
      one.faults++;
      one.pages.add(page);
      one.first = Math.min(one.first, event.time);
      one.last = Math.max(one.last, event.time);
      wanted.set(key, one);
    }
    const answer = await rows('SELECT gpu, batch, faults, pages, first_time, last_time, replay_time FROM batches');
    expect(answer.length).toBe(wanted.size);
    for (const [gpu, batch, faults, pages, first, last, replay] of answer) {
      const one = wanted.get(`${gpu} ${batch}`);
      expect([faults, pages, first, last]).toEqual([one?.faults, one?.pages.size, one?.first, one?.last]);
      const after = replays.filter((r) => r.gpu === gpu && r.batch >= Number(batch));
      const nearest = Math.min(...after.map((r) => r.batch));
      const times = after.filter((r) => r.batch === nearest).map((r) => r.time);
      expect(replay).toBe(times.length === 0 ? null : Math.min(...times));
    }
  });

  it('have what the trace says about itself', async () => {
    expect(await rows('FROM parameters')).toEqual([
      ['uvm_a', '1'],
      ['uvm_b', "it's"],
    ]);
    expect(await rows('FROM steps')).toEqual([
      [0, null, null, 1.5, '{"do":"read"}'],
      [1, null, null, null, null],
      [2, 10, 20, 3, null],
    ]);
    expect(await rows('FROM losses')).toEqual([
      ['gpuFault', 3, 'lost'],
      ['an odd one', 2, 'left out'],
    ]);
    expect(await rows('FROM allocations')).toEqual([['a', 2 ** 40, 'managed', null]]);
    expect(await rows('SELECT name, command FROM info')).toEqual([['random 77', '["./a","--b"]']]);
    const [[document]] = await rows('SELECT document FROM info');
    expect(JSON.parse(String(document))).toEqual(trace.info);
  });

  it('are all there, with the columns that are documented', async () => {
    const tables = [...TRACE_VIEWS, BATCHES_TABLE, ...INFO_TABLES];
    const names = (await rows("SELECT table_name FROM information_schema.tables WHERE table_schema = 'main'")).flat();
    expect(names.sort()).toEqual(tables.map(({ name }) => name).sort());
    const types = { time: 'DOUBLE', whole: 'BIGINT', count: 'INTEGER', text: 'VARCHAR' };
    for (const { name, columns: own } of tables) {
      const described = (await rows(`DESCRIBE ${name}`)).map(([column, type]) => [column, type]);
      const first = TRACE_VIEWS.some((view) => view.name === name) ? [['row', 'BIGINT']] : [];
      expect(described, name).toEqual([...first, ...own.map((c) => [c.name, types[c.type]])]);
    }
  });
});

describe('a query', () => {
  it('is told what is wrong with it', async () => {
    const wrong: [string, RegExp][] = [
      ['SELECT * FROM nothing', /^SQL: Catalog Error: Table with name nothing/],
      ['SELEC', /^SQL: Parser Error/],
      ['', /^SQL: no statement; expected one query/],
      [' -- a thought', /^SQL: no statement; expected one query/],
      ['SELECT 1; SELECT 2', /^SQL: 2 statements; expected one query/],
    ];
    for (const [sql, message] of wrong) {
      await expect(rows(sql)).rejects.toThrow(message);
      await expect(rows(sql)).rejects.toMatchObject({ name: 'TraceQueryError' });
    }
    await expect(rows("SELECT error('late') FROM events")).rejects.toThrow(/late/);
  });

  it('writes nothing and reads nothing else', async () => {
    const before = readFileSync(path);
    const name = path.replaceAll("'", "''");
    const secret = join(folder, 'x');
    for (const sql of [
      `COPY (SELECT 1) TO '${name}' (USE_TMP_FILE false)`,
      `EXPLAIN ANALYZE COPY (SELECT 1) TO '${name}' (USE_TMP_FILE false)`,
      `COPY (SELECT 1) TO '${secret}'`,
      `ATTACH '${secret}' AS x`,
      'CREATE TABLE x AS SELECT 1',
      'DROP VIEW events',
      'SET enable_external_access = true',
      'INSTALL httpfs',
      "LOAD 'httpfs'",
      `EXPORT DATABASE '${secret}'`,
      "SELECT * FROM read_text('/etc/passwd')",
      "SELECT * FROM read_csv('/etc/passwd')",
      "SELECT * FROM glob('/etc/*')",
      "FROM '/etc/passwd'",
      'PRAGMA enable_profiling',
      'CALL pragma_version()',
      'PREPARE a AS SELECT 1',
    ]) {
      await expect(rows(sql), sql).rejects.toThrow(/^SQL: /);
    }
    expect(readFileSync(path).equals(before)).toBe(true);
    expect(statSync(secret, { throwIfNoEntry: false })).toBeUndefined();
    expect(await rows('SELECT count(*) FROM rows')).toEqual([[2000]]);
  });

  it('gives numbers that JSON cannot hold as texts', async () => {
    const sql =
      "SELECT 9007199254740991::BIGINT, 9007199254740993::BIGINT, -2::HUGEINT, 'inf'::DOUBLE, [1, 2], true, NULL";
    expect(await rows(sql)).toEqual([[9007199254740991, '9007199254740993', -2, 'Infinity', '[1, 2]', true, null]]);
  });
});

describe('DuckDB', () => {
  it('is the version that the package asks for', () => {
    const manifest = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
    expect(manifest.devDependencies[DUCKDB_PACKAGE]).toBe(DUCKDB_VERSION);
    expect(manifest.peerDependencies[DUCKDB_PACKAGE]).toBe(`>=${DUCKDB_VERSION}`);
    expect(manifest.peerDependenciesMeta[DUCKDB_PACKAGE]).toEqual({ optional: true });
  });

  it('is asked for where it is not installed', async () => {
    const missing = Object.assign(new Error('no'), { code: 'ERR_MODULE_NOT_FOUND' });
    await expect(openTraceDatabase([], () => Promise.reject(missing))).rejects.toThrow(
      `which is not installed: npm install @duckdb/node-api@${DUCKDB_VERSION}`,
    );
    await expect(openTraceDatabase([], () => Promise.reject(new Error('no GLIBC')))).rejects.toThrow(
      /which cannot be loaded \(no GLIBC\)/,
    );
  });

  it('refuses a trace that was cut', async () => {
    const cut = join(folder, 'cut.parquet');
    saveTrace(cut, randomTrace(79, 10).trace);
    truncateSync(cut, statSync(cut).size - 1);
    await expect(openTraceDatabase([{ name: null, path: cut }])).rejects.toThrow(
      /cut.parquet: the file was cut, or is still being written; "uvmlab import" makes a whole one/,
    );
  });

  it('reads the exported tables', async () => {
    const tables = join(folder, 'tables');
    const written = exportParquet(tables, trace);
    const { DuckDBInstance } = await import('@duckdb/node-api');
    const instance = await DuckDBInstance.create(':memory:');
    const connection = await instance.connect();
    const names = written.map(({ file }) => file.replace('.parquet', ''));
    const views = TRACE_VIEWS.filter(({ name }) => name !== 'rows' && name !== 'events');
    expect(names).toEqual(expect.arrayContaining(views.map(({ name }) => name)));
    for (const { file, rows: count, bytes } of written) {
      const table = file.replace('.parquet', '');
      const reader = await connection.runAndReadAll(`FROM read_parquet('${join(tables, file)}')`);
      const answer = reader
        .getRows()
        .map((row) => row.map((value) => (typeof value === 'bigint' ? Number(value) : value)));
      expect(answer, table).toEqual(await rows(`SELECT * FROM ${table}`));
      expect(answer.length).toBe(count);
      expect(statSync(join(tables, file)).size).toBe(bytes);
    }
    connection.closeSync();
    instance.closeSync();
    expect(() => exportParquet(tables, trace)).toThrow(/tables: is not empty; name another folder/);
    expect(() => exportParquet(path, trace)).toThrow(/is no folder/);
    expect(() => exportParquet(join(folder, 'a', 'b'), trace)).toThrow(
      /cannot be made: there is no such file or folder/,
    );
    const few = exportParquet(tables, randomTrace(1, 0).trace, { overwrite: true });
    expect(few.map(({ file }) => file)).toEqual(['info.parquet']);
    expect(statSync(join(tables, 'faults.parquet'), { throwIfNoEntry: false })).toBeUndefined();
  });
});
