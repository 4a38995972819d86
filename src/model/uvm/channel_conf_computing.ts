/**
 * Models the part of uvm_channel.c that makes the channels of a GPU with Confidential Computing (driver 580.105.08).
 *
 * Functions: pick_ces_conf_computing, channel_manager_num_channels, channel_pool_num_gpfifo_entries,
 * channel_manager_create_conf_computing_pools and channel_manager_create_ce_pools as far as pools and channels go,
 * uvm_channel_wlc_get_paired_lcic. The pushes of set-up are in channel_conf_computing_setup.ts.
 */
import { assert } from '../../base/assert.ts';
import {
  CHANNEL_POOL_TYPE_CE,
  CHANNEL_POOL_TYPE_LCIC,
  CHANNEL_POOL_TYPE_SEC2,
  CHANNEL_POOL_TYPE_WLC,
  CHANNEL_TYPE_CPU_TO_GPU,
  CHANNEL_TYPE_GPU_INTERNAL,
  CHANNEL_TYPE_GPU_TO_CPU,
  CHANNEL_TYPE_GPU_TO_GPU,
  CHANNEL_TYPE_LCIC,
  CHANNEL_TYPE_MEMOPS,
  CHANNEL_TYPE_SEC2,
  CHANNEL_TYPE_WLC,
  CHANNELS_PER_CE_POOL,
  type Channel,
  type ChannelManager,
  type ChannelManagerOptions,
  channelPoolAdd,
  createManagerWithoutPools,
  PUSH_LOCK_FREE,
  pickCes,
} from './channel.ts';
import { createDmaBufferPool } from './conf_computing.ts';
import { createPoolKeys, KEY_ROTATION_LOWER_THRESHOLD } from './conf_computing_key_rotation.ts';
import type { ConfComputing } from './conf_computing_types.ts';
import { createPush, PUSH_MAX_CONCURRENT_PUSHES, PUSH_SLOT_STATIC } from './pushbuffer.ts';
import { BUF_ALIGNMENT } from './secure_memory.ts';

/** The types that ask for an engine of their own, in that order: WLC last, for an engine that no other type took. */
const TYPES_BY_PRIORITY = [
  CHANNEL_TYPE_CPU_TO_GPU,
  CHANNEL_TYPE_GPU_TO_CPU,
  CHANNEL_TYPE_GPU_INTERNAL,
  CHANNEL_TYPE_MEMOPS,
  CHANNEL_TYPE_WLC,
];

export const WLC_GPFIFO_ENTRIES = 16;
export const LCIC_GPFIFO_ENTRIES = 4;

function createConfComputing(manager: ChannelManager): ConfComputing {
  return {
    wlcReady: false,
    sec2Pool: manager.poolForType[CHANNEL_TYPE_SEC2],
    wlcPool: manager.poolForType[CHANNEL_TYPE_WLC],
    lcicPool: manager.poolForType[CHANNEL_TYPE_LCIC],
    csl: manager.channels.map(() => ({
      encryptUsed: 0,
      encryptRotations: 0,
      decryptUsed: 0,
      decryptRotations: 0,
    })),
    keyRotationEnabled: false,
    keyRotationThreshold: KEY_ROTATION_LOWER_THRESHOLD,
    rmBusyCalls: 0,
    dma: createDmaBufferPool(),
    memory: null,
    bundles: new Map(),
    signed: 0,
    wlcPush: createPush(PUSH_SLOT_STATIC),
    lcicPush: createPush(PUSH_SLOT_STATIC),
    counts: {
      sec2Pushes: 0,
      launches: 0,
      pagesToGpu: 0,
      pagesToCpu: 0,
      cpuEncryptions: 0,
      cpuEncryptedBytes: 0,
      gpuEncryptions: 0,
      gpuEncryptedBytes: 0,
      ivRotations: 0,
      pushDecryptFailures: 0,
      keyRotations: 0,
    },
  };
}

/**
 * Pools and channels of a GPU with Confidential Computing: SEC2, WLC, LCIC, and one pool for each engine that a type
 * prefers. The engine of SEC2 counts as one behind the copy engines. `firstTrackingValue` is for the copy engines'
 * channels.
 */
export function createConfComputingChannelManager(gpu: number, options: ChannelManagerOptions): ChannelManager {
  const { gpus, copyEngines, numGpfifoEntries, firstTrackingValue = 0 } = options;
  assert(copyEngines >= 1, 'a GPU needs a copy engine');
  const manager = createManagerWithoutPools(gpu, gpus, copyEngines + 1);
  const preferred = pickCes(copyEngines, TYPES_BY_PRIORITY);
  const copyTypes = TYPES_BY_PRIORITY.filter((type) => type !== CHANNEL_TYPE_WLC);
  const engines = [...new Set(copyTypes.map((type) => preferred[type]))].sort((a, b) => a - b);
  const pairs = Math.min(engines.length * CHANNELS_PER_CE_POOL, PUSH_MAX_CONCURRENT_PUSHES);
  const wlcEngine = preferred[CHANNEL_TYPE_WLC];
  const forType = manager.poolForType;
  const sec2 = channelPoolAdd(manager, CHANNEL_POOL_TYPE_SEC2, copyEngines, 1, numGpfifoEntries, 0);
  const wlc = channelPoolAdd(manager, CHANNEL_POOL_TYPE_WLC, wlcEngine, pairs, WLC_GPFIFO_ENTRIES, 0);
  const lcic = channelPoolAdd(manager, CHANNEL_POOL_TYPE_LCIC, wlcEngine, pairs, LCIC_GPFIFO_ENTRIES, 0);
  const poolOf = new Map<number, number>();
  for (const engine of engines) {
    const channels = CHANNELS_PER_CE_POOL;
    poolOf.set(
      engine,
      channelPoolAdd(manager, CHANNEL_POOL_TYPE_CE, engine, channels, numGpfifoEntries, firstTrackingValue),
    );
  }
  for (const type of copyTypes) forType[type] = poolOf.get(preferred[type]) as number;
  // Copies between GPUs do not exist here; the type is given a pool for completeness.
  forType[CHANNEL_TYPE_GPU_TO_GPU] = forType[CHANNEL_TYPE_GPU_TO_CPU];
  forType[CHANNEL_TYPE_SEC2] = sec2;
  forType[CHANNEL_TYPE_WLC] = wlc;
  forType[CHANNEL_TYPE_LCIC] = lcic;
  for (const channel of manager.channels) channel.pushLock = PUSH_LOCK_FREE;
  manager.pushbuffer.sizeMask = BUF_ALIGNMENT - 1;
  manager.confComputing = createConfComputing(manager);
  createPoolKeys(manager);
  return manager;
}

/** The LCIC channel that confirms the launches of a WLC channel (uvm_channel_wlc_get_paired_lcic). */
export function channelWlcGetPairedLcic(manager: ChannelManager, wlc: Channel): Channel {
  const { wlcPool, lcicPool } = manager.confComputing as ConfComputing;
  return manager.pools[lcicPool].channels[manager.pools[wlcPool].channels.indexOf(wlc)];
}
