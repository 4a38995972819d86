/**
 * One block of a VA space with thrashing data, for the tests of the thrashing module: pages that move on command, hints
 * as words, recorded events as words.
 */

import { expect } from 'vitest';
import { maskClearRegion, maskSetRegion, maskTest } from '../../src/base/page_mask.ts';
import { createSlab } from '../../src/base/slab.ts';
import { createKernel } from '../../src/model/kernel/clock.ts';
import type { Model } from '../../src/model/state.ts';
import { parseModuleParameters } from '../../src/model/uvm/params.ts';
import {
  perfThrashingGetHint,
  perfThrashingGetThrashingPages,
  perfThrashingMigrationEvent,
} from '../../src/model/uvm/perf_thrashing.ts';
import { createThrashingSpace } from '../../src/model/uvm/perf_thrashing_page.ts';
import {
  type BlockThrashing,
  type PageThrashing,
  THRASHING_HINT_NONE,
  THRASHING_HINT_PIN,
  THRASHING_HINT_THROTTLE,
} from '../../src/model/uvm/perf_thrashing_types.ts';
import { CPU_ID, INVALID_ID, type ProcessorMasks } from '../../src/model/uvm/processors.ts';
import {
  createTools,
  EVENT_THRASHING,
  EVENT_THROTTLING_END,
  EVENT_THROTTLING_START,
} from '../../src/model/uvm/tools.ts';
import { vaBlockCreate, vaBlockGpuStateGetAlloc } from '../../src/model/uvm/va_block.ts';
import {
  B_CPU_RESIDENT,
  CAUSE_REPLAYABLE_FAULT,
  G_RESIDENT,
  type VaBlock,
} from '../../src/model/uvm/va_block_types.ts';
import type { VaRange, VaSpace } from '../../src/model/uvm/va_range_types.ts';

export const GPU = 1;
export const PEER = 2;
export const US = 1000;
export const LAPSE = 500 * US;
/** Start of the tests' time: a multiple of 64 beyond 32 bits. */
export const T0 = 64 * 1e8;
const START_PAGE = 2 ** 33;

/** PCIe: the CPU maps no video memory. NVLink: GPUs are peers. Coherent: the CPU is one, too. */
function machine(kind: 'pcie' | 'nvlink' | 'coherent'): ProcessorMasks {
  if (kind === 'coherent') {
    const all = [0b11, 0b11];
    return { canAccess: all, accessibleFrom: all, canCopyFrom: all, hasNativeAtomics: all, hasFastLink: [2, 1] };
  }
  const peers = kind === 'nvlink';
  return {
    canAccess: peers ? [0b001, 0b111, 0b111] : [0b001, 0b011, 0b101],
    accessibleFrom: peers ? [0b111, 0b110, 0b110] : [0b111, 0b010, 0b100],
    canCopyFrom: [0b111, 0b111, 0b111],
    hasNativeAtomics: peers ? [0b001, 0b110, 0b110] : [0b001, 0b010, 0b100],
    hasFastLink: peers ? [0, 0b100, 0b010] : [0, 0, 0],
  };
}

export interface Bench {
  m: Model;
  space: VaSpace;
  block: VaBlock;
}

export function bench(input: Record<string, unknown> = {}, kind: 'pcie' | 'nvlink' | 'coherent' = 'pcie'): Bench {
  const parsed = parseModuleParameters(input);
  if (!parsed.ok) throw new Error(parsed.error);
  const space = {
    id: 0,
    processors: machine(kind),
    thrashingDisabled: false,
    slab: createSlab(),
    thrashing: createThrashingSpace(0),
  } as unknown as VaSpace;
  const m = {
    params: parsed.params,
    // Recording takes time, which must not show in the stamps.
    cost: { toolsEvent: 700 },
    res: { why: null, pushWatch: null, handlers: [() => undefined], verify: true },
    k: createKernel(),
    vaSpaces: [space],
    tools: createTools(true),
    thrashingHint: { type: 0, residency: INVALID_ID, processors: 0, endTime: 0 },
  } as unknown as Model;
  const policy = { preferredLocation: INVALID_ID, accessedBy: 0, readDuplication: 0 };
  const range = { policy, space } as unknown as VaRange;
  m.k.now = T0;
  return { m, space, block: vaBlockCreate(0, range, START_PAGE, 512, 2) };
}

/** A run of pages moves, as the block's code would do it. */
export function migrate(
  b: Bench,
  time: number,
  to: number,
  cause = CAUSE_REPLAYABLE_FAULT,
  first = 0,
  count = 1,
  copy = false,
  hop = false,
): void {
  b.m.k.now = time;
  perfThrashingMigrationEvent(b.m, b.block, to, first, count, cause, copy, hop);
  b.block.resident |= 1 << to;
  for (const id of [CPU_ID, GPU, PEER]) {
    const w = id === CPU_ID ? b.block.w : vaBlockGpuStateGetAlloc(b.block, id).w;
    const offset = id === CPU_ID ? B_CPU_RESIDENT : G_RESIDENT;
    if (id === to) maskSetRegion(w, offset, first, first + count);
    else maskClearRegion(w, offset, first, first + count);
  }
}

export function thrashingOf(b: Bench): BlockThrashing {
  if (b.block.thrashing === null) throw new Error('no data of the block');
  return b.block.thrashing;
}

export function pagesOf(b: Bench): PageThrashing {
  const { pages } = thrashingOf(b);
  if (pages === null) throw new Error('no data of pages');
  return pages;
}

export function isThrashing(b: Bench, page = 0): boolean {
  const mask = perfThrashingGetThrashingPages(b.block);
  return mask !== null && maskTest(mask, 0, page);
}

export function hint(b: Bench, time: number, processor: number, page = 0): string {
  b.m.k.now = time;
  const h = perfThrashingGetHint(b.m, b.block, page, processor);
  expect(h).toBe(b.m.thrashingHint);
  if (h.type === THRASHING_HINT_NONE) return 'none';
  if (h.type === THRASHING_HINT_THROTTLE) return 'throttle';
  expect(h.type).toBe(THRASHING_HINT_PIN);
  return `pin ${h.residency}`;
}

const EVENT_WORD = new Map([
  [EVENT_THRASHING, 'thrashing'],
  [EVENT_THROTTLING_START, 'start'],
  [EVENT_THROTTLING_END, 'end'],
]);

/** Recorded events as "word page processor(s)", pages counted from the block's start. */
export function events(b: Bench): string[] {
  const log = b.m.tools.log;
  return Array.from({ length: log.count }, (_, i) => {
    const who = log.kind[i] === EVENT_THRASHING ? log.processors[i] : log.src[i];
    return `${EVENT_WORD.get(log.kind[i])} ${log.page[i] - START_PAGE} ${who}`;
  });
}

/** Five migrations to and fro, 10 us apart, the last of them to the GPU at the returned time: page 0 thrashes. */
export function thrash(b: Bench, start = T0): number {
  for (let i = 0; i < 5; i++) migrate(b, start + i * 10 * US, i % 2 === 0 ? GPU : CPU_ID);
  b.m.tools.log.count = 0;
  return start + 40 * US;
}

/** The last value at which a page's stamp of `time` still counts, and one more. */
export function stampOf(time: number): number {
  return time - (time % 64);
}
