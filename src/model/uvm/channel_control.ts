/**
 * Models the GPFIFO entries without a push of uvm_channel.c (driver 580.105.08): control entries, which a channel's
 * set-up uses for the base of the pushbuffer's segment, and the driver's tests to do nothing.
 *
 * Functions: write_ctrl_gpfifo, uvm_channel_write_ctrl_gpfifo.
 *
 * A control entry takes a place in the ring like a push. It has no tracking value of its own but that of the push
 * behind it, with which it is complete: so two entries are reserved, and an empty push follows. It costs the GPU no
 * time.
 */
import { assert } from '../../base/assert.ts';
import type { Model } from '../state.ts';
import {
  CHANNEL_POOL_TYPE_LCIC,
  CHANNEL_POOL_TYPE_SEC2,
  CHANNEL_POOL_TYPE_WLC,
  CHANNEL_TYPE_ANY,
  type Channel,
  channelGet,
  channelManagerGet,
  channelRelease,
  channelReserve,
  GPFIFO_ACQUIRE_COUNT,
  GPFIFO_ACQUIRE_FIRST,
  GPFIFO_BEGIN,
  GPFIFO_END,
  GPFIFO_ENTRY_CONTROL,
  GPFIFO_KIND,
  GPFIFO_METHODS,
  GPFIFO_ON_COMPLETE,
  GPFIFO_PURPOSE,
  GPFIFO_SPAN,
  GPFIFO_TRACKING_VALUE,
  GPFIFO_WORDS,
} from './channel.ts';
import { submitControl } from './channel_conf_computing_launch.ts';
import { maybeRotateChannelIvsRetryBusy } from './conf_computing.ts';
import { PURPOSE_CONTROL, pushBeginOnReservedChannel, pushEnd } from './push.ts';
import { SPAN_NONE } from './pushbuffer.ts';
import { NV_OK } from './status.ts';

/**
 * Writes a control entry on a channel of which two entries were reserved, this one and that of the push that the caller
 * ends next (write_ctrl_gpfifo).
 */
export function writeCtrlGpfifo(m: Model, channel: Channel): void {
  assert(channel.currentGpfifoCount > 1, 'a control entry is followed by a push, whose entry is reserved with it');
  const entries = channel.gpfifoEntries;
  const at = channel.cpuPut * GPFIFO_WORDS;
  entries[at + GPFIFO_TRACKING_VALUE] = channel.trackingSem.queuedValue + 1;
  entries[at + GPFIFO_KIND] = GPFIFO_ENTRY_CONTROL;
  entries[at + GPFIFO_ON_COMPLETE] = -1;
  entries[at + GPFIFO_PURPOSE] = PURPOSE_CONTROL;
  entries[at + GPFIFO_BEGIN] = m.k.now;
  entries[at + GPFIFO_END] = m.k.now;
  entries[at + GPFIFO_METHODS] = 0;
  entries[at + GPFIFO_SPAN] = SPAN_NONE;
  entries[at + GPFIFO_ACQUIRE_FIRST] = channel.acquireTotal;
  entries[at + GPFIFO_ACQUIRE_COUNT] = 0;
  const manager = channelManagerGet(m, channel);
  const launched = manager.confComputing !== null && manager.pools[channel.pool].poolType !== CHANNEL_POOL_TYPE_SEC2;
  // The entry is written where PUT is, and PUT moved on, by who launches.
  if (launched) submitControl(m, channel);
  channel.currentGpfifoCount--;
  channel.cpuPut = (channel.cpuPut + 1) & (channel.numGpfifoEntries - 1);
}

/**
 * Puts a control entry on a channel, by id, and an empty push behind it; waits while the channel has no two entries
 * left. Returns a driver status (uvm_channel_write_ctrl_gpfifo).
 */
export function channelWriteCtrlGpfifo(m: Model, id: number): number {
  const channel = channelGet(m, id);
  const manager = channelManagerGet(m, channel);
  const { poolType } = manager.pools[channel.pool];
  const launches = poolType === CHANNEL_POOL_TYPE_WLC || poolType === CHANNEL_POOL_TYPE_LCIC;
  assert(!launches || manager.confComputing?.wlcReady === false, 'a channel that launches has a schedule of its own');
  const reserved = channelReserve(m, channel, 2);
  if (reserved !== NV_OK) return reserved;
  // Behind the control entry it would be too late: the channel cannot become idle before the push.
  const status = manager.confComputing === null ? NV_OK : maybeRotateChannelIvsRetryBusy(m, channel);
  if (status !== NV_OK) {
    channelRelease(channel, 2);
    return status;
  }
  writeCtrlGpfifo(m, channel);
  const push = pushBeginOnReservedChannel(m, channel, CHANNEL_TYPE_ANY, PURPOSE_CONTROL);
  if (push.status !== NV_OK) return push.status;
  pushEnd(m, push);
  return NV_OK;
}
