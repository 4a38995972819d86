/**
 * Reading and writing the managed memory of a VA space by its file (ioctls 62 and 63), from any process that has a
 * duplicate of it. A read moves nothing and maps nothing; a write may change what the driver knows of the page: copies
 * of a read-duplicated one are dropped, and one that was nowhere is populated on the CPU.
 */
import { IOCTL } from './abi/ioctls.ts';
import { type CallerMemory, type Device, type DeviceFile, ioctlResult } from './device.ts';

/** What a call came to. With a status other than NV_OK, `bytes` were done before the page that failed. */
export interface MemoryTransfer {
  bytes: number;
  status: number;
  /** Not 0: the call did not reach the driver's routine, and nothing was done. */
  errno: number;
}

function checkSpan(memory: CallerMemory, offset: number, length: number): void {
  const fits = Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 && length >= 0;
  if (!fits || offset + length > memory.length) {
    throw new RangeError(`bytes ${offset} to ${offset + length} of memory of ${memory.length} bytes`);
  }
}

/** Reads [address, address + length) into `into` from `offset` on. RangeError when that does not fit. */
export async function readProcessMemory(
  device: Device,
  uvm: DeviceFile,
  address: bigint,
  into: CallerMemory,
  offset: number,
  length: number,
): Promise<MemoryTransfer> {
  checkSpan(into, offset, length);
  const buffer = into.address + BigInt(offset);
  const input = { buffer, size: length, targetVa: address };
  const { errno, status, params } = await ioctlResult(device, uvm, IOCTL.TOOLS_READ_PROCESS_MEMORY, input);
  return { bytes: errno === 0 ? Number(params.bytesRead) : 0, status, errno };
}

/** Writes `from`, from `offset` on, to [address, address + length). RangeError when that does not fit. */
export async function writeProcessMemory(
  device: Device,
  uvm: DeviceFile,
  address: bigint,
  from: CallerMemory,
  offset: number,
  length: number,
): Promise<MemoryTransfer> {
  checkSpan(from, offset, length);
  const buffer = from.address + BigInt(offset);
  const input = { buffer, size: length, targetVa: address };
  const { errno, status, params } = await ioctlResult(device, uvm, IOCTL.TOOLS_WRITE_PROCESS_MEMORY, input);
  return { bytes: errno === 0 ? Number(params.bytesWritten) : 0, status, errno };
}
