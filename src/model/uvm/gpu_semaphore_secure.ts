/**
 * Models the encrypted semaphores of uvm_gpu_semaphore.c with Confidential Computing (driver 580.105.08): the payload
 * of a tracking semaphore lies in unprotected memory, encrypted, beside its tag and a number in the clear, the
 * notifier.
 *
 * Functions: gpu_semaphore_encrypted_payload_update, the part of channel_semaphore_gpu_encrypt_payload that is the
 * CPU's. The notifier is odd while the engine writes, and tells which IV was used. Left out: torn reads, as all that a
 * push does is there at once; a key that is older than the pool's.
 */
import { byteMemoryRead, wordAt } from '../gpu/byte_memory.ts';
import { secureIv } from '../gpu/secure_copy.ts';
import type { Model } from '../state.ts';
import { type Channel, channelGet, channelManagerGet, channelWaitText } from './channel.ts';
import { confComputingOf, confComputingResources, logGpuEncryption } from './conf_computing.ts';
import { channelKey } from './conf_computing_key_rotation.ts';
import { type GpuSemaphore, globalSetFatalError, type SecureSemaphore } from './gpu_semaphore.ts';
import {
  ENCRYPTED_NOTIFIER_OFFSET,
  ENCRYPTED_SEMAPHORE_BYTES,
  ENCRYPTED_TAG_OFFSET,
  semaphoreEncryptedGpuVa,
} from './secure_memory.ts';
import { spinLoopUntil } from './spin_loop.ts';
import { NV_ERR_INVALID_DATA } from './status.ts';

const PAYLOAD_BYTES = 4;

/** Makes a channel's tracking semaphore an encrypted one, before its first push. */
export function secureSemaphoreInit(channel: Channel): void {
  const { trackingSem } = channel;
  trackingSem.secure = {
    channel: channel.id,
    lastPushedNotifier: 0,
    lastObservedNotifier: 0,
    cachedPayload: trackingSem.completedValue >>> 0,
    ivs: new Float64Array(channel.numGpfifoEntries),
    unreadable: false,
  };
}

/** A push releases the semaphore: the IV that the engine will encrypt its payload with is kept. */
export function logPayloadEncryption(m: Model, channel: Channel): void {
  const iv = logGpuEncryption(m, channel, PAYLOAD_BYTES);
  const { secure } = channel.trackingSem;
  if (secure === null) return;
  secure.lastPushedNotifier += 2;
  secure.ivs[(secure.lastPushedNotifier / 2) % channel.numGpfifoEntries] = iv;
}

/**
 * Decrypts the payload if the notifier tells of a new one. A tag that does not fit is a fatal error of the driver, and
 * the payload stays as it was.
 */
export function encryptedPayloadUpdate(m: Model, semaphore: GpuSemaphore, secure: SecureSemaphore): void {
  const channel = channelGet(m, secure.channel);
  const { memory } = confComputingOf(channelManagerGet(m, channel));
  const { aead } = confComputingResources(m);
  if (memory === null || aead === null) return;
  const written = byteMemoryRead(memory.unprotected, semaphoreEncryptedGpuVa(semaphore), ENCRYPTED_SEMAPHORE_BYTES);
  const notifier = wordAt(written, ENCRYPTED_NOTIFIER_OFFSET);
  if (notifier === secure.lastObservedNotifier) return;
  // The driver reads it again and again, and counts only the tries at an even one.
  if (notifier % 2 === 1) {
    const awaited = () => `an even notifier of ${channelWaitText(channel)}`;
    spinLoopUntil(m, channel.gpu, 'gpu_semaphore_encrypted_payload_update', m.k.now, Infinity, awaited);
  }
  const iv = secureIv(channel.id, false, secure.ivs[(notifier / 2) % channel.numGpfifoEntries]);
  const tag = written.subarray(ENCRYPTED_TAG_OFFSET);
  const plain = aead.open(channelKey(m, channel), iv, written.subarray(0, PAYLOAD_BYTES), tag);
  secure.unreadable = plain === null;
  if (plain === null) {
    globalSetFatalError(m, NV_ERR_INVALID_DATA);
    return;
  }
  secure.cachedPayload = wordAt(plain, 0);
  secure.lastObservedNotifier = notifier;
}
