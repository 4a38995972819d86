/** Reading the file of a trace (trace_decode.ts says how). */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { reasonOf } from '../disk.ts';
import { MalformedError } from './parquet_thrift.ts';
import {
  decodeTrace,
  decodeTraceHead,
  type ReadTraceOptions,
  type TraceBytes,
  type TraceHead,
} from './trace_decode.ts';
import type { Trace } from './trace_events.ts';
import { TraceFileError } from './trace_file_error.ts';

/** The first `size` bytes of an open file. */
export function bytesOf(path: string, file: number, size: number): TraceBytes {
  const read = (offset: number, length: number): Uint8Array => {
    const bytes = new Uint8Array(length);
    for (let filled = 0; filled < length; ) {
      const got = readSync(file, bytes, filled, length - filled, offset + filled);
      if (got === 0) throw new MalformedError(offset + filled, 'the file became shorter while read');
      filled += got;
    }
    return bytes;
  };
  return { path, size, read };
}

/** Opens the file, and says for every way to fail which file it was. */
function withFile<T>(path: string, act: (source: TraceBytes) => T): T {
  let file = -1;
  try {
    file = openSync(path, 'r');
    const stat = fstatSync(file);
    if (!stat.isFile()) {
      throw new TraceFileError(`${path}: cannot be read: it is ${stat.isDirectory() ? 'a folder' : 'no file'}`);
    }
    return act(bytesOf(path, file, stat.size));
  } catch (error) {
    if (error instanceof TraceFileError || (error as NodeJS.ErrnoException).code === undefined) throw error;
    throw new TraceFileError(`${path}: cannot be read: ${reasonOf(error)}`);
  } finally {
    if (file >= 0) closeSync(file);
  }
}

/** What a trace says about itself; no row is read. Rejects with TraceFileError, with the byte where it is wrong. */
export async function readTraceHead(path: string): Promise<TraceHead> {
  return withFile(path, decodeTraceHead);
}

/** A trace in memory, or the columns of it that are asked for. Rejects as readTraceHead does. */
export async function readTrace(path: string, options: ReadTraceOptions = {}): Promise<Trace> {
  return withFile(path, (source) => decodeTrace(source, options));
}
