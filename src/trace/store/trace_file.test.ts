import { appendFileSync, mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parquetReadObjects } from 'hyparquet';
import { afterAll, describe, expect, it } from 'vitest';
import { randomTrace } from '../../../test/support/random_trace.ts';
import type { UvmEvent } from '../event.ts';
import { createTraceColumns, type TraceColumns, wordAt } from './trace_columns.ts';
import { eventAt, type Trace } from './trace_events.ts';
import { emptyTraceInfo, type TraceInfo } from './trace_info.ts';
import { readTrace, readTraceHead } from './trace_reader.ts';
import { COLUMN_KEYS, type ColumnKey, columnKeys, TRACE_COLUMNS } from './trace_schema.ts';
import { createTraceWriter } from './trace_writer.ts';

const folder = mkdtempSync(join(tmpdir(), 'uvmlab-trace-'));
afterAll(() => rmSync(folder, { recursive: true }));

let files = 0;
function newPath(): string {
  return join(folder, `t${files++}.parquet`);
}

function writeTrace(trace: Trace, rowGroupRows?: number): string {
  const path = newPath();
  const { pushes } = trace.columns;
  const writer = createTraceWriter(path, { info: trace.info, pushes, ...(rowGroupRows ? { rowGroupRows } : {}) });
  writer.append(trace.columns);
  writer.close();
  return path;
}

function eventsOf({ columns }: Trace): UvmEvent[] {
  const events: UvmEvent[] = [];
  for (let row = 0; row < columns.count; row++) {
    const event = eventAt(columns, row);
    if (event !== null) events.push(event);
  }
  return events;
}

/** A row as values, words as texts. */
function rowOf(columns: TraceColumns, row: number): unknown[] {
  return columnKeys(columns.pushes).map((key) => {
    const { type } = TRACE_COLUMNS[key];
    return type === 'word' || type === 'text' ? wordAt(columns, key, row) : columns.arrays[key][row];
  });
}

function rowsOf(columns: TraceColumns): unknown[][] {
  return Array.from({ length: columns.count }, (_, row) => rowOf(columns, row));
}

describe('a trace in a file', () => {
  it('gives back the events, in one row group and in many', async () => {
    for (let seed = 1; seed <= 12; seed++) {
      const { trace, events } = randomTrace(seed, 500);
      for (const rowGroupRows of [1000, 77, 7]) {
        const read = await readTrace(writeTrace(trace, rowGroupRows));
        expect(eventsOf(read)).toEqual(events);
        expect(read.info).toEqual(trace.info);
        expect(rowsOf(read.columns)).toEqual(rowsOf(trace.columns));
      }
    }
  });

  it('gives back pushes', async () => {
    const { trace } = randomTrace(5, 400, { pushes: true });
    const read = await readTrace(writeTrace(trace, 100));
    expect(read.columns.pushes).toBe(true);
    expect(rowsOf(read.columns)).toEqual(rowsOf(trace.columns));
  });

  it('reads the columns alone that are asked for', async () => {
    const { trace } = randomTrace(6, 300);
    const keys: ColumnKey[] = ['kind', 'time', 'offset'];
    const { columns } = await readTrace(writeTrace(trace), { keys });
    expect([...columns.loaded]).toEqual(keys);
    expect(columns.arrays.bytes.length).toBe(0);
    expect([...columns.arrays.offset.subarray(0, 300)]).toEqual([...trace.columns.arrays.offset.subarray(0, 300)]);
  });

  it('is what another reader of Parquet reads', async () => {
    const { trace } = randomTrace(7, 300, { pushes: true });
    const bytes = readFileSync(writeTrace(trace, 64));
    const file = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length) as ArrayBuffer;
    const rows = await parquetReadObjects({ file });
    expect(rows.length).toBe(300);
    const wanted = rowsOf(trace.columns);
    for (const [i, row] of rows.entries()) {
      const values = COLUMN_KEYS.map((key) => row[TRACE_COLUMNS[key].name]);
      expect(values.map((v) => (typeof v === 'bigint' ? Number(v) : v))).toEqual(wanted[i]);
    }
  });

  it('takes rows piece by piece, from columns whose words have other numbers', async () => {
    const path = newPath();
    const info = emptyTraceInfo('pieces', 'lines', '0');
    const writer = createTraceWriter(path, { info, pushes: true, rowGroupRows: 50 });
    const wanted: unknown[][] = [];
    for (let seed = 20; seed < 32; seed++) {
      const { trace } = randomTrace(seed, 37, { pushes: true });
      writer.append(trace.columns, 3, 37);
      wanted.push(...rowsOf(trace.columns).slice(3));
      if (seed === 25) writer.flush();
    }
    expect(writer.totals.rows).toBe(12 * 34);
    writer.close();
    const head = await readTraceHead(path);
    expect(head.rowGroups).toEqual([50, 50, 50, 50, 4, 50, 50, 50, 50, 4]);
    expect(rowsOf((await readTrace(path)).columns)).toEqual(wanted);
  });

  it('takes rows without pushes into a trace with them', async () => {
    const path = newPath();
    const writer = createTraceWriter(path, { info: emptyTraceInfo('mixed', 'lines', '0'), pushes: true });
    const { trace, events } = randomTrace(33, 90);
    writer.append(trace.columns);
    writer.close();
    const read = await readTrace(path);
    expect(eventsOf(read)).toEqual(events);
    expect([...read.columns.arrays.push.subarray(0, 90)].every((n) => n === -1)).toBe(true);
  });

  it('has the last info, and is a trace without rows from the beginning', async () => {
    const path = newPath();
    const writer = createTraceWriter(path, { info: emptyTraceInfo('a', 'lines', '0'), pushes: false });
    expect((await readTraceHead(path)).rows).toBe(0);
    expect((await readTrace(path)).columns.count).toBe(0);
    const { cpuFaultSites: _, ...older } = emptyTraceInfo('b', 'run', '0');
    writer.setInfo({ ...older, notes: ['changed'] } as TraceInfo);
    expect((await readTraceHead(path)).info.name).toBe('a');
    writer.flush();
    expect((await readTraceHead(path)).info).toMatchObject({ name: 'b', notes: ['changed'], cpuFaultSites: [] });
    const { size } = statSync(path);
    writer.flush();
    writer.close();
    writer.close();
    expect(statSync(path).size).toBe(size);
  });

  it('only ever appends', async () => {
    const path = newPath();
    const writer = createTraceWriter(path, {
      info: emptyTraceInfo('a', 'lines', '0'),
      pushes: false,
      rowGroupRows: 20,
    });
    let before: Buffer = readFileSync(path);
    for (let seed = 1; seed < 8; seed++) {
      writer.append(randomTrace(seed, 50).trace.columns);
      writer.flush();
      const now = readFileSync(path);
      expect(now.subarray(0, before.length).equals(before)).toBe(true);
      before = now;
    }
    writer.close();
  });
});

describe('a trace that was cut', () => {
  it('gives at every byte a part of its rows, or an error that says where', async () => {
    const { trace } = randomTrace(40, 24, { pushes: true });
    const source = newPath();
    const writer = createTraceWriter(source, { info: trace.info, pushes: true, rowGroupRows: 9 });
    const wholeAt: [bytes: number, rows: number][] = [[writer.totals.bytes, 0]];
    for (let row = 0; row < 24; row += 12) {
      writer.append(trace.columns, row, row + 12);
      writer.flush();
      wholeAt.push([writer.totals.bytes, row + 12]);
    }
    writer.close();
    const bytes = readFileSync(source);
    const wanted = rowsOf(trace.columns);
    const path = newPath();
    writeFileSync(path, bytes);
    let errors = 0;
    for (let size = bytes.length; size >= 0; size--) {
      truncateSync(path, size);
      const whole = wholeAt.findLast(([at]) => at <= size);
      if (whole === undefined) {
        await expect(readTrace(path)).rejects.toThrow(/t\d+\.parquet: byte \d+: .+/);
        errors++;
        continue;
      }
      const [end, rows] = whole;
      const read = await readTrace(path);
      expect(read.columns.count).toBe(rows);
      if (size === end) {
        expect(rowsOf(read.columns)).toEqual(wanted.slice(0, rows));
        expect(read.info.notes).toEqual([]);
      } else expect(read.info.notes).toEqual([expect.stringContaining(`last ${size - end} bytes`)]);
    }
    expect(errors).toBe(wholeAt[0][0]);
  });

  it('is found behind a megabyte of rubbish', async () => {
    const { trace } = randomTrace(41, 30);
    const path = writeTrace(trace);
    const { size } = statSync(path);
    const rubbish = Buffer.alloc(2 ** 20 + 4, 'PAR1');
    appendFileSync(path, rubbish);
    const head = await readTraceHead(path);
    expect(head).toMatchObject({ rows: 30, ignoredBytes: rubbish.length, bytes: size + rubbish.length });
  });
});

describe('what is no trace', () => {
  const refused = async (path: string, message: RegExp): Promise<void> => {
    await expect(readTrace(path)).rejects.toThrow(message);
    await expect(readTraceHead(path)).rejects.toMatchObject({ name: 'TraceFileError' });
  };

  it('is refused with the file and the reason', async () => {
    await refused(join(folder, 'nowhere.parquet'), /nowhere.parquet: cannot be read: there is no such file/);
    await refused(folder, /cannot be read: it is a folder/);
    const path = newPath();
    writeFileSync(path, '');
    await refused(path, /byte 0: the file is empty/);
    writeFileSync(path, '{"scenario":1}');
    await refused(path, /byte 0: this is no trace of uvmlab/);
    writeFileSync(path, 'PAR1');
    await refused(path, /byte 4: the file ends before its first footer/);
  });

  it('is refused where it is a Parquet file of something else', async () => {
    const { parquetWriteBuffer } = await import('hyparquet-writer');
    const path = newPath();
    writeFileSync(path, Buffer.from(parquetWriteBuffer({ columnData: [{ name: 'a', data: [1, 2, 3] }] })));
    await refused(path, /byte \d+: this is no trace of uvmlab: the metadata have no uvmlab.trace/);
    const info = JSON.stringify(emptyTraceInfo('a', 'lines', '0'));
    const kvMetadata = [{ key: 'uvmlab.trace', value: info }];
    const nulls = [{ name: 'kind', data: ['x', null] }];
    writeFileSync(path, Buffer.from(parquetWriteBuffer({ columnData: nulls, kvMetadata })));
    await refused(path, /column kind may be null; expected REQUIRED/);
    const columnData = [{ name: 'kind', data: ['x'] }];
    writeFileSync(path, Buffer.from(parquetWriteBuffer({ columnData, kvMetadata })));
    await refused(path, /the schema has no column time/);
  });

  it('is refused where its description is of another version, or wrong', async () => {
    const { trace } = randomTrace(42, 3);
    const path = writeTrace(trace);
    const bytes = readFileSync(path, 'latin1');
    writeFileSync(path, bytes.replaceAll('"format":1', '"format":7'), 'latin1');
    await refused(path, /format 7; this version of uvmlab reads 1/);
    writeFileSync(path, bytes.replaceAll('"source":"lines"', '"source":"linen"'), 'latin1');
    await refused(path, /info.source: "linen"; expected one of run, replay/);
    writeFileSync(path, bytes.replaceAll('"traced":true', '"traced":rue!'), 'latin1');
    await refused(path, /the trace's description is not JSON/);
  });
});

describe('a trace that cannot be written', () => {
  const info = emptyTraceInfo('a', 'lines', '0');

  it('is an error that names the file', () => {
    const { trace } = randomTrace(43, 3);
    const path = writeTrace(trace);
    expect(() => createTraceWriter(path, { info, pushes: false })).toThrow(/exists already; name another file/);
    expect(() => createTraceWriter(join(folder, 'no', 'x.parquet'), { info, pushes: false })).toThrow(
      /x.parquet: cannot be written: there is no such file or folder/,
    );
    createTraceWriter(path, { info, pushes: false, overwrite: true }).close();
    const wrong = { ...info, source: 'dream' } as unknown as typeof info;
    expect(() => createTraceWriter(newPath(), { info: wrong, pushes: false })).toThrow(/info.source: "dream"/);
  });

  it('is an error where the disk is full', () => {
    expect(() => createTraceWriter('/dev/full', { info, pushes: false, overwrite: true })).toThrow(
      /\/dev\/full: cannot be written: no space is left/,
    );
  });

  it('is an error after the end, and for numbers that no trace holds', () => {
    const columns = createTraceColumns();
    const { trace } = randomTrace(44, 5);
    trace.columns.arrays.offset[2] = 0.5;
    const writer = createTraceWriter(newPath(), { info, pushes: false });
    writer.append(trace.columns);
    expect(() => writer.flush()).toThrow(/row 2: offset 0.5; expected a whole number/);
    const other = createTraceWriter(newPath(), { info, pushes: false });
    other.close();
    expect(() => other.append(columns)).toThrow(/is closed already/);
  });
});
