/**
 * Writing one column of a row group: a page of plain numbers, or words as packed numbers behind their dictionary. A
 * column with one value in all rows becomes a dictionary of that value, a few bytes.
 */
import type { ColumnChunk, CompressionCodec, Encoding } from 'hyparquet';
import type { ByteWriter } from 'hyparquet-writer';
import { writePageHeader } from 'hyparquet-writer/src/datapage.js';
import { snappyCompress } from 'hyparquet-writer/src/snappy.js';
import { PHYSICAL_TYPE_OF } from './parquet_footer.ts';
import type { TraceColumns } from './trace_columns.ts';
import { type ColumnKey, TRACE_COLUMNS } from './trace_schema.ts';

const HIGH = 4294967296;
const UTF8 = new TextEncoder();
/**
 * Columns that are not packed: `time`, which bounds what a reader has to expect of a file of a given size, and
 * `gpuTime`, whose values do not repeat.
 */
const UNPACKED: readonly ColumnKey[] = ['time', 'gpuTime'];

type Numbers = Float64Array | Int32Array;

/** Whole numbers up to 2^53 as 64-bit ones. Throws RangeError for anything else. */
function wholeBytes(key: ColumnKey, values: Float64Array, from: number, to: number): Uint8Array {
  const words = new Uint32Array((to - from) * 2);
  for (let i = from, at = 0; i < to; i++, at += 2) {
    const value = values[i];
    if (value === -1) {
      words[at] = HIGH - 1;
      words[at + 1] = HIGH - 1;
    } else if (Number.isSafeInteger(value) && value >= 0) {
      const high = Math.floor(value / HIGH);
      words[at] = value - high * HIGH;
      words[at + 1] = high;
    } else
      throw new RangeError(`row ${i}: ${TRACE_COLUMNS[key].name} ${value}; expected a whole number from 0 to 2^53`);
  }
  return new Uint8Array(words.buffer);
}

function plainBytes(key: ColumnKey, values: Numbers, from: number, to: number): Uint8Array {
  if (TRACE_COLUMNS[key].type === 'whole') return wholeBytes(key, values as Float64Array, from, to);
  const part = values.subarray(from, to);
  return new Uint8Array(part.buffer, part.byteOffset, part.byteLength);
}

function isConstant(values: Numbers, from: number, to: number): boolean {
  const first = values[from];
  if (Number.isNaN(first)) {
    for (let i = from; i < to; i++) if (!Number.isNaN(values[i])) return false;
    return true;
  }
  for (let i = from; i < to; i++) if (values[i] !== first) return false;
  return true;
}

function varintBytes(value: number): number[] {
  const bytes: number[] = [];
  for (let left = value; ; left = Math.floor(left / 128)) {
    if (left < 128) return [...bytes, left];
    bytes.push((left % 128) + 128);
  }
}

/** `count` times number 0, in numbers of one bit. */
function zeroRun(count: number): Uint8Array {
  return Uint8Array.from([1, ...varintBytes(count * 2), 0]);
}

/** Numbers below `limit` as packed bits, with their width in front. */
function packedBits(codes: Uint32Array, limit: number): Uint8Array {
  const width = Math.max(1, 32 - Math.clz32(limit - 1));
  const groups = Math.ceil(codes.length / 8);
  const head = [width, ...varintBytes(groups * 2 + 1)];
  const out = new Uint8Array(head.length + groups * width);
  out.set(head);
  let at = head.length;
  let held = 0;
  let bits = 0;
  for (let i = 0; i < codes.length; i++) {
    held |= codes[i] << bits;
    bits += width;
    while (bits >= 8) {
      out[at++] = held;
      held >>>= 8;
      bits -= 8;
    }
  }
  if (bits > 0) out[at] = held;
  return out;
}

function textsBytes(texts: readonly string[]): Uint8Array {
  const pieces = texts.map((text) => UTF8.encode(text));
  const out = new Uint8Array(pieces.reduce((sum, piece) => sum + 4 + piece.length, 0));
  const view = new DataView(out.buffer);
  let at = 0;
  for (const piece of pieces) {
    view.setUint32(at, piece.length, true);
    out.set(piece, at + 4);
    at += 4 + piece.length;
  }
  return out;
}

/** Words of the rows: each once, and each row's number among them. */
function localWords(numbers: Uint16Array | Uint32Array, list: readonly string[], from: number, to: number) {
  const local = new Int32Array(list.length).fill(-1);
  const texts: string[] = [];
  const codes = new Uint32Array(to - from);
  for (let i = from; i < to; i++) {
    let code = local[numbers[i]];
    if (code < 0) {
      code = texts.length;
      local[numbers[i]] = code;
      texts.push(list[numbers[i]]);
    }
    codes[i - from] = code;
  }
  return { texts, codes };
}

interface Page {
  type: 'DICTIONARY_PAGE' | 'DATA_PAGE';
  encoding: Encoding;
  values: number;
  body: Uint8Array;
}

/** Writes the pages where `out` stands. */
function writePages(
  out: ByteWriter,
  key: ColumnKey,
  rows: number,
  codec: CompressionCodec,
  pages: Page[],
): ColumnChunk {
  const start = out.offset;
  let size = 0;
  let dictionary: bigint | undefined;
  let data = BigInt(start);
  for (const { type, encoding, values, body } of pages) {
    const stored = codec === 'SNAPPY' ? snappyCompress(body) : body;
    if (type === 'DATA_PAGE') data = BigInt(out.offset);
    else dictionary = BigInt(out.offset);
    const header = out.offset;
    writePageHeader(out, {
      type,
      uncompressed_page_size: body.length,
      compressed_page_size: stored.length,
      ...(type === 'DATA_PAGE'
        ? {
            data_page_header: {
              num_values: values,
              encoding,
              definition_level_encoding: 'RLE',
              repetition_level_encoding: 'RLE',
            },
          }
        : { dictionary_page_header: { num_values: values, encoding } }),
    });
    size += out.offset - header + body.length;
    out.appendBytes(stored);
  }
  const { name, type } = TRACE_COLUMNS[key];
  return {
    file_offset: BigInt(start),
    meta_data: {
      type: PHYSICAL_TYPE_OF[type],
      encodings: [...new Set<Encoding>(['RLE', ...pages.map(({ encoding }) => encoding)])],
      path_in_schema: [name],
      codec,
      num_values: BigInt(rows),
      total_uncompressed_size: BigInt(size),
      total_compressed_size: BigInt(out.offset - start),
      data_page_offset: data,
      dictionary_page_offset: dictionary,
    },
  };
}

function checkTimes(key: ColumnKey, values: Float64Array, from: number, to: number): void {
  for (let i = from; i < to; i++) {
    if (Math.abs(values[i]) === Number.POSITIVE_INFINITY) {
      throw new RangeError(`row ${i}: ${TRACE_COLUMNS[key].name} ${values[i]}; expected a time`);
    }
  }
}

/** Least and greatest time of the rows, or nothing where they have none. */
function timeStatistics(times: Float64Array, from: number, to: number) {
  let least = Number.POSITIVE_INFINITY;
  let greatest = Number.NEGATIVE_INFINITY;
  for (let i = from; i < to; i++) {
    if (times[i] < least) least = times[i];
    if (times[i] > greatest) greatest = times[i];
  }
  return least > greatest ? undefined : { min_value: least, max_value: greatest, null_count: 0n };
}

/**
 * Writes rows `from` to `to` - 1 of a column, at least one, where `out` stands: `out.offset` is a place in the file.
 * Throws RangeError for a number that no trace holds.
 */
export function writeChunk(
  out: ByteWriter,
  columns: TraceColumns,
  key: ColumnKey,
  from: number,
  to: number,
): ColumnChunk {
  const rows = to - from;
  const { type } = TRACE_COLUMNS[key];
  if (type === 'word' || type === 'text') {
    const numbers = columns.arrays[key] as Uint16Array | Uint32Array;
    const { texts, codes } = localWords(numbers, columns.words[key].list, from, to);
    const body = texts.length === 1 ? zeroRun(rows) : packedBits(codes, texts.length);
    const codec = body.length < 64 && texts.length === 1 ? 'UNCOMPRESSED' : 'SNAPPY';
    return writePages(out, key, rows, codec, [
      { type: 'DICTIONARY_PAGE', encoding: 'PLAIN', values: texts.length, body: textsBytes(texts) },
      { type: 'DATA_PAGE', encoding: 'RLE_DICTIONARY', values: rows, body },
    ]);
  }
  const values = columns.arrays[key] as Numbers;
  if (key !== 'time' && isConstant(values, from, to)) {
    return writePages(out, key, rows, 'UNCOMPRESSED', [
      { type: 'DICTIONARY_PAGE', encoding: 'PLAIN', values: 1, body: plainBytes(key, values, from, from + 1) },
      { type: 'DATA_PAGE', encoding: 'RLE_DICTIONARY', values: rows, body: zeroRun(rows) },
    ]);
  }
  if (type === 'time') checkTimes(key, values as Float64Array, from, to);
  const codec = UNPACKED.includes(key) ? 'UNCOMPRESSED' : 'SNAPPY';
  const body = plainBytes(key, values, from, to);
  const chunk = writePages(out, key, rows, codec, [{ type: 'DATA_PAGE', encoding: 'PLAIN', values: rows, body }]);
  if (key === 'time' && chunk.meta_data !== undefined) {
    chunk.meta_data.statistics = timeStatistics(values as Float64Array, from, to);
  }
  return chunk;
}
