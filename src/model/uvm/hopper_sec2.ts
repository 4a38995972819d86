/**
 * Models uvm_hopper_sec2.c (driver 580.105.08): the methods of SEC2, which run from unprotected memory and are signed.
 *
 * Functions: uvm_hal_hopper_sec2_decrypt, _semaphore_release, sign_push, execute_with_membar; push_reserve_csl_sign_buf
 * of uvm_channel.c. Left out: the buffer at the begin of a push, in which the driver gathers what it signs, is empty.
 */
import {
  SEC2_DECRYPT_COPY_AUTH_TAG_ADDR_HI,
  SEC2_DECRYPT_COPY_AUTH_TAG_ADDR_LO,
  SEC2_DECRYPT_COPY_DST_ADDR_HI,
  SEC2_DECRYPT_COPY_DST_ADDR_LO,
  SEC2_DECRYPT_COPY_SIZE,
  SEC2_DECRYPT_COPY_SRC_ADDR_HI,
  SEC2_DECRYPT_COPY_SRC_ADDR_LO,
  SEC2_EXECUTE,
  SEC2_EXECUTE_FLUSH_DISABLE,
  SEC2_METHOD_STREAM_AUTH_TAG_ADDR_HI,
  SEC2_METHOD_STREAM_AUTH_TAG_ADDR_LO,
  SEC2_SEMAPHORE_A,
  SEC2_SEMAPHORE_B,
  SEC2_SEMAPHORE_D,
  SEC2_SEMAPHORE_D_FLUSH_DISABLE,
  SEC2_SET_SEMAPHORE_PAYLOAD_LOWER,
  SUBCHANNEL_SEC2,
} from '../gpu/hopper_classes.ts';
import { MEMBAR_GPU, MEMBAR_SYS } from './hopper_ce.ts';
import { hostWfiMembar } from './hopper_host.ts';
import { codeFill, codeInlineRoom, codeMethods, high32, low32, type PushCode } from './push_code.ts';
import { SIGN_AUTH_TAG_BYTES } from './secure_memory.ts';

/** UVM_CONF_COMPUTING_SIGN_BUF_MAX_SIZE */
const SIGN_BUF_BYTES = 80;
const SIGN_ALIGNMENT = 16;

/** Signs methods, [address, data] each: SIGN_AUTH_TAG_BYTES as words. */
export type MethodSigner = (methods: readonly number[]) => readonly number[];

/** Room in which the driver gathers the methods that it signs: the first thing in a push. */
export function sec2ReserveSignBuf(code: PushCode): void {
  codeInlineRoom(code, SIGN_BUF_BYTES, 4);
}

function put(code: PushCode, stream: number[], method: number, data: number): void {
  codeMethods(code, SUBCHANNEL_SEC2, method, data);
  stream.push(method, data >>> 0);
}

/** Decrypts unprotected memory into memory of the GPU, if the tag at `tag` fits; addresses are multiples of 16. */
export function sec2Decrypt(
  code: PushCode,
  dst: number,
  src: number,
  bytes: number,
  tag: number,
  sign: MethodSigner,
): void {
  const signature = codeInlineRoom(code, SIGN_AUTH_TAG_BYTES, SIGN_ALIGNMENT);
  const stream: number[] = [];
  put(code, stream, SEC2_DECRYPT_COPY_SRC_ADDR_HI, high32(src));
  put(code, stream, SEC2_DECRYPT_COPY_SRC_ADDR_LO, low32(src));
  put(code, stream, SEC2_DECRYPT_COPY_DST_ADDR_HI, high32(dst));
  put(code, stream, SEC2_DECRYPT_COPY_DST_ADDR_LO, low32(dst));
  put(code, stream, SEC2_DECRYPT_COPY_SIZE, bytes);
  put(code, stream, SEC2_DECRYPT_COPY_AUTH_TAG_ADDR_HI, high32(tag));
  put(code, stream, SEC2_DECRYPT_COPY_AUTH_TAG_ADDR_LO, low32(tag));
  put(code, stream, SEC2_METHOD_STREAM_AUTH_TAG_ADDR_HI, high32(signature));
  put(code, stream, SEC2_METHOD_STREAM_AUTH_TAG_ADDR_LO, low32(signature));
  put(code, stream, SEC2_EXECUTE, SEC2_EXECUTE_FLUSH_DISABLE);
  codeFill(code, signature, sign(stream));
}

/** Writes a payload, behind a memory barrier: of the engine (MEMBAR_SYS), or of the host (MEMBAR_GPU). */
export function sec2SemaphoreRelease(
  code: PushCode,
  address: number,
  payload: number,
  membar: number,
  sign: MethodSigner,
): void {
  if (membar === MEMBAR_GPU) hostWfiMembar(code, MEMBAR_GPU);
  const signature = codeInlineRoom(code, SIGN_AUTH_TAG_BYTES, SIGN_ALIGNMENT);
  const stream: number[] = [];
  put(code, stream, SEC2_METHOD_STREAM_AUTH_TAG_ADDR_HI, high32(signature));
  put(code, stream, SEC2_METHOD_STREAM_AUTH_TAG_ADDR_LO, low32(signature));
  put(code, stream, SEC2_SEMAPHORE_A, high32(address));
  put(code, stream, SEC2_SEMAPHORE_B, low32(address));
  put(code, stream, SEC2_SET_SEMAPHORE_PAYLOAD_LOWER, payload);
  put(code, stream, SEC2_SEMAPHORE_D, membar === MEMBAR_SYS ? 0 : SEC2_SEMAPHORE_D_FLUSH_DISABLE);
  codeFill(code, signature, sign(stream));
}
