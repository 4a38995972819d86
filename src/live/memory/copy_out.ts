/**
 * Copying memory of another process's VA space by ioctl 62 of a stock driver, several pieces at a time: each call
 * copies page by page and waits for each, so that threads side by side are what makes it fast. Nothing moves: pages
 * stay where they are, and their owner notices nothing but a busier copy engine.
 */
import type { Worker } from 'node:worker_threads';
import { errnoName, statusText } from '../../device/abi/status.ts';
import type { CallerMemory, DeviceFile } from '../../device/device.ts';
import type { LinuxDevice } from '../../device/linux/linux_device.ts';
import { giveWorkerBack, nextMessage, takeWorker } from '../worker_pool.ts';
import type { CopyDone, CopyWindow } from './copy_protocol.ts';

/** Pieces in flight when the user does not say: more of them wait for each other. */
export const IN_FLIGHT_DEFAULT = 8;
export const IN_FLIGHT_MAX = 64;
/** A piece is at most a block of the driver, whose lock its pages share. */
const PIECE = 2 ** 21;
const SMALLEST_PIECE = 2 ** 16;
/** Memory that pieces are copied to before it is handed on. */
const WINDOW = 2 ** 26;

/** A copy that ended early; `bytes` of it are good. */
export class CopyError extends Error {
  override name = 'CopyError';
  readonly bytes: number;
  constructor(message: string, bytes: number) {
    super(message);
    this.bytes = bytes;
  }
}

export interface CopyTeam {
  readonly inFlight: number;
  /**
   * Copies [from, from + length) and hands it to `take` in order, in windows of this process's memory that are valid
   * until `take` returns. Returns the nanoseconds that the driver was at work. Throws CopyError.
   */
  copy(from: bigint, length: bigint, take: (bytes: Uint8Array) => void): Promise<number>;
  close(): Promise<void>;
}

function failureText(from: bigint, { offset, bytesRead, errno, status }: NonNullable<CopyDone['failure']>): string {
  const at = `0x${(from + BigInt(offset + bytesRead)).toString(16)}`;
  const why = errno === 0 ? statusText(status) : errnoName(errno);
  return `ioctl 62 (UVM_TOOLS_READ_PROCESS_MEMORY) at ${at}: ${why}; the page may have been freed meanwhile`;
}

async function copyWindow(workers: readonly Worker[], window: CopyWindow, before: number): Promise<void> {
  const answers = workers.map((worker) => nextMessage<CopyDone>(worker));
  for (const worker of workers) worker.postMessage(window);
  const done = await Promise.all(answers);
  const failures = done.flatMap(({ failure }) => (failure === null ? [] : [failure]));
  if (failures.length === 0) return;
  const first = failures.reduce((a, b) => (a.offset <= b.offset ? a : b));
  throw new CopyError(failureText(window.from, first), before + first.offset + first.bytesRead);
}

/** Pieces so that each thread gets several, in whole pages. */
function pieceBytes(length: number, inFlight: number): number {
  const even = Math.floor(length / (inFlight * 4) / SMALLEST_PIECE) * SMALLEST_PIECE;
  return Math.min(PIECE, Math.max(SMALLEST_PIECE, even));
}

/** A window without pieces: its answer says that the thread is there. */
function emptyWindow(uvmFd: number): CopyWindow {
  return { uvmFd, from: 0n, to: 0n, length: 0, piece: 1, next: new SharedArrayBuffer(4) };
}

/** Takes threads for the copies. Throws UnavailableError where there is no Linux. */
export async function createCopyTeam(device: LinuxDevice, uvm: DeviceFile, inFlight: number): Promise<CopyTeam> {
  const workers = Array.from({ length: inFlight }, () => takeWorker('copy_worker'));
  let memory: CallerMemory;
  try {
    await copyWindow(workers, emptyWindow(uvm.fd), 0);
    memory = await device.allocate(WINDOW);
  } catch (error) {
    await Promise.all(workers.map((worker) => worker.terminate()));
    throw error;
  }
  // Its pages are populated now rather than by the driver in the middle of the copy.
  memory.bytes().fill(0);
  const close = async (): Promise<void> => {
    for (const worker of workers.splice(0)) giveWorkerBack('copy_worker', worker);
    await memory.close();
  };
  return {
    inFlight,
    close,
    copy: async (from, length, take) => {
      let nanoseconds = 0;
      for (let done = 0n; done < length; ) {
        const size = Number(length - done < BigInt(WINDOW) ? length - done : BigInt(WINDOW));
        const window: CopyWindow = {
          uvmFd: uvm.fd,
          from: from + done,
          to: memory.address,
          length: size,
          piece: pieceBytes(size, inFlight),
          next: new SharedArrayBuffer(4),
        };
        const start = device.libc.clockRaw();
        try {
          await copyWindow(workers, window, Number(done));
        } catch (error) {
          if (error instanceof CopyError) take(memory.bytes().subarray(0, error.bytes - Number(done)));
          throw error;
        }
        nanoseconds += device.libc.clockRaw() - start;
        take(memory.bytes().subarray(0, size));
        done += BigInt(size);
      }
      return nanoseconds;
    },
  };
}
