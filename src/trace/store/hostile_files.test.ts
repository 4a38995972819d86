/** Files made to take a reader in: each is refused, with its place, before anything of the promised size is made. */

import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type FileMetaData, parquetMetadata } from 'hyparquet';
import { ByteWriter } from 'hyparquet-writer';
import { writeMetadata } from 'hyparquet-writer/src/metadata.js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { randomTrace } from '../../../test/support/random_trace.ts';
import { readThrift } from './parquet_thrift.ts';
import { decodeTrace, decodeTraceHead } from './trace_decode.ts';
import { emptyTraceInfo } from './trace_info.ts';
import { TRACE_INFO_KEY } from './trace_schema.ts';
import { createTraceWriter } from './trace_writer.ts';

const folder = mkdtempSync(join(tmpdir(), 'uvmlab-hostile-'));
let good: Uint8Array;
beforeAll(() => {
  const path = join(folder, 'good.parquet');
  const { trace } = randomTrace(3, 100);
  const writer = createTraceWriter(path, { info: trace.info, pushes: false, rowGroupRows: 60 });
  writer.append(trace.columns);
  writer.close();
  good = Uint8Array.from(readFileSync(path));
});
afterAll(() => rmSync(folder, { recursive: true }));

function open(bytes: Uint8Array) {
  return decodeTrace({ path: 'f.parquet', size: bytes.length, read: (at, length) => bytes.slice(at, at + length) });
}

/** The good file with another footer behind its own. */
function withFooter(change: (metadata: FileMetaData) => void): Uint8Array {
  const metadata = parquetMetadata(good);
  change(metadata);
  const out = new ByteWriter();
  const { metadata_length: _, ...rest } = metadata;
  writeMetadata(out, rest as FileMetaData);
  out.appendBytes(Buffer.from('PAR1'));
  // What the good file ends with is no footer any more.
  return Buffer.concat([good.subarray(0, good.length - 4), Buffer.from('ZZZZ'), out.getBytes()]);
}

/** Chunk of a column of the first row group. */
function chunkOf({ row_groups }: FileMetaData, name: string) {
  const chunk = row_groups[0].columns.find(({ meta_data }) => meta_data?.path_in_schema[0] === name)?.meta_data;
  if (chunk === undefined) throw new Error(`no column ${name}`);
  return chunk;
}

describe('a footer', () => {
  it('is taken where it is right', () => {
    expect(open(withFooter(() => {})).columns.count).toBe(100);
  });

  it('is refused where it promises what is not there', () => {
    const wrong: [(metadata: FileMetaData) => void, RegExp][] = [
      [(m) => (m.num_rows = 101n), /101 rows in all, but 100 in the row groups/],
      [(m) => (m.row_groups[0].num_rows = -1n), /row group 0: -1 rows/],
      [(m) => (m.row_groups[0].num_rows = 2n ** 40n), /row group 0, column kind: 60 values in 1099511627776 rows/],
      [
        (m) => {
          m.row_groups[0].num_rows = 2n ** 40n;
          for (const { meta_data } of m.row_groups[0].columns) if (meta_data) meta_data.num_values = 2n ** 40n;
        },
        /row group 0: \d+ bytes of times for 1099511627776 rows; expected 8 for each at least/,
      ],
      [(m) => (chunkOf(m, 'time').codec = 'SNAPPY'), /bytes of times for 60 rows/],
      [(m) => (chunkOf(m, 'offset').codec = 'GZIP'), /column offset: compressed by codec 2; expected none or Snappy/],
      [(m) => (chunkOf(m, 'kind').total_compressed_size = 2n ** 50n), /expected a place between byte 4 and \d+/],
      [(m) => (chunkOf(m, 'time').data_page_offset = 4n), /column time: bytes 4 to \d+; expected a place between/],
      [(m) => (chunkOf(m, 'time').data_page_offset = 2n ** 62n), /column time: bytes .*; expected a place between/],
      [(m) => (m.row_groups[1].columns = m.row_groups[0].columns), /row group 1, column kind: 60 values in 40 rows/],
      [
        (m) => {
          m.row_groups.push(m.row_groups[1]);
          m.num_rows = 140n;
        },
        /row group 2, column kind: bytes \d+ to \d+; expected a place between/,
      ],
      [(m) => m.row_groups[0].columns.pop(), /row group 0 has no column caused_by/],
      [(m) => (m.schema[1].type = 'INT32'), /column kind has another type than BYTE_ARRAY/],
      [(m) => (m.key_value_metadata = []), /this is no trace of uvmlab/],
    ];
    for (const [change, message] of wrong) {
      const bytes = withFooter(change);
      expect(() => open(bytes), String(message)).toThrow(message);
      expect(() => open(bytes)).toThrow(/^f\.parquet: byte \d+: /);
    }
  });

  it('may have columns that are not known', () => {
    const bytes = withFooter((m) => {
      m.schema.push({ name: 'of_tomorrow', type: 'INT32', repetition_type: 'REQUIRED' });
      m.schema[0].num_children = (m.schema[0].num_children ?? 0) + 1;
    });
    expect(open(bytes).columns.count).toBe(100);
  });

  it('has a description that can be written again', () => {
    const deep = `${'['.repeat(200_000)}${']'.repeat(200_000)}`;
    const info = JSON.stringify({ ...emptyTraceInfo('a', 'lines', '0'), more: 0 }).replace(
      '"more":0',
      `"more":${deep}`,
    );
    const bytes = withFooter((m) => (m.key_value_metadata = [{ key: TRACE_INFO_KEY, value: info }]));
    const read = (at: number, length: number) => bytes.slice(at, at + length);
    expect(() => decodeTraceHead({ path: 'f', size: bytes.length, read })).toThrow(/^f: byte \d+: /);
  });
});

describe('thrift', () => {
  const refused = (...bytes: number[]) => expect(() => readThrift(Uint8Array.from(bytes), 0, 100));
  const VARINT_MAX = [0xff, 0xff, 0xff, 0xff, 0x07];

  it('ends with its bytes', () => {
    expect(readThrift(Uint8Array.from([0x15, 0x04, 0x00, 0x99]), 0, 0)).toEqual({ fields: new Map([[1, 2]]), end: 3 });
    refused(0x15).toThrow('a structure goes beyond its end');
    refused(0x15, 0x04).toThrow('a structure goes beyond its end');
    refused(0x15, ...Array(11).fill(0x80)).toThrow('a number of more than 10 bytes');
  });

  it('makes no list, text or structure that is larger than they are', () => {
    refused(0x19, 0xfc, ...VARINT_MAX, 0x00).toThrow(/a list of 2147483647 in 1 bytes/);
    refused(0x18, ...VARINT_MAX, 0x00).toThrow(/2147483647 bytes, of which only 1 are there/);
    // Lists in lists, each of which says that it is long.
    refused(
      ...Array(1000)
        .fill([0x19, 0xf9, ...VARINT_MAX])
        .flat(),
    ).toThrow(/a list of 2147483647/);
    refused(...Array(1000).fill(0x1c)).toThrow(/more than 16 deep/);
    refused(...Array(1000).fill(0x19)).toThrow('more values than such a structure has');
    // A list of empty structures: a byte each.
    const many = new Uint8Array(1_000_008);
    many.set([0x19, 0xfc, 0xc0, 0x84, 0x3d]);
    expect(() => readThrift(many, 0, 0)).toThrow('more values than such a structure has');
    refused(0x1b, 0x00).toThrow('a value of type 11, which Parquet does not use');
  });

  it('says where', () => {
    try {
      readThrift(Uint8Array.from([0x15, 0x04, 0x1b]), 0, 100);
      expect.unreachable();
    } catch (error) {
      expect(error).toMatchObject({ name: 'MalformedError', offset: 103 });
    }
  });
});
