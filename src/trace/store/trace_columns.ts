/**
 * A trace in memory: one growing typed array for each column of store/trace_schema.ts. Nothing here knows files, so it
 * runs in a browser too.
 */
import { type ColumnKey, type ColumnType, columnKeys, TRACE_COLUMNS } from './trace_schema.ts';

/** Texts by number; number 0 is '', for none. */
export interface Words {
  readonly list: string[];
  readonly numbers: Map<string, number>;
  /** Most texts that it may have. */
  readonly limit: number;
}

interface Arrays {
  time: Float64Array;
  whole: Float64Array;
  count: Int32Array;
  word: Uint16Array;
  text: Uint32Array;
}
type ArrayOf<K extends ColumnKey> = Arrays[(typeof TRACE_COLUMNS)[K]['type']];

/**
 * Rows 0 to `count` - 1 of each array hold. Columns of pushes are empty arrays in a trace without them, and so are
 * columns that were not loaded; `loaded` tells. `words` has the texts of columns of type `word` and `text`.
 */
export interface TraceColumns {
  count: number;
  capacity: number;
  readonly pushes: boolean;
  readonly loaded: ReadonlySet<ColumnKey>;
  readonly arrays: { [K in ColumnKey]: ArrayOf<K> };
  readonly words: Readonly<Record<ColumnKey, Words>>;
}

/** What a row has in a column where it has nothing. */
export const ABSENT: Readonly<Record<ColumnType, number>> = {
  time: Number.NaN,
  whole: -1,
  count: -1,
  word: 0,
  text: 0,
};

const ARRAYS = { time: Float64Array, whole: Float64Array, count: Int32Array, word: Uint16Array, text: Uint32Array };

/** An array of rows with nothing in them. */
function emptyRows(type: ColumnType, rows: number): Arrays[ColumnType] {
  const array = new ARRAYS[type](rows);
  return ABSENT[type] === 0 ? array : array.fill(ABSENT[type]);
}

export function createWords(limit: number): Words {
  return { list: [''], numbers: new Map([['', 0]]), limit };
}

/** The number of a text, which gets one if it has none. Throws RangeError where the column may have no more texts. */
export function wordNumber(words: Words, text: string): number {
  const known = words.numbers.get(text);
  if (known !== undefined) return known;
  if (words.list.length >= words.limit)
    throw new RangeError(`more than ${words.limit - 1} different texts in a column`);
  words.list.push(text);
  words.numbers.set(text, words.list.length - 1);
  return words.list.length - 1;
}

export interface ColumnsOptions {
  pushes?: boolean;
  /** Rows that there is room for at first. */
  capacity?: number;
  /** Only these, where not all are needed; the others stay empty arrays. */
  keys?: readonly ColumnKey[];
  /** The caller writes every row that there is room for, in every column, before anyone reads. */
  unwritten?: boolean;
}

/** No rows yet. */
export function createTraceColumns(options: ColumnsOptions = {}): TraceColumns {
  const { pushes = false, capacity = 1024, keys, unwritten = false } = options;
  const all = columnKeys(pushes);
  const loaded = new Set(keys === undefined ? all : all.filter((key) => keys.includes(key)));
  const arrays: Record<string, unknown> = {};
  const words: Record<string, Words> = {};
  for (const key of Object.keys(TRACE_COLUMNS) as ColumnKey[]) {
    const { type } = TRACE_COLUMNS[key];
    const rows = loaded.has(key) ? capacity : 0;
    arrays[key] = unwritten ? new ARRAYS[type](rows) : emptyRows(type, rows);
    words[key] = createWords(type === 'word' ? 2 ** 16 : 2 ** 32);
  }
  return {
    count: 0,
    capacity,
    pushes,
    loaded,
    arrays: arrays as TraceColumns['arrays'],
    words: words as TraceColumns['words'],
  };
}

/** Makes room for `rows` rows in all; a row that was never written has nothing in any column. */
export function reserveRows(columns: TraceColumns, rows: number): void {
  if (rows <= columns.capacity) return;
  const capacity = Math.max(rows, columns.capacity * 2);
  const arrays = columns.arrays as Record<ColumnKey, Float64Array | Int32Array | Uint16Array | Uint32Array>;
  for (const key of columns.loaded) {
    const grown = emptyRows(TRACE_COLUMNS[key].type, capacity);
    grown.set(arrays[key]);
    arrays[key] = grown;
  }
  columns.capacity = capacity;
}

/** A new row with nothing in it; its index. All columns must be there. */
export function addRow(columns: TraceColumns): number {
  reserveRows(columns, columns.count + 1);
  return columns.count++;
}

/** Columns of type `word` or `text`. */
export type WordKey = 'kind' | 'buffer' | 'src' | 'dst' | 'processors' | 'type' | 'access' | 'cause' | 'acquires';

/** Gives a row a text. Throws RangeError where the column may have no more different ones. */
export function setWord(columns: TraceColumns, key: WordKey, row: number, text: string): void {
  columns.arrays[key][row] = wordNumber(columns.words[key], text);
}

/** The text of a row in a column of type `word` or `text`; '' for none. */
export function wordAt(columns: TraceColumns, key: ColumnKey, row: number): string {
  return columns.words[key].list[columns.arrays[key][row]];
}

/** Takes columns that are loaded in `from` alone, a trace of as many rows; the arrays are shared from then on. */
export function adoptColumns(into: TraceColumns, from: TraceColumns): void {
  if (into.count !== from.count) throw new RangeError(`${from.count} rows for a trace of ${into.count}`);
  const arrays = into.arrays as Record<ColumnKey, unknown>;
  const words = into.words as Record<ColumnKey, Words>;
  for (const key of from.loaded) {
    if (into.loaded.has(key)) continue;
    arrays[key] = from.arrays[key];
    words[key] = from.words[key];
    (into.loaded as Set<ColumnKey>).add(key);
  }
  into.capacity = Math.min(into.capacity, from.capacity);
}
