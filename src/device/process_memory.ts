/**
 * Managed memory of a process, read and written through the driver over any device: UVM_TOOLS_READ_PROCESS_MEMORY and
 * UVM_TOOLS_WRITE_PROCESS_MEMORY. The file may be adopted from another process, whose memory it then is.
 *
 * A read moves no page and changes no mapping. A write goes to the copy that is closest to the CPU, and ends read
 * duplication of its page; running programs are not stopped. Each page of 4 KiB is a step of its own.
 */

import { IOCTL, type Ioctl } from './abi/ioctls.ts';
import type { AnyLayout, InputOf } from './abi/layout.ts';
import { type CallerMemory, type Device, type DeviceFile, type IoctlResult, ioctlResult } from './device.ts';

/** What an access came to. */
export interface ProcessMemoryTransfer {
  /** Bytes before the page that failed; all of them when both answers are 0. */
  bytes: number;
  /** NV_ERR_INVALID_ADDRESS where no managed memory is, NV_ERR_ILLEGAL_ACTION when the file stands for no VA space. */
  status: number;
  /** Not 0: the driver's routine was not reached, and `bytes` and `status` are 0. */
  errno: number;
}

/** The address of a part of the caller's memory. Throws RangeError for what lies outside of it. */
function partOf(memory: CallerMemory, offset: number, length: number): bigint {
  if (!Number.isSafeInteger(offset) || offset < 0 || offset > memory.length) {
    throw new RangeError(
      `offset ${offset} in memory of the caller: expected a whole number from 0 to ${memory.length}`,
    );
  }
  const most = memory.length - offset;
  if (!Number.isSafeInteger(length) || length < 0 || length > most) {
    throw new RangeError(`length ${length} at offset ${offset}: expected a whole number from 0 to ${most}`);
  }
  return memory.address + BigInt(offset);
}

async function transfer<L extends AnyLayout>(
  device: Device,
  uvm: DeviceFile,
  call: Ioctl<L>,
  input: InputOf<L>,
  moved: (params: IoctlResult<L>['params']) => bigint,
): Promise<ProcessMemoryTransfer> {
  const { errno, status, params } = await ioctlResult(device, uvm, call, input);
  return errno === 0 ? { bytes: Number(moved(params)), status, errno } : { bytes: 0, status: 0, errno };
}

/**
 * Reads `length` bytes at `address` of the VA space of `uvm` to byte `offset` of `into`. Nothing needs to be aligned.
 * Pages that live nowhere read as zeros and stay so. What the driver says is in the result; RangeError for a part that
 * is not inside of `into`.
 */
export async function readProcessMemory(
  device: Device,
  uvm: DeviceFile,
  address: bigint,
  into: CallerMemory,
  offset: number,
  length: number,
): Promise<ProcessMemoryTransfer> {
  const input = { buffer: partOf(into, offset, length), size: length, targetVa: address };
  return transfer(device, uvm, IOCTL.TOOLS_READ_PROCESS_MEMORY, input, (params) => params.bytesRead);
}

/** Writes `length` bytes from byte `offset` of `from` to `address` of the VA space of `uvm`; as readProcessMemory. */
export async function writeProcessMemory(
  device: Device,
  uvm: DeviceFile,
  address: bigint,
  from: CallerMemory,
  offset: number,
  length: number,
): Promise<ProcessMemoryTransfer> {
  const input = { buffer: partOf(from, offset, length), size: length, targetVa: address };
  return transfer(device, uvm, IOCTL.TOOLS_WRITE_PROCESS_MEMORY, input, (params) => params.bytesWritten);
}
