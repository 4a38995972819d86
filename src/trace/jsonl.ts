/**
 * Writing a file of JSON lines, or of anything, so that its name never shows half of it: lines go to a temporary name
 * in the same folder, which becomes the file's name at the end.
 */
import { closeSync, openSync, realpathSync, renameSync, rmSync, type Stats, statSync, writeSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { assert } from '../base/assert.ts';

export interface LineWriter {
  /** Writes one value as a line. */
  write(value: unknown): void;
  /** Writes a piece of text as it is, for lines that are too long to hold in memory as one value. */
  writeText(text: string): void;
  /** Writes bytes as they are. */
  writeBytes(bytes: Uint8Array): void;
  /** Gives the file its name. Nothing may be written afterwards. */
  commit(): void;
  /** Removes what was written; an earlier file of that name stays. Does nothing after the end. */
  abort(): void;
}

/** A file that cannot be written. */
export class LineFileError extends Error {
  override name = 'LineFileError';
}

/** Characters kept back before they are written. */
const BUFFERED = 1 << 20;

/** Runs a file operation; its failure becomes one sentence that names the file which the user asked for. */
function attempt<T>(path: string, act: () => T): T {
  try {
    return act();
  } catch (error) {
    if (error instanceof LineFileError) throw error;
    const { code, message } = error as NodeJS.ErrnoException;
    const reason =
      code === 'ENOENT' || code === 'ENOTDIR'
        ? `there is no folder ${dirname(path)}`
        : code === 'EACCES' || code === 'EPERM' || code === 'EROFS'
          ? 'permission denied'
          : message;
    throw new LineFileError(`${path}: cannot be written: ${reason}`);
  }
}

/** Opens a new file beside the target; a name that another process uses is passed over. */
function openBeside(target: string): { file: number; temporary: string } {
  for (let n = 0; ; n++) {
    const temporary = join(dirname(target), `.${basename(target)}.${process.pid}-${n}.tmp`);
    try {
      return { file: openSync(temporary, 'wx'), temporary };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST' || n === 1000) throw error;
    }
  }
}

/** Where the lines go: a temporary file, or the path itself where it is a pipe or a device, which must stay one. */
function openTarget(path: string): { file: number; temporary: string | null; target: string } {
  const stat: Stats | undefined = statSync(path, { throwIfNoEntry: false });
  if (stat?.isDirectory()) throw new LineFileError(`${path}: cannot be written: it is a folder`);
  if (stat !== undefined && !stat.isFile()) return { file: openSync(path, 'w'), temporary: null, target: path };
  // The file behind a link is replaced, not the link.
  const target = stat === undefined ? path : realpathSync(path);
  return { ...openBeside(target), target };
}

function writeAll(file: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; ) at += writeSync(file, bytes, at);
}

/**
 * Opens a writer for `path`. Throws LineFileError, which names the path and the reason, for a path that is a folder
 * or lies in no folder, without permission, on a full disk.
 */
export function createLineWriter(path: string): LineWriter {
  const { file, temporary, target } = attempt(path, () => openTarget(path));
  let pending: string[] = [];
  let held = 0;
  let open = true;
  const flush = (): void => {
    const text = pending.join('');
    pending = [];
    held = 0;
    attempt(path, () => writeAll(file, Buffer.from(text)));
  };
  const writeText = (text: string): void => {
    assert(open, 'a line was written after the file had ended');
    pending.push(text);
    held += text.length;
    if (held >= BUFFERED) flush();
  };
  return {
    write: (value) => writeText(`${JSON.stringify(value)}\n`),
    writeText,
    writeBytes: (bytes) => {
      assert(open, 'bytes were written after the file had ended');
      flush();
      attempt(path, () => writeAll(file, bytes));
    },
    commit: () => {
      assert(open, 'a file was ended twice');
      flush();
      open = false;
      closeSync(file);
      attempt(path, () => {
        try {
          if (temporary !== null) renameSync(temporary, target);
        } catch (error) {
          rmSync(temporary as string, { force: true });
          throw error;
        }
      });
    },
    abort: () => {
      if (!open) return;
      open = false;
      closeSync(file);
      if (temporary !== null) rmSync(temporary, { force: true });
    },
  };
}
