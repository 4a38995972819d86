/**
 * Models the rotation of keys in uvm_conf_computing.c and uvm_channel.c (driver 580.105.08).
 *
 * Functions: uvm_conf_computing_enable_key_rotation, _disable_key_rotation, _is_key_rotation_enabled_in_pool,
 * _is_key_rotation_pending_in_pool, _rotate_pool_key, channel_pool_rotate_key, channel_pool_rotate_key_if_pending,
 * uvm_channel_pool_rotate_key, uvm_channel_pool_key_version; and of the resource manager what they call:
 * nvUvmInterfaceCslRotateKey, and the 16 keys that a CSL context keeps (ccsl.c).
 *
 * Whoever reserves a channel of a pool rotates the pool's key first if that is pending: all channels of the pool are
 * reserved, and waited for, and then both sides have the new key and count their messages from 0 again. The rotations
 * of IVs go on being counted. The key of the LCIC pool is the WLC pool's, as both run on one engine; SEC2's is never
 * rotated, as the resource manager uses it too.
 *
 * Pending is what the resource manager's notifier says (rmInjectKeyRotation of channel_inject.ts stands for it); with
 * the driver's tests on (`uvm_enable_builtin_tests`), what the engine has encrypted or decrypted since the last
 * rotation.
 *
 * Left out: the resource manager's own thresholds, at which it notifies; the time that it takes; its errors other than
 * that it is busy; an engine that launches and copies, on which it could not rotate: there pools have their own keys.
 */
import { assert } from '../../base/assert.ts';
import { secureKey } from '../gpu/secure_copy.ts';
import type { Model } from '../state.ts';
import {
  CHANNEL_POOL_TYPE_LCIC,
  CHANNEL_POOL_TYPE_SEC2,
  CHANNEL_POOL_TYPE_WLC,
  type Channel,
  type ChannelManager,
  type ChannelPool,
  channelManagerGet,
  channelWait,
  PUSH_LOCK_TAKEN,
} from './channel.ts';
import type { ConfComputing, KeyRotation } from './conf_computing_types.ts';
import { NV_ERR_STATE_IN_USE, NV_OK } from './status.ts';

/** UVM_CONF_COMPUTING_KEY_ROTATION_LOWER_THRESHOLD, bytes. */
export const KEY_ROTATION_LOWER_THRESHOLD = 8 * 1024 * 1024;

/** Keys of either side that the CPU keeps, the newest among them (MAX_DECRYPT_BUNDLES). */
export const KEY_VERSIONS_KEPT = 16;

const TWO_32 = 2 ** 32;

function confOf(manager: ChannelManager): ConfComputing {
  assert(manager.confComputing !== null, 'the machine has no Confidential Computing');
  return manager.confComputing;
}

/** The pool whose key a pool's channels have: LCIC has WLC's. */
function keyPoolOf(manager: ChannelManager, pool: ChannelPool): ChannelPool {
  return pool.poolType === CHANNEL_POOL_TYPE_LCIC ? manager.pools[confOf(manager).wlcPool] : pool;
}

function keysOf(manager: ChannelManager, channel: Channel): KeyRotation {
  const { keyRotation } = keyPoolOf(manager, manager.pools[channel.pool]);
  assert(keyRotation !== null, 'the machine has no Confidential Computing');
  return keyRotation;
}

/** Gives each pool of a manager its first key. */
export function createPoolKeys(manager: ChannelManager): void {
  for (const [index, pool] of manager.pools.entries()) {
    if (pool.poolType === CHANNEL_POOL_TYPE_LCIC) continue;
    const keys = [secureKey(manager.gpu, index)];
    pool.keyRotation = { version: 0, keys, encrypted: 0, decrypted: 0, pending: false };
  }
}

/** The version of the key that a channel's engine encrypts with now (uvm_channel_pool_key_version). */
export function channelKeyVersion(m: Model, channel: Channel): number {
  return keysOf(channelManagerGet(m, channel), channel).version;
}

/**
 * A channel's key of a version, the present one if it is not named. As in a CSL context, one that is 16 versions old
 * has been overwritten, and the answer is a newer one, with which no tag fits.
 */
export function channelKey(m: Model, channel: Channel, version = channelKeyVersion(m, channel)): Uint8Array {
  return keysOf(channelManagerGet(m, channel), channel).keys[version % KEY_VERSIONS_KEPT];
}

/** Counts what a channel's engine encrypts, or decrypts, until the next rotation. */
export function keyRotationCount(manager: ChannelManager, channel: Channel, bytes: number, decrypts: boolean): void {
  if (!isKeyRotationEnabledInPool(manager, keyPoolOf(manager, manager.pools[channel.pool]))) return;
  const keys = keysOf(manager, channel);
  if (decrypts) keys.decrypted += bytes;
  else keys.encrypted += bytes;
}

/**
 * May the key of this pool be rotated (uvm_conf_computing_is_key_rotation_enabled_in_pool)? Not SEC2's, and LCIC's goes
 * with WLC's.
 */
export function isKeyRotationEnabledInPool(manager: ChannelManager, pool: ChannelPool): boolean {
  const { poolType } = pool;
  if (!confOf(manager).keyRotationEnabled || poolType === CHANNEL_POOL_TYPE_SEC2) return false;
  return poolType !== CHANNEL_POOL_TYPE_LCIC;
}

/** uvm_conf_computing_enable_key_rotation and _disable_key_rotation, of a GPU by its index. */
export function keyRotationEnable(m: Model, gpu: number, on: boolean): void {
  confOf(m.gpus[gpu].channelManager).keyRotationEnabled = on;
}

/** Takes the resource manager's lock of a GPU for one call: NV_OK or NV_ERR_STATE_IN_USE. */
export function rmTryLock(conf: ConfComputing): number {
  if (conf.rmBusyCalls === 0) return NV_OK;
  conf.rmBusyCalls--;
  return NV_ERR_STATE_IN_USE;
}

/** uvm_conf_computing_is_key_rotation_pending_in_pool */
export function isKeyRotationPendingInPool(m: Model, manager: ChannelManager, pool: ChannelPool): boolean {
  const { keyRotation } = pool;
  if (keyRotation === null || !isKeyRotationEnabledInPool(manager, pool)) return false;
  if (m.params.uvm_enable_builtin_tests === 0) return keyRotation.pending;
  const { keyRotationThreshold } = confOf(manager);
  return keyRotation.decrypted > keyRotationThreshold || keyRotation.encrypted > keyRotationThreshold;
}

/** uvm_conf_computing_rotate_pool_key: all pushes of the pool are done. */
function rotatePoolKey(manager: ChannelManager, pool: ChannelPool): number {
  const conf = confOf(manager);
  const status = rmTryLock(conf);
  if (status !== NV_OK) return status;
  const keys = pool.keyRotation;
  assert(keys !== null, 'the pool has no key of its own');
  keys.version++;
  const key = secureKey(manager.gpu, manager.pools.indexOf(pool), keys.version);
  keys.keys[keys.version % KEY_VERSIONS_KEPT] = key;
  keys.encrypted = 0;
  keys.decrypted = 0;
  keys.pending = false;
  conf.counts.keyRotations++;
  for (const channel of manager.channels) {
    if (keyPoolOf(manager, manager.pools[channel.pool]) !== pool) continue;
    const context = conf.csl[channel.index];
    context.encryptUsed = 0;
    context.decryptUsed = 0;
    const { secure } = manager.host.channels[channel.index];
    if (secure === null) continue;
    secure.key = key;
    secure.toGpuIv = context.encryptRotations * TWO_32;
    secure.toCpuIv = context.decryptRotations * TWO_32;
  }
  return NV_OK;
}

/** channel_pool_rotate_key, whether or not it is pending: reserves the whole pool and waits for it. */
function rotateKey(m: Model, manager: ChannelManager, pool: ChannelPool): number {
  for (const { pushLock } of pool.channels) {
    assert(pushLock !== PUSH_LOCK_TAKEN, 'a key is rotated once the pushes of its pool have ended, and one is open');
  }
  const isWlc = pool.poolType === CHANNEL_POOL_TYPE_WLC;
  // LCIC waits for WLC on the engine.
  const { channels } = isWlc ? manager.pools[confOf(manager).lcicPool] : pool;
  for (const channel of channels) {
    const status = channelWait(m, channel.id);
    if (status !== NV_OK) return status;
  }
  return rotatePoolKey(manager, pool);
}

/**
 * Rotates the key of a pool now, by its index on a GPU. Returns a driver status: NV_ERR_STATE_IN_USE while the resource
 * manager is busy (uvm_channel_pool_rotate_key).
 */
export function channelPoolRotateKey(m: Model, gpu: number, pool: number): number {
  const manager = m.gpus[gpu].channelManager;
  assert(isKeyRotationEnabledInPool(manager, manager.pools[pool]), 'the key of this pool is not rotated');
  return rotateKey(m, manager, manager.pools[pool]);
}

/**
 * Rotates the key of a pool if that is pending; returns a driver status. While the resource manager is busy the next
 * reservation tries again (channel_pool_rotate_key_if_pending).
 */
export function channelPoolRotateKeyIfPending(m: Model, pool: ChannelPool): number {
  const manager = m.gpus[pool.channels[0].gpu].channelManager;
  if (!isKeyRotationPendingInPool(m, manager, pool)) return NV_OK;
  const status = rotateKey(m, manager, pool);
  return status === NV_ERR_STATE_IN_USE ? NV_OK : status;
}
