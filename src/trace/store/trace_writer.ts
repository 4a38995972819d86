/**
 * The file of a trace (`.parquet`), written from front to back: row groups, and from time to time a footer that makes a
 * whole Parquet file of what is there. A later footer takes its place by lying behind it; nothing that was written is
 * ever changed. So a file whose writer was killed is whole up to its last footer, which trace_reader.ts finds.
 *
 * The writer is synchronous. A footer names all row groups before it, so they grow: one is written when the file has
 * grown by a share since the last one, on demand, and at the end.
 */
import { closeSync, existsSync, ftruncateSync, renameSync, rmSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import type { FileMetaData, RowGroup, SchemaElement } from 'hyparquet';
import { ByteWriter } from 'hyparquet-writer';
import { writeMetadata } from 'hyparquet-writer/src/metadata.js';
import { shapeError } from '../../scenario/shapes.ts';
import { openNew, reasonOf, writeAll } from '../disk.ts';
import { writeChunk } from './parquet_encode.ts';
import { PARQUET_MAGIC, PHYSICAL_TYPE_OF } from './parquet_footer.ts';
import { createTraceColumns, reserveRows, type TraceColumns, wordNumber } from './trace_columns.ts';
import type { Trace } from './trace_events.ts';
import { TraceFileError } from './trace_file_error.ts';
import { TRACE_INFO_SHAPE, type TraceInfo } from './trace_info.ts';
import { type ColumnKey, columnKeys, TRACE_COLUMNS, TRACE_INFO_KEY } from './trace_schema.ts';

export const ROW_GROUP_ROWS = 262_144;
/** A footer comes when the file has grown by a part of itself, and by no less than so many bytes. */
const GROWTH_SHARE = 1 / 8;
const GROWTH_BYTES_MIN = 4 * 2 ** 20;

/** The methods throw TraceFileError when the disk refuses; the file is then whole up to its last footer, and closed. */
export interface TraceWriter {
  readonly path: string;
  /** Rows that were given, and bytes of the file. */
  readonly totals: { readonly rows: number; readonly bytes: number };
  /**
   * Rows `from` to `to` - 1 of `columns`, in which all columns are loaded. They are in the file when a row group is
   * full, or after flush. Throws RangeError for a number that no trace holds.
   */
  append(columns: TraceColumns, from?: number, to?: number): void;
  /** Takes the place of what the file says about itself, with the next footer. */
  setInfo(info: TraceInfo): void;
  /** Puts everything into the file, with a footer. Ends a row group, so it should not come often. */
  flush(): void;
  /** As flush, then closes the file. Does nothing the second time. */
  close(): void;
}

export interface TraceWriterOptions {
  info: TraceInfo;
  /** Whether there are pushes, which have columns of their own. */
  pushes: boolean;
  /** Replace a file that is there. */
  overwrite?: boolean;
  rowGroupRows?: number;
}

function schemaOf(keys: readonly ColumnKey[]): SchemaElement[] {
  const columns = keys.map((key): SchemaElement => {
    const { name, type } = TRACE_COLUMNS[key];
    const physical = PHYSICAL_TYPE_OF[type];
    const element: SchemaElement = { name, type: physical, repetition_type: 'REQUIRED' };
    return physical === 'BYTE_ARRAY' ? { ...element, converted_type: 'UTF8' } : element;
  });
  return [{ name: 'trace', num_children: columns.length }, ...columns];
}

function checkInfo(info: TraceInfo): void {
  const checked = TRACE_INFO_SHAPE.safeParse(info);
  if (!checked.success) throw new RangeError(shapeError(TRACE_INFO_SHAPE, checked.error, info, ['info']));
}

/** Copies rows to the end of `to`, whose texts may have other numbers. There is room for them. */
function copyRows(keys: readonly ColumnKey[], source: TraceColumns, from: number, count: number, to: TraceColumns) {
  for (const key of keys) {
    const a = source.arrays[key];
    const b = to.arrays[key];
    const { type } = TRACE_COLUMNS[key];
    if (source.pushes || !('pushes' in TRACE_COLUMNS[key])) {
      if (type !== 'word' && type !== 'text') {
        b.set(a.subarray(from, from + count), to.count);
        continue;
      }
      const list = source.words[key].list;
      let last = -1;
      let number = 0;
      for (let i = 0; i < count; i++) {
        if (a[from + i] !== last) {
          last = a[from + i];
          number = wordNumber(to.words[key], list[last]);
        }
        b[to.count + i] = number;
      }
    }
  }
  to.count += count;
}

/**
 * Begins a trace; the file is whole from then on. Throws TraceFileError, which names the file: it exists (unless it may
 * be overwritten), lies in no folder, may not be written.
 */
export function createTraceWriter(path: string, options: TraceWriterOptions): TraceWriter {
  const { pushes, overwrite = false, rowGroupRows = ROW_GROUP_ROWS } = options;
  let { info } = options;
  checkInfo(info);
  const keys = columnKeys(pushes);
  const schema = schemaOf(keys);
  let file = openNew(path, overwrite, (message) => new TraceFileError(message));
  const totals = { rows: 0, bytes: 0 };
  const groups: RowGroup[] = [];
  let grouped = 0;
  /** Where the last footer ends. */
  let whole = 0;
  let dirty = true;
  let held = createTraceColumns({ pushes, capacity: 0 });

  const close = (): void => {
    if (file >= 0) closeSync(file);
    file = -1;
  };
  const write = (out: ByteWriter): void => {
    if (file < 0) throw new TraceFileError(`${path}: is closed already`);
    try {
      writeAll(file, [out.getBytes()]);
    } catch (error) {
      try {
        ftruncateSync(file, whole);
      } catch {}
      close();
      throw new TraceFileError(`${path}: cannot be written: ${reasonOf(error)}`);
    }
    totals.bytes = out.offset;
    dirty = true;
  };
  const begin = (): ByteWriter => {
    const out = new ByteWriter(2 ** 16);
    out.offset = totals.bytes;
    return out;
  };
  const footer = (): void => {
    const out = begin();
    const metadata: Omit<FileMetaData, 'metadata_length'> = {
      version: 2,
      created_by: `uvmlab ${info.uvmlab}`,
      schema,
      num_rows: BigInt(grouped),
      row_groups: groups,
      key_value_metadata: [{ key: TRACE_INFO_KEY, value: JSON.stringify(info) }],
    };
    // The length is not part of what is written: writeMetadata finds it.
    writeMetadata(out, metadata as FileMetaData);
    out.appendBytes(Buffer.from(PARQUET_MAGIC));
    write(out);
    whole = totals.bytes;
    dirty = false;
  };
  const group = (columns: TraceColumns, from: number, to: number): void => {
    const out = begin();
    const start = out.offset;
    const chunks = keys.map((key) => writeChunk(out, columns, key, from, to));
    write(out);
    grouped += to - from;
    groups.push({
      columns: chunks,
      total_byte_size: chunks.reduce((sum, { meta_data }) => sum + (meta_data?.total_uncompressed_size ?? 0n), 0n),
      total_compressed_size: BigInt(out.offset - start),
      num_rows: BigInt(to - from),
    });
    if (totals.bytes - whole >= Math.max(GROWTH_BYTES_MIN, whole * GROWTH_SHARE)) footer();
  };
  const release = (): void => {
    if (held.count === 0) return;
    const { capacity } = held;
    group(held, 0, held.count);
    held = createTraceColumns({ pushes, capacity });
  };
  const flush = (): void => {
    release();
    if (dirty) footer();
  };

  try {
    const out = begin();
    out.appendBytes(Buffer.from(PARQUET_MAGIC));
    write(out);
    footer();
  } catch (error) {
    close();
    throw error;
  }
  return {
    path,
    totals,
    append: (columns, from = 0, to = columns.count) => {
      if (file < 0) throw new TraceFileError(`${path}: is closed already`);
      if (columns.pushes && !pushes) throw new RangeError('rows with pushes in a trace without them');
      totals.rows += Math.max(0, to - from);
      for (let at = from; at < to; ) {
        // Whole groups are written from where they lie.
        if (held.count === 0 && to - at >= rowGroupRows && columns.pushes === pushes) {
          group(columns, at, at + rowGroupRows);
          at += rowGroupRows;
          continue;
        }
        const count = Math.min(to - at, rowGroupRows - held.count);
        reserveRows(held, held.count + count);
        copyRows(keys, columns, at, count, held);
        at += count;
        if (held.count === rowGroupRows) release();
      }
    },
    setInfo: (changed) => {
      checkInfo(changed);
      info = changed;
      dirty = true;
    },
    flush,
    close: () => {
      if (file < 0) return;
      try {
        flush();
      } finally {
        close();
      }
    },
  };
}

/**
 * Writes a whole trace; bytes of its file. It gets its name when it is complete, so that a file which is there stays as
 * it was until then. Throws TraceFileError as createTraceWriter does.
 */
export function saveTrace(path: string, { info, columns }: Trace, { overwrite = false } = {}): number {
  const stat = statSync(path, { throwIfNoEntry: false });
  const isPlace = stat === undefined || stat.isFile();
  if (!overwrite && stat?.isFile()) {
    throw new TraceFileError(`${path}: exists already; name another file, or have it overwritten`);
  }
  // A pipe or a device stays one.
  const target = isPlace ? join(dirname(path), `.${basename(path)}.${process.pid}.tmp`) : path;
  try {
    const writer = createTraceWriter(target, { info, pushes: columns.pushes, overwrite: true });
    try {
      writer.append(columns);
    } finally {
      writer.close();
    }
    if (isPlace) renameSync(target, path);
    return writer.totals.bytes;
  } catch (error) {
    if (isPlace && existsSync(target)) rmSync(target, { force: true });
    if (!(error instanceof TraceFileError)) throw error;
    throw new TraceFileError(error.message.replace(target, path));
  }
}
