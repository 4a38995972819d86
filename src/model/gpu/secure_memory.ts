/** The two kinds of memory of a machine with Confidential Computing, as the engines of one GPU see them. */
import type { Model } from '../state.ts';
import { type ByteMemory, byteMemoryRead, byteMemoryWrite, createByteMemory } from './byte_memory.ts';

/** Addresses from here on are those of unprotected memory: anybody can read and change what lies there. */
export const FIRST_UNPROTECTED = 2 ** 44;

export interface SecureMemory {
  protected: ByteMemory;
  unprotected: ByteMemory;
}

export function createSecureMemory(): SecureMemory {
  return { protected: createByteMemory(), unprotected: createByteMemory() };
}

export function secureMemoryRead(memory: SecureMemory, address: number, bytes: number): Uint8Array {
  return byteMemoryRead(address < FIRST_UNPROTECTED ? memory.protected : memory.unprotected, address, bytes);
}

/** Writes memory of GPU `gpu`, and tells who looks at the unprotected kind (`unprotectedWritten`). */
export function secureMemoryWrite(m: Model, gpu: number, address: number, bytes: Uint8Array): void {
  const memory = m.gpus[gpu].channelManager.confComputing?.memory;
  if (memory == null) return;
  if (address < FIRST_UNPROTECTED) {
    byteMemoryWrite(memory.protected, address, bytes);
    return;
  }
  byteMemoryWrite(memory.unprotected, address, bytes);
  m.res.confComputing?.unprotectedWritten?.(m, gpu, address, bytes.length);
}
