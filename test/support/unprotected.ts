/** What anybody can do with the unprotected memory of a machine with Confidential Computing: read it, and change it. */
import { byteMemoryRead, byteMemoryWrite } from '../../src/model/gpu/byte_memory.ts';
import type { SecureMemory } from '../../src/model/gpu/secure_memory.ts';
import type { Model } from '../../src/model/state.ts';
import { confComputingOf, confComputingResources } from '../../src/model/uvm/conf_computing.ts';
import { unprotectedName } from '../../src/model/uvm/secure_memory.ts';

export function memoryOf(m: Model, gpu = 0): SecureMemory {
  const { memory } = confComputingOf(m.gpus[gpu].channelManager);
  if (memory === null) throw new Error('no contents');
  return memory;
}

/** Changes bits of one byte of unprotected memory. */
export function flip(m: Model, gpu: number, address: number, bits = 0x10): void {
  const { unprotected } = memoryOf(m, gpu);
  const byte = byteMemoryRead(unprotected, address, 1);
  byte[0] ^= bits;
  byteMemoryWrite(unprotected, address, byte);
}

/** Which write is changed: where (unprotectedName), how many bytes, and the address, all as far as given. */
export interface Target {
  name: string;
  bytes?: number;
  address?: number;
  /** The byte that is changed, counted from the write's address. */
  offset?: number;
  bits?: number;
}

/** Changes a bit of the next write that fits, once. Returns how many were changed. */
export function flipNext(m: Model, target: Target): () => number {
  let done = 0;
  confComputingResources(m).unprotectedWritten = (model, gpu, address, bytes) => {
    if (done > 0 || unprotectedName(address) !== target.name) return;
    if (target.bytes !== undefined && target.bytes !== bytes) return;
    if (target.address !== undefined && target.address !== address) return;
    done++;
    flip(model, gpu, address + (target.offset ?? 0), target.bits);
  };
  return () => done;
}
