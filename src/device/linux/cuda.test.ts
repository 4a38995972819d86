import { beforeEach, describe, expect, vi } from 'vitest';
import { itOnLinux } from '../../../test/support/on_linux.ts';
import { CUDA_ADVICE, CUDA_CPU, CudaError, startCuda } from './cuda.ts';
import { UnavailableError } from './ffi.ts';
import { KERNELS_PTX } from './kernels.ts';
import { loadLibc } from './libc.ts';
import { ManagedLimitError } from './managed_limit.ts';

/** What stands in for libcuda: null is a machine without it. */
let library: { func: (text: string) => (...args: unknown[]) => number } | null = null;

vi.mock('./ffi.ts', async (original) => {
  const real = await original<typeof import('./ffi.ts')>();
  return {
    ...real,
    loadKoffi: async () => {
      const koffi = await real.loadKoffi();
      const load = (name: string) => {
        if (name !== 'libcuda.so.1') return koffi.load(name);
        return library ?? koffi.load('libcuda-that-is-nowhere.so.1');
      };
      return new Proxy(koffi, { get: (all, key) => (key === 'load' ? load : Reflect.get(all, key)) });
    },
  };
});

type Fake = Record<string, (...args: never[]) => number>;
const GIB = 2 ** 30;
let calls: string[] = [];

/** Names of calls whose arguments are told too, where they say more than the name. */
const say = (name: string, args: unknown[]): string =>
  `${name.replace(/_v2$/, '')}(${args.filter((arg) => typeof arg !== 'object' && arg !== KERNELS_PTX).join(', ')})`;

const text = (target: Uint8Array, bytes: Uint8Array): number => {
  target.set(bytes);
  return 0;
};

/** A machine with two GPUs, whose handles are not their ordinals. */
function twoGpus(over: Fake = {}): void {
  let next = 0x7f0000000000n;
  const give = (out: [bigint], bytes: number): number => {
    out[0] = next;
    next += BigInt(bytes);
    return 0;
  };
  const put =
    <T>(value: T) =>
    (out: [T]): number => {
      out[0] = value;
      return 0;
    };
  const fake: Fake = {
    cuDriverGetVersion: put(13000),
    cuGetErrorName: (code: number, out: [string | null]) => {
      out[0] = code === 100 ? 'CUDA_ERROR_NO_DEVICE' : code === 2 ? 'CUDA_ERROR_OUT_OF_MEMORY' : null;
      return 0;
    },
    cuDeviceGetCount: put(2),
    cuDeviceGet: (out: [number], ordinal: number) => put(70 + ordinal)(out),
    cuDeviceGetName: (target: Uint8Array, _length: number, handle: number) =>
      text(target, Buffer.from(`GPU ${handle}\0garbage`)),
    cuDeviceGetUuid: (target: Uint8Array, handle: number) => text(target, new Uint8Array(16).fill(handle)),
    cuDevicePrimaryCtxRetain: (out: [bigint], handle: number) => put(BigInt(handle) * 16n)(out),
    cuMemGetInfo_v2: (free: [number], total: [number]) => put(50 * GIB)(free) + put(100 * GIB)(total),
    cuMemAllocManaged: give,
    cuMemAlloc_v2: give,
    cuMemHostAlloc: give,
    cuModuleLoadData: put(5n),
    cuModuleGetFunction: (out: [bigint], _module: bigint, name: string) => put(BigInt(name.length))(out),
    ...over,
  };
  library = {
    func: (declaration) => {
      const name = /^int (\w+)\(/.exec(declaration)?.[1] ?? declaration;
      return (...args) => {
        calls.push(say(name, args));
        return fake[name]?.(...(args as never[])) ?? 0;
      };
    },
  };
}

beforeEach(() => {
  library = null;
  calls = [];
});

describe('a machine on which CUDA does not start', () => {
  itOnLinux('has no libcuda', async () => {
    const started = startCuda();
    await expect(started).rejects.toThrow(UnavailableError);
    await expect(started).rejects.toThrow(
      /^libcuda\.so\.1, the CUDA driver library, cannot be loaded: .+; it comes with the NVIDIA driver$/,
    );
  });

  const REASONS: [Fake, string][] = [
    [{ cuInit: () => 100 }, 'CUDA does not start: CUDA_ERROR_NO_DEVICE; uvmlab doctor'],
    [{ cuInit: () => 9999 }, 'CUDA does not start: 9999; uvmlab doctor'],
    [{ cuDeviceGetCount: () => 0 }, 'CUDA finds no GPU'],
  ];
  for (const [over, message] of REASONS) {
    itOnLinux(`says why: ${message}`, async () => {
      twoGpus(over);
      const starting = startCuda();
      await expect(starting).rejects.toThrow(UnavailableError);
      await expect(starting).rejects.toThrow(message);
      expect(calls.some((call) => call.startsWith('cuDevicePrimaryCtxRetain'))).toBe(false);
    });
  }

  itOnLinux('names the call that failed', async () => {
    twoGpus({ cuDevicePrimaryCtxRetain: () => 2 });
    await expect(startCuda()).rejects.toMatchObject({
      name: 'CudaError',
      code: 2,
      message: 'cuDevicePrimaryCtxRetain: CUDA_ERROR_OUT_OF_MEMORY (2)',
    });
  });
});

describe('CUDA', () => {
  itOnLinux('has GPUs by ordinal, and starts with the first one', async () => {
    twoGpus();
    const cuda = await startCuda();
    expect(cuda.version).toBe(13000);
    expect(cuda.devices).toEqual([
      { ordinal: 0, name: 'GPU 70', uuid: '46'.repeat(16) },
      { ordinal: 1, name: 'GPU 71', uuid: '47'.repeat(16) },
    ]);
    expect(cuda.memInfo()).toEqual({ free: 50 * GIB, total: 100 * GIB });
    calls = [];
    cuda.use(0);
    cuda.use(1);
    cuda.use(1);
    cuda.use(0);
    expect(calls).toEqual([
      'cuDevicePrimaryCtxRetain(71)',
      `cuCtxSetCurrent(${71 * 16})`,
      `cuCtxSetCurrent(${70 * 16})`,
    ]);
    expect(() => cuda.use(2)).toThrow(new RangeError('GPU 2; there are 2'));
    calls = [];
    cuda.close();
    expect(calls).toEqual(['cuDevicePrimaryCtxRelease(70)', 'cuDevicePrimaryCtxRelease(71)']);
  });

  itOnLinux('takes managed memory up to the limit, all of it together', async () => {
    twoGpus();
    const cuda = await startCuda({ limit: 8192 });
    const first = cuda.allocManaged(4096);
    expect(cuda.allocManaged(4096)).toBe(first + 4096n);
    calls = [];
    expect(() => cuda.allocManaged(1)).toThrow(ManagedLimitError);
    expect(calls).toEqual([]);
    cuda.freeManaged(first);
    expect(() => cuda.allocManaged(4097)).toThrow('4097 bytes of managed memory beside 4096 taken ones; at most 8192');
    cuda.allocManaged(4096);
    // Other memory is not counted.
    cuda.free(cuda.alloc(GIB));
    cuda.hostFree(cuda.hostAlloc(GIB));
    calls = [];
    cuda.close();
    expect(calls).toEqual([
      `cuMemFree(${first + 4096n})`,
      `cuMemFree(${first + 8192n})`,
      'cuDevicePrimaryCtxRelease(70)',
    ]);
  });

  itOnLinux('refuses a limit above what the first GPU has free', async () => {
    twoGpus();
    await expect(startCuda({ limit: 50 * GIB + 1 })).rejects.toThrow(ManagedLimitError);
    const cuda = await startCuda({ limit: 50 * GIB + 1, oversubscribe: true });
    cuda.close();
  });

  itOnLinux('names GPUs by their handles, and the CPU by -1', async () => {
    twoGpus();
    const cuda = await startCuda();
    calls = [];
    cuda.prefetch(4096n, 8192, 1);
    cuda.prefetch(4096n, 8192, CUDA_CPU);
    cuda.advise(4096n, 8192, CUDA_ADVICE.setAccessedBy, 0);
    cuda.advise(4096n, 8192, CUDA_ADVICE.setPreferredLocation, CUDA_CPU);
    cuda.memcpy(1n, 2n, 3);
    cuda.memset(1n, 0, 4096);
    cuda.synchronize();
    expect(calls).toEqual([
      'cuMemPrefetchAsync(4096, 8192, 71, 0)',
      'cuMemPrefetchAsync(4096, 8192, -1, 0)',
      'cuMemAdvise(4096, 8192, 5, 70)',
      'cuMemAdvise(4096, 8192, 3, -1)',
      'cuMemcpy(1, 2, 3)',
      'cuMemsetD8Async(1, 0, 4096, 0)',
      'cuCtxSynchronize()',
    ]);
    cuda.close();
  });

  itOnLinux('fails with the call, its error and its number', async () => {
    twoGpus({ cuMemcpy: () => 2, cuCtxSynchronize: () => 4242 });
    const cuda = await startCuda();
    expect(() => cuda.memcpy(1n, 2n, 3)).toThrow(CudaError);
    expect(() => cuda.memcpy(1n, 2n, 3)).toThrow('cuMemcpy: CUDA_ERROR_OUT_OF_MEMORY (2)');
    expect(() => cuda.synchronize()).toThrow('cuCtxSynchronize: unknown error (4242)');
    cuda.close();
  });
});

describe('a launch', () => {
  itOnLinux('lays its arguments out by the rules of C', async () => {
    const libc = await loadLibc();
    let launched: { bytes: Uint8Array; head: unknown[] } | null = null;
    twoGpus({
      cuLaunchKernel: (...args: unknown[]) => {
        const list = new BigUint64Array(libc.view(args[10] as bigint, 40).slice(0));
        expect([list[0], list[2], list[4]]).toEqual([1n, 2n, 0n]);
        const size = Number(new BigUint64Array(libc.view(list[3], 8).slice(0))[0]);
        launched = { bytes: new Uint8Array(libc.view(list[1], size).slice(0)), head: args.slice(0, 10) };
        return 0;
      },
    });
    const cuda = await startCuda();
    cuda.launch('vecAdd', 3, 256, [
      { u32: 1 },
      { u64: 2n },
      { u32: 3 },
      { u32: 4 },
      { u32: 5 },
      { u64: 2n ** 64n - 1n },
    ]);
    const expected = new Uint8Array(40).fill(0xff, 32);
    for (const [at, value] of [
      [0, 1],
      [8, 2],
      [16, 3],
      [20, 4],
      [24, 5],
    ]) {
      expected[at] = value;
    }
    expect(launched).toEqual({ bytes: expected, head: [6n, 3, 1, 1, 256, 1, 1, 0, 0, 0] });
    const many = (n: number) => Array.from({ length: n }, () => ({ u64: 0n }));
    expect(() => cuda.launch('sweep', 1, 1, many(32))).not.toThrow();
    expect(() => cuda.launch('sweep', 1, 1, many(33))).toThrow(RangeError);
    cuda.close();
  });

  itOnLinux('loads the module once for each GPU, and each kernel once in it', async () => {
    twoGpus();
    const cuda = await startCuda();
    calls = [];
    for (const gpu of [0, 0, 1]) {
      cuda.use(gpu);
      cuda.launch('touch', 1, 1, []);
    }
    cuda.launch('pound', 1, 1, []);
    const loads = calls.filter((call) => call.startsWith('cuModule'));
    expect(loads).toEqual([
      'cuModuleLoadData()',
      'cuModuleGetFunction(5, touch)',
      'cuModuleLoadData()',
      'cuModuleGetFunction(5, touch)',
      'cuModuleGetFunction(5, pound)',
    ]);
    cuda.close();
  });
});
