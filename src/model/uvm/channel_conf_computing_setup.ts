/**
 * Models the set-up of channels with Confidential Computing in uvm_channel.c (driver 580.105.08).
 *
 * Functions: channel_init, setup_wlc_schedule, setup_lcic_schedule, channel_manager_setup_wlc_lcic, and the order of
 * channel_manager_create_pools: SEC2, WLC, LCIC, their schedules through SEC2, and then copy engines through WLC.
 */
import { assert } from '../../base/assert.ts';
import type { Model } from '../state.ts';
import {
  CHANNEL_POOL_TYPE_CE,
  CHANNEL_TYPE_ANY,
  CHANNEL_TYPE_SEC2,
  type Channel,
  channelAvailableGpfifoEntries,
  channelReserve,
  channelUpdateProgress,
} from './channel.ts';
import { LCIC_PUSH_BYTES, reserveAtSetup, SEC2_WRITE_BYTES, sec2Push } from './channel_conf_computing_launch.ts';
import { writeCtrlGpfifo } from './channel_control.ts';
import { confComputingOf, dmaBufferAlloc } from './conf_computing.ts';
import { channelKey, keyRotationEnable } from './conf_computing_key_rotation.ts';
import { PURPOSE_CHANNEL_INIT, PURPOSE_CHANNEL_SCHEDULE, pushBeginOnReservedChannel, pushEndAndWait } from './push.ts';

/** SET_OBJECT of the engine and of the host. */
const INIT_METHODS = 2;
/** WLC's push that decrypts the next one. */
const WLC_DECRYPT_PUSH_BYTES = 64;
const GPFIFO_ENTRY_BYTES = 8;

/** channel_init: the base of the pushbuffer's segment, and the first push of a channel. */
function channelInit(m: Model, channel: Channel): void {
  channelReserve(m, channel, 2);
  writeCtrlGpfifo(m, channel);
  const push = pushBeginOnReservedChannel(m, channel, CHANNEL_TYPE_ANY, PURPOSE_CHANNEL_INIT);
  push.methods += INIT_METHODS;
  push.duration += m.cost.memopsBase;
  pushEndAndWait(m, push);
}

/** Collects what set-up has left in the ring, and takes all entries but `left` for good. */
function blockEntries(m: Model, channel: Channel, left: number): void {
  channelUpdateProgress(m, channel.id);
  const count = channel.numGpfifoEntries - 1 - left;
  assert(channelAvailableGpfifoEntries(channel) >= count, 'a channel that launches has pushes of set-up pending');
  channel.currentGpfifoCount += count;
}

function uploadSchedule(m: Model, channel: Channel, pieces: readonly number[]): void {
  sec2Push(m, reserveAtSetup(m, channel.gpu, CHANNEL_TYPE_SEC2), PURPOSE_CHANNEL_SCHEDULE, pieces);
}

/** setup_wlc_schedule, setup_lcic_schedule: one launch at a time is all that a pair can do. */
function setupPair(m: Model, wlc: Channel, lcic: Channel): void {
  blockEntries(m, wlc, 1);
  uploadSchedule(m, wlc, [WLC_DECRYPT_PUSH_BYTES, wlc.numGpfifoEntries * GPFIFO_ENTRY_BYTES, SEC2_WRITE_BYTES]);
  blockEntries(m, lcic, 0);
  uploadSchedule(m, lcic, [LCIC_PUSH_BYTES, lcic.numGpfifoEntries * GPFIFO_ENTRY_BYTES]);
}

/** Sets up the channels of one GPU; its virtual time is that of the driver's loading. Before anything else runs. */
export function confComputingSetup(m: Model, gpu: number): void {
  const manager = m.gpus[gpu].channelManager;
  const conf = confComputingOf(manager);
  for (const channel of manager.channels) {
    const key = channelKey(m, channel);
    manager.host.channels[channel.index].secure = { channel: channel.id, key, toGpuIv: 0, toCpuIv: 0 };
  }
  const [sec2, wlc, lcic] = [conf.sec2Pool, conf.wlcPool, conf.lcicPool].map((pool) => manager.pools[pool].channels);
  for (const channels of [sec2, wlc, lcic]) for (const channel of channels) channelInit(m, channel);
  for (let i = 0; i < wlc.length; i++) setupPair(m, wlc[i], lcic[i]);
  conf.wlcReady = true;
  for (const pool of manager.pools) {
    if (pool.poolType !== CHANNEL_POOL_TYPE_CE) continue;
    for (const channel of pool.channels) channelInit(m, channel);
  }
  keyRotationEnable(m, gpu, true);
  // The VA space takes one for the day when the GPU is unregistered (uvm_va_space_register_gpu).
  dmaBufferAlloc(m, gpu, null);
}
