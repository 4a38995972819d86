/**
 * Models how uvm_channel.c submits work with Confidential Computing (driver 580.105.08): the CPU cannot write the
 * GPFIFO of a copy engine's channel, so another channel does it.
 *
 * Functions: channel_rotate_and_reserve_launch_channel, encrypt_push, channel_semaphore_gpu_encrypt_payload,
 * internal_channel_submit_work_wlc, _indirect_wlc, _indirect_sec2, submit_ctrl_gpfifo_indirect.
 *
 * One launch: the CPU encrypts the push and a small push of a WLC channel, waits until the LCIC channel paired with it
 * is idle, and rings a doorbell. WLC decrypts both, writes GPFIFO entry and PUT of the push's channel, and wakes
 * LCIC, which makes WLC ready again. The CPU waits for WLC. Before WLC is set up, SEC2 does it alone.
 *
 * The encrypted bytes of launches and semaphores are counted and use IVs, but only copied pages are really encrypted.
 * WLC and SEC2 take the base cost of page-table work on their engine for each of their pushes. After a fatal error the
 * driver launches nothing any more, the model still does.
 */
import { assert } from '../../base/assert.ts';
import type { Model } from '../state.ts';
import {
  CHANNEL_NONE,
  CHANNEL_POOL_TYPE_SEC2,
  CHANNEL_POOL_TYPE_WLC,
  CHANNEL_TYPE_LCIC,
  CHANNEL_TYPE_SEC2,
  CHANNEL_TYPE_WLC,
  type Channel,
  channelGet,
  channelManagerGet,
  channelRelease,
  channelReserveType,
  channelUnlockForPush,
  channelWait,
} from './channel.ts';
import { channelWlcGetPairedLcic } from './channel_conf_computing.ts';
import {
  acquireEncryptionIv,
  confComputingOf,
  cpuEncryptNote,
  logGpuEncryption,
  maybeRotateChannelIvs,
} from './conf_computing.ts';
import { channelPoolRotateKeyIfPending } from './conf_computing_key_rotation.ts';
import {
  type AeadCipher,
  type ConfComputingResources,
  type Launch,
  launchChannelFailed,
} from './conf_computing_types.ts';
import { globalSetFatalError } from './gpu_semaphore.ts';
import {
  PURPOSE_LAUNCH,
  PURPOSE_LAUNCH_CONFIRM,
  type Push,
  pushBeginOnReservedChannel,
  pushEndAndWait,
  pushSecureNote,
  pushSubmit,
} from './push.ts';
import { SECURE_PAYLOAD_BYTES, secureEncryptPushBytes } from './push_bytes.ts';
import { pushReset } from './pushbuffer.ts';
import { NV_ERR_RC_ERROR, NV_OK } from './status.ts';
import { trackerWaitForEntry } from './tracker.ts';

/** Bytes of a WLC push, to which shorter ones are padded (UVM_MAX_WLC_PUSH_SIZE). */
export const WLC_PUSH_BYTES = 364;
/** Bytes of LCIC's push (UVM_LCIC_PUSH_SIZE). */
export const LCIC_PUSH_BYTES = 216;
/** SEC2's decryption: ten methods of one word, and behind headers the 16 bytes of its signature and of the tag. */
const SEC2_DECRYPT_BYTES = 120;
/** Bytes of a GPFIFO's place and of a PUT as SEC2 writes them: not less than 16. */
export const SEC2_WRITE_BYTES = 16;
/** Pushes are encrypted in multiples of this (UVM_CONF_COMPUTING_BUF_ALIGNMENT). */
const BUF_ALIGNMENT = 32;
const PAYLOAD_BYTES = 4;

/** Notifier odd, encryption of the payload, notifier even. */
const PAYLOAD_METHODS = 3;
/** Own release and payload, LCIC's PUT and its doorbell. */
const WLC_END_METHODS = 1 + PAYLOAD_METHODS + 2;
/** Decryption, GPFIFO entry, PUT, doorbell. */
const LAUNCH_METHODS = 4;
/** GPFIFO entry, PUT, doorbell. */
const CONTROL_METHODS = 3;
/** Wait for idle, WLC's PUT twice, own semaphore, notifier, payload, notifier. */
const LCIC_METHODS = 7;

/** Hooks of a machine with Confidential Computing. `aead` is null where no contents are kept. */
export function createConfComputingResources(aead: AeadCipher | null): ConfComputingResources {
  const rotateKeyIfPending = channelPoolRotateKeyIfPending;
  return { aead, bounceWritten: null, rotateKeyIfPending, beginPush, encryptPush, launch, engineFailed };
}

/** The channel's engine met a tag that does not fit: an error of the channel, which ends the driver. */
function engineFailed(m: Model): void {
  globalSetFatalError(m, NV_ERR_RC_ERROR);
}

/** channel_rotate_and_reserve_launch_channel */
function beginPush(m: Model, channel: Channel): number {
  const manager = channelManagerGet(m, channel);
  const { wlcReady } = confComputingOf(manager);
  let status = maybeRotateChannelIvs(m, channel);
  if (status !== NV_OK) return launchChannelFailed(status);
  const { poolType } = manager.pools[channel.pool];
  if (poolType === CHANNEL_POOL_TYPE_SEC2) return CHANNEL_NONE;
  assert(!wlcReady || poolType < CHANNEL_POOL_TYPE_WLC, 'channels that launch take no pushes of others');
  const launcher = channelReserveType(m, channel.gpu, wlcReady ? CHANNEL_TYPE_WLC : CHANNEL_TYPE_SEC2);
  if (launcher === null) return launchChannelFailed(m.globalStatus);
  status = maybeRotateChannelIvs(m, launcher);
  if (wlcReady && status === NV_OK) status = maybeRotateChannelIvs(m, channelWlcGetPairedLcic(manager, launcher));
  if (status === NV_OK) return launcher.id;
  channelRelease(launcher, 1);
  return launchChannelFailed(status);
}

/** encrypt_push, and the encryption of the payload that its release of the tracking semaphore brings along. */
function encryptPush(m: Model, push: Push): void {
  const channel = channelGet(m, push.channel);
  const manager = channelManagerGet(m, channel);
  if (manager.pools[channel.pool].poolType === CHANNEL_POOL_TYPE_SEC2) return;
  if (push.onComplete !== -1 && push.length > 0) {
    logGpuEncryption(m, channel, push.bytes);
    pushSecureNote(m, push, secureEncryptPushBytes(push.offset, push.bytes));
  }
  logGpuEncryption(m, channel, PAYLOAD_BYTES);
  pushSecureNote(m, push, SECURE_PAYLOAD_BYTES);
  push.methods += PAYLOAD_METHODS - 1;
}

function launch(m: Model, push: Push): void {
  if (push.launchChannel === CHANNEL_NONE) {
    confComputingOf(m.gpus[push.gpu].channelManager).counts.sec2Pushes++;
    return;
  }
  const launcher = channelGet(m, push.launchChannel);
  const { poolType } = channelManagerGet(m, launcher).pools[launcher.pool];
  const bytes = Math.ceil(push.bytes / BUF_ALIGNMENT) * BUF_ALIGNMENT;
  const told =
    poolType === CHANNEL_POOL_TYPE_SEC2 ? launchViaSec2(m, launcher, bytes) : launchViaWlc(m, launcher, bytes);
  push.launchChannel = CHANNEL_NONE;
  push.acquireTime = Math.max(push.acquireTime, told.launchFinish + m.cost.pushLatency);
  if (m.res.why !== null) {
    m.res.why.launch?.({ ...told, gpu: push.gpu, channel: push.channel, value: push.trackingValue, bytes });
  }
}

type Told = Omit<Launch, 'gpu' | 'channel' | 'value' | 'bytes'>;

/** internal_channel_submit_work_indirect_sec2: SEC2 writes the GPFIFO entry and PUT of a channel. */
function launchViaSec2(m: Model, sec2: Channel, bytes: number): Told {
  const begin = m.k.now;
  const push = sec2Push(m, sec2, PURPOSE_LAUNCH, [bytes, SEC2_WRITE_BYTES, SEC2_WRITE_BYTES]);
  return {
    launchChannel: sec2.id,
    launchValue: push.trackingValue,
    launchStart: push.start,
    launchFinish: push.finish,
    lcicChannel: CHANNEL_NONE,
    lcicValue: 0,
    lcicFinish: 0,
    begin,
    idle: begin,
    end: m.k.now,
  };
}

/** Reserves a channel of a type while no error can be met. */
export function reserveAtSetup(m: Model, gpu: number, type: number): Channel {
  const channel = channelReserveType(m, gpu, type);
  assert(channel !== null, 'set-up comes before all errors');
  return channel;
}

/** A push on a reserved SEC2 channel that decrypts pieces of these sizes, and is waited for. */
export function sec2Push(m: Model, sec2: Channel, purpose: number, pieces: readonly number[]): Push {
  const push = pushBeginOnReservedChannel(m, sec2, CHANNEL_TYPE_SEC2, purpose);
  for (const bytes of pieces) {
    acquireEncryptionIv(m, sec2);
    cpuEncryptNote(m, sec2, bytes);
  }
  push.methods += pieces.length + 1;
  push.bytes += pieces.length * SEC2_DECRYPT_BYTES;
  push.duration += m.cost.memopsBase;
  pushEndAndWait(m, push);
  return push;
}

/** internal_channel_submit_work_indirect_wlc: a WLC channel writes the GPFIFO entry and PUT of another one. */
function launchViaWlc(m: Model, wlc: Channel, bytes: number): Told {
  // The IV of WLC's own push is taken when that one begins, so before the IV of what it carries.
  acquireEncryptionIv(m, wlc);
  acquireEncryptionIv(m, wlc);
  cpuEncryptNote(m, wlc, bytes);
  return wlcSubmit(m, wlc, LAUNCH_METHODS);
}

/** The GPFIFO entry of a channel that holds no push, written on its behalf (submit_ctrl_gpfifo_indirect). */
export function submitControl(m: Model, gpu: number): void {
  const manager = m.gpus[gpu].channelManager;
  if (!confComputingOf(manager).wlcReady) {
    sec2Push(m, reserveAtSetup(m, gpu, CHANNEL_TYPE_SEC2), PURPOSE_LAUNCH, [SEC2_WRITE_BYTES, SEC2_WRITE_BYTES]);
    return;
  }
  const wlc = reserveAtSetup(m, gpu, CHANNEL_TYPE_WLC);
  maybeRotateChannelIvs(m, wlc);
  acquireEncryptionIv(m, wlc);
  wlcSubmit(m, wlc, CONTROL_METHODS);
}

/** internal_channel_submit_work_wlc: runs a push of `methods` methods on a reserved WLC channel and waits for it. */
function wlcSubmit(m: Model, wlc: Channel, methods: number): Told {
  const manager = channelManagerGet(m, wlc);
  const conf = confComputingOf(manager);
  const lcic = channelWlcGetPairedLcic(manager, wlc);
  const begin = m.k.now;
  const push = openStatic(m, conf.wlcPush, wlc, CHANNEL_TYPE_WLC, PURPOSE_LAUNCH, methods + WLC_END_METHODS);
  // Its schedule has two pushes: one decrypts the other.
  push.duration = 2 * m.cost.memopsBase;
  push.bytes = WLC_PUSH_BYTES;
  m.k.now = Math.round(m.k.now + m.cost.pushBase + m.cost.pushMethod * push.methods);
  logGpuEncryption(m, wlc, PAYLOAD_BYTES);
  channelWait(m, lcic.id);
  const idle = m.k.now;
  logGpuEncryption(m, lcic, PAYLOAD_BYTES);
  cpuEncryptNote(m, wlc, WLC_PUSH_BYTES);
  push.end = m.k.now;
  push.trackingValue = ++wlc.trackingSem.queuedValue;
  pushSubmit(m, push);
  const confirm = openStatic(m, conf.lcicPush, lcic, CHANNEL_TYPE_LCIC, PURPOSE_LAUNCH_CONFIRM, LCIC_METHODS);
  confirm.duration = m.cost.memopsBase;
  confirm.bytes = LCIC_PUSH_BYTES;
  confirm.acquireTime = push.finish;
  confirm.end = m.k.now;
  confirm.trackingValue = ++lcic.trackingSem.queuedValue;
  // All of LCIC's entries are taken for good; one at a time stands for the launch under way.
  lcic.currentGpfifoCount++;
  pushSubmit(m, confirm);
  conf.counts.launches++;
  trackerWaitForEntry(m, wlc.id, push.trackingValue);
  channelUnlockForPush(wlc);
  return {
    launchChannel: wlc.id,
    launchValue: push.trackingValue,
    launchStart: push.start,
    launchFinish: push.finish,
    lcicChannel: lcic.id,
    lcicValue: confirm.trackingValue,
    lcicFinish: confirm.finish,
    begin,
    idle,
    end: m.k.now,
  };
}

/** Opens one of the two pushes whose memory is not the pushbuffer's. */
function openStatic(m: Model, push: Push, channel: Channel, type: number, purpose: number, methods: number): Push {
  pushReset(push, channelManagerGet(m, channel).host.memory);
  push.gpu = channel.gpu;
  push.channel = channel.id;
  push.type = type;
  push.purpose = purpose;
  push.begin = m.k.now;
  push.methods = methods;
  push.usesEngine = true;
  return push;
}
