/**
 * The copy routine with Confidential Computing: no GPU can write to B, so its push encrypts page by page into a staging
 * buffer of the driver's (uvm/va_block_conf_computing.ts). When the push is done, the CPU decrypts into B, or into the
 * stage. So every form waits: the ioctl with no lock held, the armed form in the bottom half, with the block locked.
 */
import { PAGE_SIZE } from '../../base/units.ts';
import { contentsPutBytes } from '../gpu/contents.ts';
import type { Model } from '../state.ts';
import { channelIsValueCompleted } from '../uvm/channel.ts';
import { DMA_BUFFERS, dmaBufferFree } from '../uvm/conf_computing.ts';
import { CPU_ID } from '../uvm/processors.ts';
import { NV_OK } from '../uvm/status.ts';
import { trackerWaitForEntry } from '../uvm/tracker.ts';
import { type SecureBlockCopy, secureCopyDecrypt } from '../uvm/va_block_conf_computing.ts';
import { copyRecordTime, copyStage } from './record.ts';
import type { CopyBounce, CopyRecord } from './types.ts';

/**
 * Staging buffers that one call holds at a time: half of those that a GPU begins with, so that faults find some, and no
 * copy makes the pool grow by its own length.
 */
export const COPY_BOUNCES_MAX = DMA_BUFFERS / 2;

/** What has become of pages that were encrypted. */
export interface Arrival {
  /** The first error: of the wait, or of a tag that does not fit. */
  status: number;
  /** Lowest page that did not reach B; Infinity when all did. */
  missing: number;
}

/** Keeps the staging buffer of a push that was ended. */
export function copyBounceAdd(record: CopyRecord, copy: SecureBlockCopy, startPage: number): void {
  const { push, gpuId, buffer, encrypted } = copy;
  record.bounces.push({
    gpu: gpuId - 1,
    buffer,
    channel: push.channel,
    value: push.trackingValue,
    startPage,
    pages: encrypted,
  });
}

/** Puts a page of A where it belongs in the pinned memory: in two frames when B is not aligned. */
function deliver(m: Model, record: CopyRecord, page: number, plain: Uint8Array): void {
  if (m.contents === null) return;
  const { frames } = m.k.pins[record.pin];
  const at = (record.staged ? 0 : record.toOffset) + (page - record.fromPage) * PAGE_SIZE;
  const frame = Math.floor(at / PAGE_SIZE);
  const offset = at % PAGE_SIZE;
  contentsPutBytes(m.contents, CPU_ID, frames[frame], offset, plain.subarray(0, PAGE_SIZE - offset));
  if (offset > 0) contentsPutBytes(m.contents, CPU_ID, frames[frame + 1], 0, plain.subarray(PAGE_SIZE - offset));
}

/** Decrypts what one push brought, up to the first page whose tag does not fit. */
function decryptBounce(m: Model, record: CopyRecord, bounce: CopyBounce, arrival: Arrival): void {
  const begin = m.k.now;
  for (const page of bounce.pages) {
    const { status, plain } = secureCopyDecrypt(m, bounce.channel, bounce.buffer, page);
    if (status !== NV_OK) {
      arrival.status = status;
      arrival.missing = bounce.startPage + page;
      break;
    }
    if (plain !== null) deliver(m, record, bounce.startPage + page, plain);
  }
  copyRecordTime(record, begin, m.k.now);
}

/**
 * Decrypts what the pushes brought that are done, up to the first error, and gives all staging buffers back. `waited`
 * is the status of the wait for them. A tag that does not fit is a fatal error of the driver, as in its own copies.
 */
export function copyBouncesFinish(m: Model, record: CopyRecord, waited: number): Arrival {
  const arrival: Arrival = { status: NV_OK, missing: Infinity };
  let pages = 0;
  for (const bounce of record.bounces) {
    const { gpu, buffer, channel, value } = bounce;
    if (arrival.status === NV_OK && channelIsValueCompleted(m, channel, value)) {
      decryptBounce(m, record, bounce, arrival);
      pages += bounce.pages.length;
    } else {
      arrival.missing = Math.min(arrival.missing, bounce.startPage + bounce.pages[0]);
    }
    dmaBufferFree(m, gpu, buffer, [channel, value]);
  }
  if (pages > 0) copyStage(m, record, 'decrypted', { pages });
  record.bounces = [];
  if (waited !== NV_OK) arrival.status = waited;
  return arrival;
}

/** In the bottom half, with the block locked: waits for the one push of an armed copy and decrypts. A driver status. */
export function copyBouncesWaitLocked(m: Model, record: CopyRecord): number {
  if (record.bounces.length === 0) return NV_OK;
  copyStage(m, record, 'wait', { how: 'bottom half' });
  const [{ channel, value }] = record.bounces;
  const waited = trackerWaitForEntry(m, channel, value);
  copyStage(m, record, 'waited');
  return copyBouncesFinish(m, record, waited).status;
}
