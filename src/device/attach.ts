/**
 * Attaching to the VA space of another process: the file of it among the process's descriptors, and its processors. The
 * same text runs over the model's processes and over Linux.
 */
import { CPU_UUID, IOCTL, UUID_TABLE_V2_ENTRIES } from './abi/ioctls.ts';
import { NV_ERR_ILLEGAL_ACTION, NV_OK } from './abi/status.ts';
import { type Device, DeviceError, type DeviceFile, IoctlError, ioctlResult } from './device.ts';

const PAGE = 4096;
const UUID_BYTES = 16;
/** Bytes of a table of ioctl 77, in whole pages. */
export const PROCESSOR_TABLE_BYTES = Math.ceil((UUID_TABLE_V2_ENTRIES * UUID_BYTES) / PAGE) * PAGE;
/** Numbers that version 2 reserves for the instances of one GPU. */
const INSTANCES = 8;

/** A processor of a VA space, as events of version 2 number it. */
export interface ProcessorEntry {
  number: number;
  /** `cpu`, `gpu0`, `gpu1`, ...: GPUs in the order of their numbers. */
  word: string;
  /** 32 hex digits. */
  uuid: string;
}

/** No attaching; the message says which rule forbids it, and what to do. */
export class AttachError extends Error {
  override name = 'AttachError';
}

const hex = (bytes: Uint8Array): string => Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join('');

/** The word of a processor number of version 2 (CPU 0, then eight for each GPU). */
export function processorWord(number: number): string {
  return number === 0 ? 'cpu' : `gpu${Math.floor((number - 1) / INSTANCES)}`;
}

/** The processors in a table as ioctl 77 fills it. */
export function processorEntries(table: Uint8Array): ProcessorEntry[] {
  const processors: ProcessorEntry[] = [];
  for (let number = 0; number < UUID_TABLE_V2_ENTRIES; number++) {
    const uuid = table.subarray(number * UUID_BYTES, (number + 1) * UUID_BYTES);
    if (uuid.every((b) => b === 0)) continue;
    processors.push({ number, word: processorWord(number), uuid: hex(uuid) });
  }
  return processors;
}

/**
 * The processors that a VA space knows. Status NV_ERR_ILLEGAL_ACTION: the file is no VA space (not initialised, or the
 * one that pins the address space). Closes nothing.
 */
export async function processorTable(
  device: Device,
  uvm: DeviceFile,
): Promise<{ status: number; errno: number; processors: ProcessorEntry[] }> {
  const table = await device.allocate(PROCESSOR_TABLE_BYTES);
  try {
    const { errno, status } = await ioctlResult(device, uvm, IOCTL.TOOLS_GET_PROCESSOR_UUID_TABLE_V2, {
      tablePtr: table.address,
    });
    if (errno !== 0 || status !== NV_OK) return { status, errno, processors: [] };
    return { status, errno, processors: processorEntries(table.bytes()) };
  } finally {
    await table.close();
  }
}

export const CPU_UUID_HEX = hex(CPU_UUID);

export interface Attachment {
  uvm: DeviceFile;
  /** The number of the descriptor in the other process. */
  theirFd: number;
  processors: ProcessorEntry[];
}

/**
 * Takes over the VA space's file of process `pid` among its descriptors `fds` of /dev/nvidia-uvm. A process holds two
 * such files: the other one pins its address space, and is closed at once, as keeping it would keep the whole process's
 * memory alive. Returns null when none of them is a VA space (yet). Throws AttachError when a driver answers in a way
 * that no known branch does, DeviceError when the descriptors cannot be taken.
 */
export async function attachVaSpace(device: Device, pid: number, fds: readonly number[]): Promise<Attachment | null> {
  for (const theirFd of fds) {
    let uvm: DeviceFile;
    try {
      uvm = await device.adopt(pid, theirFd);
    } catch (error) {
      // Closed since the descriptors were listed.
      if (error instanceof DeviceError && error.errno === 9) continue;
      throw error;
    }
    let keep = false;
    try {
      const { status, errno, processors } = await processorTable(device, uvm);
      if (errno === 0 && status === NV_ERR_ILLEGAL_ACTION) continue;
      if (errno !== 0) {
        throw new AttachError(
          `the driver does not know ioctl ${IOCTL.TOOLS_GET_PROCESSOR_UUID_TABLE_V2.number} ` +
            '(UVM_TOOLS_GET_PROCESSOR_UUID_TABLE_V2): it is of a branch whose tools interface uvmlab does not know',
        );
      }
      if (status !== NV_OK) throw new IoctlError(IOCTL.TOOLS_GET_PROCESSOR_UUID_TABLE_V2, errno, status);
      if (!processors.some((p) => p.number === 0 && p.uuid === CPU_UUID_HEX)) {
        throw new AttachError(
          'the table of processors does not begin with the CPU: the driver lays it out differently',
        );
      }
      keep = true;
      return { uvm, theirFd, processors };
    } finally {
      if (!keep) await device.close(uvm);
    }
  }
  return null;
}
