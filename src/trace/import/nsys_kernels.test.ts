import { describe, expect, it } from 'vitest';
import { kernelsOf } from './nsys_kernels.ts';
import type { SqliteReader, SqliteValue } from './sqlite_reader.ts';

type Row = Record<string, SqliteValue>;

function readerOf(kernels: readonly [start: number, end: number, device: number, name: number][]): SqliteReader {
  const rows = kernels.map(([start, end, deviceId, shortName]): Row => ({ start, end, deviceId, shortName }));
  const strings: Row[] = [
    { id: 1, value: 'long' },
    { id: 2, value: 'short' },
  ];
  return {
    tables: new Map([
      ['CUPTI_ACTIVITY_KIND_KERNEL', ['start', 'end', 'deviceId', 'shortName']],
      ['StringIds', ['id', 'value']],
    ]),
    rows: (sql) => (sql.includes('KERNEL') ? rows : strings),
    close: () => {},
  };
}
const batch = (time: number, device = 0, length = 1000, allocation = 'a') => ({
  ...{ gpu: `gpu${device}`, allocation, time, length },
});
const told = (reader: SqliteReader, batches: ReturnType<typeof batch>[]): unknown[] =>
  kernelsOf(reader, 0n, batches).map((row) => [row.gpu, row.kernel, row.launches, row.batches, row.microseconds]);

describe('kernels in which batches began', () => {
  it('are counted by launch, the one that began last of those that run at once', () => {
    const reader = readerOf([
      [100, 1000, 0, 1],
      [200, 300, 0, 2],
      [200, 300, 1, 2],
      [400, 500, 0, 2],
      [2000, 3000, 0, 1],
    ]);
    const times = [99, 100, 199, 200, 300, 301, 399, 400, 501, 1000, 1001, 2500];
    expect(told(reader, [...times.map((time) => batch(time)), batch(2501, 1)])).toEqual([
      // 100, 199, 301, 399, 501 and 1000 in the first launch, 2500 in the last.
      ['gpu0', 'long', 2, 7, 7],
      ['gpu0', 'short', 2, 3, 3],
      ['gpu0', '', 0, 2, 2],
      ['gpu1', '', 0, 1, 1],
    ]);
  });

  it('have no name where the export does not tell it, and none without a table of kernels', () => {
    expect(told(readerOf([[0, 10, 0, 7]]), [batch(5)])).toEqual([['gpu0', '', 1, 1, 1]]);
    expect(told({ ...readerOf([]), tables: new Map() }, [batch(5)])).toEqual([]);
  });
});
