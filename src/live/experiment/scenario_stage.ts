/**
 * A scenario's steps on a real GPU: its allocations as memory of this process, its accesses as touches of this thread
 * and kernels of the GPU, its advice and prefetches as calls of CUDA (docs/formats.md).
 */

import { CUDA_ADVICE, CUDA_CPU, type Cuda } from '../../device/linux/cuda.ts';
import { TOUCH_ATOMIC, TOUCH_READ, TOUCH_WRITE } from '../../device/linux/kernels.ts';
import { type Libc, MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE } from '../../device/linux/libc.ts';
import { INVALID_ID } from '../../model/uvm/processors.ts';
import type {
  AccessStep,
  ContendStep,
  KernelStep,
  MemcpyStep,
  PageList,
  Scenario,
  Step,
} from '../../scenario/scenario.ts';
import { accessCount, accessPages, HOST_SIDE } from '../../scenario/scenario.ts';

const PAGE = 4096;
const WORDS_PER_PAGE = PAGE / 4;
/** Smaller managed allocations come out of a range of 2 MiB that CUDA shares between them. */
export const SMALLEST_ALLOCATION = 2 ** 21;

/** A step that this device cannot carry out; the message names the step. */
export class LiveStepError extends Error {
  override name = 'LiveStepError';
}

/** One allocation in memory. */
interface Placed {
  address: bigint;
  bytes: number;
  managed: boolean;
  /** Its words as this thread touches them; null once it is freed. */
  words: Int32Array | null;
}

export interface Stage {
  readonly cuda: Cuda;
  readonly scenario: Scenario;
  readonly placed: Placed[];
  /** What the GPUs read their page lists from, and store results in. */
  readonly lists: Map<number, bigint>;
  readonly results: Map<number, bigint>;
  /** Page-locked memory: what lists go through, and the host's side of copies. */
  readonly host: { address: bigint; bytes: number; words: Int32Array };
}

const isAccess = (step: Step): step is AccessStep => step.do === 'read' || step.do === 'write' || step.do === 'atomic';

/** Bytes of page-locked memory that the steps need. */
function hostBytes(scenario: Scenario): number {
  let most = PAGE;
  for (const step of scenario.steps) {
    if (isAccess(step) && step.on > 0) most = Math.max(most, accessCount(step) * 4);
    if (step.do === 'memcpy') most = Math.max(most, step.offset + step.length);
  }
  return Math.ceil(most / PAGE) * PAGE;
}

/** GPUs that do something: the first one, and those that touch memory or have it moved to them. */
function gpusUsed(scenario: Scenario): number[] {
  const gpus = new Set<number>([0]);
  for (const step of scenario.steps) {
    if ('on' in step && step.on > 0) gpus.add(step.on - 1);
    if (step.do === 'contend') gpus.add(step.gpu - 1);
    if (step.do === 'prefetch' && step.to > 0) gpus.add(step.to - 1);
  }
  return [...gpus];
}

/** Throws LiveStepError for a GPU that is used, or named by advice, and not there. */
function checkGpus(cuda: Cuda, scenario: Scenario, used: readonly number[]): void {
  const advised = scenario.steps.flatMap((step) => (step.do === 'advise' ? [step.processor - 1] : []));
  for (const gpu of [...used, ...advised]) {
    if (gpu >= cuda.devices.length) {
      throw new LiveStepError(`the scenario uses gpu${gpu}; this machine has ${cuda.devices.length} GPU`);
    }
  }
}

/** Allocates everything. Throws LiveStepError, CudaError, ManagedLimitError; nothing is left behind then. */
export function createStage(cuda: Cuda, libc: Libc, scenario: Scenario): Stage {
  const gpus = gpusUsed(scenario);
  checkGpus(cuda, scenario, gpus);
  const words = (address: bigint, bytes: number) => new Int32Array(libc.view(address, bytes));
  const bytes = hostBytes(scenario);
  const address = cuda.hostAlloc(bytes);
  const stage: Stage = {
    cuda,
    scenario,
    placed: [],
    lists: new Map(),
    results: new Map(),
    host: { address, bytes, words: words(address, bytes) },
  };
  try {
    for (const gpu of gpus) {
      cuda.use(gpu);
      stage.lists.set(gpu, cuda.alloc(bytes));
      stage.results.set(gpu, cuda.alloc(PAGE));
    }
    for (const allocation of scenario.allocations) {
      const size = allocation.pages * PAGE;
      const managed = allocation.kind === 'managed';
      const at = managed
        ? cuda.allocManaged(size)
        : libc.mmap(0n, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0n);
      stage.placed.push({ address: at, bytes: size, managed, words: words(at, size) });
    }
    cuda.synchronize();
  } catch (error) {
    closeStage(stage, libc);
    throw error;
  }
  return stage;
}

function release(stage: Stage, libc: Libc, placed: Placed): void {
  if (placed.words === null) return;
  placed.words = null;
  if (placed.managed) stage.cuda.freeManaged(placed.address);
  else libc.munmap(placed.address, placed.bytes);
}

/** Frees what is still allocated. */
export function closeStage(stage: Stage, libc: Libc): void {
  for (const placed of stage.placed) release(stage, libc, placed);
  for (const address of [...stage.lists.values(), ...stage.results.values()]) stage.cuda.free(address);
  stage.cuda.hostFree(stage.host.address);
  stage.lists.clear();
  stage.results.clear();
}

/**
 * The touches of this thread, one page after another; what they read is added up and returned. V8 adds atomically by a
 * load and a compare-and-exchange, whose fault is a read's; an exchange faults as the atomic addition of a compiled
 * program does, and nobody else touches the page meanwhile.
 */
function cpuTouches(words: Int32Array, step: AccessStep, pages: PageList): number {
  let sum = 0;
  const { value } = step;
  for (let i = 0; i < pages.length; i++) {
    const at = pages[i] * WORDS_PER_PAGE;
    if (step.do === 'read') sum = (sum + words[at]) | 0;
    else if (step.do === 'write') words[at] = value;
    else {
      const old = Atomics.exchange(words, at, 0);
      words[at] = old + 1;
      sum = (sum + old) | 0;
    }
  }
  return sum;
}

const MODE = { read: TOUCH_READ, write: TOUCH_WRITE, atomic: TOUCH_ATOMIC } as const;

function gpuTouches(stage: Stage, step: AccessStep, count: number): void {
  const gpu = step.on - 1;
  stage.cuda.use(gpu);
  stage.cuda.launch('touch', 1, 1, [
    { u64: stage.lists.get(gpu) ?? 0n },
    { u32: count },
    { u32: MODE[step.do] },
    { u64: stage.placed[step.buffer].address },
    { u32: step.value },
    { u32: 0 },
    { u64: stage.results.get(gpu) ?? 0n },
  ]);
}

function kernel(stage: Stage, step: KernelStep, index: number): void {
  const gpu = step.on - 1;
  const { address } = stage.placed[step.buffer];
  const expected = step.kernel === 'streamRead' ? 16 : 4;
  if (step.elementBytes !== expected) {
    throw new LiveStepError(
      `steps[${index}].elementBytes: ${step.elementBytes}; ${step.kernel} takes ${expected} here`,
    );
  }
  const out = { u64: stage.results.get(gpu) ?? 0n };
  stage.cuda.use(gpu);
  if (step.kernel === 'vecAdd') {
    const elements = Math.floor(step.length / 12);
    const part = BigInt(elements * 4);
    const args = [{ u64: address }, { u64: address + part }, { u64: address + 2n * part }, { u64: BigInt(elements) }];
    stage.cuda.launch('vecAdd', step.grid, step.block, args);
    return;
  }
  const elements = { u64: BigInt(Math.floor(step.length / expected)) };
  if (step.kernel === 'streamRead') {
    stage.cuda.launch('streamRead', step.grid, step.block, [{ u64: address }, elements, out]);
  } else {
    const perThread = { u32: step.perThread };
    stage.cuda.launch('randomRead', step.grid, step.block, [{ u64: address }, elements, perThread, out]);
  }
}

function memcpy(stage: Stage, step: MemcpyStep): void {
  const side = (buffer: number) =>
    (buffer === HOST_SIDE ? stage.host.address : stage.placed[buffer].address) + BigInt(step.offset);
  stage.cuda.use(0);
  stage.cuda.memcpy(side(step.to), side(step.from), step.length);
}

/** Word of a page that the CPU writes in `contend`; the GPU writes word 0. */
const CONTEND_CPU_WORD = 64;

function contend(stage: Stage, libc: Libc, step: ContendStep): void {
  const { address, words } = stage.placed[step.buffer];
  const gpu = step.gpu - 1;
  stage.cuda.use(gpu);
  stage.cuda.launch('pound', 1, 1, [
    { u64: address + BigInt(step.page * PAGE) },
    { u32: step.gpuWrites },
    { u64: BigInt(step.gpuPauseCycles) },
    { u64: stage.results.get(gpu) ?? 0n },
  ]);
  const at = step.page * WORDS_PER_PAGE + CONTEND_CPU_WORD;
  for (let i = 0; i < step.cpuWrites && words !== null; i++) {
    words[at] = i + 1;
    libc.sleepMicroseconds(step.cpuPauseMicroseconds);
  }
}

/** Everything of a step that is no part of it: the page list goes to the GPU. Returns the list. */
export function prepareStep(stage: Stage, step: Step): PageList | null {
  if (!isAccess(step)) return null;
  const pages = accessPages(step, stage.scenario.allocations[step.buffer]);
  if (step.on === 0) return pages;
  const gpu = step.on - 1;
  stage.host.words.set(pages);
  stage.cuda.use(gpu);
  stage.cuda.memcpy(stage.lists.get(gpu) ?? 0n, stage.host.address, pages.length * 4);
  return pages;
}

/**
 * One step, without waiting for the GPU: the caller synchronises. Copy-routine steps are not the stage's. Throws
 * LiveStepError for what this device cannot do.
 */
export function performStep(stage: Stage, libc: Libc, step: Step, index: number, pages: PageList | null): void {
  const { cuda, placed } = stage;
  const place = (id: number) => (id === 0 ? CUDA_CPU : id - 1);
  switch (step.do) {
    case 'read':
    case 'write':
    case 'atomic': {
      const { words } = placed[step.buffer];
      if (pages === null) break;
      if (step.on > 0) gpuTouches(stage, step, pages.length);
      else if (words !== null) cpuTouches(words, step, pages);
      break;
    }
    case 'prefetch':
      cuda.use(step.to === 0 ? 0 : step.to - 1);
      cuda.prefetch(placed[step.buffer].address + BigInt(step.offset), step.length, place(step.to));
      break;
    case 'advise': {
      const address = placed[step.buffer].address + BigInt(step.offset);
      // Advice that takes no processor ignores the one that the call demands.
      const processor = step.processor === INVALID_ID ? 1 : step.processor;
      cuda.advise(address, step.length, CUDA_ADVICE[step.advice], place(processor));
      break;
    }
    case 'kernel':
      kernel(stage, step, index);
      break;
    case 'memset':
      cuda.use(step.on - 1);
      cuda.memset(placed[step.buffer].address + BigInt(step.offset), 0, step.length);
      break;
    case 'memcpy':
      memcpy(stage, step);
      break;
    case 'contend':
      contend(stage, libc, step);
      break;
    case 'free':
      release(stage, libc, placed[step.buffer]);
      break;
    default:
      throw new LiveStepError(`steps[${index}].do: '${step.do}' is not a step of the stage`);
  }
}
