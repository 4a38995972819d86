/** What writers of recordings and traces share: opening a new file, writing all of it, and why a disk refuses. */
import { constants, openSync, writevSync } from 'node:fs';

/** Why a file cannot be read or written, in words. */
export function reasonOf(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === 'ENOENT' || code === 'ENOTDIR') return 'there is no such file or folder';
  if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS') return 'permission denied';
  if (code === 'ENOSPC' || code === 'EDQUOT') return 'no space is left';
  if (code === 'EISDIR') return 'it is a folder';
  return message;
}

/**
 * Opens a file that is not there, or with `overwrite` empties one that is; its descriptor. Throws what `refuse` makes
 * of the sentence that says why not, which begins with the path.
 */
export function openNew(path: string, overwrite: boolean, refuse: (message: string) => Error): number {
  const { O_WRONLY, O_CREAT, O_EXCL, O_TRUNC } = constants;
  try {
    return openSync(path, O_WRONLY | O_CREAT | (overwrite ? O_TRUNC : O_EXCL), 0o644);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') {
      throw refuse(`${path}: exists already; name another file, or have it overwritten`);
    }
    throw refuse(`${path}: cannot be written: ${reasonOf(error)}`);
  }
}

/** Writes all of the pieces; a disk may take a part of them at a time. */
export function writeAll(file: number, pieces: Uint8Array[]): void {
  let left = pieces;
  while (left.length > 0) {
    let written = writevSync(file, left);
    while (left.length > 0 && written >= left[0].length) {
      written -= left[0].length;
      left = left.slice(1);
    }
    if (left.length > 0 && written > 0) left = [left[0].subarray(written), ...left.slice(1)];
  }
}
