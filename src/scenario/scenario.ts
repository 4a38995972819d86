/**
 * What to run: a scenario file read into plain, dense data. Names become indices, processors become ids, ranges are
 * checked against their buffers, and each allocation gets its pages, so that a runner looks nothing up.
 *
 * The shapes of the fields are in `shapes.ts`. Module parameters are passed on as they are: the model knows them.
 */
import { PAGE_SIZE, PAGES_PER_BLOCK } from '../base/units.ts';
import { CPU_ID, INVALID_ID } from '../model/uvm/processors.ts';
import { type KnownMachines, machineGpus, processorId, processorWords } from './machine.ts';
import {
  type ADVICES,
  ALLOCATION_SHAPE,
  choices,
  type KERNELS,
  pathText,
  SCENARIO_SHAPE,
  STEP_SHAPES,
  STEP_WORDS,
  type StepJson,
  type StepWord,
  shapeError,
  show,
} from './shapes.ts';

export type Advice = (typeof ADVICES)[number];
export type KernelWord = (typeof KERNELS)[number];
/** Page indices in a buffer, in the order they are touched; floats where a buffer has 2^31 pages or more. */
export type PageList = Int32Array | Float64Array;

export interface Allocation {
  name: string;
  /** As the file gives it. */
  bytes: number;
  /** `bytes` in 4 KiB pages, rounded up: the range ends there. */
  pages: number;
  /** Virtual page number of the first page, a multiple of 512. */
  firstPage: number;
  kind: 'managed' | 'host';
}

/** One thread of `on` touches pages, one after another. */
export interface AccessStep {
  do: 'read' | 'write' | 'atomic';
  on: number;
  buffer: number;
  /** The pages in touch order, or null where offset, length and stride tell them. */
  pages: PageList | null;
  offset: number;
  length: number;
  stride: number;
  /** The 32-bit word that a write stores at the start of each page. */
  value: number;
}
export interface PrefetchStep {
  do: 'prefetch';
  to: number;
  buffer: number;
  offset: number;
  length: number;
}
export interface AdviseStep {
  do: 'advise';
  advice: Advice;
  /** INVALID_ID where the advice takes none. */
  processor: number;
  buffer: number;
  offset: number;
  length: number;
}
export interface KernelStep {
  do: 'kernel';
  on: number;
  kernel: KernelWord;
  buffer: number;
  grid: number;
  block: number;
  elementBytes: number;
  length: number;
  /** Loads of each thread in randomRead; 0 in the other kernels. */
  perThread: number;
}
export interface MemsetStep {
  do: 'memset';
  on: number;
  buffer: number;
  offset: number;
  length: number;
}
export interface MemcpyStep {
  do: 'memcpy';
  /** An allocation, or HOST_SIDE. */
  from: number;
  to: number;
  offset: number;
  length: number;
}
export interface SetCopyFromStep {
  do: 'setCopyFrom';
  /** NO_BUFFER clears the address. */
  buffer: number;
  page: number;
  /** Pages. */
  count: number;
}
export interface SetNextCopyStep {
  do: 'setNextCopy';
  buffer: number;
  page: number;
  arm: boolean;
  async: boolean;
}
export interface CopyStatusStep {
  do: 'copyStatus';
  wait: boolean;
  disarm: boolean;
}
/** The page's bytes equal another page's, or its first 32-bit word equals a value; one of the two is null. */
export interface CheckBytesStep {
  do: 'checkBytes';
  buffer: number;
  page: number;
  sameAs: { buffer: number; page: number } | null;
  value: number | null;
}
export interface ContendStep {
  do: 'contend';
  gpu: number;
  buffer: number;
  page: number;
  gpuWrites: number;
  gpuPauseCycles: number;
  cpuWrites: number;
  cpuPauseMicroseconds: number;
}
export interface FreeStep {
  do: 'free';
  buffer: number;
}

/** A step; `buffer` is an index into `allocations`, processors are ids (0 is the CPU, GPU n is n + 1). */
export type Step =
  | AccessStep
  | PrefetchStep
  | AdviseStep
  | KernelStep
  | MemsetStep
  | MemcpyStep
  | SetCopyFromStep
  | SetNextCopyStep
  | CopyStatusStep
  | CheckBytesStep
  | ContendStep
  | FreeStep;

export interface Scenario {
  name: string;
  machine: string;
  /** GPUs of the machine. */
  gpus: number;
  /** Not yet validated; `true` and `false` have become 1 and 0. */
  parameters: Record<string, number | string>;
  allocations: Allocation[];
  steps: Step[];
}

export type ScenarioResult = { ok: true; scenario: Scenario } | { ok: false; error: string; name: string | null };

/** The memory of the program that is no allocation, as a side of a memcpy. */
export const HOST_SIDE = -1;
/** `setCopyFrom` without a buffer. */
export const NO_BUFFER = -1;
/** Where the first allocation lies: 2^46 bytes, aligned to the upper page-table levels, so placement favours none. */
export const BASE_PAGE = 2 ** 34;
/** Most pages that all allocations take together with their gaps: 2^48 bytes. */
const MAX_SPACE_PAGES = 2 ** 36;
/** Most touches of one access step: enough for each word of 1 GiB, small enough for a list in memory. */
const MAX_TOUCHES = 2 ** 28;

/** A user's mistake; caught by parseScenario. */
class ScenarioError extends Error {}

function fail(path: readonly PropertyKey[], message: string): never {
  throw new ScenarioError(`${pathText(path)}: ${message}`);
}

/** What the steps read so far have made known. */
interface Context {
  machine: string;
  gpus: number;
  allocations: Allocation[];
  indexByName: Map<string, number>;
  /** The step that freed each allocation, or -1. */
  freedBy: number[];
}

function readAllocations(list: readonly unknown[]): { allocations: Allocation[]; indexByName: Map<string, number> } {
  const allocations: Allocation[] = [];
  const indexByName = new Map<string, number>();
  let nextPage = BASE_PAGE;
  for (const [i, json] of list.entries()) {
    const parsed = ALLOCATION_SHAPE.safeParse(json);
    if (!parsed.success) {
      throw new ScenarioError(shapeError(ALLOCATION_SHAPE, parsed.error, json, ['allocations', i]));
    }
    const { name, bytes, kind } = parsed.data;
    const other = indexByName.get(name);
    if (other !== undefined) {
      fail(['allocations', i, 'name'], `${show(name)} is the name of allocations[${other}] too; names must differ`);
    }
    const pages = Math.ceil(bytes / PAGE_SIZE);
    allocations.push({ name, bytes, pages, firstPage: nextPage, kind: kind ?? 'managed' });
    indexByName.set(name, i);
    // One whole block stays empty between two allocations, so that nothing ever joins them.
    nextPage += (Math.ceil(pages / PAGES_PER_BLOCK) + 1) * PAGES_PER_BLOCK;
    if (nextPage - BASE_PAGE > MAX_SPACE_PAGES) {
      fail(['allocations', i, 'bytes'], `${bytes}; the allocations together need more than 2^48 bytes of addresses`);
    }
  }
  return { allocations, indexByName };
}

function bufferIndex(c: Context, name: string, path: readonly PropertyKey[]): number {
  const index = c.indexByName.get(name);
  if (index === undefined) {
    fail(path, `unknown buffer ${show(name)}; valid: ${choices(c.allocations.map((a) => a.name))}`);
  }
  if (c.freedBy[index] >= 0) fail(path, `buffer ${show(name)} was freed by steps[${c.freedBy[index]}]`);
  return index;
}

/** As bufferIndex, for what only managed memory takes part in: `what` says what it is. */
function managedIndex(c: Context, name: string, path: readonly PropertyKey[], what: string): number {
  const index = bufferIndex(c, name, path);
  if (c.allocations[index].kind === 'host') {
    const valid = c.allocations.filter((a, i) => a.kind === 'managed' && c.freedBy[i] < 0).map((a) => a.name);
    fail(path, `buffer ${show(name)} is host memory, which takes no ${what}; valid (managed): ${choices(valid)}`);
  }
  return index;
}

/** `gpuOnly` says why the CPU is none of the choices, or is null where it is one. */
function processor(c: Context, name: string, path: readonly PropertyKey[], gpuOnly: string | null): number {
  const id = processorId(name, c.gpus);
  const valid = choices(processorWords(c.gpus).slice(gpuOnly === null ? 0 : 1));
  if (id === INVALID_ID) fail(path, `unknown processor ${show(name)} on machine ${show(c.machine)}; valid: ${valid}`);
  if (id === CPU_ID && gpuOnly !== null) fail(path, `${show(name)}: ${gpuOnly}; valid: ${valid}`);
  return id;
}

/** Bytes `[offset, offset + length)` lie in the buffer, whose size is rounded up to whole pages. */
function checkRange(c: Context, i: number, index: number, step: { offset: number; length: number }): void {
  const a = c.allocations[index];
  const size = a.pages * PAGE_SIZE;
  if (step.offset >= size) {
    fail(['steps', i, 'offset'], `${step.offset} lies outside buffer ${show(a.name)} of ${size} bytes`);
  }
  if (step.offset + step.length > size) {
    const left = size - step.offset;
    fail(
      ['steps', i, 'length'],
      `${step.length} from offset ${step.offset} ends outside buffer ${show(a.name)} of ${size} bytes; at most ${left}`,
    );
  }
}

function checkPageAligned(i: number, step: { offset: number; length: number }): void {
  for (const field of ['offset', 'length'] as const) {
    if (step[field] % PAGE_SIZE !== 0) {
      fail(['steps', i, field], `${step[field]}; expected a multiple of ${PAGE_SIZE} (whole pages)`);
    }
  }
}

function checkPage(c: Context, index: number, page: number, path: readonly PropertyKey[]): void {
  const a = c.allocations[index];
  if (page >= a.pages) fail(path, `${page} lies outside buffer ${show(a.name)}; valid: 0 to ${a.pages - 1}`);
}

/** Copies and checks a list of page indices in one pass without allocation: it may be millions long. */
function readPages(list: readonly unknown[], a: Allocation, i: number): PageList {
  const out = a.pages > 2 ** 31 ? new Float64Array(list.length) : new Int32Array(list.length);
  for (let k = 0; k < list.length; k++) {
    const page = list[k];
    if (typeof page !== 'number' || !Number.isInteger(page) || page < 0 || page >= a.pages) {
      const range = `a whole number from 0 to ${a.pages - 1} (buffer ${show(a.name)})`;
      fail(['steps', i, 'pages', k], `${show(page)}; expected ${range}`);
    }
    out[k] = page;
  }
  return out;
}

function readAccess(c: Context, i: number, s: StepJson<'read' | 'write' | 'atomic'>): AccessStep {
  const on = processor(c, s.on, ['steps', i, 'on'], null);
  const path = ['steps', i, 'buffer'];
  const buffer = on === CPU_ID ? bufferIndex(c, s.buffer, path) : managedIndex(c, s.buffer, path, 'access by a GPU');
  if (s.value !== undefined && s.do !== 'write') {
    fail(['steps', i, 'value'], `${s.value}; only a write takes a value, this is ${show(s.do)}`);
  }
  const step: AccessStep = { do: s.do, on, buffer, pages: null, offset: 0, length: 0, stride: 0, value: i + 1 };
  if (s.value !== undefined) step.value = s.value;
  if (s.pages !== undefined) {
    for (const field of ['offset', 'length', 'stride'] as const) {
      if (s[field] !== undefined) {
        fail(['steps', i, field], `${s[field]} beside pages; give either pages, or offset, length and stride`);
      }
    }
    step.pages = readPages(s.pages, c.allocations[buffer], i);
    return step;
  }
  for (const field of ['offset', 'length', 'stride'] as const) {
    const value = s[field];
    if (value === undefined) fail(['steps', i, field], 'missing; give either pages, or offset, length and stride');
    step[field] = value;
  }
  checkRange(c, i, buffer, step);
  if (accessCount(step) > MAX_TOUCHES) {
    fail(['steps', i, 'stride'], `${step.stride} makes ${accessCount(step)} touches; at most 2^28`);
  }
  return step;
}

function readPrefetch(c: Context, i: number, s: StepJson<'prefetch'>): PrefetchStep {
  const to = processor(c, s.to, ['steps', i, 'to'], null);
  const buffer = managedIndex(c, s.buffer, ['steps', i, 'buffer'], 'prefetch');
  checkPageAligned(i, s);
  checkRange(c, i, buffer, s);
  return { do: 'prefetch', to, buffer, offset: s.offset, length: s.length };
}

/** Whether an advice names a processor. */
function adviceTakesProcessor(advice: Advice): boolean {
  return advice === 'setPreferredLocation' || advice === 'setAccessedBy' || advice === 'unsetAccessedBy';
}

function readAdvise(c: Context, i: number, s: StepJson<'advise'>): AdviseStep {
  const path = ['steps', i, 'processor'];
  let id = INVALID_ID;
  if (adviceTakesProcessor(s.advice)) {
    if (s.processor === undefined) {
      fail(path, `missing; ${s.advice} takes one; valid: ${choices(processorWords(c.gpus))}`);
    }
    id = processor(c, s.processor, path, null);
  } else if (s.processor !== undefined) {
    fail(path, `${show(s.processor)}; ${s.advice} takes no processor`);
  }
  const buffer = managedIndex(c, s.buffer, ['steps', i, 'buffer'], 'advice');
  checkPageAligned(i, s);
  checkRange(c, i, buffer, s);
  return { do: 'advise', advice: s.advice, processor: id, buffer, offset: s.offset, length: s.length };
}

function readKernel(c: Context, i: number, s: StepJson<'kernel'>): KernelStep {
  const on = processor(c, s.on, ['steps', i, 'on'], 'a kernel runs on a GPU');
  const buffer = managedIndex(c, s.buffer, ['steps', i, 'buffer'], 'access by a GPU');
  const { kernel, grid, block, elementBytes, length } = s;
  checkRange(c, i, buffer, { offset: 0, length });
  // vecAdd reads two thirds of the buffer and writes the third.
  const least = kernel === 'vecAdd' ? 3 * elementBytes : elementBytes;
  if (length < least) fail(['steps', i, 'length'], `${length}; ${kernel} needs at least ${least} bytes`);
  if (kernel === 'randomRead' && s.perThread === undefined) {
    fail(['steps', i, 'perThread'], 'missing; randomRead takes the number of loads of each thread');
  }
  if (kernel !== 'randomRead' && s.perThread !== undefined) {
    fail(['steps', i, 'perThread'], `${s.perThread}; ${kernel} takes none, only randomRead does`);
  }
  return { do: 'kernel', on, kernel, buffer, grid, block, elementBytes, length, perThread: s.perThread ?? 0 };
}

function readMemset(c: Context, i: number, s: StepJson<'memset'>): MemsetStep {
  const on = processor(c, s.on, ['steps', i, 'on'], 'a memset runs on a GPU');
  const buffer = managedIndex(c, s.buffer, ['steps', i, 'buffer'], 'access by a GPU');
  checkRange(c, i, buffer, s);
  return { do: 'memset', on, buffer, offset: s.offset, length: s.length };
}

function readMemcpy(c: Context, i: number, s: StepJson<'memcpy'>): MemcpyStep {
  const side = (field: 'from' | 'to'): number => {
    // An allocation that is named `host` is meant by its name.
    if (s[field] === 'host' && !c.indexByName.has('host')) return HOST_SIDE;
    if (!c.indexByName.has(s[field])) {
      const valid = choices([...c.allocations.map((a) => a.name), 'host']);
      fail(['steps', i, field], `unknown buffer ${show(s[field])}; valid: ${valid}`);
    }
    const index = bufferIndex(c, s[field], ['steps', i, field]);
    checkRange(c, i, index, s);
    return index;
  };
  const from = side('from');
  const to = side('to');
  if (from === HOST_SIDE && to === HOST_SIDE) {
    const valid = choices(c.allocations.map((a) => a.name));
    fail(['steps', i, 'to'], `"host" on both sides; one of them must be a buffer; valid: ${valid}`);
  }
  return { do: 'memcpy', from, to, offset: s.offset, length: s.length };
}

function readSetCopyFrom(c: Context, i: number, s: StepJson<'setCopyFrom'>): SetCopyFromStep {
  if (s.buffer === undefined) {
    for (const field of ['page', 'count'] as const) {
      if (s[field] !== undefined) {
        fail(['steps', i, field], `${s[field]} without buffer; give a buffer, or neither to clear the address`);
      }
    }
    return { do: 'setCopyFrom', buffer: NO_BUFFER, page: 0, count: 0 };
  }
  const buffer = bufferIndex(c, s.buffer, ['steps', i, 'buffer']);
  if (s.page === undefined) fail(['steps', i, 'page'], 'missing; expected a page index of the buffer');
  checkPage(c, buffer, s.page, ['steps', i, 'page']);
  const count = s.count ?? 1;
  const a = c.allocations[buffer];
  if (s.page + count > a.pages) {
    const most = a.pages - s.page;
    fail(['steps', i, 'count'], `${count} from page ${s.page} ends outside buffer ${show(a.name)}; at most ${most}`);
  }
  return { do: 'setCopyFrom', buffer, page: s.page, count };
}

function readSetNextCopy(c: Context, i: number, s: StepJson<'setNextCopy'>): SetNextCopyStep {
  const buffer = bufferIndex(c, s.buffer, ['steps', i, 'buffer']);
  checkPage(c, buffer, s.page, ['steps', i, 'page']);
  return { do: 'setNextCopy', buffer, page: s.page, arm: s.arm ?? false, async: s.async ?? false };
}

function readCheckBytes(c: Context, i: number, s: StepJson<'checkBytes'>): CheckBytesStep {
  const buffer = bufferIndex(c, s.buffer, ['steps', i, 'buffer']);
  checkPage(c, buffer, s.page, ['steps', i, 'page']);
  if (s.sameAs === undefined) {
    if (s.value === undefined) fail(['steps', i, 'sameAs'], 'missing; give either sameAs or value');
    return { do: 'checkBytes', buffer, page: s.page, sameAs: null, value: s.value };
  }
  if (s.value !== undefined) fail(['steps', i, 'value'], `${s.value} beside sameAs; give either sameAs or value`);
  const other = bufferIndex(c, s.sameAs.buffer, ['steps', i, 'sameAs', 'buffer']);
  checkPage(c, other, s.sameAs.page, ['steps', i, 'sameAs', 'page']);
  return { do: 'checkBytes', buffer, page: s.page, sameAs: { buffer: other, page: s.sameAs.page }, value: null };
}

function readContend(c: Context, i: number, s: StepJson<'contend'>): ContendStep {
  const gpu = processor(c, s.gpu, ['steps', i, 'gpu'], 'one side is a GPU');
  const buffer = managedIndex(c, s.buffer, ['steps', i, 'buffer'], 'access by a GPU');
  checkPage(c, buffer, s.page, ['steps', i, 'page']);
  const { page, gpuWrites, gpuPauseCycles, cpuWrites, cpuPauseMicroseconds } = s;
  return { do: 'contend', gpu, buffer, page, gpuWrites, gpuPauseCycles, cpuWrites, cpuPauseMicroseconds };
}

function readFree(c: Context, i: number, s: StepJson<'free'>): FreeStep {
  const buffer = bufferIndex(c, s.buffer, ['steps', i, 'buffer']);
  c.freedBy[buffer] = i;
  return { do: 'free', buffer };
}

function shaped<D extends StepWord>(word: D, json: unknown, i: number): StepJson<D> {
  const shape = STEP_SHAPES[word];
  const parsed = shape.safeParse(json);
  if (!parsed.success) throw new ScenarioError(shapeError(shape, parsed.error, json, ['steps', i]));
  return parsed.data as StepJson<D>;
}

function readStep(c: Context, i: number, json: unknown): Step {
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    fail(['steps', i], `${show(json)}; expected an object with do and the fields of that step`);
  }
  const word = (json as { do?: unknown }).do;
  switch (word) {
    case 'read':
    case 'write':
    case 'atomic':
      return readAccess(c, i, shaped(word, json, i));
    case 'prefetch':
      return readPrefetch(c, i, shaped(word, json, i));
    case 'advise':
      return readAdvise(c, i, shaped(word, json, i));
    case 'kernel':
      return readKernel(c, i, shaped(word, json, i));
    case 'memset':
      return readMemset(c, i, shaped(word, json, i));
    case 'memcpy':
      return readMemcpy(c, i, shaped(word, json, i));
    case 'setCopyFrom':
      return readSetCopyFrom(c, i, shaped(word, json, i));
    case 'setNextCopy':
      return readSetNextCopy(c, i, shaped(word, json, i));
    case 'copyStatus': {
      const s = shaped(word, json, i);
      return { do: 'copyStatus', wait: s.wait ?? false, disarm: s.disarm ?? false };
    }
    case 'checkBytes':
      return readCheckBytes(c, i, shaped(word, json, i));
    case 'contend':
      return readContend(c, i, shaped(word, json, i));
    case 'free':
      return readFree(c, i, shaped(word, json, i));
    default:
      return fail(
        ['steps', i, 'do'],
        `${word === undefined ? 'missing' : `unknown step ${show(word)}`}; valid: ${choices(STEP_WORDS)}`,
      );
  }
}

function readScenario(json: unknown, machines: KnownMachines, stepsOptional: boolean): Scenario {
  const parsed = SCENARIO_SHAPE.safeParse(json);
  if (!parsed.success) throw new ScenarioError(shapeError(SCENARIO_SHAPE, parsed.error, json, []));
  const { name, machine, parameters, allocations: list, steps: stepList } = parsed.data;
  if (stepList === undefined && !stepsOptional) fail(['steps'], 'missing; expected a list of steps');
  const gpus = machineGpus(machine, machines);
  if (gpus < 0) fail(['machine'], `unknown machine ${show(machine)}; valid: ${choices(Object.keys(machines))}`);
  const { allocations, indexByName } = readAllocations(list);
  const c: Context = { machine, gpus, allocations, indexByName, freedBy: allocations.map(() => -1) };
  const steps = (stepList ?? []).map((step, i) => readStep(c, i, step));
  const numbers = Object.entries(parameters ?? {}).map(([k, v]) => [k, typeof v === 'boolean' ? Number(v) : v]);
  return { name, machine, gpus, parameters: Object.fromEntries(numbers), allocations, steps };
}

/**
 * Reads a scenario. `machines` are the known profiles by name. `stepsOptional` accepts one without `steps`, which is
 * the frame of a program's recording. On a mistake: one sentence with the path of the field, the value and what is
 * valid, and the scenario's name where it has one.
 */
export function parseScenario(
  json: unknown,
  machines: KnownMachines,
  options: { stepsOptional?: boolean } = {},
): ScenarioResult {
  try {
    return { ok: true, scenario: readScenario(json, machines, options.stepsOptional ?? false) };
  } catch (error) {
    if (!(error instanceof ScenarioError)) throw error;
    return { ok: false, error: error.message, name: scenarioName(json) };
  }
}

/** The name that a value gives itself, if it looks like a scenario at all: for lines that cannot run. */
export function scenarioName(json: unknown): string | null {
  const name = typeof json === 'object' && json !== null ? (json as { name?: unknown }).name : null;
  return typeof name === 'string' ? name : null;
}

/** How many times an access step touches a page. */
export function accessCount(step: AccessStep): number {
  return step.pages !== null ? step.pages.length : Math.ceil(step.length / step.stride);
}

/**
 * The page indices that an access step touches, in order. With a stride below a page the same page comes several
 * times in a row, once for each byte address touched. `allocation` is the step's buffer.
 */
export function accessPages(step: AccessStep, allocation: Allocation): PageList {
  if (step.pages !== null) return step.pages;
  const count = accessCount(step);
  const out = allocation.pages > 2 ** 31 ? new Float64Array(count) : new Int32Array(count);
  for (let k = 0; k < count; k++) out[k] = Math.floor((step.offset + k * step.stride) / PAGE_SIZE);
  return out;
}
