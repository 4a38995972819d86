/**
 * The part of the CUDA driver API (libcuda.so.1) that experiments need: managed and plain memory, advice, prefetch,
 * copies, kernels from PTX text. Addresses are 64-bit numbers (bigint), sizes are bytes. Calls are synchronous.
 */
import { type Koffi, type Library, loadKoffi, UnavailableError } from './ffi.ts';
import { KERNELS_PTX, type KernelName } from './kernels.ts';
import { type Libc, loadLibc, MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE } from './libc.ts';
import { checkManaged, type ManagedChoice, managedLimit } from './managed_limit.ts';

/** A call of CUDA that failed. */
export class CudaError extends Error {
  override name = 'CudaError';
  readonly code: number;
  constructor(call: string, code: number, text: string) {
    super(`${call}: ${text} (${code})`);
    this.code = code;
  }
}

/** CUmem_advise */
export const CUDA_ADVICE = {
  setReadMostly: 1,
  unsetReadMostly: 2,
  setPreferredLocation: 3,
  unsetPreferredLocation: 4,
  setAccessedBy: 5,
  unsetAccessedBy: 6,
} as const;

/** The CPU as a place of advice and prefetches. */
export const CUDA_CPU = -1;

export interface CudaDevice {
  ordinal: number;
  name: string;
  /** 32 hex digits. */
  uuid: string;
}

/** A kernel's argument: 4 or 8 bytes. */
export type KernelArgument = { u32: number } | { u64: bigint };

export interface Cuda {
  readonly devices: readonly CudaDevice[];
  /** CUDA's version as 1000 * major + 10 * minor. */
  readonly version: number;
  /** Makes the primary context of a device current; the first call creates it. */
  use(ordinal: number): void;
  synchronize(): void;
  memInfo(): { free: number; total: number };
  /** Managed memory; ManagedLimitError beyond the limit. */
  allocManaged(bytes: number): bigint;
  freeManaged(address: bigint): void;
  /** Plain memory of the current device. */
  alloc(bytes: number): bigint;
  free(address: bigint): void;
  /** Page-locked memory of the CPU. */
  hostAlloc(bytes: number): bigint;
  hostFree(address: bigint): void;
  prefetch(address: bigint, bytes: number, place: number): void;
  advise(address: bigint, bytes: number, advice: number, place: number): void;
  /** Copies and waits; between any two addresses. */
  memcpy(to: bigint, from: bigint, bytes: number): void;
  memset(address: bigint, value: number, bytes: number): void;
  launch(kernel: KernelName, grid: number, block: number, args: readonly KernelArgument[]): void;
  close(): void;
}

/** CU_MEM_ATTACH_GLOBAL */
const ATTACH_GLOBAL = 1;

function declare(lib: Library) {
  const f = (text: string) => lib.func(text);
  return {
    cuInit: f('int cuInit(unsigned int flags)'),
    cuDriverGetVersion: f('int cuDriverGetVersion(_Out_ int *version)'),
    cuGetErrorName: f('int cuGetErrorName(int error, _Out_ const char **text)'),
    cuDeviceGetCount: f('int cuDeviceGetCount(_Out_ int *count)'),
    cuDeviceGet: f('int cuDeviceGet(_Out_ int *device, int ordinal)'),
    cuDeviceGetName: f('int cuDeviceGetName(void *name, int length, int device)'),
    cuDeviceGetUuid: f('int cuDeviceGetUuid(void *uuid, int device)'),
    cuDevicePrimaryCtxRetain: f('int cuDevicePrimaryCtxRetain(_Out_ uintptr_t *context, int device)'),
    cuDevicePrimaryCtxRelease: f('int cuDevicePrimaryCtxRelease_v2(int device)'),
    cuCtxSetCurrent: f('int cuCtxSetCurrent(uintptr_t context)'),
    cuCtxSynchronize: f('int cuCtxSynchronize()'),
    cuMemGetInfo: f('int cuMemGetInfo_v2(_Out_ size_t *free, _Out_ size_t *total)'),
    cuMemAllocManaged: f('int cuMemAllocManaged(_Out_ uint64_t *address, size_t bytes, unsigned int flags)'),
    cuMemAlloc: f('int cuMemAlloc_v2(_Out_ uint64_t *address, size_t bytes)'),
    cuMemFree: f('int cuMemFree_v2(uint64_t address)'),
    cuMemHostAlloc: f('int cuMemHostAlloc(_Out_ uint64_t *address, size_t bytes, unsigned int flags)'),
    cuMemFreeHost: f('int cuMemFreeHost(uintptr_t address)'),
    cuMemPrefetchAsync: f('int cuMemPrefetchAsync(uint64_t address, size_t bytes, int device, uintptr_t stream)'),
    cuMemAdvise: f('int cuMemAdvise(uint64_t address, size_t bytes, int advice, int device)'),
    cuMemcpy: f('int cuMemcpy(uint64_t to, uint64_t from, size_t bytes)'),
    cuMemsetD8Async: f('int cuMemsetD8Async(uint64_t address, unsigned char value, size_t n, uintptr_t stream)'),
    cuModuleLoadData: f('int cuModuleLoadData(_Out_ uintptr_t *module, const char *text)'),
    cuModuleGetFunction: f('int cuModuleGetFunction(_Out_ uintptr_t *function, uintptr_t module, const char *name)'),
    cuLaunchKernel: f(
      'int cuLaunchKernel(uintptr_t function, unsigned int gx, unsigned int gy, unsigned int gz, unsigned int bx, ' +
        'unsigned int by, unsigned int bz, unsigned int shared, uintptr_t stream, uintptr_t params, uintptr_t extra)',
    ),
  };
}
type Calls = ReturnType<typeof declare>;
type Check = (call: string, code: number) => void;

function checkOf(calls: Calls): Check {
  return (call, code) => {
    if (code === 0) return;
    const text: [string | null] = [null];
    calls.cuGetErrorName(code, text);
    throw new CudaError(call, code, text[0] ?? 'unknown error');
  };
}

function listDevices(calls: Calls, check: Check): { handles: number[]; devices: CudaDevice[] } {
  const count: [number] = [0];
  check('cuDeviceGetCount', calls.cuDeviceGetCount(count));
  const handles: number[] = [];
  const devices: CudaDevice[] = [];
  for (let ordinal = 0; ordinal < count[0]; ordinal++) {
    const handle: [number] = [0];
    check('cuDeviceGet', calls.cuDeviceGet(handle, ordinal));
    const name = new Uint8Array(256);
    check('cuDeviceGetName', calls.cuDeviceGetName(name, name.length, handle[0]));
    const uuid = new Uint8Array(16);
    check('cuDeviceGetUuid', calls.cuDeviceGetUuid(uuid, handle[0]));
    handles.push(handle[0]);
    devices.push({
      ordinal,
      name: Buffer.from(name.subarray(0, name.indexOf(0))).toString('utf8'),
      uuid: Buffer.from(uuid).toString('hex'),
    });
  }
  return { handles, devices };
}

/** A page of memory in which the arguments of a launch are put where libcuda finds them. */
interface LaunchPage {
  address: bigint;
  view: DataView;
}
const ARGUMENTS = 0;
const ARGUMENTS_BYTES = 256;
const SIZE = 256;
const EXTRA = 264;
/** CU_LAUNCH_PARAM_BUFFER_POINTER, CU_LAUNCH_PARAM_BUFFER_SIZE, CU_LAUNCH_PARAM_END */
const BUFFER_POINTER = 1n;
const BUFFER_SIZE = 2n;
const END = 0n;

function launchPage(libc: Libc): LaunchPage {
  const address = libc.mmap(0n, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0n);
  return { address, view: new DataView(libc.view(address, 4096)) };
}

/** Writes the arguments by C's rules of alignment, and returns the address of the list that cuLaunchKernel takes. */
function putArguments({ address, view }: LaunchPage, args: readonly KernelArgument[]): bigint {
  let at = ARGUMENTS;
  for (const arg of args) {
    if ('u32' in arg) {
      view.setUint32(at, arg.u32, true);
      at += 4;
    } else {
      at = Math.ceil(at / 8) * 8;
      view.setBigUint64(at, arg.u64, true);
      at += 8;
    }
    if (at > ARGUMENTS_BYTES) throw new RangeError(`${args.length} kernel arguments; at most ${ARGUMENTS_BYTES} bytes`);
  }
  view.setBigUint64(SIZE, BigInt(at), true);
  [BUFFER_POINTER, address, BUFFER_SIZE, address + BigInt(SIZE), END].forEach((word, i) => {
    view.setBigUint64(EXTRA + 8 * i, word, true);
  });
  return address + BigInt(EXTRA);
}

function loadLibrary(koffi: Koffi): Calls {
  try {
    return declare(koffi.load('libcuda.so.1'));
  } catch (error) {
    throw new UnavailableError(
      `libcuda.so.1, the CUDA driver library, cannot be loaded: ${(error as Error).message.split('\n')[0]}; it comes ` +
        'with the NVIDIA driver',
    );
  }
}

/** One context and its kernels, by device. */
interface Context {
  handle: bigint | number;
  functions: Map<KernelName, bigint | number>;
  module: bigint | number;
}

function out(): [bigint | number] {
  return [0];
}

function kernelOf(calls: Calls, check: Check, context: Context, name: KernelName): bigint | number {
  if (context.module === 0) {
    const module = out();
    check('cuModuleLoadData', calls.cuModuleLoadData(module, KERNELS_PTX));
    context.module = module[0];
  }
  const known = context.functions.get(name);
  if (known !== undefined) return known;
  const handle = out();
  check(`cuModuleGetFunction ${name}`, calls.cuModuleGetFunction(handle, context.module, name));
  context.functions.set(name, handle[0]);
  return handle[0];
}

/**
 * Starts CUDA in this process. Throws UnavailableError without a library or a GPU. `choice` is the user's own limit of
 * managed memory; device 0 decides what is free.
 */
export async function startCuda(choice: ManagedChoice = {}): Promise<Cuda> {
  const koffi = await loadKoffi();
  const libc = await loadLibc();
  const calls = loadLibrary(koffi);
  const check = checkOf(calls);
  const started = calls.cuInit(0);
  if (started !== 0) {
    const text: [string | null] = [null];
    calls.cuGetErrorName(started, text);
    throw new UnavailableError(`CUDA does not start: ${text[0] ?? started}; uvmlab doctor says what this machine has`);
  }
  const { handles, devices } = listDevices(calls, check);
  if (devices.length === 0) throw new UnavailableError('CUDA finds no GPU');
  const version: [number] = [0];
  check('cuDriverGetVersion', calls.cuDriverGetVersion(version));
  const contexts = new Map<number, Context>();
  let current = -1;
  const use = (ordinal: number): void => {
    if (ordinal === current) return;
    let context = contexts.get(ordinal);
    if (context === undefined) {
      if (handles[ordinal] === undefined) throw new RangeError(`GPU ${ordinal}; there are ${handles.length}`);
      const handle = out();
      check('cuDevicePrimaryCtxRetain', calls.cuDevicePrimaryCtxRetain(handle, handles[ordinal]));
      context = { handle: handle[0], functions: new Map(), module: 0 };
      contexts.set(ordinal, context);
    }
    check('cuCtxSetCurrent', calls.cuCtxSetCurrent(context.handle));
    current = ordinal;
  };
  const memInfo = () => {
    const free = out();
    const total = out();
    check('cuMemGetInfo', calls.cuMemGetInfo(free, total));
    return { free: Number(free[0]), total: Number(total[0]) };
  };
  use(0);
  const limit = managedLimit(memInfo().free, choice);
  const managed = new Map<bigint, number>();
  const page = launchPage(libc);
  const place = (ordinal: number): number => (ordinal === CUDA_CPU ? CUDA_CPU : handles[ordinal]);
  return {
    devices,
    version: version[0],
    use,
    memInfo,
    synchronize: () => check('cuCtxSynchronize', calls.cuCtxSynchronize()),
    allocManaged: (bytes) => {
      const taken = [...managed.values()].reduce((sum, n) => sum + n, 0);
      checkManaged(bytes, taken, limit);
      const address = out();
      check('cuMemAllocManaged', calls.cuMemAllocManaged(address, bytes, ATTACH_GLOBAL));
      managed.set(BigInt(address[0]), bytes);
      return BigInt(address[0]);
    },
    freeManaged: (address) => {
      check('cuMemFree', calls.cuMemFree(address));
      managed.delete(address);
    },
    alloc: (bytes) => {
      const address = out();
      check('cuMemAlloc', calls.cuMemAlloc(address, bytes));
      return BigInt(address[0]);
    },
    free: (address) => check('cuMemFree', calls.cuMemFree(address)),
    hostAlloc: (bytes) => {
      const address = out();
      check('cuMemHostAlloc', calls.cuMemHostAlloc(address, bytes, 0));
      return BigInt(address[0]);
    },
    hostFree: (address) => check('cuMemFreeHost', calls.cuMemFreeHost(address)),
    prefetch: (address, bytes, to) =>
      check('cuMemPrefetchAsync', calls.cuMemPrefetchAsync(address, bytes, place(to), 0)),
    advise: (address, bytes, advice, to) => check('cuMemAdvise', calls.cuMemAdvise(address, bytes, advice, place(to))),
    memcpy: (to, from, bytes) => check('cuMemcpy', calls.cuMemcpy(to, from, bytes)),
    memset: (address, value, bytes) => check('cuMemsetD8Async', calls.cuMemsetD8Async(address, value, bytes, 0)),
    launch: (kernel, grid, block, args) => {
      const context = contexts.get(current);
      if (context === undefined) throw new Error('no context is current');
      const handle = kernelOf(calls, check, context, kernel);
      const extra = putArguments(page, args);
      check(`cuLaunchKernel ${kernel}`, calls.cuLaunchKernel(handle, grid, 1, 1, block, 1, 1, 0, 0, 0, extra));
    },
    close: () => {
      for (const address of managed.keys()) calls.cuMemFree(address);
      for (const ordinal of contexts.keys()) calls.cuDevicePrimaryCtxRelease(handles[ordinal]);
      libc.munmap(page.address, 4096);
    },
  };
}
