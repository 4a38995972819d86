/**
 * Models the structures of uvm_conf_computing.h and of uvm_channel.h as far as Confidential Computing goes (driver
 * 580.105.08): what one GPU's driver keeps for it, and what it needs from outside of the model.
 */
import type { SecureMemory } from '../gpu/secure_memory.ts';
import type { Model } from '../state.ts';
import type { Channel, ChannelPool } from './channel.ts';
import type { GpuSemaphore, SecureSemaphore } from './gpu_semaphore.ts';
import type { Push } from './pushbuffer.ts';
import type { Tracker } from './tracker.ts';

/** In place of the id of a launch channel, which is -1 where none is needed: looking for one ended with this status. */
export function launchChannelFailed(status: number): number {
  return -1 - status;
}

/** The status with which a launch channel was looked for; NV_OK, 0, with an id and with -1. */
export function launchChannelStatus(launchChannel: number): number {
  return launchChannel < -1 ? -1 - launchChannel : 0;
}

/** AES-256-GCM, given by whoever makes the model: keys of 32 bytes, IVs of 12, tags of 16. */
export interface AeadCipher {
  /** Encrypts; the cipher text is as long as the plain text. */
  seal(key: Uint8Array, iv: Uint8Array, plain: Uint8Array, aad?: Uint8Array): { cipher: Uint8Array; tag: Uint8Array };
  /** Decrypts, or returns null when the tag does not fit. */
  open(key: Uint8Array, iv: Uint8Array, cipher: Uint8Array, tag: Uint8Array, aad?: Uint8Array): Uint8Array | null;
}

/**
 * A channel's part of the CSL (the driver's library of keys and IVs) as the CPU counts it: messages used in each
 * direction since the last rotation of its IVs, and rotations. `encrypt` is the CPU's side, `decrypt` the GPU's.
 */
export interface CslContext {
  encryptUsed: number;
  encryptRotations: number;
  decryptUsed: number;
  decryptRotations: number;
}

/** Keys of a pool, which are those of its engine: conf_computing.key_rotation of uvm_channel_pool_t. */
export interface KeyRotation {
  /** Rotations so far. */
  version: number;
  /** The CPU's copies of the last versions, by version modulo their number, to decrypt what was encrypted before. */
  keys: Uint8Array[];
  /** Bytes that the engine encrypted, and that it was sent to decrypt, since the last rotation. */
  encrypted: number;
  decrypted: number;
  /** The resource manager's notifier: it wants the key to be rotated. */
  pending: boolean;
}

/** A staging buffer of 2 MiB in memory that is not protected (uvm_conf_computing_dma_buffer_t). */
export interface DmaBuffer {
  /** Pushes that use the buffer; who takes it waits for them. */
  tracker: Tracker;
  /** By page of 4 KiB: the IV that the GPU encrypted it with, as one number (gpu/secure_copy.ts). */
  decryptIv: Float64Array;
  /** By page: the version of the key that the GPU encrypted it with. */
  keyVersion: Uint32Array;
  /** By page: cipher text and its tag of 16 bytes. Empty without contents. */
  cipher: Map<number, Uint8Array>;
  tag: Map<number, Uint8Array>;
}

export interface DmaBufferPool {
  buffers: DmaBuffer[];
  /** Numbers of the free buffers, in the order in which they will be taken. */
  free: number[];
}

/** What the CPU needs to read a push with a callback, which the engine encrypts for it (uvm_push_crypto_bundle_t). */
export interface PushCryptoBundle {
  iv: number;
  /** Of the push in the pushbuffer, and bytes of it that are encrypted. */
  offset: number;
  bytes: number;
  /** Address of the tag. */
  tag: number;
  /** Offsets in the push of the 16 bytes of each timestamp. */
  timestamps: number[];
}

/** What was done since the GPU's driver was loaded. */
export interface ConfComputingCounts {
  /** Pushes to SEC2, pushes of WLC channels once they are set up, pages of either direction. */
  sec2Pushes: number;
  launches: number;
  pagesToGpu: number;
  pagesToCpu: number;
  /** Operations and bytes: encrypted by the CPU (and decrypted by an engine), encrypted by an engine. */
  cpuEncryptions: number;
  cpuEncryptedBytes: number;
  gpuEncryptions: number;
  gpuEncryptedBytes: number;
  ivRotations: number;
  /** Pushes that were encrypted for their callback and could not be decrypted: the driver prints an assertion. */
  pushDecryptFailures: number;
  keyRotations: number;
}

/** Of one GPU; plain data. */
export interface ConfComputing {
  /** The schedules of WLC and LCIC stand: pushes are launched through WLC instead of SEC2. */
  wlcReady: boolean;
  /** Indices in ChannelManager.pools. */
  sec2Pool: number;
  wlcPool: number;
  lcicPool: number;
  /** By channel index. */
  csl: CslContext[];
  /** Keys may be rotated: from the end of set-up on, and not while a test has it off. */
  keyRotationEnabled: boolean;
  /** With the driver's tests on, a key is rotated once its engine has encrypted or decrypted more bytes than this. */
  keyRotationThreshold: number;
  /** Calls that rotate a key or IVs and that the resource manager will refuse, its lock being taken. */
  rmBusyCalls: number;
  dma: DmaBufferPool;
  /** Bytes in protected and in unprotected memory but for pages and staging buffers; null without contents. */
  memory: SecureMemory | null;
  /** Of pushes with a callback that were not collected, by bundleKey of channel_conf_computing_bytes.ts. */
  bundles: Map<number, PushCryptoBundle>;
  /** Method streams of SEC2 signed. */
  signed: number;
  /** The push objects of a launch, outside of the pushbuffer. */
  wlcPush: Push;
  lcicPush: Push;
  counts: ConfComputingCounts;
}

/** The way of one push to its channel, for observers. Times in ns, channels by id. */
export interface Launch {
  gpu: number;
  /** The push: its channel, value and size in bytes. */
  channel: number;
  value: number;
  bytes: number;
  /** The channel that launched it, WLC or SEC2, the value of its push, and how long that took on the GPU. */
  launchChannel: number;
  launchValue: number;
  launchStart: number;
  launchFinish: number;
  /** The LCIC channel that confirmed it, its value, and when it is idle again; -1 and 0 for a launch through SEC2. */
  lcicChannel: number;
  lcicValue: number;
  lcicFinish: number;
  /** On the CPU: begin of the submission, when the LCIC channel was seen to be idle, and the end of the wait. */
  begin: number;
  idle: number;
  end: number;
}

/** Part of Resources; null on a machine without Confidential Computing. */
export interface ConfComputingResources {
  /** Null without contents: then nothing is encrypted, but all is counted. */
  aead: AeadCipher | null;
  /**
   * Called when a page of cipher text and its tag were written to a staging buffer: what anybody can read and change
   * from now on. `buffer` and `page` name it in the GPU's pool; null while nobody looks.
   */
  bounceWritten: ((m: Model, gpu: number, buffer: number, page: number, toGpu: boolean) => void) | null;
  /**
   * Called when bytes were written to other unprotected memory (ConfComputing.memory), by address; secure_memory.ts
   * says what lies there. Null while nobody looks.
   */
  unprotectedWritten: ((m: Model, gpu: number, address: number, bytes: number) => void) | null;
  /** Called with a push that was decrypted for its callback, its channel by id; null while nobody looks. */
  pushDecrypted: ((m: Model, channel: number, value: number, plain: Uint8Array) => void) | null;
  /**
   * Before a channel of a pool is reserved: rotates the pool's key if that is pending. Returns a driver status.
   */
  rotateKeyIfPending(m: Model, pool: ChannelPool): number;
  /**
   * Before a push begins: makes sure of its IVs and takes the channel that will launch it, by id; -1 when it needs
   * none, launchChannelFailed of a status after an error.
   */
  beginPush(m: Model, channel: Channel): number;
  /** Before a push is submitted: adds what it must encrypt for the CPU. */
  encryptPush(m: Model, push: Push): void;
  /** Launches a push that has its value; it starts when the launch is done. Waits for the launch. */
  launch(m: Model, push: Push): void;
  /** After a push was submitted: its times are known. */
  submitted(m: Model, push: Push): void;
  /** Before the callback of the push in GPFIFO entry `entry` runs: makes what it reads readable. */
  decryptPush(m: Model, channel: Channel, entry: number, value: number): void;
  /** Looks whether the encrypted payload of a tracking semaphore is a new one, and decrypts it. */
  updatePayload(m: Model, semaphore: GpuSemaphore, secure: SecureSemaphore): void;
  /** Does a push of a channel, by id, acquire one that an engine could not decrypt, or that waits for such a one? */
  waitsForBroken(m: Model, channel: number, value: number): boolean;
  /** An engine could not decrypt: the channel, by id, is broken. */
  engineFailed(m: Model, channel: number): void;
}
