/**
 * A trace as a folder of Parquet files for other tools: one for each table of store/trace_views.ts that has rows, with
 * the names, texts and nulls that people expect. Unlike the file of a trace they are not read back.
 */
import { closeSync, existsSync, mkdirSync, readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { SchemaElement } from 'hyparquet';
import { ByteWriter, ParquetWriter } from 'hyparquet-writer';
import { openNew, reasonOf, writeAll } from '../trace/disk.ts';
import { type TraceColumns, wordAt } from '../trace/store/trace_columns.ts';
import type { Trace } from '../trace/store/trace_events.ts';
import { TraceFileError } from '../trace/store/trace_file_error.ts';
import { type Cell, infoRows } from '../trace/store/trace_info_rows.ts';
import { type ColumnKey, TRACE_COLUMNS } from '../trace/store/trace_schema.ts';
import {
  INFO_TABLES,
  type RowValues,
  TRACE_VIEWS,
  type TraceView,
  type ViewColumn,
} from '../trace/store/trace_views.ts';

export interface ExportedTable {
  file: string;
  rows: number;
  bytes: number;
}

const ROWS_AT_ONCE = 100_000;
const PHYSICAL = { time: 'DOUBLE', whole: 'INT64', count: 'INT32', text: 'BYTE_ARRAY' } as const;
/** Which view has which file, where that is not its name; `rows` and `events` would have everything twice. */
const NOT_EXPORTED = ['rows', 'events'];

type Value = string | number | bigint | null;

function schemaOf(columns: readonly { name: string; type: ViewColumn['type'] }[]): SchemaElement[] {
  const elements = columns.map(({ name, type }): SchemaElement => {
    const element: SchemaElement = { name, type: PHYSICAL[type], repetition_type: 'OPTIONAL' };
    return type === 'text' ? { ...element, converted_type: 'UTF8' } : element;
  });
  return [{ name: 'table', num_children: columns.length }, ...elements];
}

/** Cells of a table, `ROWS_AT_ONCE` rows at a time; of each column a list. */
type Pieces = Iterable<Value[][]>;

function writeTable(
  path: string,
  columns: readonly { name: string; type: ViewColumn['type'] }[],
  pieces: Pieces,
  overwrite: boolean,
): number {
  const file = openNew(path, overwrite, (message) => new TraceFileError(message));
  const out = new ByteWriter();
  const flush = (): void => {
    writeAll(file, [out.getBytes()]);
    out.index = 0;
  };
  try {
    const writer = new ParquetWriter({ writer: out, schema: schemaOf(columns), createdBy: 'uvmlab' });
    for (const cells of pieces) {
      const columnData = columns.map(({ name }, i) => ({ name, data: cells[i] }));
      writer.write({ columnData, rowGroupSize: ROWS_AT_ONCE });
      flush();
    }
    writer.finish();
    flush();
    return out.offset;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === undefined) throw error;
    throw new TraceFileError(`${path}: cannot be written: ${reasonOf(error)}`);
  } finally {
    closeSync(file);
  }
}

/** Numbers of a row, with null for what it has not; `at` names the row. */
function valuesOf(columns: TraceColumns, at: { row: number }): RowValues {
  const { arrays } = columns;
  return (key) => {
    const array = arrays[key];
    if (array.length === 0) return null;
    const value = array[at.row];
    const absent = TRACE_COLUMNS[key].type === 'time' ? Number.isNaN(value) : value === -1;
    return absent ? null : value;
  };
}

/** Reads a cell of the row that `at` names. */
function cellReader(columns: TraceColumns, { of, type }: ViewColumn, at: { row: number }, values: RowValues) {
  const asWhole = (value: number | null): Value => (type === 'whole' && value !== null ? BigInt(value) : value);
  if (typeof of !== 'string') return (): Value => asWhole(of.value(values));
  const key: ColumnKey = of;
  if (type !== 'text') return (): Value => asWhole(values(key));
  return (): Value => (columns.arrays[key].length === 0 ? null : wordAt(columns, key, at.row) || null);
}

/** How many rows each kind has. */
function kindCounts({ arrays, words, count }: TraceColumns): Map<string, number> {
  const counts = new Float64Array(words.kind.list.length);
  for (let row = 0; row < count; row++) counts[arrays.kind[row]]++;
  return new Map(words.kind.list.map((kind, i) => [kind, counts[i]]));
}

function* viewPieces(columns: TraceColumns, view: TraceView): Generator<Value[][]> {
  const at = { row: 0 };
  const values = valuesOf(columns, at);
  const readers = view.columns.map((column) => cellReader(columns, column, at, values));
  const wanted = columns.words.kind.list.map((kind) => view.kinds?.includes(kind) ?? true);
  let cells: Value[][] = [[], ...readers.map(() => [])];
  for (at.row = 0; at.row < columns.count; at.row++) {
    if (!wanted[columns.arrays.kind[at.row]]) continue;
    cells[0].push(at.row);
    for (let i = 0; i < readers.length; i++) cells[i + 1].push(readers[i]());
    if (cells[0].length === ROWS_AT_ONCE) {
      yield cells;
      cells = [[], ...readers.map(() => [])];
    }
  }
  if (cells[0].length > 0) yield cells;
}

function infoPieces(rows: readonly Cell[][], types: readonly ViewColumn['type'][]): Pieces {
  const cell = (value: Cell, i: number): Value =>
    types[i] === 'whole' && typeof value === 'number' ? BigInt(value) : value;
  return rows.length === 0 ? [] : [types.map((_, i) => rows.map((row) => cell(row[i], i)))];
}

function makeFolder(folder: string, overwrite: boolean): void {
  try {
    if (existsSync(folder)) {
      if (!statSync(folder).isDirectory()) throw new TraceFileError(`${folder}: is no folder`);
      if (!overwrite && readdirSync(folder).length > 0) {
        throw new TraceFileError(`${folder}: is not empty; name another folder, or have it overwritten`);
      }
    } else mkdirSync(folder);
  } catch (error) {
    if (error instanceof TraceFileError) throw error;
    throw new TraceFileError(`${folder}: cannot be made: ${reasonOf(error)}`);
  }
}

const ROW_COLUMN = { name: 'row', type: 'count' } as const;

/**
 * Writes the tables of a trace into a folder, which is new or empty unless it may be overwritten; a table of an older
 * export that this trace has no rows for goes. Throws TraceFileError.
 */
export function exportParquet(folder: string, { info, columns }: Trace, { overwrite = false } = {}): ExportedTable[] {
  makeFolder(folder, overwrite);
  const tables: ExportedTable[] = [];
  const counts = kindCounts(columns);
  const add = (name: string, rows: number, write: (path: string) => number): void => {
    const file = `${name}.parquet`;
    const path = join(folder, file);
    if (rows > 0) tables.push({ file, rows, bytes: write(path) });
    else if (overwrite) rmSync(path, { force: true });
  };
  for (const view of TRACE_VIEWS) {
    if (NOT_EXPORTED.includes(view.name)) continue;
    const rows = (view.kinds ?? []).reduce((sum, kind) => sum + (counts.get(kind) ?? 0), 0);
    add(view.name, rows, (path) =>
      writeTable(path, [ROW_COLUMN, ...view.columns], viewPieces(columns, view), overwrite),
    );
  }
  const rows = infoRows(info);
  for (const table of INFO_TABLES) {
    const types = table.columns.map(({ type }) => type);
    add(table.name, rows[table.name].length, (path) =>
      writeTable(path, table.columns, infoPieces(rows[table.name], types), overwrite),
    );
  }
  return tables;
}
