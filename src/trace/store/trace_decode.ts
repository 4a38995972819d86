/**
 * The bytes of a trace as columns. The footer says what there is and where, and is checked against the file's size
 * first (parquet_footer.ts), so that memory is bounded by that size times about 20, whatever the bytes are.
 *
 * A file whose writer was killed ends in the middle of something: its last whole footer counts, and what lies behind is
 * of no use. Nothing here knows Node: trace_reader.ts reads files, and a page may have the bytes in memory.
 */
import { assert } from '../../base/assert.ts';
import { shapeError } from '../../scenario/shapes.ts';
import { ACCESS_WORDS, EVENT_KINDS } from '../event.ts';
import { readChunk } from './parquet_chunk.ts';
import { FOOTER_TAIL_BYTES, MAGIC_BYTES, PARQUET_MAGIC, readFooter, type TraceFooter } from './parquet_footer.ts';
import { MalformedError } from './parquet_thrift.ts';
import { createTraceColumns, type TraceColumns } from './trace_columns.ts';
import { PUSH_KIND, type Trace } from './trace_events.ts';
import { TraceFileError } from './trace_file_error.ts';
import { canBeWritten, TRACE_INFO_SHAPE, type TraceInfo } from './trace_info.ts';
import { type ColumnKey, columnKeys, TRACE_COLUMNS, TRACE_FORMAT } from './trace_schema.ts';

export interface TraceHead {
  path: string;
  /** Where the file was cut, with a note that says so. */
  info: TraceInfo;
  rows: number;
  pushes: boolean;
  /** Rows of each row group. */
  rowGroups: number[];
  bytes: number;
  /** At the end of a file that was cut: of no use. */
  ignoredBytes: number;
}

export interface ReadTraceOptions {
  /** Only these columns; all where it is left out. */
  keys?: readonly ColumnKey[];
}

/** The bytes of a trace, in a file or in memory. */
export interface TraceBytes {
  /** For messages. */
  path: string;
  size: number;
  /** `length` bytes from `offset` on, which are there. Throws MalformedError where they are there no longer. */
  read(offset: number, length: number): Uint8Array;
}

interface Found {
  footer: TraceFooter;
  info: TraceInfo;
  ignoredBytes: number;
}

const WINDOW_BYTES = 2 ** 20;
/** A footer that is looked for may be at so many places, and they may have so many bytes for each of the file's. */
const CANDIDATES_MAX = 1000;
const CANDIDATE_BYTES_SHARE = 4;

/** `PAR1` as a number. */
const MAGIC = 0x31524150;

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}

function parseInfo(text: string, at: number): TraceInfo {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new MalformedError(at, `the trace's description is not JSON: ${(error as Error).message}`);
  }
  const format = (value as { format?: unknown } | null)?.format;
  if (typeof format === 'number' && format > TRACE_FORMAT) {
    throw new MalformedError(at, `format ${format}; this version of uvmlab reads ${TRACE_FORMAT}: use a newer one`);
  }
  const checked = TRACE_INFO_SHAPE.safeParse(value);
  if (!checked.success) throw new MalformedError(at, shapeError(TRACE_INFO_SHAPE, checked.error, value, ['info']));
  if (!canBeWritten(value)) throw new MalformedError(at, "the trace's description is nested too deep");
  return checked.data;
}

/** The footer that ends at byte `end`. Throws MalformedError. */
function footerAt(source: TraceBytes, end: number): Found {
  const tail = source.read(end - FOOTER_TAIL_BYTES, FOOTER_TAIL_BYTES);
  const length = viewOf(tail).getUint32(0, true);
  const at = end - FOOTER_TAIL_BYTES - length;
  if (at < MAGIC_BYTES) throw new MalformedError(end - FOOTER_TAIL_BYTES, `a footer of ${length} bytes, more than fit`);
  const footer = readFooter(source.read(at, length), at);
  return { footer, info: parseInfo(footer.info, at), ignoredBytes: source.size - end };
}

/** The last footer that is whole, of those that end before the file does; null for none. */
function lastWholeFooter(source: TraceBytes): Found | null {
  let tries = 0;
  let tried = 0;
  // Each window looks for footers that end in its last WINDOW_BYTES; the tail of one may begin before that.
  for (let to = source.size; to >= MAGIC_BYTES + FOOTER_TAIL_BYTES; to -= WINDOW_BYTES) {
    const from = Math.max(0, to - WINDOW_BYTES - FOOTER_TAIL_BYTES);
    const window = source.read(from, to - from);
    const view = viewOf(window);
    for (let end = to - from; end >= FOOTER_TAIL_BYTES && from + end > to - WINDOW_BYTES; end--) {
      if (window[end - 1] !== MAGIC >>> 24 || view.getUint32(end - MAGIC_BYTES, true) !== MAGIC) continue;
      const length = view.getUint32(end - FOOTER_TAIL_BYTES, true);
      if (length === 0 || length > from + end - FOOTER_TAIL_BYTES - MAGIC_BYTES) continue;
      tries++;
      tried += length;
      if (tries > CANDIDATES_MAX || tried > source.size * CANDIDATE_BYTES_SHARE) return null;
      try {
        return footerAt(source, from + end);
      } catch (error) {
        if (!(error instanceof MalformedError)) throw error;
      }
    }
  }
  return null;
}

function findFooter(source: TraceBytes): Found {
  const { size } = source;
  if (size === 0) throw new MalformedError(0, 'the file is empty');
  const begin = source.read(0, Math.min(size, MAGIC_BYTES));
  if (begin.some((byte, i) => byte !== PARQUET_MAGIC.charCodeAt(i))) {
    throw new MalformedError(0, 'this is no trace of uvmlab: it does not begin as a Parquet file');
  }
  if (size < MAGIC_BYTES + FOOTER_TAIL_BYTES) throw new MalformedError(size, 'the file ends before its first footer');
  // What ends as a footer does, and is none, was not cut but damaged: an earlier footer would hide that.
  const tail = viewOf(source.read(size - FOOTER_TAIL_BYTES, FOOTER_TAIL_BYTES));
  const length = tail.getUint32(0, true);
  if (tail.getUint32(MAGIC_BYTES, true) === MAGIC && length <= size - FOOTER_TAIL_BYTES - MAGIC_BYTES) {
    return footerAt(source, size);
  }
  const found = lastWholeFooter(source);
  if (found !== null) return found;
  throw new MalformedError(size, 'the file was cut, and no whole footer of a trace is in front of its end');
}

function withNote({ info, ignoredBytes }: Found): TraceInfo {
  if (ignoredBytes === 0) return info;
  const note = `The file was cut, or is still being written: its last ${ignoredBytes} bytes were of no use.`;
  return { ...info, notes: [...info.notes, note] };
}

/** Throws a TraceFileError with file and byte in the place of a MalformedError. */
function withPlace<T>(path: string, act: () => T): T {
  try {
    return act();
  } catch (error) {
    if (error instanceof MalformedError) throw new TraceFileError(`${path}: byte ${error.offset}: ${error.message}`);
    throw error;
  }
}

/** What a trace says about itself; no row is read. Throws TraceFileError, with the byte where something is wrong. */
export function decodeTraceHead(source: TraceBytes): TraceHead {
  return withPlace(source.path, () => {
    const found = findFooter(source);
    const { rows, pushes, groups } = found.footer;
    const rowGroups = groups.map((group) => group.rows);
    const { path, size: bytes } = source;
    return { path, info: withNote(found), rows, pushes, rowGroups, bytes, ignoredBytes: found.ignoredBytes };
  });
}

const PROCESSOR = /^(cpu|gpu(0|[1-9]\d{0,3}))$/;
const isProcessor = (word: string): boolean => PROCESSOR.test(word);
/** What the words of some columns have to be, and how that is called. */
const WORDS: Partial<Record<ColumnKey, { valid: (word: string, pushes: boolean) => boolean; expected: string }>> = {
  kind: {
    valid: (word, pushes) => (EVENT_KINDS as string[]).includes(word) || (pushes && word === PUSH_KIND),
    expected: `one of ${EVENT_KINDS.join(', ')}, and with columns for them ${PUSH_KIND}`,
  },
  src: { valid: isProcessor, expected: 'a processor (cpu, gpu0, gpu1, ...)' },
  dst: { valid: isProcessor, expected: 'a processor (cpu, gpu0, gpu1, ...)' },
  processors: { valid: (word) => word.split(',').every(isProcessor), expected: 'processors with commas between' },
  access: {
    valid: (word) => (ACCESS_WORDS as readonly string[]).includes(word),
    expected: `one of ${ACCESS_WORDS.join(', ')}`,
  },
};

/** Refuses words that are not known where others rely on them, from number `known` on. */
function checkWords({ words, pushes }: TraceColumns, key: ColumnKey, known: number, at: number): void {
  const rule = WORDS[key];
  const strange =
    rule === undefined ? undefined : words[key].list.slice(known).find((word) => !rule.valid(word, pushes));
  if (strange === undefined) return;
  const { name } = TRACE_COLUMNS[key];
  throw new MalformedError(at, `${name} ${JSON.stringify(strange)}; expected ${rule?.expected}`);
}

/** Refuses rows from `from` on without a kind. */
function checkKinds({ arrays }: TraceColumns, from: number, rows: number, at: number): void {
  const row = arrays.kind.subarray(from, from + rows).indexOf(0);
  if (row >= 0) throw new MalformedError(at, `row ${from + row} has no kind`);
}

/**
 * A trace in memory, or the columns of it that are asked for. Throws TraceFileError, with the byte where something is
 * wrong.
 */
export function decodeTrace(source: TraceBytes, { keys }: ReadTraceOptions = {}): Trace {
  return withPlace(source.path, () => {
    const found = findFooter(source);
    const { rows, pushes, groups } = found.footer;
    const columns = createTraceColumns({
      pushes,
      capacity: rows,
      unwritten: true,
      ...(keys === undefined ? {} : { keys }),
    });
    const wanted = columnKeys(pushes).filter((key) => columns.loaded.has(key));
    for (const { rows: count, chunks } of groups) {
      for (const key of wanted) {
        const place = chunks.get(key);
        // The footer was refused if it lacks one; rows that nothing is read into would not say "nothing".
        assert(place !== undefined, 'a trace has all of its columns');
        if (count === 0) continue;
        const known = columns.words[key].list.length;
        readChunk(columns, key, place, source.read(place.offset, place.bytes), columns.count, count);
        checkWords(columns, key, known, place.offset);
        if (key === 'kind') checkKinds(columns, columns.count, count, place.offset);
      }
      columns.count += count;
    }
    return { info: withNote(found), columns };
  });
}
