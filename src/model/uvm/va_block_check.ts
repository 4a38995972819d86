/**
 * Models the checks that debug builds of the driver make on a VA block (uvm_va_block.c, driver 580.105.08):
 * block_check_mappings with block_check_mappings_page and block_check_mappings_ptes, block_check_cpu_chunks,
 * block_check_gpu_chunks, block_check_resident_proximity. They hold whenever the block lock is free, and at the points
 * inside an operation where the driver asserts them (`m.res.verify`).
 *
 * Beyond the driver: while none of a GPU's pushes is outstanding its page tables must say, page by page, what the
 * driver believes, and map the copy that is closest; Linux's page tables must agree with the driver's CPU masks;
 * layout fields, chunks, trackers, thrashing data and the sums over a VA space must fit together.
 *
 * Pages are taken 32 at a time, so that a check costs little; only a violation is looked at page by page.
 * Left out: HMM, GPUs that cannot fault, discarded chunk lists, NUMA nodes.
 */
import { AssertionError } from '../../base/assert.ts';
import { MASK_WORDS, maskContains, maskIsEmpty, maskTest, maskWeight } from '../../base/page_mask.ts';
import { PAGE_SIZE, PAGES_PER_BIG_PAGE, PAGES_PER_BLOCK } from '../../base/units.ts';
import { type MmuRegion, makePte, PTE_BIG_UNMAPPED, PTE_INVALID } from '../gpu/mmu.ts';
import type { Model } from '../state.ts';
import { CHANNELS_PER_GPU_MAX, channelGpu } from './channel.ts';
import { T_PINNED_PAGES, T_THRASHING_PAGES } from './perf_thrashing_page.ts';
import { CPU_ID, INVALID_ID, processorFindClosest } from './processors.ts';
import type { Tracker } from './tracker.ts';
import { bigPageCount, bigPageFirst, mappedOffset, residentOffset, residentWords, supports2m } from './va_block.ts';
import { cpuChunkPages, isBlockPhysContig } from './va_block_pte.ts';
import {
  B_CPU_ALLOCATED,
  B_CPU_READ,
  B_CPU_RESIDENT,
  B_CPU_WRITE,
  B_MAYBE_MAPPED,
  B_MM_PRESENT,
  B_MM_WRITE,
  B_READ_DUPLICATED,
  B_WORDS,
  type BlockGpuState,
  G_ALLOCATED,
  G_ATOMIC,
  G_EVICTED,
  G_READ,
  G_RESIDENT,
  G_WORDS,
  G_WRITE,
  PROT_READ_ONLY,
  type VaBlock,
} from './va_block_types.ts';
import type { VaRange, VaSpace } from './va_range_types.ts';
import { vaRangeBase } from './va_space.ts';

/** First page of a word's set bits. */
function pageOf(word: number, bits: number): number {
  return word * 32 + 31 - Math.clz32(bits & -bits);
}

/** How many pages of the 32 of word `i` belong to a block of `n` pages, as a mask. */
function inside(i: number, n: number): number {
  const left = n - i * 32;
  if (left >= 32) return -1;
  return left <= 0 ? 0 : (1 << left) - 1;
}

function processorText(mask: number): string {
  const words: string[] = [];
  for (let id = 0; id < 31; id++) if ((mask & (1 << id)) !== 0) words.push(id === CPU_ID ? 'cpu' : `gpu${id - 1}`);
  return words.length === 0 ? 'nobody' : words.join('+');
}

/** Everything the block knows of one page, for messages. */
function pageText(block: VaBlock, page: number): string {
  let resident = 0;
  const mapped = [0, 0, 0, 0];
  for (let id = 0; id <= block.gpus.length; id++) {
    const w = residentWords(block, id);
    if (w === null) continue;
    if (maskTest(w, residentOffset(id), page)) resident |= 1 << id;
    for (let p = PROT_READ_ONLY; p <= 3; p++) if (maskTest(w, mappedOffset(id, p), page)) mapped[p] |= 1 << id;
  }
  const duplicated = maskTest(block.w, B_READ_DUPLICATED, page) ? ', duplicated' : '';
  return (
    `page ${page}: resident on ${processorText(resident)}, readable by ${processorText(mapped[1])}, ` +
    `writable by ${processorText(mapped[2])}, atomics by ${processorText(mapped[3])}${duplicated}`
  );
}

/** A mask bit of a processor that does not agree with its page mask, or pages beyond the block. */
function checkMasks(block: VaBlock): string | null {
  for (let i = 0; i < MASK_WORDS; i++) {
    const outside = ~inside(i, block.n);
    if (outside === 0) continue;
    for (let o = i; o < B_WORDS; o += MASK_WORDS) {
      if ((block.w[o] & outside) !== 0) return `mask ${(o / MASK_WORDS) | 0} of the block reaches beyond its last page`;
    }
    for (const state of block.gpus) {
      if (state === null) continue;
      for (let o = i; o < G_WORDS; o += MASK_WORDS) {
        if ((state.w[o] & outside) !== 0) return `mask ${(o / MASK_WORDS) | 0} of a GPU reaches beyond the block`;
      }
    }
  }
  const all = (2 << block.gpus.length) - 1;
  if (((block.resident | block.mapped | block.evictedGpus) & ~all) !== 0) return 'a processor mask names nobody';
  for (let id = 0; id <= block.gpus.length; id++) {
    const w = residentWords(block, id);
    const bit = 1 << id;
    if (w === null) {
      if (((block.resident | block.mapped | block.evictedGpus) & bit) !== 0)
        return `gpu${id - 1} has bits but no state`;
      continue;
    }
    if (((block.resident & bit) !== 0) === maskIsEmpty(w, residentOffset(id))) {
      return `the resident bit of ${processorText(bit)} does not agree with its mask`;
    }
    if (((block.mapped & bit) !== 0) === maskIsEmpty(w, mappedOffset(id, PROT_READ_ONLY))) {
      return `the mapped bit of ${processorText(bit)} does not agree with its mask`;
    }
    if (id !== CPU_ID && ((block.evictedGpus & bit) !== 0) === maskIsEmpty(w, G_EVICTED)) {
      return `the evicted bit of ${processorText(bit)} does not agree with its mask`;
    }
  }
  return null;
}

/** Scratch of one word, by processor id: resident, readable, writable, atomic. */
const RES = new Int32Array(32);
const READ = new Int32Array(32);
const WRITE = new Int32Array(32);
const ATOMIC = new Int32Array(32);

function loadWord(block: VaBlock, i: number): void {
  const w = block.w;
  RES[0] = w[B_CPU_RESIDENT + i];
  READ[0] = w[B_CPU_READ + i];
  WRITE[0] = w[B_CPU_WRITE + i];
  // A CPU's write right includes atomics.
  ATOMIC[0] = WRITE[0];
  for (let id = 1; id <= block.gpus.length; id++) {
    const state = block.gpus[id - 1];
    RES[id] = state === null ? 0 : state.w[G_RESIDENT + i];
    READ[id] = state === null ? 0 : state.w[G_READ + i];
    WRITE[id] = state === null ? 0 : state.w[G_WRITE + i];
    ATOMIC[id] = state === null ? 0 : state.w[G_ATOMIC + i];
  }
}

/** Where the last check stopped; pages as bits of the word it looked at. */
let badBits = 0;

function bad(bits: number): boolean {
  if (bits === 0) return false;
  badBits = bits;
  return true;
}

/** Rules about one processor's masks alone, and about who reaches whom. Names the first broken one. */
function checkWordByProcessor(block: VaBlock, i: number, several: number): string | null {
  const masks = block.range.space.processors;
  for (let id = 0; id <= block.gpus.length; id++) {
    if (bad(WRITE[id] & ~READ[id])) return 'a writable page is not readable';
    if (bad(ATOMIC[id] & ~WRITE[id])) return 'a page with atomics is not writable';
    if (READ[id] === 0) continue;
    let reachable = 0;
    for (let owner = 0; owner <= block.gpus.length; owner++) {
      if ((masks.canAccess[id] & (1 << owner)) !== 0) reachable |= RES[owner];
    }
    if (bad(READ[id] & ~reachable)) return 'a processor maps memory out of its reach';
    if (bad(READ[id] & several & ~RES[id])) return 'a page with several copies is mapped without a local one';
    const state = id === CPU_ID ? null : (block.gpus[id - 1] as BlockGpuState);
    if (state !== null && bad(state.w[G_RESIDENT + i] & state.w[G_EVICTED + i])) return 'a resident page is evicted';
  }
  return null;
}

/** Atomics by processors that are not native to the memory exclude all other writers. */
function checkWordAtomics(block: VaBlock): string | null {
  const native = block.range.space.processors.hasNativeAtomics;
  const last = block.gpus.length;
  let writers = 0;
  let twoWriters = 0;
  for (let id = 0; id <= last; id++) {
    twoWriters |= writers & WRITE[id];
    writers |= WRITE[id];
  }
  for (let owner = 0; owner <= last; owner++) {
    if (RES[owner] === 0) continue;
    let natives = 0;
    let others = 0;
    for (let id = 0; id <= last; id++) {
      if ((native[owner] & (1 << id)) !== 0) natives |= ATOMIC[id];
      else others |= ATOMIC[id];
    }
    if (bad(RES[owner] & natives & others)) return 'atomics by native and by other processors';
    if (bad(RES[owner] & others & twoWriters)) return 'several writers although one has atomics that are not native';
  }
  return null;
}

/** block_check_mappings_page for the 32 pages of word `i`; null or the name of the rule. */
function checkWord(block: VaBlock, i: number): string | null {
  loadWord(block, i);
  const w = block.w;
  const duplicated = w[B_READ_DUPLICATED + i];
  let any = 0;
  let several = 0;
  let mapped = 0;
  let writable = 0;
  for (let id = 0; id <= block.gpus.length; id++) {
    several |= any & RES[id];
    any |= RES[id];
    mapped |= READ[id];
    writable |= WRITE[id];
    const allocated = id === CPU_ID ? w[B_CPU_ALLOCATED + i] : (block.gpus[id - 1]?.w[G_ALLOCATED + i] ?? 0);
    if (bad(RES[id] & ~allocated)) return 'a resident page has no memory';
  }
  if (bad(several & ~duplicated)) return 'a page that is not read-duplicated has several copies';
  if (bad(duplicated & ~any)) return 'a read-duplicated page has no copy';
  if (bad(mapped & ~any)) return 'a page without a copy is mapped';
  if (bad(writable & several)) return 'a page with several copies is writable';
  if (bad(mapped & ~w[B_MAYBE_MAPPED + i])) return 'a mapped page is taken for certainly unmapped';
  return checkWordByProcessor(block, i, several) ?? checkWordAtomics(block);
}

/** block_check_cpu_chunks and block_check_gpu_chunks: memory comes in whole natural chunks. */
function checkChunks(block: VaBlock): string | null {
  const into2m = block.startPage % PAGES_PER_BLOCK;
  if (block.cpuChunk2m && (!supports2m(block) || maskWeight(block.w, B_CPU_ALLOCATED) !== PAGES_PER_BLOCK)) {
    return 'a 2 MiB CPU chunk does not back the whole block';
  }
  for (let piece = 0; piece < 32; piece++) {
    const first = piece * PAGES_PER_BIG_PAGE - into2m;
    const outer = first + PAGES_PER_BIG_PAGE;
    const whole = first >= 0 && outer <= block.n;
    if ((block.cpuChunk64k & (1 << piece)) !== 0) {
      if (block.cpuChunk2m || !whole) return 'a 64 KiB CPU chunk lies outside of its block';
      for (let p = first; p < outer; p++) {
        if (!maskTest(block.w, B_CPU_ALLOCATED, p)) return 'a 64 KiB CPU chunk has pages without memory';
      }
    }
    if (!whole) continue;
    for (const state of block.gpus) {
      if (state === null) continue;
      const have = maskTest(state.w, G_ALLOCATED, first);
      for (let p = first + 1; p < outer; p++) {
        if (maskTest(state.w, G_ALLOCATED, p) !== have) return 'part of a GPU chunk is missing';
      }
    }
  }
  if (!supports2m(block)) return null;
  for (const state of block.gpus) {
    const pages = state === null ? 0 : maskWeight(state.w, G_ALLOCATED);
    if (pages !== 0 && pages !== PAGES_PER_BLOCK) return 'part of a 2 MiB GPU chunk is missing';
  }
  return null;
}

/** The PTE that the driver's masks call for. */
function expectedPte(block: VaBlock, state: BlockGpuState, gpuId: number, page: number): number {
  if (!maskTest(state.w, G_READ, page)) return PTE_INVALID;
  const protection = maskTest(state.w, G_ATOMIC, page) ? 3 : maskTest(state.w, G_WRITE, page) ? 2 : 1;
  let residents = 0;
  for (let id = 0; id <= block.gpus.length; id++) {
    const w = residentWords(block, id);
    if (w !== null && maskTest(w, residentOffset(id), page)) residents |= 1 << id;
  }
  return makePte(protection, processorFindClosest(block.range.space.processors, residents, gpuId));
}

/** Pages `[first, outer)` share one entry: they must be mapped alike, and the memory must be one piece. */
function checkUniform(
  block: VaBlock,
  state: BlockGpuState,
  gpuId: number,
  first: number,
  outer: number,
): string | null {
  const pte = expectedPte(block, state, gpuId, first);
  for (let p = first + 1; p < outer; p++) {
    if (expectedPte(block, state, gpuId, p) !== pte) return `one entry covers pages ${first} and ${p}, mapped unlike`;
  }
  if (pte === PTE_INVALID) return null;
  const target = pte >> 3;
  if (outer - first === PAGES_PER_BLOCK) {
    return isBlockPhysContig(block, target) ? null : 'a 2 MiB entry maps memory that is not one piece';
  }
  if (target === CPU_ID && cpuChunkPages(block, first) < PAGES_PER_BIG_PAGE) {
    return 'a 64 KiB entry maps system memory that is not one piece';
  }
  return null;
}

/** block_check_mappings_ptes: the layout fields of one GPU. */
function checkLayout(block: VaBlock, gpuId: number): string | null {
  const state = block.gpus[gpuId - 1] as BlockGpuState;
  const count = bigPageCount(block);
  const all = count === 0 ? 0 : count === 32 ? -1 : (1 << count) - 1;
  if (!state.hasBigTable && (state.activatedBig || state.initializedBig !== 0))
    return 'a big table is used, but absent';
  if (!state.has4kTable && state.activated4k) return 'a 4 KiB table is used, but absent';
  if ((state.bigPtes & ~all) !== 0) return 'big entries beyond the block';
  if (state.bigPtes !== 0 && !state.hasBigTable) return 'big entries without a table';
  if ((state.bigPtes & ~state.initializedBig) !== 0) return 'big entries that were never written';
  const tables = state.hasBigTable || state.has4kTable;
  if (supports2m(block)) {
    if (tables && !state.has2mEntry) return 'tables below a 2 MiB entry that does not exist';
    if (state.has2mEntry && !tables && !state.pteIs2m) return 'a 2 MiB entry that is neither a page nor a directory';
  } else {
    if (state.has2mEntry || state.pteIs2m) return 'a short block has a 2 MiB entry';
    if (count === 0 && state.hasBigTable) return 'a big table without room for a big page';
  }
  if (!tables && !state.has2mEntry) {
    return (block.mapped & (1 << gpuId)) === 0 ? null : 'mapped without page tables';
  }
  if (state.pteIs2m) {
    if (state.bigPtes !== 0) return 'big entries below a 2 MiB page';
    return checkUniform(block, state, gpuId, 0, block.n);
  }
  const first = bigPageFirst(block);
  for (let piece = 0; piece < count; piece++) {
    if ((state.bigPtes & (1 << piece)) === 0) continue;
    const start = first + piece * PAGES_PER_BIG_PAGE;
    const found = checkUniform(block, state, gpuId, start, start + PAGES_PER_BIG_PAGE);
    if (found !== null) return found;
  }
  if (state.has4kTable) return null;
  for (let p = 0; p < block.n; p++) {
    const piece = Math.floor((p - first) / PAGES_PER_BIG_PAGE);
    const isBig = piece >= 0 && piece < count && (state.bigPtes & (1 << piece)) !== 0;
    if (!isBig && maskTest(state.w, G_READ, p)) return `page ${p} is mapped by a 4 KiB entry without a table`;
  }
  return null;
}

/** The hardware's big entry that covers a page of a region, PTE_INVALID without a table. */
function hardwareBig(region: MmuRegion, index: number): number {
  return region.big === null ? PTE_INVALID : region.big[(index / PAGES_PER_BIG_PAGE) | 0];
}

/** What the hardware's walk ends with for the page at `index` of a region: a PTE, or PTE_INVALID. */
function hardwarePte(region: MmuRegion, index: number): number {
  if (region.pde0 === PTE_INVALID) return PTE_INVALID;
  if ((region.pde0 & 0x80) === 0) return region.pde0;
  const big = hardwareBig(region, index);
  if (big === PTE_BIG_UNMAPPED) return PTE_INVALID;
  if (big !== PTE_INVALID) return big;
  return region.small === null ? PTE_INVALID : region.small[index];
}

/** Layout fields against the tables: the directory entry, and which pieces big entries decide. */
function checkHardwareLayout(block: VaBlock, state: BlockGpuState, region: MmuRegion | undefined): string | null {
  const isDirectory = region !== undefined && (region.pde0 & 0x80) !== 0;
  if (state.pteIs2m) return isDirectory ? 'the hardware has a directory where the driver has a 2 MiB entry' : null;
  if (!state.hasBigTable && !state.has4kTable) return null;
  if (region === undefined || !isDirectory) return 'the hardware lacks the directory of a block with tables';
  const first = bigPageFirst(block);
  const base = block.startPage % PAGES_PER_BLOCK;
  for (let piece = 0; piece < bigPageCount(block); piece++) {
    const isBig = hardwareBig(region, base + first + piece * PAGES_PER_BIG_PAGE) !== PTE_INVALID;
    if (isBig !== ((state.bigPtes & (1 << piece)) !== 0)) {
      return `64 KiB piece ${piece} is ${isBig ? 'big' : 'small'} in hardware, but not for the driver`;
    }
  }
  return null;
}

/** The GPU's page tables against the masks; all of its pushes have run. */
function checkHardware(m: Model, block: VaBlock, gpuId: number): string | null {
  const region = m.gpus[gpuId - 1].mmu.regions.get(Math.floor(block.startPage / PAGES_PER_BLOCK));
  const state = block.gpus[gpuId - 1];
  if (state !== null) {
    const found = checkHardwareLayout(block, state, region);
    if (found !== null) return found;
  }
  const base = block.startPage % PAGES_PER_BLOCK;
  const isMapped = state !== null && (block.mapped & (1 << gpuId)) !== 0;
  if (!isMapped && (region === undefined || region.pde0 === PTE_INVALID)) return null;
  for (let p = 0; p < block.n; p++) {
    const want = isMapped ? expectedPte(block, state as BlockGpuState, gpuId, p) : PTE_INVALID;
    const have = region === undefined ? PTE_INVALID : hardwarePte(region, base + p);
    if (want !== have) return `entry of page ${p} is 0x${have.toString(16)}, not 0x${want.toString(16)}`;
  }
  return null;
}

/** Linux's page tables: they hold nothing that the driver does not know of, and all it knows of unless some dropped. */
function checkCpuTables(block: VaBlock, mmMayDrop: boolean): string | null {
  const w = block.w;
  for (let i = 0; i < MASK_WORDS; i++) {
    const present = w[B_MM_PRESENT + i];
    const writable = w[B_MM_WRITE + i];
    if (bad(writable & ~present)) return `CPU entry of page ${pageOf(i, badBits)} is writable but not present`;
    if (bad(present & ~w[B_CPU_READ + i])) return `CPU maps page ${pageOf(i, badBits)} behind the driver's back`;
    if (bad(writable & ~w[B_CPU_WRITE + i])) return `CPU may write page ${pageOf(i, badBits)} behind the driver's back`;
    if (mmMayDrop) continue;
    if (bad(w[B_CPU_READ + i] & ~present)) return `CPU entry of page ${pageOf(i, badBits)} is missing`;
    if (bad(w[B_CPU_WRITE + i] & ~writable)) return `CPU entry of page ${pageOf(i, badBits)} cannot be written`;
  }
  return null;
}

/** Every entry names a channel that exists and a push that was submitted to it. */
export function trackerCheck(m: Model, t: Tracker): string | null {
  if (t.length % 2 !== 0) return 'a tracker holds half an entry';
  for (let i = 0; i < t.length; i += 2) {
    const gpu = m.gpus[channelGpu(t[i])];
    const channel = gpu?.channelManager.channels[t[i] % CHANNELS_PER_GPU_MAX];
    if (channel === undefined) return `a tracker names channel ${t[i]}, which does not exist`;
    if (!(t[i + 1] > 0 && t[i + 1] <= channel.trackingSem.queuedValue)) {
      return `a tracker waits for value ${t[i + 1]} of channel ${t[i]}, which was never submitted`;
    }
    for (let k = 0; k < i; k += 2) if (t[k] === t[i]) return `a tracker names channel ${t[i]} twice`;
  }
  return null;
}

/** Data of the thrashing module: its masks, its counts and the VA space's list of pinned pages agree. */
function checkThrashing(m: Model, block: VaBlock): string | null {
  const thrashing = block.thrashing;
  if (thrashing === null) return null;
  if (maskWeight(thrashing.w, T_THRASHING_PAGES) !== thrashing.numThrashingPages)
    return 'thrashing pages are miscounted';
  if (thrashing.pages === null) {
    return maskWeight(thrashing.w, T_PINNED_PAGES) === 0 ? null : 'pinned pages without data';
  }
  for (let p = 0; p < PAGES_PER_BLOCK; p++) {
    const pinned = maskTest(thrashing.w, T_PINNED_PAGES, p);
    if (!pinned && !maskTest(thrashing.w, T_THRASHING_PAGES, p)) continue;
    if (p >= block.n) return 'thrashing pages beyond the block';
    if (pinned !== (thrashing.pages.pinned[p] !== 0)) return `page ${p} is and is not pinned`;
    if (pinned && !maskTest(thrashing.w, T_THRASHING_PAGES, p)) return `page ${p} is pinned but does not thrash`;
    if (pinned === (thrashing.pages.pinnedResidency[p] === INVALID_ID)) return `page ${p} is pinned nowhere`;
    if (!pinned || m.params.thrashingPinNs === 0) continue;
    const listed = block.range.space.thrashing.pinned.filter((entry) => entry.block === block && entry.page === p);
    if (listed.length !== 1) return `page ${p} is pinned and stands ${listed.length} times on the list to unpin`;
  }
  return null;
}

/** The preferred location maps its own memory alone, so that it faults and pulls in what lies elsewhere. */
function checkPreferred(block: VaBlock): string | null {
  const id = block.range.policy.preferredLocation;
  const w = id === INVALID_ID ? null : residentWords(block, id);
  if (w === null || maskContains(w, residentOffset(id), w, mappedOffset(id, PROT_READ_ONLY))) return null;
  return `the preferred location, ${processorText(1 << id)}, maps memory of others`;
}

/** Nothing that was submitted to this GPU is still on its way. */
function isHostIdle(m: Model, gpuId: number): boolean {
  const host = m.gpus[gpuId - 1].channelManager.host;
  return host.pendingHead === host.pendingTail;
}

function blockText(block: VaBlock, what: string): string {
  return `block ${block.id} (pages ${block.startPage} to ${block.startPage + block.n - 1}): ${what}`;
}

/** block_check_mappings and block_check_chunks: what holds inside of an operation too. */
function checkMappings(m: Model, block: VaBlock, mmMayDrop: boolean): string | null {
  let found = checkMasks(block);
  for (let i = 0; i * 32 < block.n && found === null; i++) {
    found = checkWord(block, i);
    if (found !== null) found = `${found}; ${pageText(block, pageOf(i, badBits))}`;
  }
  found ??= checkChunks(block) ?? checkCpuTables(block, mmMayDrop);
  for (let id = 1; id <= block.gpus.length && found === null; id++) {
    if (block.gpus[id - 1] !== null) found = checkLayout(block, id);
    if (found === null && isHostIdle(m, id)) found = checkHardware(m, block, id);
    if (found !== null) found = `gpu${id - 1}: ${found}`;
  }
  return found;
}

/**
 * Checks a block whose lock is free; returns the first violation as text, or null. The page tables of a GPU are
 * compared when none of its pushes is outstanding. `mmMayDrop`: Linux may have dropped CPU entries on its own.
 */
export function vaBlockCheck(m: Model, block: VaBlock, mmMayDrop = false): string | null {
  let found = checkMappings(m, block, mmMayDrop) ?? checkPreferred(block);
  found ??= trackerCheck(m, block.tracker) ?? checkThrashing(m, block);
  return found === null ? null : blockText(block, found);
}

/** Stops when a block breaks a rule: for the points where the driver asserts block_check_mappings. */
export function vaBlockAssert(m: Model, block: VaBlock): void {
  const found = checkMappings(m, block, true);
  if (found !== null) throw new AssertionError(blockText(block, found));
}

/** A range lies where its neighbours leave room, and its blocks lie where their slots say. */
function checkRange(range: VaRange, previousOuter: number): string | null {
  const text = `range ${range.startPage} to ${range.outerPage - 1}`;
  if (range.startPage >= range.outerPage) return `${text} is empty`;
  if (range.startPage < previousOuter) return `${text} overlaps the one before it`;
  const base = vaRangeBase(range);
  const slots = Math.ceil((range.outerPage - base) / PAGES_PER_BLOCK);
  if (range.blocks.length !== slots) return `${text} has ${range.blocks.length} block slots, not ${slots}`;
  for (let slot = 0; slot < slots; slot++) {
    const block = range.blocks[slot];
    if (block === null) continue;
    const first = Math.max(range.startPage, base + slot * PAGES_PER_BLOCK);
    const outer = Math.min(range.outerPage, base + (slot + 1) * PAGES_PER_BLOCK);
    if (block.range !== range) return blockText(block, 'belongs to another range');
    if (block.dead) return blockText(block, 'is dead, but in use');
    if (block.startPage !== first || block.n !== outer - first) return blockText(block, `does not fill slot ${slot}`);
  }
  return null;
}

/** Intervals of range groups: in order, without overlap, of groups that exist. */
function checkRangeGroups(space: VaSpace): string | null {
  let outer = 0;
  for (const interval of space.rangeGroupRanges) {
    if (interval.startPage >= interval.outerPage || interval.startPage < outer) return 'range-group intervals overlap';
    if (!space.rangeGroups.includes(interval.group)) return 'an interval belongs to a range group that is gone';
    outer = interval.outerPage;
  }
  return null;
}

/** Vidmem in use and references to page directories are the sums over all blocks of the machine. */
function checkSums(m: Model): string | null {
  for (const gpu of m.gpus) {
    let pages = 0;
    const references = new Map<number, number>();
    for (const space of m.vaSpaces) {
      for (const range of space.ranges) {
        for (const block of range.blocks) {
          const state = block === null ? null : block.gpus[gpu.index];
          if (block === null || state === null) continue;
          pages += maskWeight(state.w, G_ALLOCATED);
          if (supports2m(block)) continue;
          const count = (state.hasBigTable ? 1 : 0) + (state.has4kTable ? 1 : 0);
          const index = Math.floor(block.startPage / PAGES_PER_BLOCK);
          if (count > 0) references.set(index, (references.get(index) ?? 0) + count);
        }
      }
    }
    if (gpu.vidmemUsed !== pages * PAGE_SIZE) {
      return `gpu${gpu.index} counts ${gpu.vidmemUsed} bytes of vidmem in use, its blocks hold ${pages * PAGE_SIZE}`;
    }
    for (const [index, count] of gpu.pageTree) {
      if (count !== (references.get(index) ?? 0)) return `gpu${gpu.index}: references to directory ${index} are off`;
    }
    for (const index of references.keys()) {
      if (!gpu.pageTree.has(index)) return `gpu${gpu.index}: directory ${index} is used without a reference`;
    }
  }
  return null;
}

/** Checks all ranges and blocks of a VA space and the sums over the machine; the first violation as text, or null. */
export function vaSpaceCheck(m: Model, space: VaSpace, mmMayDrop = false): string | null {
  let outer = 0;
  for (const range of space.ranges) {
    const found = checkRange(range, outer);
    if (found !== null) return found;
    outer = range.outerPage;
    for (const block of range.blocks) {
      const broken = block === null ? null : vaBlockCheck(m, block, mmMayDrop);
      if (broken !== null) return broken;
    }
  }
  for (const entry of space.thrashing.pinned) {
    if (
      entry.block.dead ||
      !maskTest(entry.block.thrashing?.w ?? new Uint32Array(MASK_WORDS * 2), T_PINNED_PAGES, entry.page)
    ) {
      return blockText(entry.block, `page ${entry.page} is on the list to unpin, but not pinned`);
    }
  }
  return checkRangeGroups(space) ?? checkSums(m);
}
