/** What the threads that copy by ioctl 62 and the one that starts them say to each other. */

/** What each thread is started with. */
export interface CopyWorkerData {
  uvmFd: number;
}

/** One window of a copy: the threads take its pieces in turn, by a counter that they share. */
export interface CopyWindow {
  kind: 'window';
  /** Where the window begins in the other process, and in this one. */
  from: bigint;
  to: bigint;
  length: number;
  /** Bytes of a piece; the last one may be shorter. */
  piece: number;
  /** Word 0: the next piece. */
  next: SharedArrayBuffer;
}

export type CopyRequest = CopyWindow | { kind: 'end' };

/** A thread has found no piece left, or has failed at one. */
export interface CopyDone {
  /** Whole bytes that it copied, and the first failure: offset in the window, errno, status. */
  bytes: number;
  failure: { offset: number; bytesRead: number; errno: number; status: number } | null;
}
