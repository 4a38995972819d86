/** A model of GPUs that have channels, page tables and contents and nothing else, for the tests of pushes. */
import { createContents } from '../../src/model/gpu/contents.ts';
import { hostInit } from '../../src/model/gpu/host.ts';
import { createMmu } from '../../src/model/gpu/mmu.ts';
import { createClients } from '../../src/model/gpu/sm.ts';
import { createKernel } from '../../src/model/kernel/clock.ts';
import type { Costs } from '../../src/model/spec.ts';
import type { Model } from '../../src/model/state.ts';
import { createChannelManager } from '../../src/model/uvm/channel.ts';

/** Costs that tell each other apart in a sum. */
export const COSTS = {
  trackerPoll: 7,
  pushBase: 100,
  pushMethod: 10,
  pushLatency: 50,
  pushAcquire: 30,
  copyBaseToGpu: 1000,
  copyPageToGpu: 3,
  copyPageToGpuScattered: 20,
  copyBaseToCpu: 2000,
  copyPageToCpu: 4,
  copyPageToCpuScattered: 25,
  copyBasePeer: 3000,
  copyPagePeer: 2,
  copyRun: 500,
  memsetBase: 400,
  memsetPage: 1,
  memopsBase: 200,
  pteWrite: 5,
  tlbInvalidate: 60,
  replay: 80,
} as Costs;

export interface ChannelModelOptions {
  gpus?: number;
  copyEngines?: number;
  numGpfifoEntries?: number;
  firstTrackingValue?: number;
  costs?: Partial<Costs>;
  /** Off where pushes are huge. */
  contents?: boolean;
}

/** GPUs with indices 0 to `gpus` - 1 at time 0; tracking values begin at 1 unless said otherwise. */
export function createChannelModel(options: ChannelModelOptions = {}): Model {
  const {
    gpus = 1,
    copyEngines = 8,
    numGpfifoEntries = 32,
    firstTrackingValue = 0,
    costs = {},
    contents = true,
  } = options;
  const m = {
    cost: { ...COSTS, ...costs },
    res: { handlers: [], pushCallbacks: [], why: null, pushWatch: null, seams: { pushEnded: null } },
    k: createKernel(),
    globalStatus: 0,
    contents: contents ? createContents(gpus + 1) : null,
    gpus: Array.from({ length: gpus }, (_, index) => ({
      index,
      id: index + 1,
      mmu: createMmu(),
      clients: createClients(),
      channelManager: createChannelManager(index, { gpus, copyEngines, numGpfifoEntries, firstTrackingValue }),
    })),
  } as unknown as Model;
  hostInit(m);
  return m;
}
