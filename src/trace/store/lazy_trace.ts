/**
 * The file of a trace of which columns are read when they are needed. The file stays open and counts as it was when it
 * was opened: what is written behind its end meanwhile does not matter, nor that another file takes its name.
 */
import { closeSync, fstatSync, openSync } from 'node:fs';
import { reasonOf } from '../disk.ts';
import { adoptColumns } from './trace_columns.ts';
import { decodeTrace, type TraceBytes } from './trace_decode.ts';
import type { Trace } from './trace_events.ts';
import { TraceFileError } from './trace_file_error.ts';
import { bytesOf } from './trace_reader.ts';
import type { ColumnKey } from './trace_schema.ts';

export interface LazyTrace {
  trace: Trace;
  /** Reads columns into `trace` that are not there yet, one after another. Throws TraceFileError. */
  load(keys: readonly ColumnKey[]): void;
  close(): void;
}

/** A trace with `keys` of its columns. Throws TraceFileError, with the byte where something is wrong. */
export function openLazyTrace(path: string, keys: readonly ColumnKey[]): LazyTrace {
  let file = -1;
  const close = (): void => {
    if (file >= 0) closeSync(file);
    file = -1;
  };
  try {
    file = openSync(path, 'r');
    const stat = fstatSync(file);
    if (!stat.isFile()) {
      throw new TraceFileError(`${path}: cannot be read: it is ${stat.isDirectory() ? 'a folder' : 'no file'}`);
    }
    const source: TraceBytes = bytesOf(path, file, stat.size);
    const trace = decodeTrace(source, { keys });
    return {
      trace,
      load: (more) => {
        if (file < 0) throw new TraceFileError(`${path}: is closed already`);
        for (const key of more) {
          if (!trace.columns.loaded.has(key)) adoptColumns(trace.columns, decodeTrace(source, { keys: [key] }).columns);
        }
      },
      close,
    };
  } catch (error) {
    close();
    if (error instanceof TraceFileError || (error as NodeJS.ErrnoException).code === undefined) throw error;
    throw new TraceFileError(`${path}: cannot be read: ${reasonOf(error)}`);
  }
}
