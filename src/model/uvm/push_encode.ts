/**
 * The bytes of a push of a copy engine's channel, made of the methods that it holds (gpu/methods.ts) when it ends: what
 * uvm_push.c, uvm_pte_batch.c, pde_fill_gpu of uvm_mmu.c and the HALs of Hopper write (driver 580.105.08).
 *
 * Only machines with Confidential Computing and contents need them. There are as many as push_bytes.ts counts. What the
 * model does not know is made up, the same in each run: physical addresses are page numbers times 4 KiB, tables of
 * entries lie one behind the other, entries are the model's own (gpu/mmu.ts), a channel that is let go on has one
 * instance pointer; acquires come first; all but the first of the copies and memsets of a push are pipelined, and none
 * has a membar.
 */
import { assert } from '../../base/assert.ts';
import { PAGE_SIZE, PAGES_PER_BIG_PAGE, PAGES_PER_BLOCK } from '../../base/units.ts';
import {
  METHOD_CANCEL,
  METHOD_COPY,
  METHOD_COPY_IN,
  METHOD_COPY_OUT,
  METHOD_COPY_SCATTERED,
  METHOD_MEMSET,
  METHOD_PTE,
  METHOD_REPLAY,
  METHOD_SECURE_DECRYPT,
  METHOD_SECURE_DECRYPT_AT,
  METHOD_SECURE_ENCRYPT,
  METHOD_SECURE_ENCRYPT_AT,
  METHOD_TIMESTAMP,
  METHOD_TLB_INVALIDATE,
  METHOD_WORDS,
  TLB_ALL,
  TLB_MEMBAR,
} from '../gpu/methods.ts';
import { PTE_LEVEL_4K, PTE_LEVEL_BIG, PTE_LEVEL_PDE } from '../gpu/mmu.ts';
import { CANCEL_ALL } from '../gpu/sm.ts';
import type { Model } from '../state.ts';
import { type Channel, channelGet } from './channel.ts';
import { REPLAY_TYPE_START_ACK_ALL } from './gpu_replayable_faults_types.ts';
import {
  APERTURE_PEER,
  APERTURE_SYS,
  APERTURE_VID,
  CE_NO_MEMBAR,
  CE_PIPELINED,
  type CeFlags,
  ceDecrypt,
  ceEncrypt,
  ceInit,
  ceMemcopy,
  ceMemset4,
  ceMemset8,
  ceSemaphoreRelease,
  ceSemaphoreTimestamp,
  type GpuAddress,
  MEMBAR_GPU,
  physical,
  unprotected,
  virtual,
} from './hopper_ce.ts';
import {
  hostCancelFaultsVa,
  hostClearFaulted,
  hostInitChannel,
  hostReplay,
  hostSemaphoreAcquire,
  hostTlbInvalidateAll,
  hostTlbInvalidateVa,
  hostWfiMembar,
} from './hopper_host.ts';
import { CPU_ID } from './processors.ts';
import { PURPOSE_CHANNEL_INIT, PURPOSE_CLEAR_FAULTED } from './push.ts';
import { PTE_BATCH_MAX_PTES, pteIsCleared } from './push_bytes.ts';
import { codeFill, codeInlineRoom, codeSize, createPushCode, high32, low32, type PushCode } from './push_code.ts';
import { PUSH_ACQUIRE_INFO_MAX_ENTRIES, type Push } from './pushbuffer.ts';
import {
  AUTH_TAG_BYTES,
  ENCRYPTED_NOTIFIER_OFFSET,
  ENCRYPTED_TAG_OFFSET,
  pageTableEntryAddress,
  pushbufferGpuVa,
  pushTagUnprotectedGpuVa,
  semaphoreEncryptedGpuVa,
  semaphoreGpuVa,
  stagingGpuVa,
  stagingTagGpuVa,
  UNPROTECTED_IV,
} from './secure_memory.ts';

const TWO_32 = 2 ** 32;
const PAYLOAD_BYTES = 4;
const TIMESTAMP_BYTES = 16;
const PTE_BYTES = 8;
const PDE0_BYTES = 16;
/** Elements of 8 bytes in a page. */
const MEMSET_8_PER_PAGE = PAGE_SIZE / 8;
/** Page number of the instance pointer in the method that clears a faulted channel. */
const INSTANCE_PAGE = 0x1000;
/** Where pinned memory lies for a GPU: so many bytes for each pin. */
const PINNED = 2 ** 51;
const PIN_BYTES = TWO_32;

/** An encoding under way: the entries that wait for those behind them, and copies and memsets so far. */
interface Encoder {
  m: Model;
  push: Push;
  code: PushCode;
  /** Offsets of the timestamps' 16 bytes in the push. */
  timestamps: number[];
  pteLevel: number;
  pteFirst: number;
  pteNext: number;
  ptes: number[];
  pteBatch: boolean;
  operations: number;
}

export interface EncodedPush {
  code: PushCode;
  timestamps: number[];
}

/** The push as it is when it ends, with its tracking value. */
export function pushEncode(m: Model, push: Push): EncodedPush {
  const e: Encoder = {
    m,
    push,
    code: createPushCode(pushbufferGpuVa(push.offset)),
    timestamps: [],
    pteLevel: 0,
    pteFirst: 0,
    pteNext: 0,
    ptes: [],
    pteBatch: false,
    operations: 0,
  };
  encodeBegin(e);
  const { words } = push;
  for (let i = 0; i < push.length; i += METHOD_WORDS[words[i]]) encodeMethod(e, words, i);
  endBatch(e);
  const channel = channelGet(m, push.channel);
  encodeRelease(e.code, channel, push.trackingValue);
  return { code: e.code, timestamps: e.timestamps };
}

function encodeBegin(e: Encoder): void {
  const { m, push, code } = e;
  for (let i = 0; i < push.acquireCount; i++) {
    // Where the push has forgotten which.
    if (i >= PUSH_ACQUIRE_INFO_MAX_ENTRIES) hostSemaphoreAcquire(code, 0, 0);
    else {
      const { trackingSem } = channelGet(m, push.acquires[2 * i]);
      hostSemaphoreAcquire(code, semaphoreGpuVa(trackingSem), low32(push.acquires[2 * i + 1]));
    }
  }
  if (push.purpose === PURPOSE_CLEAR_FAULTED) hostClearFaulted(code, INSTANCE_PAGE);
  if (push.purpose === PURPOSE_CHANNEL_INIT) {
    ceInit(code);
    hostInitChannel(code);
  }
}

/** Release of the tracking semaphore; with Confidential Computing its encryption too, between two notifiers. */
export function encodeRelease(code: PushCode, channel: Channel, value: number): void {
  const { trackingSem } = channel;
  ceSemaphoreRelease(code, semaphoreGpuVa(trackingSem), low32(value));
  const { secure } = trackingSem;
  if (secure === null) return;
  const at = semaphoreEncryptedGpuVa(trackingSem);
  const notifier = unprotected(at + ENCRYPTED_NOTIFIER_OFFSET);
  const payload = virtual(semaphoreGpuVa(trackingSem));
  ceMemset4(code, notifier, secure.lastPushedNotifier - 1, 1);
  ceEncrypt(code, unprotected(at), payload, PAYLOAD_BYTES, at + ENCRYPTED_TAG_OFFSET, UNPROTECTED_IV);
  ceMemset4(code, notifier, secure.lastPushedNotifier, 1);
}

/** Copies and memsets overlap but for the first; the barrier is at the end of the push. */
function flags(e: Encoder): CeFlags {
  return e.operations++ === 0 ? CE_NO_MEMBAR : CE_PIPELINED;
}

function memoryOf(e: Encoder, processor: number, page: number, offset = 0): GpuAddress {
  const aperture = processor === CPU_ID ? APERTURE_SYS : processor === e.push.gpu + 1 ? APERTURE_VID : APERTURE_PEER;
  return physical(aperture, page * PAGE_SIZE + offset);
}

const pinned = (pin: number, at: number): GpuAddress => physical(APERTURE_SYS, PINNED + pin * PIN_BYTES + at);

function encodeMethod(e: Encoder, w: Float64Array, i: number): void {
  const { code } = e;
  if (w[i] !== METHOD_PTE) flushPtes(e);
  switch (w[i]) {
    case METHOD_PTE:
      encodePte(e, w[i + 1], w[i + 2], w[i + 3], w[i + 4]);
      break;
    case METHOD_TLB_INVALIDATE:
      endBatch(e);
      encodeInvalidate(code, w[i + 1], w[i + 2], w[i + 3]);
      break;
    case METHOD_REPLAY:
      hostReplay(code, w[i + 1] === REPLAY_TYPE_START_ACK_ALL);
      break;
    case METHOD_CANCEL:
      hostCancelFaultsVa(code, w[i + 1], w[i + 3] === CANCEL_ALL);
      break;
    case METHOD_TIMESTAMP: {
      const at = codeInlineRoom(code, TIMESTAMP_BYTES, TIMESTAMP_BYTES);
      e.timestamps.push(at - code.address);
      ceSemaphoreTimestamp(code, at);
      break;
    }
    case METHOD_SECURE_DECRYPT:
    case METHOD_SECURE_ENCRYPT:
    case METHOD_SECURE_ENCRYPT_AT:
    case METHOD_SECURE_DECRYPT_AT:
      encodeSecure(e, w, i);
      break;
    default:
      encodeCopy(e, w, i);
  }
}

function encodeInvalidate(code: PushCode, page: number, count: number, which: number): void {
  const membar = (which & TLB_MEMBAR) !== 0;
  if ((which & TLB_ALL) !== 0) hostTlbInvalidateAll(code, membar);
  else hostTlbInvalidateVa(code, page, count, membar);
}

function encodeCopy(e: Encoder, w: Float64Array, i: number): void {
  const { code } = e;
  switch (w[i]) {
    case METHOD_COPY:
      ceMemcopy(code, memoryOf(e, w[i + 1], w[i + 3]), memoryOf(e, w[i + 2], w[i + 3]), w[i + 4] * PAGE_SIZE, flags(e));
      break;
    case METHOD_COPY_SCATTERED:
      for (let page = w[i + 3]; page < w[i + 3] + w[i + 4]; page++) {
        ceMemcopy(code, memoryOf(e, w[i + 1], page), memoryOf(e, w[i + 2], page), PAGE_SIZE, flags(e));
      }
      break;
    case METHOD_COPY_OUT:
      ceMemcopy(code, pinned(w[i + 4], w[i + 5]), memoryOf(e, w[i + 1], w[i + 2], w[i + 3]), w[i + 6], flags(e));
      break;
    case METHOD_COPY_IN:
      ceMemcopy(code, memoryOf(e, w[i + 1], w[i + 2], w[i + 3]), pinned(w[i + 4], w[i + 5]), w[i + 6], flags(e));
      break;
    case METHOD_MEMSET:
      ceMemset8(code, memoryOf(e, w[i + 1], w[i + 2]), 0, 0, w[i + 3] * MEMSET_8_PER_PAGE, flags(e));
      break;
    default:
      assert(false, 'no bytes are known for a method');
  }
}

function encodeSecure(e: Encoder, w: Float64Array, i: number): void {
  const { code } = e;
  if (w[i] === METHOD_SECURE_DECRYPT || w[i] === METHOD_SECURE_ENCRYPT) {
    const [, processor, page, offset, bytes, buffer, slot] = w.subarray(i, i + 7);
    const memory = memoryOf(e, processor, page, offset);
    const staging = unprotected(stagingGpuVa(buffer, slot));
    const tag = stagingTagGpuVa(buffer, slot);
    if (w[i] === METHOD_SECURE_DECRYPT) ceDecrypt(code, memory, staging, bytes, tag, flags(e));
    else ceEncrypt(code, staging, memory, bytes, tag, UNPROTECTED_IV, flags(e));
    return;
  }
  endBatch(e);
  const [, dst, src, bytes, tag] = w.subarray(i, i + 5);
  if (w[i] === METHOD_SECURE_DECRYPT_AT) {
    ceDecrypt(code, virtual(dst), unprotected(src), bytes, tag, flags(e));
    return;
  }
  // The encryption of the push itself brings room for its tag.
  if (tag === pushTagUnprotectedGpuVa(e.push, codeSize(code))) codeInlineRoom(code, AUTH_TAG_BYTES, AUTH_TAG_BYTES);
  ceEncrypt(code, unprotected(dst), virtual(src), bytes, tag, UNPROTECTED_IV);
}

/** An entry joins those before it, as in addPteBytes of push.ts. */
function encodePte(e: Encoder, level: number, page: number, count: number, pte: number): void {
  const { code } = e;
  const pages = level === PTE_LEVEL_4K ? 1 : level === PTE_LEVEL_BIG ? PAGES_PER_BIG_PAGE : PAGES_PER_BLOCK;
  const bytes = level <= PTE_LEVEL_PDE ? PDE0_BYTES : PTE_BYTES;
  const entry = physical(APERTURE_VID, pageTableEntryAddress(level, Math.floor(page / pages), bytes));
  if (level === PTE_LEVEL_PDE) {
    endBatch(e);
    const data = codeInlineRoom(code, bytes, 4);
    codeFill(code, data, [low32(pte), high32(pte), 0, 0]);
    ceMemcopy(code, entry, virtual(data), bytes);
    return;
  }
  e.pteBatch = true;
  if (pteIsCleared(pte)) {
    flushPtes(e);
    ceMemset8(code, entry, low32(pte), high32(pte), (count * bytes) / 8, CE_PIPELINED);
    return;
  }
  if (e.ptes.length > 0 && (e.pteLevel !== level || e.pteNext !== page)) flushPtes(e);
  if (e.ptes.length === 0) {
    e.pteLevel = level;
    e.pteFirst = entry.address;
  }
  for (let i = 0; i < count; i++) e.ptes.push(pte);
  e.pteNext = page + count * pages;
}

/** uvm_pte_batch_flush_ptes */
function flushPtes(e: Encoder): void {
  const { code, ptes, pteFirst } = e;
  if (ptes.length === 0) return;
  const bytes = e.pteLevel <= PTE_LEVEL_PDE ? PDE0_BYTES : PTE_BYTES;
  if (ptes.length <= PTE_BATCH_MAX_PTES) {
    for (let i = 0; i < ptes.length; i++) {
      const entry = physical(APERTURE_VID, pteFirst + i * bytes);
      ceMemset8(code, entry, low32(ptes[i]), high32(ptes[i]), 1, CE_PIPELINED);
    }
  } else {
    const data = codeInlineRoom(code, ptes.length * bytes, 4);
    const words: number[] = [];
    for (const pte of ptes) words.push(low32(pte), high32(pte), ...(bytes === PDE0_BYTES ? [0, 0] : []));
    codeFill(code, data, words);
    ceMemcopy(code, physical(APERTURE_VID, pteFirst), virtual(data), ptes.length * bytes, CE_PIPELINED);
  }
  e.ptes = [];
}

/** uvm_pte_batch_end */
function endBatch(e: Encoder): void {
  flushPtes(e);
  if (e.pteBatch) hostWfiMembar(e.code, MEMBAR_GPU);
  e.pteBatch = false;
}
