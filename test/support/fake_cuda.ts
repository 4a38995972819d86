/** CUDA without a GPU: what it is asked for is kept, and memory is this process's own. */
import type { Cuda } from '../../src/device/linux/cuda.ts';
import { type Libc, MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE } from '../../src/device/linux/libc.ts';

/** A Cuda of ordinary memory that keeps what it was called with. */
export interface FakeCuda extends Cuda {
  calls: unknown[][];
  /** Memory that it gave and has not got back. */
  held: Map<bigint, number>;
}

/** `gpus` GPUs; `libc` is what memory comes from. */
export function fakeCuda(libc: Libc, gpus = 1): FakeCuda {
  const calls: unknown[][] = [];
  const held = new Map<bigint, number>();
  const keep =
    (name: string) =>
    (...args: unknown[]): void => {
      calls.push([name, ...args]);
    };
  const give = (name: string) => (bytes: number) => {
    calls.push([name, bytes]);
    const address = libc.mmap(0n, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0n);
    held.set(address, bytes);
    return address;
  };
  const take = (name: string) => (address: bigint) => {
    calls.push([name, address]);
    const bytes = held.get(address);
    if (bytes === undefined) throw new Error(`${name} of memory that was not given`);
    held.delete(address);
    libc.munmap(address, bytes);
  };
  return {
    calls,
    held,
    devices: Array.from({ length: gpus }, (_, ordinal) => ({ ordinal, name: 'GPU', uuid: `${ordinal}` })),
    version: 13000,
    use: keep('use'),
    synchronize: keep('synchronize'),
    memInfo: () => ({ free: 0, total: 0 }),
    allocManaged: give('allocManaged'),
    freeManaged: take('freeManaged'),
    alloc: give('alloc'),
    free: take('free'),
    hostAlloc: give('hostAlloc'),
    hostFree: take('hostFree'),
    prefetch: keep('prefetch'),
    advise: keep('advise'),
    memcpy: keep('memcpy'),
    memset: keep('memset'),
    launch: keep('launch'),
    close: keep('close'),
  };
}
