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
 * What lies in unprotected memory is in channel_conf_computing_bytes.ts and, for SEC2, channel_conf_computing_sec2.ts.
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
  channelAcquiresOf,
  channelCheckErrors,
  channelGet,
  channelGpu,
  channelManagerGet,
  channelRelease,
  channelReserveType,
  channelUnlockForPush,
  channelWait,
} from './channel.ts';
import { channelWlcGetPairedLcic } from './channel_conf_computing.ts';
import {
  bundleKey,
  cpuEncryptAt,
  decryptPush,
  indexInPool,
  lcicPrepareNotifiers,
  pushPlain,
  wlcControlCode,
  wlcEndCode,
  wlcLaunchCode,
  wlcRun,
  writeTimestamps,
} from './channel_conf_computing_bytes.ts';
import {
  type Sec2Push,
  sec2Begin,
  sec2EndAndWait,
  sec2Release,
  sec2Reserve,
  sec2SetGpfifo,
  sec2UpdateGpPut,
  sec2Upload,
} from './channel_conf_computing_sec2.ts';
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
import { encryptedPayloadUpdate, logPayloadEncryption } from './gpu_semaphore_secure.ts';
import { MEMBAR_GPU } from './hopper_ce.ts';
import { gpfifoEntry, gpfifoSegmentBase } from './hopper_host.ts';
import { PURPOSE_LAUNCH, PURPOSE_LAUNCH_CONFIRM, type Push, pushSecureCopyAt, pushSubmit } from './push.ts';
import { SECURE_PAYLOAD_BYTES, secureEncryptPushBytes } from './push_bytes.ts';
import { codeBytes, type PushCode } from './push_code.ts';
import { pushReset } from './pushbuffer.ts';
import {
  doorbellGpuVa,
  LCIC_PUSH_BYTES,
  launchTagGpuVa,
  pushbufferGpuVa,
  pushbufferUnprotectedGpuVa,
  pushTagUnprotectedGpuVa,
  WLC_PUSH_BYTES,
  wlcTagGpuVa,
  wlcUnprotectedGpuVa,
} from './secure_memory.ts';
import { NV_ERR_RC_ERROR, NV_OK } from './status.ts';
import { trackerWaitForEntry } from './tracker.ts';

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
  return {
    aead,
    bounceWritten: null,
    unprotectedWritten: null,
    pushDecrypted: null,
    rotateKeyIfPending: channelPoolRotateKeyIfPending,
    beginPush,
    encryptPush,
    launch,
    submitted: writeTimestamps,
    decryptPush,
    updatePayload: encryptedPayloadUpdate,
    waitsForBroken,
    engineFailed,
  };
}

/**
 * The channel's engine met a tag that does not fit: an error of the channel, which ends the driver. It is found at
 * once, where the driver finds it when it next looks at that channel.
 */
function engineFailed(m: Model, channel: number): void {
  channelCheckErrors(m, channelGet(m, channel));
  globalSetFatalError(m, NV_ERR_RC_ERROR);
}

function waitsForBroken(m: Model, id: number, value: number): boolean {
  const acquires = channelAcquiresOf(channelGet(m, id), value);
  return acquires.some(([channel, acquired]) => {
    const { host } = m.gpus[channelGpu(channel)].channelManager;
    return acquired >= host.channels[channelGet(m, channel).index].brokenFrom;
  });
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
    encryptForCallback(m, push, channel);
  }
  logPayloadEncryption(m, channel);
  push.bytes += SECURE_PAYLOAD_BYTES;
  push.methods += PAYLOAD_METHODS;
}

/** The engine encrypts the whole push so far, timestamps and all, to where it was decrypted from. */
function encryptForCallback(m: Model, push: Push, channel: Channel): void {
  const { bytes, offset } = push;
  const tag = pushTagUnprotectedGpuVa(push, bytes);
  const iv = logGpuEncryption(m, channel, bytes);
  const conf = confComputingOf(channelManagerGet(m, channel));
  if (conf.memory !== null) {
    conf.bundles.set(bundleKey(channel, channel.cpuPut), { iv, offset, bytes, tag, timestamps: [] });
  }
  const dst = pushbufferUnprotectedGpuVa(offset);
  pushSecureCopyAt(m, push, false, dst, pushbufferGpuVa(offset), bytes, tag, secureEncryptPushBytes(offset, bytes));
}

function launch(m: Model, push: Push): void {
  if (push.launchChannel === CHANNEL_NONE) {
    confComputingOf(m.gpus[push.gpu].channelManager).counts.sec2Pushes++;
    return;
  }
  const launcher = channelGet(m, push.launchChannel);
  const { poolType } = channelManagerGet(m, launcher).pools[launcher.pool];
  const { bytes } = push;
  const told = poolType === CHANNEL_POOL_TYPE_SEC2 ? launchViaSec2(m, launcher, push) : launchViaWlc(m, launcher, push);
  push.launchChannel = CHANNEL_NONE;
  push.acquireTime = Math.max(push.acquireTime, told.launchFinish + m.cost.pushLatency);
  if (m.res.why !== null) {
    m.res.why.launch?.({ ...told, gpu: push.gpu, channel: push.channel, value: push.trackingValue, bytes });
  }
}

type Told = Omit<Launch, 'gpu' | 'channel' | 'value' | 'bytes'>;

/** internal_channel_submit_work_indirect_sec2: SEC2 writes the GPFIFO entry and PUT of a channel. */
function launchViaSec2(m: Model, sec2: Channel, launched: Push): Told {
  const begin = m.k.now;
  const channel = channelGet(m, launched.channel);
  const { offset, bytes } = launched;
  const plain = confComputingOf(channelManagerGet(m, sec2)).memory === null ? null : pushPlain(m, launched);
  const s = sec2Begin(m, sec2, PURPOSE_LAUNCH);
  sec2Upload(m, s, plain, bytes, pushbufferUnprotectedGpuVa(offset), sec2Reserve(s), pushbufferGpuVa(offset));
  submitEntryViaSec2(m, s, channel, gpfifoEntry(pushbufferGpuVa(offset), bytes, false));
  const { push } = s;
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

/** The end of such a push: entry, PUT, doorbell. SEC2 takes its time once. */
function submitEntryViaSec2(m: Model, s: Sec2Push, channel: Channel, entry: readonly [number, number]): void {
  sec2SetGpfifo(m, s, channel, entry);
  sec2UpdateGpPut(m, s, channel, (channel.cpuPut + 1) & (channel.numGpfifoEntries - 1));
  sec2Release(m, s, doorbellGpuVa, channel.id, MEMBAR_GPU);
  s.push.duration += m.cost.memopsBase;
  sec2EndAndWait(m, s);
}

/** Reserves a channel of a type while no error can be met. */
export function reserveAtSetup(m: Model, gpu: number, type: number): Channel {
  const channel = channelReserveType(m, gpu, type);
  assert(channel !== null, 'set-up comes before all errors');
  return channel;
}

/** internal_channel_submit_work_indirect_wlc: a WLC channel writes the GPFIFO entry and PUT of another one. */
function launchViaWlc(m: Model, wlc: Channel, push: Push): Told {
  // The IV of WLC's own push is taken when that one begins, so before the IV of what it carries.
  const own = acquireEncryptionIv(m, wlc);
  const iv = acquireEncryptionIv(m, wlc);
  cpuEncryptNote(m, wlc, push.bytes);
  if (confComputingOf(channelManagerGet(m, wlc)).memory === null) return wlcSubmit(m, wlc, LAUNCH_METHODS, null);
  const plain = pushPlain(m, push);
  const tag = launchTagGpuVa(indexInPool(m, wlc));
  cpuEncryptAt(m, wlc, iv, plain, pushbufferUnprotectedGpuVa(push.offset), tag);
  return wlcSubmit(m, wlc, LAUNCH_METHODS, { code: wlcLaunchCode(m, wlc, push), iv: own, push, plain });
}

/** The GPFIFO entry of a channel that holds no push, written on its behalf (submit_ctrl_gpfifo_indirect). */
export function submitControl(m: Model, channel: Channel): void {
  const { gpu } = channel;
  const conf = confComputingOf(channelManagerGet(m, channel));
  if (!conf.wlcReady) {
    const s = sec2Begin(m, reserveAtSetup(m, gpu, CHANNEL_TYPE_SEC2), PURPOSE_LAUNCH);
    submitEntryViaSec2(m, s, channel, gpfifoSegmentBase(pushbufferGpuVa(0)));
    return;
  }
  const wlc = reserveAtSetup(m, gpu, CHANNEL_TYPE_WLC);
  maybeRotateChannelIvs(m, wlc);
  const iv = acquireEncryptionIv(m, wlc);
  const bytes = conf.memory === null ? null : { code: wlcControlCode(m, wlc, channel), iv, push: null, plain: null };
  wlcSubmit(m, wlc, CONTROL_METHODS, bytes);
}

/** A WLC push as it is built: its methods, its IV, and the push that it launches, if any, with its bytes. */
interface WlcBytes {
  code: PushCode;
  iv: number;
  push: Push | null;
  plain: Uint8Array | null;
}

/** Encrypts a WLC push and lets WLC run it. Returns false where WLC fails. */
function wlcEncryptAndRun(m: Model, wlc: Channel, lcic: Channel, bytes: WlcBytes): boolean {
  const { code, iv, push, plain } = bytes;
  wlcEndCode(code, wlc, lcic, wlc.trackingSem.queuedValue + 1);
  const own = codeBytes(code);
  assert(own.length === WLC_PUSH_BYTES, 'a WLC push has 364 bytes');
  lcicPrepareNotifiers(m, lcic);
  const pair = indexInPool(m, wlc);
  cpuEncryptAt(m, wlc, iv, own, wlcUnprotectedGpuVa(pair), wlcTagGpuVa(pair));
  return wlcRun(m, wlc, own, push, plain);
}

/** internal_channel_submit_work_wlc: runs a push of `methods` methods on a reserved WLC channel and waits for it. */
function wlcSubmit(m: Model, wlc: Channel, methods: number, bytes: WlcBytes | null): Told {
  const manager = channelManagerGet(m, wlc);
  const conf = confComputingOf(manager);
  const lcic = channelWlcGetPairedLcic(manager, wlc);
  const begin = m.k.now;
  const push = openStatic(m, conf.wlcPush, wlc, CHANNEL_TYPE_WLC, PURPOSE_LAUNCH, methods + WLC_END_METHODS);
  // Its schedule has two pushes: one decrypts the other.
  push.duration = 2 * m.cost.memopsBase;
  push.bytes = WLC_PUSH_BYTES;
  m.k.now = Math.round(m.k.now + m.cost.pushBase + m.cost.pushMethod * push.methods);
  logPayloadEncryption(m, wlc);
  channelWait(m, lcic.id);
  const idle = m.k.now;
  logPayloadEncryption(m, lcic);
  cpuEncryptNote(m, wlc, WLC_PUSH_BYTES);
  push.end = m.k.now;
  const runs = bytes === null || wlcEncryptAndRun(m, wlc, lcic, bytes);
  push.trackingValue = ++wlc.trackingSem.queuedValue;
  if (!runs) manager.host.channels[wlc.index].failsAt = push.trackingValue;
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
