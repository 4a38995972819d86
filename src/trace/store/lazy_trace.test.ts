import { mkdtempSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { randomTrace } from '../../../test/support/random_trace.ts';
import { openLazyTrace } from './lazy_trace.ts';
import { adoptColumns, createTraceColumns } from './trace_columns.ts';
import { eventAt, pushAt, type Trace } from './trace_events.ts';
import { readTrace } from './trace_reader.ts';
import { columnKeys } from './trace_schema.ts';
import { createTraceWriter, saveTrace } from './trace_writer.ts';

const folder = mkdtempSync(join(tmpdir(), 'uvmlab-lazy-'));
afterAll(() => rmSync(folder, { recursive: true }));

function rowsOf({ columns }: Trace): unknown[] {
  return Array.from({ length: columns.count }, (_, row) => eventAt(columns, row) ?? pushAt(columns, row));
}

describe('a trace whose columns are read when they are needed', () => {
  it('is the trace that is read at once, in whatever order columns come', async () => {
    for (const seed of [1, 2, 3]) {
      const path = join(folder, `${seed}.parquet`);
      saveTrace(path, randomTrace(seed, 200, { pushes: seed > 1 }).trace);
      const lazy = openLazyTrace(path, ['kind', 'time']);
      expect([...lazy.trace.columns.loaded].sort()).toEqual(['kind', 'time']);
      const { time } = lazy.trace.columns.arrays;
      const rest = columnKeys(seed > 1).reverse();
      lazy.load(rest.slice(0, 7));
      lazy.load(rest);
      const whole = await readTrace(path);
      expect(rowsOf(lazy.trace)).toEqual(rowsOf(whole));
      expect(lazy.trace.info).toEqual(whole.info);
      expect(lazy.trace.columns.arrays.time).toBe(time);
      lazy.close();
      expect(() => lazy.load(['bytes'])).toThrow(`${path}: is closed already`);
    }
  });

  it('is as it was when it was opened, although the file grows or another takes its name', () => {
    const path = join(folder, 'growing.parquet');
    const { trace } = randomTrace(4, 100);
    const writer = createTraceWriter(path, { info: trace.info, pushes: false });
    writer.append(trace.columns, 0, 60);
    writer.flush();
    const lazy = openLazyTrace(path, ['kind']);
    writer.append(trace.columns, 60);
    writer.close();
    lazy.load(['time']);
    expect(Array.from(lazy.trace.columns.arrays.time.subarray(0, 60))).toEqual(
      Array.from(trace.columns.arrays.time.subarray(0, 60)),
    );
    expect(lazy.trace.columns.count).toBe(60);
    saveTrace(join(folder, 'other.parquet'), randomTrace(5, 60).trace);
    renameSync(join(folder, 'other.parquet'), path);
    lazy.load(['batch']);
    expect(Array.from(lazy.trace.columns.arrays.batch.subarray(0, 60))).toEqual(
      Array.from(trace.columns.arrays.batch.subarray(0, 60)),
    );
    lazy.close();
  });

  it('says what is wrong with the file', () => {
    const path = join(folder, 'cut.parquet');
    saveTrace(path, randomTrace(6, 100).trace);
    const lazy = openLazyTrace(path, ['kind']);
    truncateSync(path, 40);
    expect(() => lazy.load(['cause'])).toThrow(/cut\.parquet: byte \d+: the file became shorter while read/);
    lazy.close();
    writeFileSync(path, '');
    expect(() => openLazyTrace(path, ['kind'])).toThrow(/cut\.parquet: byte 0: the file is empty/);
    expect(() => openLazyTrace(folder, ['kind'])).toThrow('cannot be read: it is a folder');
    expect(() => openLazyTrace(join(folder, 'none.parquet'), ['kind'])).toThrow('none.parquet: cannot be read: ');
  });
});

it('columns of a trace with other rows are not taken', () => {
  const columns = createTraceColumns({ keys: ['kind'] });
  expect(() => adoptColumns(columns, randomTrace(1, 5).trace.columns)).toThrow('5 rows for a trace of 0');
});
