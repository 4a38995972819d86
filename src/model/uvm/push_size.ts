/**
 * Sizes of pushes in bytes, as the HALs of Hopper build their methods (uvm_hopper_ce.c, uvm_volta_ce.c,
 * uvm_hopper_host.c, driver 580.105.08), for what Confidential Computing encrypts. A run of n methods with consecutive
 * addresses is one header and n words. Left out: acquires beyond the first 16, padding of inline data.
 */
import {
  METHOD_CANCEL,
  METHOD_COPY_SCATTERED,
  METHOD_MEMSET,
  METHOD_PTE,
  METHOD_REPLAY,
  METHOD_SECURE_DECRYPT,
  METHOD_SECURE_ENCRYPT,
  METHOD_SECURE_NOTE,
  METHOD_TIMESTAMP,
  METHOD_TLB_INVALIDATE,
  METHOD_WORDS,
} from '../gpu/methods.ts';
import { PUSH_ACQUIRE_INFO_MAX_ENTRIES, type Push } from './pushbuffer.ts';

/** Release of the tracking semaphore, and the encryption of its payload between two notifiers. */
export const SECURE_END_BYTES = 168;
const RELEASE_BYTES = 24;
const ACQUIRE_BYTES = 24;
const COPY_BYTES = 48;
const MEMSET_BYTES = 60;
const MEM_OP_BYTES = 20;
const ENCRYPT_BYTES = 72;
const DECRYPT_BYTES = 64;
/** 16 bytes of inline data behind a header. */
const INLINE_16_BYTES = 20;
/** So many entries are written one by one, more as inline data. */
const PTES_ONE_BY_ONE_MAX = 4;

function methodBytes(words: Float64Array, i: number): number {
  switch (words[i]) {
    case METHOD_COPY_SCATTERED:
      return COPY_BYTES * words[i + 4];
    case METHOD_MEMSET:
      return MEMSET_BYTES;
    case METHOD_PTE:
      return words[i + 3] <= PTES_ONE_BY_ONE_MAX ? MEMSET_BYTES * words[i + 3] : COPY_BYTES + 8 * words[i + 3];
    case METHOD_TLB_INVALIDATE:
    case METHOD_REPLAY:
    case METHOD_CANCEL:
      return MEM_OP_BYTES;
    case METHOD_TIMESTAMP:
      return INLINE_16_BYTES + RELEASE_BYTES;
    case METHOD_SECURE_DECRYPT:
      return DECRYPT_BYTES;
    case METHOD_SECURE_ENCRYPT:
      return ENCRYPT_BYTES;
    case METHOD_SECURE_NOTE:
      // Counted by its caller: the payload's is part of the end.
      return 0;
    default:
      return COPY_BYTES;
  }
}

/** Bytes of a push with its acquires and its end on a copy engine with Confidential Computing. */
export function pushSizeEstimate(push: Push): number {
  let bytes = SECURE_END_BYTES + ACQUIRE_BYTES * Math.min(push.acquireCount, PUSH_ACQUIRE_INFO_MAX_ENTRIES);
  for (let i = 0; i < push.length; i += METHOD_WORDS[push.words[i]]) bytes += methodBytes(push.words, i);
  if (push.onComplete !== -1) bytes += ENCRYPT_BYTES + INLINE_16_BYTES;
  return bytes;
}
