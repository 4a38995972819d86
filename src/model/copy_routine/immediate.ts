/**
 * The immediate form, and the asynchronous one, which returns before its pushes are done. Works block by block, one
 * block lock at a time in the order of addresses, and waits only when no lock is held. With Confidential Computing both
 * wait, and a long copy several times: whenever it holds as many staging buffers as it may.
 */
import { PAGE_SIZE, PAGES_PER_BLOCK } from '../../base/units.ts';
import { LOCK_ORDER_VA_BLOCK, lockAcquire, lockRelease } from '../kernel/lock.ts';
import type { Model } from '../state.ts';
import { channelIsValueCompleted } from '../uvm/channel.ts';
import { vaSpaceLockRead, vaSpaceUnlockRead } from '../uvm/gpu_replayable_faults_service.ts';
import { INVALID_ID } from '../uvm/processors.ts';
import { NV_ERR_INVALID_ADDRESS, NV_OK } from '../uvm/status.ts';
import type { VaSpace } from '../uvm/va_range_types.ts';
import { vaBlockFind, vaRangeFind } from '../uvm/va_space.ts';
import { copyBlockLocked, copyZero } from './block_copy.ts';
import { type Arrival, COPY_BOUNCES_MAX, copyBouncesFinish } from './conf_computing.ts';
import { copyRelease, copyStage, copyWait } from './record.ts';
import { COPY_DONE, COPY_ENDED, type CopyRecord } from './types.ts';
import { userCopyStaged, userPin, userStage } from './user_memory.ts';

/** Bits of the GPUs of a mask. */
function gpuCount(mask: number): number {
  let n = 0;
  for (let rest = mask; rest !== 0; rest &= rest - 1) n++;
  return n;
}

/** Pins B, or takes a stage, before any lock of the driver. */
export function copyTakeDestination(m: Model, record: CopyRecord, staged: boolean): void {
  record.staged = staged;
  const bytes = record.pages * PAGE_SIZE;
  if (staged) record.pin = userStage(m, record.pages);
  else record.pin = userPin(m, record.mm, record.toPage, Math.ceil((record.toOffset + bytes) / PAGE_SIZE));
  copyStage(m, record, 'destination', { pages: m.k.pins[record.pin].frames.length, how: staged ? 'stage' : 'pin' });
}

/** Keeps the registered GPUs and maps the destination for DMA on them, where they can reach it at all. */
export function copyMapForGpus(m: Model, space: VaSpace, record: CopyRecord): void {
  record.retainedGpus = space.registeredGpus;
  record.mappedGpus = m.res.confComputing === null ? space.registeredGpus : 0;
  const mapped = gpuCount(record.mappedGpus);
  m.k.now += m.cost.copyDmaMap * mapped;
  copyStage(m, record, 'mapped', { gpus: mapped });
}

/** Copies the part of a block that the copy covers from `page` on; returns a driver status. */
function copyOfBlock(m: Model, space: VaSpace, record: CopyRecord, page: number, outer: number): number {
  const base = record.staged ? 0 : record.toOffset;
  const at = base + (page - record.fromPage) * PAGE_SIZE;
  if (vaRangeFind(space, page) === null) return NV_ERR_INVALID_ADDRESS;
  const block = vaBlockFind(space, page);
  if (block === null) {
    copyZero(m, record, at, (outer - page) * PAGE_SIZE);
    copyStage(m, record, 'cpu', { pages: outer - page });
    return NV_OK;
  }
  lockAcquire(m, LOCK_ORDER_VA_BLOCK, block.id, false);
  if (m.k.now < block.lockFreeAt) m.k.now = block.lockFreeAt;
  const status = copyBlockLocked(m, record, block, page - block.startPage, outer - block.startPage, at, INVALID_ID);
  block.lockFreeAt = m.k.now;
  lockRelease(m, LOCK_ORDER_VA_BLOCK, block.id, false);
  return status;
}

/** First page behind the block that would hold `page`. */
function blockEnd(space: VaSpace, page: number): number {
  const boundary = (Math.floor(page / PAGES_PER_BLOCK) + 1) * PAGES_PER_BLOCK;
  const range = vaRangeFind(space, page);
  return range === null ? page + 1 : Math.min(boundary, range.outerPage);
}

/** A prefix of the copy, and how many pushes there were when it was handed over. */
interface Progress {
  bytes: number;
  pushes: number;
}

/**
 * Hands over everything from `page` on under the VA-space lock, up to the first error, which is the record's status
 * afterwards, or until the staging buffers must be emptied. Returns the first page that was not handed over.
 */
function copyBlocks(m: Model, space: VaSpace, record: CopyRecord, page: number, progress: Progress[]): number {
  const outer = record.fromPage + record.pages;
  for (let next = page; next < outer; ) {
    if (record.bounces.length >= COPY_BOUNCES_MAX) return next;
    const end = Math.min(outer, blockEnd(space, next));
    record.status = copyOfBlock(m, space, record, next, end);
    if (record.status !== NV_OK) return next;
    progress.push({ bytes: (end - record.fromPage) * PAGE_SIZE, pushes: record.pushes.length });
    next = end;
  }
  return outer;
}

/** Waits for the pushes, and decrypts what they brought into staging buffers. */
function* copyArrive(m: Model, record: CopyRecord): Generator<number, Arrival, void> {
  const waited = yield* copyWait(m, record);
  return copyBouncesFinish(m, record, waited);
}

/** Bytes of the longest prefix whose pushes are all done. */
function completedPrefix(m: Model, record: CopyRecord, progress: readonly Progress[]): number {
  let done = 0;
  while (
    done < record.pushes.length &&
    channelIsValueCompleted(m, record.pushes[done].channel, record.pushes[done].value)
  ) {
    done++;
  }
  let bytes = 0;
  for (const part of progress) if (part.pushes <= done) bytes = part.bytes;
  return bytes;
}

/**
 * The copy itself. The record is on the VA space's list, its destination is taken. Returns a driver status: of the copy
 * when it is waited for, of its submission when it is not.
 */
export function* copyImmediate(
  m: Model,
  space: VaSpace,
  record: CopyRecord,
  wait: boolean,
): Generator<number, number, void> {
  const progress: Progress[] = [];
  vaSpaceLockRead(m, space);
  copyMapForGpus(m, space, record);
  let page = copyBlocks(m, space, record, record.fromPage, progress);
  vaSpaceUnlockRead(m, space);
  const submitted = progress.length === 0 ? 0 : progress[progress.length - 1].bytes;
  if (!wait && record.status === NV_OK && record.pushes.length > 0) {
    record.bytes = submitted;
    return NV_OK;
  }
  let arrival = yield* copyArrive(m, record);
  while (record.status === NV_OK && arrival.status === NV_OK && page < record.fromPage + record.pages) {
    vaSpaceLockRead(m, space);
    page = copyBlocks(m, space, record, page, progress);
    vaSpaceUnlockRead(m, space);
    arrival = yield* copyArrive(m, record);
  }
  if (record.status === NV_OK) record.status = arrival.status;
  // Errors of a GPU that the channel does not report show here (ECC); the model has none but the driver's own.
  if (record.status === NV_OK) record.status = m.globalStatus;
  record.bytes = Math.min(completedPrefix(m, record, progress), (arrival.missing - record.fromPage) * PAGE_SIZE);
  if (record.staged) {
    const copied = yield* userCopyStaged(m, record, record.bytes);
    copyStage(m, record, 'staged', { pages: record.pages });
    if (record.status === NV_OK || copied !== NV_OK) record.status = copied === NV_OK ? record.status : copied;
    record.end = Math.max(record.end, m.k.now);
  }
  record.state = record.status === NV_OK ? COPY_DONE : COPY_ENDED;
  copyRelease(m, record);
  return record.status;
}
