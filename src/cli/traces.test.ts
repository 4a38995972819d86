import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { captureCli } from '../../test/support/captured_cli.ts';
import { readPerfetto } from '../../test/support/perfetto_reader.ts';
import { recordingPath } from '../analysis/machines.ts';
import { readTrace } from '../trace/store/trace_reader.ts';

const SORT = recordingPath('h100-cupy-sort.uvmrec');
const cli = captureCli();
let dir = '';
const file = (name: string): string => join(dir, name);

const SCENARIO = {
  name: 'small',
  machine: 'h200-pcie5',
  allocations: [{ name: 'a', bytes: 2097152 }],
  steps: [
    { on: 'cpu', do: 'write', buffer: 'a', pages: [0, 1] },
    { on: 'gpu0', do: 'read', buffer: 'a', pages: [0] },
  ],
};

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'uvmlab-traces-'));
  writeFileSync(file('small.json'), JSON.stringify(SCENARIO));
});
afterEach(() => {
  expect(readdirSync(dir).filter((name) => name.endsWith('.tmp'))).toEqual([]);
  rmSync(dir, { recursive: true });
});

describe('import', () => {
  it('makes a trace of a recording', async () => {
    expect(await cli.run('import', SORT, '-o', file('a.parquet'))).toBe(0);
    expect(cli.out).toMatch(/a\.parquet: h100-cupy-sort, 8,295 rows, \d+ KiB\n$/);
    expect(cli.err).toContain('note: h100-cupy-sort: The machine is taken from the name of the GPU');
    expect((await readTrace(file('a.parquet'))).columns.count).toBe(8295);
  });

  it('replaces nothing unless it is told to, and then only by a whole file', async () => {
    writeFileSync(file('a.parquet'), 'mine');
    expect(await cli.run('import', file('small.json'), '-o', file('a.parquet'))).toBe(2);
    expect(cli.err).toMatch(/--output .*a.parquet: exists already; name another file, or add --overwrite/);
    expect(await cli.run('import', file('nothing.json'), '-o', file('a.parquet'), '--overwrite')).toBe(2);
    expect(readFileSync(file('a.parquet'), 'utf8')).toBe('mine');
    expect(await cli.run('import', file('small.json'), '-o', file('a.parquet'), '--overwrite')).toBe(0);
    expect((await readTrace(file('a.parquet'))).info.name).toBe('small');
    expect(await cli.run('import', file('a.parquet'), '-o', file('a.parquet'), '--overwrite')).toBe(2);
    expect(cli.err).toContain('is one of the files to read; name another');
  });

  it('takes a scenario of several, a machine and parameters', async () => {
    const lines = recordingPath('serial.jsonl.gz');
    expect(await cli.run('import', lines, '-o', file('a.parquet'))).toBe(2);
    expect(cli.err).toContain('serial.jsonl.gz: holds 29 scenarios; name one with --scenario: seq-4k-read,');
    expect(await cli.run('import', lines, '-s', 'seq-64k-read', '-o', file('a.parquet'))).toBe(0);
    expect((await readTrace(file('a.parquet'))).info).toMatchObject({ name: 'seq-64k-read', source: 'case' });
    const args = ['import', file('small.json'), '-p', 'uvm_perf_prefetch_enable=0', '--traced', '-o'];
    expect(await cli.run(...args, file('b.parquet'))).toBe(0);
    const { info } = await readTrace(file('b.parquet'));
    expect(info).toMatchObject({ parameters: { uvm_perf_prefetch_enable: 0 }, traced: true, source: 'run' });
    expect(await cli.run('import', SORT, '-m', 'toaster', '-o', file('c.parquet'))).toBe(2);
    expect(cli.err).toContain('machine "toaster": unknown; valid: ');
  });

  it('says what a trace is called', async () => {
    expect(await cli.run('import', SORT, '-o', file('a.csv'))).toBe(2);
    expect(cli.err).toContain('a.csv: the name of a trace ends in .parquet');
    expect(await cli.run('import', SORT)).toBe(2);
    expect(await cli.run('import', file('a.txt'), '-o', file('a.parquet'))).toBe(2);
    expect(cli.err).toContain('a.txt: unknown kind of file');
    expect(await cli.run('import', file('small.json'), '-p', 'nix=1', '-o', file('a.parquet'))).toBe(2);
    expect(cli.err).toContain('--param: ');
  });

  it('makes a whole trace of one that was cut', async () => {
    await cli.run('import', SORT, '-o', file('a.parquet'));
    truncateSync(file('a.parquet'), statSync(file('a.parquet')).size - 3);
    // The only footer but the last is the first, of a trace without rows.
    expect(await cli.run('query', file('a.parquet'), 'SELECT count(*) AS n FROM rows', '--json')).toBe(0);
    expect(cli.out).toContain('{"n":0}');
    expect(cli.err).toContain('bytes were of no use');
  });
});

describe('run --trace and replay --trace', () => {
  it('keep one scenario', async () => {
    expect(await cli.run('run', file('small.json'), '--trace', file('t.parquet'))).toBe(0);
    const run = await readTrace(file('t.parquet'));
    expect(run.info).toMatchObject({ source: 'run', scenario: SCENARIO });
    expect(run.columns.pushes).toBe(true);
    expect(await cli.run('replay', SORT, '--trace', file('r.parquet'))).toBe(0);
    const replay = await readTrace(file('r.parquet'));
    expect(replay.info).toMatchObject({ source: 'replay', name: 'h100-cupy-sort', clock: 'virtual' });
    expect(replay.info.notes).toEqual(expect.arrayContaining([expect.stringContaining('no steps')]));
  });

  it('refuse several, and what is no trace', async () => {
    const two = [file('small.json'), file('small.json')];
    expect(await cli.run('run', ...two, '--trace', file('t.parquet'))).toBe(2);
    expect(cli.err).toMatch(/--trace .*t.parquet: takes one scenario, and .*small.json has another/);
    expect(existsSync(file('t.parquet'))).toBe(false);
    expect(await cli.run('run', file('small.json'), '--trace', file('t.trace'))).toBe(2);
    expect(cli.err).toContain('--trace');
    expect(await cli.run('run', file('small.json'), '--trace', file('t.parquet'), '--device', 'linux')).toBe(2);
    expect(cli.err).toContain('--trace is of the model');
  });
});

describe('export', () => {
  it('writes lines that import to the same trace', async () => {
    await cli.run('import', file('small.json'), '-o', file('a.parquet'));
    expect(await cli.run('export', file('a.parquet'), '--jsonl', file('a.jsonl'))).toBe(0);
    expect(await cli.run('import', file('a.jsonl'), '-o', file('b.parquet'))).toBe(0);
    expect(readFileSync(file('b.parquet')).equals(readFileSync(file('a.parquet')))).toBe(true);
    expect(await cli.run('export', file('a.parquet'), '--jsonl', file('a.jsonl'))).toBe(2);
    expect(cli.err).toContain('exists already; name another file, or add --overwrite');
    expect(await cli.run('export', file('a.parquet'), '--jsonl', file('a.jsonl'), '--overwrite')).toBe(0);
  });

  it('writes a folder of tables', async () => {
    expect(await cli.run('export', file('small.json'), '--parquet', file('tables'))).toBe(0);
    expect(cli.out).toMatch(/tables\n {2}file +rows +size\n {2}faults.parquet +2 /);
    expect(readdirSync(file('tables'))).toContain('pushes.parquet');
    expect(await cli.run('export', file('small.json'), '--parquet', file('tables'))).toBe(2);
    expect(cli.err).toContain('is not empty');
  });

  it('writes a trace for Perfetto', async () => {
    expect(await cli.run('export', file('small.json'), '--perfetto', file('a.perfetto-trace'))).toBe(0);
    expect(cli.err).toMatch(/a\.perfetto-trace: \d+ tracks, [\d,]+ slices, \d+ instants, .* flows, [\d.]+ KiB\n/);
    const written = readFileSync(file('a.perfetto-trace'));
    const { instants } = readPerfetto(written);
    expect(instants.filter(({ category }) => category === 'cpuFault').length).toBe(1);
    expect(instants.filter(({ category }) => category === 'gpuFault').length).toBe(1);
    expect(await cli.run('export', file('small.json'), '--perfetto', file('a.perfetto-trace'))).toBe(2);
    expect(cli.err).toContain('exists already; name another file, or add --overwrite');
    expect(await cli.run('export', file('nothing.json'), '--perfetto', file('a.perfetto-trace'), '--overwrite')).toBe(
      2,
    );
    expect(readFileSync(file('a.perfetto-trace')).equals(written)).toBe(true);
    await cli.run('import', file('small.json'), '-o', file('a.parquet'));
    expect(await cli.run('export', file('a.parquet'), '--perfetto', file('a.parquet'), '--overwrite')).toBe(2);
    expect(cli.err).toContain('is one of the files to read; name another');
    expect(await cli.run('export', SORT, '--perfetto', file('no/b.pftrace'))).toBe(2);
    expect(cli.err).toContain('there is no folder');
  });

  it('needs to know what to write', async () => {
    expect(await cli.run('export', file('small.json'))).toBe(2);
    expect(cli.err).toContain('export needs --jsonl OUT, --parquet FOLDER or --perfetto OUT');
  });
});

describe('query', () => {
  const SQL = 'SELECT kind, count(*) AS n, min(access) AS a FROM events GROUP BY kind ORDER BY n DESC, kind LIMIT 3';

  it('prints a table, JSON and CSV', async () => {
    await cli.run('import', SORT, '-o', file('odd [name]*.parquet'));
    cli.out = '';
    const args = ['query', file('odd [name]*.parquet'), SQL];
    expect(await cli.run(...args)).toBe(0);
    expect(cli.out).toBe('kind          n  a\ngpuFault   8097  write\nmigration    96  null\nreplay       54  null\n');
    cli.out = '';
    expect(await cli.run(...args, '--json')).toBe(0);
    expect(JSON.parse(cli.out)).toEqual([
      { kind: 'gpuFault', n: 8097, a: 'write' },
      { kind: 'migration', n: 96, a: null },
      { kind: 'replay', n: 54, a: null },
    ]);
    cli.out = '';
    expect(await cli.run(...args, '--csv')).toBe(0);
    expect(cli.out).toBe('kind,n,a\ngpuFault,8097,write\nmigration,96,\nreplay,54,\n');
    cli.out = '';
    expect(await cli.run('query', args[1], `SELECT 'a "b",' AS "x,y", '' AS e, chr(27) || 'z' AS c`, '--csv')).toBe(0);
    expect(cli.out).toBe('"x,y",e,c\n"a ""b"",","",\u001bz\n');
    cli.out = '';
    expect(await cli.run('query', args[1], "SELECT chr(27) || 'z' AS c FROM range(1001)")).toBe(0);
    expect(cli.out.split('\n').slice(0, 2)).toEqual(['c', ' z']);
    expect(cli.out).toContain('1 more row of 1,001; --csv or --json has all');
    cli.out = '';
    expect(await cli.run('query', args[1], 'SELECT 1 FROM events WHERE false', '--json')).toBe(0);
    expect(cli.out).toBe('[]\n');
  });

  it('takes several traces, and what is none yet', async () => {
    const sql = 'SELECT (SELECT count(*) FROM faults) AS a, (SELECT count(*) FROM b.faults) AS b';
    expect(await cli.run('query', file('small.json'), `b=${SORT}`, sql, '--csv')).toBe(0);
    expect(cli.out).toBe('a,b\n2,8145\n');
    expect(await cli.run('query', file('small.json'), SORT, sql)).toBe(2);
    expect(cli.err).toContain('give traces after the first a name, as in NAME=');
    expect(await cli.run('query', `b=${SORT}`, `B=${SORT}`, sql)).toBe(2);
    expect(cli.err).toContain('the name is that of another trace too');
    expect(await cli.run('query', `main=${SORT}`, sql)).toBe(2);
    expect(cli.err).toContain("one of SQL's own");
  });

  it('says what is wrong', async () => {
    expect(await cli.run('query', file('small.json'), 'SELECT * FROM nix')).toBe(2);
    expect(cli.err).toContain('error: SQL: Catalog Error: Table with name nix does not exist!');
    expect(await cli.run('query', file('small.json'))).toBe(2);
    expect(cli.err).toContain('query needs a trace and a query');
    expect(await cli.run('query', file('small.json'), 'FROM events', '--csv', '--json')).toBe(2);
    expect(await cli.run('query', file('no.parquet'), 'FROM events')).toBe(2);
    expect(cli.err).toContain('no.parquet: cannot be read: there is no such file or folder');
  });

  it('lists the tables', async () => {
    expect(await cli.run('query', '--tables')).toBe(0);
    expect(cli.out).toContain('faults  faults of CPUs and GPUs\n  row ');
    expect(cli.out).toContain('batches  batches of GPU faults\n');
  });
});
