/**
 * A program over a driver: a VA space with its GPUs, managed memory, and threads of the CPU and of GPUs that touch it.
 * Beside the ioctls of device.ts this is all that an experiment needs, and one program text runs over the model
 * (src/device/model/model_program.ts) and over a GPU of this machine (src/live/linux_program.ts).
 */
import type { ProcessorEntry } from './attach.ts';
import type { Device, DeviceFile } from './device.ts';

/** One thread touches the first 32-bit word of pages, one after another, each access waiting for the last. */
export interface AccessRequest {
  /** `cpu`, `gpu0`, `gpu1`, ... */
  on: string;
  do: 'read' | 'write' | 'atomic';
  /** Page aligned. */
  address: bigint;
  /** 4 KiB pages from the address on, in the order of their touch. */
  pages: readonly number[];
  /** What a write stores; an atomic adds 1. */
  value?: number;
}

export interface Program {
  readonly device: Device;
  /** The VA space's file: ioctls about memory go to it, and tools attach to it. */
  readonly uvm: DeviceFile;
  /** GPUs by their words, with the uuids that ioctls take. */
  readonly gpus: readonly ProcessorEntry[];
  /** Managed memory from a 2 MiB boundary on; whole pages of `bytes`. */
  allocateManaged(bytes: number): Promise<bigint>;
  freeManaged(address: bigint): Promise<void>;
  /**
   * Ends when the thread has ended. Returns the sum, modulo 2^32, of the words as the thread saw them: what a read and
   * an atomic found, what a write left. RangeError for a processor that is not there; AccessError for a fatal fault.
   */
  access(request: AccessRequest): Promise<number>;
  /** Frees everything and closes the program's files. */
  close(): Promise<void>;
}

/** An access that no processor can make: no managed memory is there. */
export class AccessError extends Error {
  override name = 'AccessError';
}

/** The index of the processor's GPU, or -1 for the CPU. Throws RangeError for a word that names none of them. */
export function gpuIndex(word: string, gpus: readonly { word: string }[]): number {
  if (word === 'cpu') return -1;
  const index = gpus.findIndex((gpu) => gpu.word === word);
  if (index >= 0) return index;
  throw new RangeError(`processor ${JSON.stringify(word)}; valid: cpu, ${gpus.map((gpu) => gpu.word).join(', ')}`);
}

/** Checks the place of an access. Throws RangeError. */
export function checkAccess({ address, pages }: AccessRequest): void {
  if (address % 4096n !== 0n) throw new RangeError(`address 0x${address.toString(16)}: expected a multiple of 4096`);
  for (const page of pages) {
    if (!Number.isSafeInteger(page) || page < 0 || page >= 2 ** 32) {
      throw new RangeError(`page ${page}: expected a whole number from 0 to 4294967295`);
    }
  }
}
