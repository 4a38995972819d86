/**
 * Machine profiles: `profiles/*.json` read into a MachineSpec and the two sets of costs, with the source of each
 * number.
 */
import { z } from 'zod';
import type { CostName, Costs, MachineSpec } from '../model/spec.ts';

/** Driver branches whose rules the model has. */
export const DRIVER_BRANCHES = ['580'] as const;

const positive = z.number().int().positive();
const COST = z.strictObject({
  /** Nanoseconds for a program that nobody traces, and for one whose events are recorded. */
  untraced: z.number().nonnegative(),
  traced: z.number().nonnegative(),
  source: z.string().min(1),
});

const PROFILE = z.strictObject({
  name: z.string().min(1),
  description: z.string(),
  driver: z.string(),
  architecture: z.literal('hopper'),
  machine: z.strictObject({
    gpus: positive.max(8),
    nvlinkPeers: z.boolean(),
    faultBufferEntries: positive.min(2).max(1048576),
    utlbsPerGpc: positive.max(64),
    gpcs: positive.max(32),
    vidmemBytes: positive,
    copyEngines: positive.max(32),
    confidentialComputing: z.boolean().default(false),
  }),
  costs: z.record(z.string(), COST),
});

export interface Profile {
  readonly spec: MachineSpec;
  readonly untraced: Costs;
  readonly traced: Costs;
  /** Where each cost comes from. */
  readonly sources: Readonly<Record<CostName, string>>;
}

/** Every cost by name; the value says nothing, the key list is what parseProfile demands. */
const COST_NAMES: Record<CostName, true> = {
  gpuAccessHit: true,
  gpuAccessRemote: true,
  gpuWriteExtra: true,
  gpuAtomicExtra: true,
  kernelLaunch: true,
  faultToEntry: true,
  interruptLatency: true,
  replayToResume: true,
  topHalf: true,
  bottomHalfWake: true,
  bottomHalfExit: true,
  fetchBatch: true,
  fetchEntry: true,
  preprocessEntry: true,
  serviceVaSpace: true,
  serviceBlock: true,
  serviceEntry: true,
  servicePage: true,
  prefetchHint: true,
  thrashingHint: true,
  flushBuffer: true,
  flushEntry: true,
  trackerPoll: true,
  pushBase: true,
  pushMethod: true,
  pushLatency: true,
  pushAcquire: true,
  copyBaseToGpu: true,
  copyPageToGpu: true,
  copyPageToGpuScattered: true,
  copyBaseToCpu: true,
  copyPageToCpu: true,
  copyPageToCpuScattered: true,
  copyBasePeer: true,
  copyPagePeer: true,
  copyRun: true,
  memsetBase: true,
  memsetPage: true,
  memopsBase: true,
  pteWrite: true,
  tlbInvalidate: true,
  replay: true,
  cpuUnmapRun: true,
  cpuUnmapPage: true,
  cpuMapPage: true,
  cpuChunkAlloc: true,
  cpuZeroPage: true,
  gpuChunkAlloc: true,
  pageTableAlloc: true,
  cpuFaultEntry: true,
  cpuFaultService: true,
  cpuFaultFlush: true,
  cpuAccess: true,
  sleepOvershoot: true,
  migrateCall: true,
  migrateBlock: true,
  adviseCall: true,
  adviseBlock: true,
  freeCall: true,
  freeBlock: true,
  memcpyCall: true,
  memcpyPage: true,
  memcpyPinnedPage: true,
  stepGap: true,
  toolsEvent: true,
  copyCall: true,
  copyPinPage: true,
  copyUnpinPage: true,
  copyDmaMap: true,
  copyCpuPage: true,
};

/**
 * Costs as the model reads them, once or more for each step of the driver. JavaScript engines keep an object that was
 * filled key by key as a hash table; one read from JSON has fields at fixed places, which a step reads several times
 * faster.
 */
function frozenCosts(values: Record<string, number>): Costs {
  return Object.freeze(JSON.parse(JSON.stringify(values)) as Costs);
}

/** Reads a profile. Throws an Error whose message names the field, the value and the valid choices. */
export function parseProfile(json: unknown): Profile {
  const parsed = PROFILE.safeParse(json);
  if (!parsed.success) throw new Error(`machine profile: ${z.prettifyError(parsed.error)}`);
  const p = parsed.data;
  if (!(DRIVER_BRANCHES as readonly string[]).includes(p.driver)) {
    throw new Error(
      `machine profile '${p.name}': driver '${p.driver}' has no rules here; ` +
        `valid choices: ${DRIVER_BRANCHES.join(', ')}`,
    );
  }
  if (p.machine.confidentialComputing && p.machine.nvlinkPeers) {
    throw new Error(
      `machine profile '${p.name}': machine.nvlinkPeers is true with machine.confidentialComputing; ` +
        'valid: false, as GPUs have no peers there',
    );
  }
  const untraced: Record<string, number> = {};
  const traced: Record<string, number> = {};
  const sources: Record<string, string> = {};
  for (const name of Object.keys(COST_NAMES)) {
    const cost = p.costs[name];
    if (cost === undefined) throw new Error(`machine profile '${p.name}': costs.${name} is missing`);
    untraced[name] = Math.round(cost.untraced);
    traced[name] = Math.round(cost.traced);
    sources[name] = cost.source;
  }
  for (const name of Object.keys(p.costs)) {
    if (!(name in COST_NAMES)) {
      throw new Error(
        `machine profile '${p.name}': costs.${name} is unknown; valid choices: ${Object.keys(COST_NAMES).join(', ')}`,
      );
    }
  }
  return {
    spec: Object.freeze({ name: p.name, driver: p.driver, architecture: p.architecture, ...p.machine }),
    untraced: frozenCosts(untraced),
    traced: frozenCosts(traced),
    sources: Object.freeze(sources as Record<CostName, string>),
  };
}
