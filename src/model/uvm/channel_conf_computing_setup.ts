/**
 * Models the set-up of channels with Confidential Computing in uvm_channel.c (driver 580.105.08).
 *
 * Functions: channel_init, setup_wlc_schedule, setup_lcic_schedule, channel_manager_setup_wlc_lcic, and the order of
 * channel_manager_create_pools: SEC2, WLC, LCIC, their schedules through SEC2, and then copy engines through WLC.
 */
import { assert } from '../../base/assert.ts';
import { bytesOfWords } from '../gpu/byte_memory.ts';
import { createSecureMemory } from '../gpu/secure_memory.ts';
import type { Model } from '../state.ts';
import {
  CHANNEL_POOL_TYPE_CE,
  CHANNEL_POOL_TYPE_SEC2,
  CHANNEL_TYPE_ANY,
  CHANNEL_TYPE_SEC2,
  type Channel,
  channelAvailableGpfifoEntries,
  channelManagerGet,
  channelReserve,
  channelUpdateProgress,
} from './channel.ts';
import { lcicCode, wlcDecryptCode } from './channel_conf_computing_bytes.ts';
import { reserveAtSetup } from './channel_conf_computing_launch.ts';
import {
  type Sec2Push,
  sec2Begin,
  sec2EndAndWait,
  sec2Reserve,
  sec2UpdateGpPut,
  sec2Upload,
} from './channel_conf_computing_sec2.ts';
import { writeCtrlGpfifo } from './channel_control.ts';
import { confComputingOf, dmaBufferAlloc } from './conf_computing.ts';
import { channelKey, keyRotationEnable } from './conf_computing_key_rotation.ts';
import { secureSemaphoreInit } from './gpu_semaphore_secure.ts';
import { gpfifoEntry } from './hopper_host.ts';
import { PURPOSE_CHANNEL_INIT, PURPOSE_CHANNEL_SCHEDULE, pushBeginOnReservedChannel, pushEndAndWait } from './push.ts';
import { codeBytes, codeSize } from './push_code.ts';
import {
  gpfifoGpuVa,
  lcicNotifierGpuVa,
  lcicRunGpuVa,
  semaphoreEncryptedGpuVa,
  semaphoreSec2GpuVa,
  WLC_PUSH_BYTES,
  wlcDecryptGpuVa,
  wlcRunGpuVa,
  wlcUnprotectedGpuVa,
} from './secure_memory.ts';

/** SET_OBJECT of the engine and of the host. */
const INIT_METHODS = 2;
const CHANNEL_INIT_BYTES = 16;

/** channel_init: the base of the pushbuffer's segment, and the first push of a channel. */
function channelInit(m: Model, channel: Channel): void {
  channelReserve(m, channel, 2);
  writeCtrlGpfifo(m, channel);
  const { poolType } = channelManagerGet(m, channel).pools[channel.pool];
  if (poolType === CHANNEL_POOL_TYPE_SEC2) {
    const s = sec2Begin(m, channel, PURPOSE_CHANNEL_INIT);
    s.push.duration += m.cost.memopsBase;
    sec2EndAndWait(m, s);
  } else {
    const push = pushBeginOnReservedChannel(m, channel, CHANNEL_TYPE_ANY, PURPOSE_CHANNEL_INIT);
    push.methods += INIT_METHODS;
    push.bytes += CHANNEL_INIT_BYTES;
    push.duration += m.cost.memopsBase;
    pushEndAndWait(m, push);
  }
}

/** Collects what set-up has left in the ring, and takes all entries but `left` for good. */
function blockEntries(m: Model, channel: Channel, left: number): void {
  channelUpdateProgress(m, channel.id);
  const count = channel.numGpfifoEntries - 1 - left;
  assert(channelAvailableGpfifoEntries(channel) >= count, 'a channel that launches has pushes of set-up pending');
  channel.currentGpfifoCount += count;
}

/**
 * setup_wlc_schedule: WLC's first push and its GPFIFO, through the memory that will hold its second push. The entries
 * run the two in turn.
 */
function setupWlcSchedule(m: Model, wlc: Channel, pair: number): void {
  blockEntries(m, wlc, 1);
  const decrypt = wlcDecryptCode(pair);
  const entries: number[] = [];
  for (let i = 0; i < wlc.numGpfifoEntries; i++) {
    const isDecrypt = i % 2 === wlc.cpuPut % 2;
    entries.push(
      ...(isDecrypt
        ? gpfifoEntry(wlcDecryptGpuVa(pair), codeSize(decrypt), false)
        : gpfifoEntry(wlcRunGpuVa(pair), WLC_PUSH_BYTES, true)),
    );
  }
  const s = sec2Begin(m, reserveAtSetup(m, wlc.gpu, CHANNEL_TYPE_SEC2), PURPOSE_CHANNEL_SCHEDULE);
  uploadSchedule(m, s, pair, wlcDecryptGpuVa(pair), codeBytes(decrypt), gpfifoGpuVa(wlc, 0), bytesOfWords(entries));
  sec2UpdateGpPut(m, s, wlc, (wlc.cpuPut + 2) % wlc.numGpfifoEntries);
  s.push.duration += m.cost.memopsBase;
  sec2EndAndWait(m, s);
}

/** setup_lcic_schedule: all entries of LCIC run one push. */
function setupLcicSchedule(m: Model, wlc: Channel, lcic: Channel, pair: number): void {
  blockEntries(m, lcic, 0);
  const code = lcicCode(lcicRunGpuVa(pair), pair, wlc, lcic);
  const entries: number[] = [];
  for (let i = 0; i < lcic.numGpfifoEntries; i++) entries.push(...gpfifoEntry(code.address, codeSize(code), false));
  const s = sec2Begin(m, reserveAtSetup(m, lcic.gpu, CHANNEL_TYPE_SEC2), PURPOSE_CHANNEL_SCHEDULE);
  uploadSchedule(m, s, pair, code.address, codeBytes(code), gpfifoGpuVa(lcic, 0), bytesOfWords(entries));
  s.push.duration += m.cost.memopsBase;
  sec2EndAndWait(m, s);
  const { secure } = channelManagerGet(m, lcic).host.channels[lcic.index];
  if (secure !== null) secure.preparedNotifiers = lcicNotifierGpuVa(pair);
}

function uploadSchedule(
  m: Model,
  s: Sec2Push,
  pair: number,
  push: number,
  pushBytes: Uint8Array,
  gpfifo: number,
  entries: Uint8Array,
): void {
  const hasBytes = confComputingOf(m.gpus[s.push.gpu].channelManager).memory !== null;
  const src = wlcUnprotectedGpuVa(pair);
  const pushTag = sec2Reserve(s);
  const entriesTag = sec2Reserve(s);
  sec2Upload(m, s, hasBytes ? pushBytes : null, pushBytes.length, src + entries.length, pushTag, push);
  sec2Upload(m, s, hasBytes ? entries : null, entries.length, src, entriesTag, gpfifo);
}

/** Sets up the channels of one GPU; its virtual time is that of the driver's loading. Before anything else runs. */
export function confComputingSetup(m: Model, gpu: number): void {
  const manager = m.gpus[gpu].channelManager;
  const conf = confComputingOf(manager);
  if (m.contents !== null) conf.memory = createSecureMemory();
  for (const channel of manager.channels) {
    const encryptsSemaphore = channel.pool !== conf.sec2Pool;
    const { trackingSem } = channel;
    manager.host.channels[channel.index].secure = {
      channel: channel.id,
      key: channelKey(m, channel),
      toGpuIv: 0,
      toCpuIv: 0,
      signed: 0,
      semaphore: encryptsSemaphore ? semaphoreEncryptedGpuVa(trackingSem) : semaphoreSec2GpuVa(trackingSem),
      encryptsSemaphore,
      notifier: 0,
      preparedNotifiers: -1,
    };
    if (encryptsSemaphore && conf.memory !== null) secureSemaphoreInit(channel);
  }
  const [sec2, wlc, lcic] = [conf.sec2Pool, conf.wlcPool, conf.lcicPool].map((pool) => manager.pools[pool].channels);
  for (const channels of [sec2, wlc, lcic]) for (const channel of channels) channelInit(m, channel);
  for (let i = 0; i < wlc.length; i++) {
    setupWlcSchedule(m, wlc[i], i);
    setupLcicSchedule(m, wlc[i], lcic[i], i);
  }
  conf.wlcReady = true;
  for (const pool of manager.pools) {
    if (pool.poolType !== CHANNEL_POOL_TYPE_CE) continue;
    for (const channel of pool.channels) channelInit(m, channel);
  }
  keyRotationEnable(m, gpu, true);
  // The VA space takes one for the day when the GPU is unregistered (uvm_va_space_register_gpu).
  dmaBufferAlloc(m, gpu, null);
}
