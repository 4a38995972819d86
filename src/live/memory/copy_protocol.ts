/** What the threads that copy by ioctl 62 and the one that starts them say to each other. */

/** One window of a copy: the threads take its pieces in turn, by a counter that they share. */
export interface CopyWindow {
  /** The VA space's file, in this process. */
  uvmFd: number;
  /** Where the window begins in the other process, and in this one. */
  from: bigint;
  to: bigint;
  length: number;
  /** Bytes of a piece; the last one may be shorter. */
  piece: number;
  /** Word 0: the next piece. */
  next: SharedArrayBuffer;
}

/** A thread has found no piece left, or has failed at one. */
export interface CopyDone {
  /** Whole bytes that it copied, and the first failure: offset in the window, errno, status. */
  bytes: number;
  failure: { offset: number; bytesRead: number; errno: number; status: number } | null;
}
