/**
 * The footer of a trace's file: what is in it and where, checked against the size of the file before anything is read
 * or made. A file that passes has chunks that lie one behind the other in front of the footer, and 8 bytes at least for
 * each row, so reading it takes a bounded multiple of its size, whoever wrote it.
 */
import {
  MalformedError,
  numberOf,
  readThrift,
  structOf,
  structsOf,
  type ThriftStruct,
  textOf,
} from './parquet_thrift.ts';
import { type ColumnKey, type ColumnType, columnKeys, TRACE_COLUMNS, TRACE_INFO_KEY } from './trace_schema.ts';

export const PARQUET_MAGIC = 'PAR1';
export const MAGIC_BYTES = 4;
/** The length of the metadata and the magic behind it. */
export const FOOTER_TAIL_BYTES = 8;

/** By their numbers in Parquet's description. */
export const PHYSICAL_TYPES = { 1: 'INT32', 2: 'INT64', 5: 'DOUBLE', 6: 'BYTE_ARRAY' } as const;
const CODECS: Readonly<Record<number, Codec>> = { 0: 'UNCOMPRESSED', 1: 'SNAPPY' };
const REQUIRED = 0;

export type Codec = 'UNCOMPRESSED' | 'SNAPPY';
export type PhysicalType = (typeof PHYSICAL_TYPES)[keyof typeof PHYSICAL_TYPES];

/** How a type of column lies in the file. */
export const PHYSICAL_TYPE_OF: Readonly<Record<ColumnType, PhysicalType>> = {
  time: 'DOUBLE',
  whole: 'INT64',
  count: 'INT32',
  word: 'BYTE_ARRAY',
  text: 'BYTE_ARRAY',
};

/** One column of one row group. */
export interface ChunkPlace {
  codec: Codec;
  offset: number;
  bytes: number;
}
export interface RowGroupPlace {
  rows: number;
  chunks: ReadonlyMap<ColumnKey, ChunkPlace>;
}
export interface TraceFooter {
  rows: number;
  pushes: boolean;
  groups: RowGroupPlace[];
  /** The JSON text of TraceInfo. */
  info: string;
}

const TIME_BYTES = 8;

/** The names of the columns and their number, of a file whose schema is one list of REQUIRED columns. */
function checkSchema(elements: ThriftStruct[], at: number): { pushes: boolean } {
  const columns = new Map<string, ThriftStruct>();
  for (const element of elements.slice(1)) columns.set(textOf(element.get(4)) ?? '', element);
  const pushes = columns.has(TRACE_COLUMNS.push.name);
  for (const key of columnKeys(pushes)) {
    const { name, type } = TRACE_COLUMNS[key];
    const element = columns.get(name);
    if (element === undefined) throw new MalformedError(at, `the schema has no column ${name}`);
    const physical = PHYSICAL_TYPES[numberOf(element, 1) as keyof typeof PHYSICAL_TYPES];
    if (physical !== PHYSICAL_TYPE_OF[type]) {
      throw new MalformedError(at, `column ${name} has another type than ${PHYSICAL_TYPE_OF[type]}`);
    }
    if (numberOf(element, 3) !== REQUIRED)
      throw new MalformedError(at, `column ${name} may be null; expected REQUIRED`);
  }
  return { pushes };
}

const KEY_OF_NAME = new Map(Object.entries(TRACE_COLUMNS).map(([key, { name }]) => [name as string, key as ColumnKey]));

interface Walk {
  /** Where the footer is: everything lies in front of it. */
  at: number;
  /** Behind the last chunk so far. */
  end: number;
  group: number;
}

function chunkPlace(chunk: ThriftStruct, rows: number, walk: Walk): { name: string; place: ChunkPlace } {
  const meta = structOf(chunk, 3);
  const path = meta?.get(3);
  const name = Array.isArray(path) && path.length === 1 ? textOf(path[0]) : null;
  const fail = (what: string): never => {
    throw new MalformedError(walk.at, `row group ${walk.group}, column ${name ?? '?'}: ${what}`);
  };
  if (meta === null || name === null) return fail('it has no description');
  if (numberOf(meta, 5) !== rows) fail(`${numberOf(meta, 5)} values in ${rows} rows`);
  const codec = CODECS[numberOf(meta, 4)];
  if (codec === undefined) return fail(`compressed by codec ${numberOf(meta, 4)}; expected none or Snappy`);
  const bytes = numberOf(meta, 7);
  const data = numberOf(meta, 9);
  const offset = meta.has(11) ? Math.min(data, numberOf(meta, 11)) : data;
  const whole = Number.isSafeInteger(offset) && Number.isSafeInteger(bytes) && bytes >= 0;
  if (!whole || offset < walk.end || offset + bytes > walk.at) {
    return fail(`bytes ${offset} to ${offset + bytes}; expected a place between byte ${walk.end} and ${walk.at}`);
  }
  walk.end = offset + bytes;
  return { name, place: { codec, offset, bytes } };
}

function groupPlace(group: ThriftStruct, keys: readonly ColumnKey[], walk: Walk): RowGroupPlace {
  const rows = numberOf(group, 3);
  if (!Number.isSafeInteger(rows) || rows < 0)
    throw new MalformedError(walk.at, `row group ${walk.group}: ${rows} rows`);
  const chunks = new Map<ColumnKey, ChunkPlace>();
  for (const chunk of structsOf(group, 1)) {
    const { name, place } = chunkPlace(chunk, rows, walk);
    const key = KEY_OF_NAME.get(name);
    if (key !== undefined) chunks.set(key, place);
  }
  for (const key of keys) {
    if (!chunks.has(key)) {
      throw new MalformedError(walk.at, `row group ${walk.group} has no column ${TRACE_COLUMNS[key].name}`);
    }
  }
  const time = chunks.get('time') as ChunkPlace;
  if (time.codec !== 'UNCOMPRESSED' || time.bytes < rows * TIME_BYTES) {
    const what = `${time.bytes} bytes of times for ${rows} rows; expected ${TIME_BYTES} for each at least`;
    throw new MalformedError(walk.at, `row group ${walk.group}: ${what}`);
  }
  return { rows, chunks };
}

/** `bytes` are the metadata alone, which lie at byte `at` of the file. Throws MalformedError. */
export function readFooter(bytes: Uint8Array, at: number): TraceFooter {
  const { fields, end } = readThrift(bytes, 0, at);
  if (end !== bytes.length) throw new MalformedError(at + end, 'the footer ends before its length says');
  const info = structsOf(fields, 5).find((pair) => textOf(pair.get(1)) === TRACE_INFO_KEY);
  if (info === undefined) {
    throw new MalformedError(at, `this is no trace of uvmlab: the metadata have no ${TRACE_INFO_KEY}`);
  }
  const text = textOf(info.get(2));
  if (text === null) throw new MalformedError(at, `the metadata's ${TRACE_INFO_KEY} is no text`);
  const { pushes } = checkSchema(structsOf(fields, 2), at);
  const keys = columnKeys(pushes);
  const walk: Walk = { at, end: MAGIC_BYTES, group: 0 };
  const groups: RowGroupPlace[] = [];
  let rows = 0;
  for (const group of structsOf(fields, 4)) {
    const place = groupPlace(group, keys, walk);
    groups.push(place);
    rows += place.rows;
    walk.group++;
  }
  if (numberOf(fields, 3) !== rows) {
    throw new MalformedError(at, `${numberOf(fields, 3)} rows in all, but ${rows} in the row groups`);
  }
  return { rows, pushes, groups, info: text };
}
