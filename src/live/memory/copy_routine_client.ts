/**
 * The copy routine of a user's own driver (docs/copy-routine.md), through the numbers and layouts that the user gives,
 * and checked against ioctl 62 of the same driver, which reads the same bytes where nothing writes them meanwhile.
 */
import { readFileSync } from 'node:fs';
import { parseCopyAbi } from '../../device/abi/copy_abi.ts';
import type { CopyIoctls } from '../../device/abi/ioctls.ts';
import { NV_OK, statusText } from '../../device/abi/status.ts';
import { type Device, type DeviceFile, ioctl, ioctlResult } from '../../device/device.ts';
import { readProcessMemory } from '../../device/process_memory.ts';

/** A driver without the routine, one that fails, or a description that is none. */
export class CopyRoutineError extends Error {
  override name = 'CopyRoutineError';
}

/** Bytes of one copy: a block, aligned as the routine takes it. */
const PIECE = 2 ** 21;
const PAGE = 4096;

/** The routine's ioctls as FILE describes them. Throws CopyAbiError, CopyRoutineError. */
export function readCopyAbi(path: string): CopyIoctls {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw new CopyRoutineError(`--copy-abi ${path}: cannot be read: ${(error as Error).message}`);
  }
  return parseCopyAbi(text);
}

async function copyPiece(
  device: Device,
  uvm: DeviceFile,
  calls: CopyIoctls,
  from: bigint,
  to: bigint,
  size: number,
): Promise<void> {
  const set = await ioctlResult(device, uvm, calls.SET_COPY_FROM_ADDRESS, { address: from, length: size });
  if (set.errno !== 0) {
    throw new CopyRoutineError(
      `the driver has no ioctl ${calls.SET_COPY_FROM_ADDRESS.number} (errno ${set.errno}): a stock driver has no ` +
        'copy routine; leave out --copy-abi to copy by ioctl 62',
    );
  }
  if (set.status !== NV_OK) throw new CopyRoutineError(`SET_COPY_FROM_ADDRESS: ${statusText(set.status)}`);
  const next = await ioctlResult(device, uvm, calls.SET_NEXT_COPY_ADDRESS, { address: to });
  if (next.errno !== 0) throw new CopyRoutineError(`SET_NEXT_COPY_ADDRESS: errno ${next.errno}`);
  if (next.status !== NV_OK) {
    const done = next.params.bytesCopied;
    throw new CopyRoutineError(`SET_NEXT_COPY_ADDRESS: ${statusText(next.status)} after ${done} bytes`);
  }
}

/**
 * Copies [from, from + length) piece by piece, hands each to `take`, and compares it with what ioctl 62 reads.
 * `differs` says where they do. `from` and `length` are multiples of 4 KiB. Throws CopyRoutineError.
 */
export async function copyByRoutine(
  device: Device,
  uvm: DeviceFile,
  calls: CopyIoctls,
  from: bigint,
  length: bigint,
  take: (bytes: Uint8Array) => void,
): Promise<{ differs: string | null }> {
  if (from % BigInt(PAGE) !== 0n || length % BigInt(PAGE) !== 0n) {
    throw new CopyRoutineError(`the copy routine takes whole pages: from 0x${from.toString(16)}, ${length} bytes`);
  }
  const copied = await device.allocate(PIECE);
  const read = await device.allocate(PIECE);
  let differs: string | null = null;
  try {
    for (let done = 0n; done < length; done += BigInt(PIECE)) {
      const size = Number(length - done < BigInt(PIECE) ? length - done : BigInt(PIECE));
      const address = from + done;
      await copyPiece(device, uvm, calls, address, copied.address, size);
      const check = await readProcessMemory(device, uvm, address, read, 0, size);
      const bytes = copied.bytes().subarray(0, size);
      const other = read.bytes().subarray(0, check.bytes);
      const at = bytes.findIndex((byte, i) => byte !== other[i]);
      if (at >= 0) differs ??= `ioctl 62 reads something else at 0x${(address + BigInt(at)).toString(16)}`;
      take(bytes);
    }
    // A is cleared: nothing of this copy is left in the driver.
    await ioctl(device, uvm, calls.SET_COPY_FROM_ADDRESS, { address: 0n });
  } finally {
    await copied.close();
    await read.close();
  }
  return { differs };
}
