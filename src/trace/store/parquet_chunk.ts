/**
 * Reading one column of one row group into its place in memory: pages of plain numbers, or of numbers in a dictionary.
 * Checks each size before it makes anything of that size.
 */
import { snappyUncompress } from 'hyparquet';
import type { ChunkPlace } from './parquet_footer.ts';
import { MalformedError, numberOf, readThrift, structOf, type ThriftStruct, textOf } from './parquet_thrift.ts';
import { type TraceColumns, wordNumber } from './trace_columns.ts';
import { type ColumnKey, type ColumnType, TRACE_COLUMNS } from './trace_schema.ts';

const DATA_PAGE = 0;
const DICTIONARY_PAGE = 2;
const PLAIN = 0;
const PLAIN_DICTIONARY = 2;
const RLE_DICTIONARY = 8;
/** Snappy makes at most 64 bytes of 3. */
const EXPANSION_MAX = 24;
const HIGH = 4294967296;
/** High words of whole numbers up to 2^53. */
const HIGH_END = 2 ** 21;

type Target = Float64Array | Int32Array | Uint16Array | Uint32Array;

interface Reading {
  type: ColumnType;
  place: ChunkPlace;
  bytes: Uint8Array;
  target: Target;
  /** Number of a text, for the dictionary. */
  numberOfText: (text: string) => number;
}

function fail(r: Reading, at: number, what: string): never {
  throw new MalformedError(r.place.offset + at, what);
}

/** The contents of a page, `at` being where they begin in the chunk. */
function pageBody(r: Reading, at: number, header: ThriftStruct): Uint8Array {
  const size = numberOf(header, 2);
  const stored = numberOf(header, 3);
  const left = r.bytes.length - at;
  if (!(stored >= 0 && stored <= left)) fail(r, at, `a page of ${stored} bytes, of which ${left} are there`);
  const body = r.bytes.subarray(at, at + stored);
  if (r.place.codec === 'UNCOMPRESSED') return body;
  if (!(size >= 0 && size <= stored * EXPANSION_MAX)) fail(r, at, `a page of ${size} bytes packed into ${stored}`);
  const out = new Uint8Array(size);
  try {
    snappyUncompress(body, out);
  } catch (error) {
    fail(r, at, `damaged Snappy data (${(error as Error).message})`);
  }
  return out;
}

/** Plain numbers of the file's form into the target; throws for what no trace holds. */
function numbersInto(r: Reading, at: number, body: Uint8Array, target: Target, from: number, count: number): void {
  const width = r.type === 'count' ? 4 : 8;
  if (body.length !== count * width) fail(r, at, `${body.length} bytes for ${count} values of ${width} bytes`);
  if (r.type !== 'whole') {
    new Uint8Array(target.buffer, target.byteOffset + from * width, body.length).set(body);
    if (r.type === 'count') {
      for (let i = from; i < from + count; i++) if (target[i] < -1) fail(r, at, `the number ${target[i]}`);
    } else {
      for (let i = from; i < from + count; i++) {
        if (target[i] === Number.POSITIVE_INFINITY || target[i] === Number.NEGATIVE_INFINITY) {
          fail(r, at, 'a time without end');
        }
      }
    }
    return;
  }
  // Two words each: a BigInt for each would take ten times as long.
  const words = new Int32Array(new Uint8Array(body).buffer);
  for (let i = 0; i < count; i++) {
    const low = words[2 * i] >>> 0;
    const high = words[2 * i + 1];
    if (high === -1 && low === HIGH - 1) target[from + i] = -1;
    else if (high >= 0 && high < HIGH_END) target[from + i] = high * HIGH + low;
    else fail(r, at, 'a number outside of 0 to 2^53');
  }
}

/** What the numbers of a dictionary stand for: values of the target. */
function readDictionary(r: Reading, at: number, body: Uint8Array, header: ThriftStruct | null): Float64Array {
  const count = header === null ? Number.NaN : numberOf(header, 1);
  if (!(count >= 0 && count <= body.length)) fail(r, at, `a dictionary of ${count} values in ${body.length} bytes`);
  const values = new Float64Array(count);
  if (r.type === 'time' || r.type === 'whole') {
    numbersInto(r, at, body, values, 0, count);
    return values;
  }
  if (r.type === 'count') {
    const counts = new Int32Array(count);
    numbersInto(r, at, body, counts, 0, count);
    values.set(counts);
    return values;
  }
  const view = new DataView(body.buffer, body.byteOffset, body.length);
  let p = 0;
  for (let i = 0; i < count; i++) {
    const length = p + 4 <= body.length ? view.getUint32(p, true) : Number.NaN;
    if (!(p + 4 + length <= body.length)) fail(r, at, `word ${i} of the dictionary goes beyond its end`);
    const text = textOf(body.subarray(p + 4, p + 4 + length));
    if (text === null) return fail(r, at, `word ${i} of the dictionary is no UTF-8 text`);
    try {
      values[i] = r.numberOfText(text);
    } catch (error) {
      fail(r, at, (error as Error).message);
    }
    p += 4 + length;
  }
  if (p !== body.length) fail(r, at, `${body.length - p} bytes behind the last word of the dictionary`);
  return values;
}

/** Numbers in runs and packed bits, each of which stands for a value of the dictionary. */
function codesInto(r: Reading, at: number, body: Uint8Array, values: Float64Array, from: number, count: number): void {
  const { target } = r;
  const width = body.length > 0 ? body[0] : Number.NaN;
  if (!(width <= 24)) fail(r, at, `numbers of ${width} bits`);
  const mask = 2 ** width - 1;
  const known = values.length;
  const end = from + count;
  let p = 1;
  let row = from;
  while (row < end) {
    let head = 0;
    for (let shift = 0; ; shift += 7) {
      if (p >= body.length || shift > 28) fail(r, at, 'the page ends before its last value');
      const b = body[p++];
      head += (b & 127) * 2 ** shift;
      if (b < 128) break;
    }
    if (head % 2 === 0) {
      const run = Math.min(head / 2, end - row);
      let code = 0;
      const bytes = (width + 7) >> 3;
      if (run === 0 || p + bytes > body.length) fail(r, at, 'a run of nothing');
      for (let i = 0; i < bytes; i++) code += body[p++] * 2 ** (8 * i);
      if (code >= known) fail(r, at, `number ${code} in a dictionary of ${known}`);
      target.fill(values[code], row, row + run);
      row += run;
      continue;
    }
    const run = Math.min(((head - 1) / 2) * 8, end - row);
    if (run === 0 || p + Math.ceil((run * width) / 8) > body.length)
      fail(r, at, 'packed values beyond the end of the page');
    let held = 0;
    let bits = 0;
    for (const stop = row + run; row < stop; row++) {
      while (bits < width) {
        held |= body[p++] << bits;
        bits += 8;
      }
      const code = held & mask;
      held >>>= width;
      bits -= width;
      if (code >= known) fail(r, at, `number ${code} in a dictionary of ${known}`);
      target[row] = values[code];
    }
    // Groups of eight values fill whole bytes, so only the last one of a page leaves some unread.
  }
}

/**
 * Reads a chunk's `bytes`, which lie at `place`, into rows `from` to `from + rows - 1` of the column. Throws
 * MalformedError with the byte of the file.
 */
export function readChunk(
  columns: TraceColumns,
  key: ColumnKey,
  place: ChunkPlace,
  bytes: Uint8Array,
  from: number,
  rows: number,
): void {
  const { type } = TRACE_COLUMNS[key];
  const words = columns.words[key];
  const numberOfText = (text: string): number => wordNumber(words, text);
  const r: Reading = { type, place, bytes, target: columns.arrays[key], numberOfText };
  let at = 0;
  let row = from;
  let dictionary: Float64Array | null = null;
  while (row < from + rows) {
    const { fields: header, end } = readThrift(bytes, at, place.offset);
    const body = pageBody(r, end, header);
    const kind = numberOf(header, 1);
    if (kind === DICTIONARY_PAGE) dictionary = readDictionary(r, end, body, structOf(header, 7));
    else if (kind === DATA_PAGE) {
      const page = structOf(header, 5);
      const count = page === null ? Number.NaN : numberOf(page, 1);
      const encoding = page === null ? Number.NaN : numberOf(page, 2);
      if (!(count > 0 && count <= from + rows - row))
        fail(r, at, `a page of ${count} values; ${from + rows - row} are left`);
      if (encoding === PLAIN && type !== 'word' && type !== 'text') numbersInto(r, end, body, r.target, row, count);
      else if ((encoding === RLE_DICTIONARY || encoding === PLAIN_DICTIONARY) && dictionary !== null) {
        codesInto(r, end, body, dictionary, row, count);
      } else fail(r, at, `encoding ${encoding}${dictionary === null ? ' without a dictionary' : ''}; expected another`);
      row += count;
    } else fail(r, at, `a page of kind ${kind}; expected a data page or a dictionary`);
    at = end + numberOf(header, 3);
  }
  if (at !== bytes.length) fail(r, at, `${bytes.length - at} bytes behind the last page`);
}
