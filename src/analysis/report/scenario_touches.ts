/** Which pages the steps of a scenario touch, and by which processor: by it a report knows what became of prefetch. */
import { PAGE_SIZE, PAGES_PER_BLOCK } from '../../base/units.ts';
import { processorWord } from '../../scenario/machine.ts';
import { type AccessStep, accessPages, HOST_SIDE, type Scenario, type Step } from '../../scenario/scenario.ts';

const WORDS_PER_BLOCK = PAGES_PER_BLOCK / 32;
/** Steps with pages of one block, in all: 128 MiB. */
const BLOCK_STEPS_MAX = 2 ** 20;

/** The pages of one block that one processor touches, step by step. */
interface BlockTouches {
  steps: number[];
  masks: Uint32Array[];
}

export interface Touches {
  /** By processor, allocation and number of the block: `gpu0/a/3`. */
  blocks: Map<string, BlockTouches>;
  /** Processors whose accesses to an allocation nobody knows (`gpu0/a`), with the reason. */
  unknown: Map<string, string>;
}

function key(processor: string, allocation: string): string {
  return `${processor}/${allocation}`;
}

interface Building {
  touches: Touches;
  scenario: Scenario;
  entries: number;
}

function maskOf(b: Building, place: string, block: number, step: number): Uint32Array {
  const id = `${place}/${block}`;
  let its = b.touches.blocks.get(id);
  if (its === undefined) {
    its = { steps: [], masks: [] };
    b.touches.blocks.set(id, its);
  }
  const last = its.steps.length - 1;
  if (last >= 0 && its.steps[last] === step) return its.masks[last];
  b.entries++;
  const mask = new Uint32Array(WORDS_PER_BLOCK);
  its.steps.push(step);
  its.masks.push(mask);
  return mask;
}

function touchPages(b: Building, step: number, processor: number, buffer: number, pages: Iterable<number>): void {
  const place = key(processorWord(processor), b.scenario.allocations[buffer].name);
  let block = -1;
  let mask: Uint32Array | null = null;
  for (const page of pages) {
    const of = Math.floor(page / PAGES_PER_BLOCK);
    if (of !== block || mask === null) {
      if (b.entries > BLOCK_STEPS_MAX) return;
      block = of;
      mask = maskOf(b, place, of, step);
    }
    const bit = page % PAGES_PER_BLOCK;
    mask[bit >>> 5] |= 1 << (bit & 31);
  }
}

function* pageRange(offset: number, length: number): Generator<number> {
  const end = Math.ceil((offset + length) / PAGE_SIZE);
  for (let page = Math.floor(offset / PAGE_SIZE); page < end; page++) yield page;
}

/** All pages of the range where the stride passes over none; else those of the list. */
function pagesOf(step: AccessStep, scenario: Scenario): Iterable<number> {
  if (step.pages === null && step.stride <= PAGE_SIZE) return pageRange(step.offset, step.length);
  return accessPages(step, scenario.allocations[step.buffer]);
}

function addStep(b: Building, step: Step, index: number): void {
  const { allocations } = b.scenario;
  switch (step.do) {
    case 'read':
    case 'write':
    case 'atomic':
      touchPages(b, index, step.on, step.buffer, pagesOf(step, b.scenario));
      return;
    case 'memset':
      touchPages(b, index, step.on, step.buffer, pageRange(step.offset, step.length));
      return;
    case 'kernel':
      if (step.kernel === 'randomRead') {
        const place = key(processorWord(step.on), allocations[step.buffer].name);
        b.touches.unknown.set(place, 'which pages a randomRead kernel reads is not in its step');
      } else touchPages(b, index, step.on, step.buffer, pageRange(0, step.length));
      return;
    case 'memcpy':
      // By a copy engine of gpu0, which reads and writes what is mapped there.
      for (const side of [step.from, step.to]) {
        if (side !== HOST_SIDE) touchPages(b, index, 1, side, pageRange(step.offset, step.length));
      }
      return;
    case 'contend':
      touchPages(b, index, 0, step.buffer, [step.page]);
      touchPages(b, index, step.gpu, step.buffer, [step.page]);
      return;
    default:
      return;
  }
}

/** What a scenario touches; or why that cannot be said. */
export function scenarioTouches(scenario: Scenario): { ok: true; touches: Touches } | { ok: false; why: string } {
  const b: Building = { touches: { blocks: new Map(), unknown: new Map() }, scenario, entries: 0 };
  for (const [index, step] of scenario.steps.entries()) {
    addStep(b, step, index);
    if (b.entries > BLOCK_STEPS_MAX)
      return { ok: false, why: 'the scenario touches too many blocks in too many steps' };
  }
  return { ok: true, touches: b.touches };
}

/** Whether the processor touches the page in one of the steps `first` to `last`. */
export function isTouched(
  { blocks }: Touches,
  processor: string,
  allocation: string,
  page: number,
  first: number,
  last: number,
): boolean {
  const its = blocks.get(`${key(processor, allocation)}/${Math.floor(page / PAGES_PER_BLOCK)}`);
  if (its === undefined) return false;
  const bit = page % PAGES_PER_BLOCK;
  let low = 0;
  let high = its.steps.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (its.steps[middle] < first) low = middle + 1;
    else high = middle;
  }
  for (let i = low; i < its.steps.length && its.steps[i] <= last; i++) {
    if (((its.masks[i][bit >>> 5] >>> (bit & 31)) & 1) === 1) return true;
  }
  return false;
}

/** Why it is not known what a processor does with an allocation; null where it is. */
export function unknownTouches({ unknown }: Touches, processor: string, allocation: string): string | null {
  return unknown.get(key(processor, allocation)) ?? null;
}
