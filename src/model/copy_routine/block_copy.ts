/**
 * The copy inside one block, under its lock: out of the CPU's memory by the CPU, out of a GPU's by a push on that GPU,
 * which with Confidential Computing encrypts into a staging buffer (conf_computing.ts).
 * It changes no residency, no mapping and no heuristic, and leaves no event: only channels move on, and the block's
 * tracker holds what was pushed.
 */
import { PAGE_SIZE, PAGES_PER_BLOCK } from '../../base/units.ts';
import { contentsCopyOut, contentsZeroBytes } from '../gpu/contents.ts';
import type { Model } from '../state.ts';
import { CHANNEL_TYPE_GPU_TO_CPU } from '../uvm/channel.ts';
import { CPU_ID, INVALID_ID } from '../uvm/processors.ts';
import { PURPOSE_COPY_OUT, type Push, pushBeginAcquire, pushCopyOut, pushEnd } from '../uvm/push.ts';
import { NV_OK } from '../uvm/status.ts';
import { trackerAddPush, trackerWait } from '../uvm/tracker.ts';
import { pageAuthorizedProcessors, pageClosestResident } from '../uvm/va_block.ts';
import { secureCopyBegin, secureCopyPages } from '../uvm/va_block_conf_computing.ts';
import { gpuChunkPages } from '../uvm/va_block_copy.ts';
import { isBlockPhysContig } from '../uvm/va_block_pte.ts';
import { PROT_READ_WRITE, type VaBlock } from '../uvm/va_block_types.ts';
import { copyBounceAdd } from './conf_computing.ts';
import { copyPushAttach, copyPushOf, copyRecordTime, copyStage } from './record.ts';
import type { CopyRecord } from './types.ts';

const BLOCK_BYTES = PAGES_PER_BLOCK * PAGE_SIZE;

/** Source of each page of a range: a processor id, or INVALID_ID for a page that lives nowhere. */
type Sources = readonly number[];

/** Fills `bytes` bytes of pinned memory with zeros, from byte `at` on. */
export function copyZero(m: Model, record: CopyRecord, at: number, bytes: number): void {
  const begin = m.k.now;
  m.k.now += m.cost.copyCpuPage * Math.ceil(bytes / PAGE_SIZE);
  copyRecordTime(record, begin, m.k.now);
  if (m.contents === null) return;
  const { frames } = m.k.pins[record.pin];
  for (let done = 0; done < bytes; ) {
    const offset = (at + done) % PAGE_SIZE;
    const n = Math.min(bytes - done, PAGE_SIZE - offset);
    contentsZeroBytes(m.contents, CPU_ID, frames[Math.floor((at + done) / PAGE_SIZE)], offset, n);
    done += n;
  }
}

/** What the CPU does: pages of its own memory, once the block's tracker is empty, and zeros. Returns a status. */
function copyByCpu(m: Model, record: CopyRecord, block: VaBlock, first: number, at: number, sources: Sources): number {
  if (sources.includes(CPU_ID)) {
    const status = trackerWait(m, block.tracker);
    if (status !== NV_OK) return status;
  }
  for (const [i, source] of sources.entries()) {
    const to = at + i * PAGE_SIZE;
    if (source === INVALID_ID) copyZero(m, record, to, PAGE_SIZE);
    if (source !== CPU_ID) continue;
    const begin = m.k.now;
    m.k.now += m.cost.copyCpuPage;
    copyRecordTime(record, begin, m.k.now);
    if (m.contents !== null) {
      const { frames } = m.k.pins[record.pin];
      contentsCopyOut(m.contents, CPU_ID, block.startPage + first + i, 0, frames, to, PAGE_SIZE);
    }
  }
  const pages = sources.filter((source) => source <= CPU_ID).length;
  if (pages > 0) copyStage(m, record, 'cpu', { pages });
  return NV_OK;
}

/**
 * One copy for each run that is contiguous on both sides: in a chunk of the GPU's memory, and in an aligned 2 MiB of
 * the destination, which is what a huge page or an IOMMU makes contiguous.
 */
function pushRuns(
  m: Model,
  push: Push,
  record: CopyRecord,
  block: VaBlock,
  first: number,
  at: number,
  sources: Sources,
  gpuId: number,
): void {
  const whole = isBlockPhysContig(block, gpuId);
  const into2m = block.startPage % PAGES_PER_BLOCK;
  const destination = record.staged ? 0 : (record.toPage % PAGES_PER_BLOCK) * PAGE_SIZE;
  for (let i = 0; i < sources.length; ) {
    if (sources[i] !== gpuId) {
      i++;
      continue;
    }
    const chunk = whole ? PAGES_PER_BLOCK : gpuChunkPages(into2m, block.n, first + i);
    const end = Math.floor((into2m + first + i) / chunk) * chunk + chunk - into2m - first;
    let outer = i + 1;
    while (outer < sources.length && outer < end && sources[outer] === gpuId) outer++;
    const bytes = (outer - i) * PAGE_SIZE;
    for (let done = 0; done < bytes; ) {
      const to = at + i * PAGE_SIZE + done;
      const n = Math.min(bytes - done, BLOCK_BYTES - ((destination + to) % BLOCK_BYTES));
      const page = block.startPage + first + i + Math.floor(done / PAGE_SIZE);
      pushCopyOut(m, push, gpuId, page, done % PAGE_SIZE, record.pin, to, n);
      done += n;
    }
    i = outer;
  }
}

/** One push on the GPU that holds the pages: it starts after the block's tracker, which holds it afterwards. */
function copyByGpu(
  m: Model,
  record: CopyRecord,
  block: VaBlock,
  first: number,
  at: number,
  sources: Sources,
  gpuId: number,
): number {
  const secure =
    m.res.confComputing === null ? null : secureCopyBegin(m, block.tracker, CPU_ID, gpuId, PURPOSE_COPY_OUT);
  const push =
    secure === null
      ? pushBeginAcquire(m, gpuId - 1, CHANNEL_TYPE_GPU_TO_CPU, PURPOSE_COPY_OUT, block.tracker)
      : secure.push;
  if (push.status !== NV_OK) return push.status;
  if (secure === null) {
    pushRuns(m, push, record, block, first, at, sources, gpuId);
    copyPushAttach(m, block.range.space, record, push);
  } else {
    for (const [i, source] of sources.entries()) {
      if (source === gpuId) secureCopyPages(m, secure, block.startPage, first + i, first + i + 1);
    }
  }
  const acquires = push.acquires.slice(0, 2 * Math.min(push.acquireCount, push.acquires.length / 2));
  pushEnd(m, push);
  trackerAddPush(block.tracker, push);
  if (secure !== null) copyBounceAdd(record, secure, block.startPage);
  copyStage(m, record, 'push', { pages: sources.length, acquires: Array.from(acquires) });
  record.pushes.push(copyPushOf(push));
  copyRecordTime(record, push.start, push.finish);
  return NV_OK;
}

/**
 * Copies pages `[first, outer)` of a block to byte `at` of the record's pinned memory, from the resident processor that
 * is closest to the CPU, or from `only` where one is given. Returns a driver status; pushes are not waited for.
 */
export function copyBlockLocked(
  m: Model,
  record: CopyRecord,
  block: VaBlock,
  first: number,
  outer: number,
  at: number,
  only: number,
): number {
  const sources: number[] = [];
  let gpus = 0;
  for (let page = first; page < outer; page++) {
    const source = only === INVALID_ID ? pageClosestResident(block, page, CPU_ID) : only;
    sources.push(source);
    if (source > CPU_ID) gpus |= 1 << source;
    record.writableOn |= pageAuthorizedProcessors(block, page, PROT_READ_WRITE);
  }
  if (record.fromPage === block.startPage + first) record.residentOn = sources[0];
  let status = copyByCpu(m, record, block, first, at, sources);
  for (let id = 1; id <= m.spec.gpus && status === NV_OK; id++) {
    if ((gpus & (1 << id)) !== 0) status = copyByGpu(m, record, block, first, at, sources, id);
  }
  return status;
}
