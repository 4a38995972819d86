/**
 * Makes a history from a seed. Swarm testing: each history has a random subset of the features, so that what is rare
 * when everything is mixed gets histories of its own, and most touches fall on few pages, so that they meet.
 */
import { createPrng, type Prng, prngBelow, prngChance } from '../../src/base/prng.ts';
import { T1_CLIENTS } from '../../src/model/uvm/volta_fault_buffer.ts';
import {
  type Access,
  ADVICES,
  type Advice,
  GROUP_OPERATIONS,
  type History,
  type HistoryBuffer,
  type HistoryStep,
  type Program,
  type RawFault,
  WILD,
} from './history.ts';

/** What a history can do; the number is the chance of ten that it may. */
const FEATURES = {
  cpu: 8,
  gpu: 9,
  write: 8,
  atomic: 5,
  access: 7,
  stride: 5,
  prefetch: 4,
  preferred: 4,
  accessedBy: 4,
  readMostly: 4,
  contend: 2,
  memcpy: 1,
  free: 3,
  burst: 7,
  raw: 3,
  flush: 2,
  wild: 2,
  nonReplayable: 2,
  group: 3,
  drop: 2,
  idle: 3,
  subRange: 7,
  oddBuffers: 5,
  parameters: 6,
  costs: 6,
} as const;
type Feature = keyof typeof FEATURES;

interface State {
  p: Prng;
  has: Record<Feature, boolean>;
  history: History;
  /** By buffer: it is allocated. */
  alive: boolean[];
  /** Pages that touches prefer: buffer, page. */
  hot: [number, number][];
  groups: number;
}

function pick<T>(p: Prng, list: readonly T[]): T {
  return list[prngBelow(p, list.length)];
}

const SIZES = [1, 2, 12, 16, 17, 33, 64, 64, 100, 130, 257, 500, 512, 512, 512, 513, 600, 1024, 1281];

function makeBuffers(p: Prng, odd: boolean): HistoryBuffer[] {
  const count = prngChance(p, 1, 3) ? 2 : prngChance(p, 1, 6) ? 3 : 1;
  return Array.from({ length: count }, () => ({
    gap: odd ? pick(p, [0, 1, 5, 16, 37, 100, 272]) : 512,
    pages: pick(p, SIZES),
  }));
}

/** Module parameters and values worth trying; defaults come up by not being named. */
const PARAMETERS: readonly (readonly [string, readonly number[]])[] = [
  ['uvm_perf_prefetch_enable', [0, 1, 1]],
  ['uvm_perf_prefetch_threshold', [0, 10, 25, 50, 75, 99, 100]],
  ['uvm_perf_prefetch_min_faults', [1, 2, 5, 20]],
  ['uvm_perf_thrashing_enable', [0, 1, 1]],
  ['uvm_perf_thrashing_threshold', [1, 2, 3, 5]],
  ['uvm_perf_thrashing_pin_threshold', [1, 1, 2, 3, 10]],
  ['uvm_perf_thrashing_lapse_usec', [50, 500, 2000]],
  ['uvm_perf_thrashing_nap', [1, 2, 5]],
  ['uvm_perf_thrashing_epoch', [1, 5, 2000]],
  ['uvm_perf_thrashing_pin', [0, 1, 3, 300]],
  ['uvm_perf_thrashing_max_resets', [0, 1, 4]],
  ['uvm_perf_fault_replay_policy', [0, 1, 2, 3]],
  ['uvm_perf_fault_replay_update_put_ratio', [0, 50, 100]],
  ['uvm_perf_fault_coalesce', [0, 1]],
  ['uvm_perf_fault_batch_count', [1, 2, 5, 16, 256]],
  ['uvm_perf_fault_max_batches_per_service', [1, 2, 20]],
  ['uvm_perf_fault_max_throttle_per_service', [1, 2, 5]],
  ['uvm_perf_reenable_prefetch_faults_lapse_msec', [0, 1, 1000]],
  ['uvm_cpu_chunk_allocation_sizes', [0x1000, 0x11000, 0x201000, 0x211000]],
  ['uvm_perf_map_remote_on_native_atomics_fault', [0, 1]],
  ['uvm_channel_num_gpfifo_entries', [32, 64]],
];

function makeParameters(p: Prng, random: boolean): Record<string, number> {
  const parameters: Record<string, number> = { uvm_channel_num_gpfifo_entries: 64 };
  if (random) {
    for (const [name, values] of PARAMETERS) if (prngChance(p, 1, 3)) parameters[name] = pick(p, values);
  }
  return parameters;
}

const COST_PERCENT = [10, 30, 100, 100, 100, 300];
const COSTS = [
  'faultToEntry',
  'interruptLatency',
  'replayToResume',
  'topHalf',
  'bottomHalfWake',
  'serviceBlock',
  'servicePage',
  'pushBase',
  'pushLatency',
  'copyBaseToGpu',
  'copyBaseToCpu',
  'memopsBase',
  'replay',
  'cpuFaultService',
  'cpuAccess',
  'gpuAccessHit',
  'kernelLaunch',
  'stepGap',
  'toolsEvent',
];

function makeCosts(p: Prng, random: boolean): Record<string, number> {
  const costs: Record<string, number> = {};
  if (random) for (const name of COSTS) if (prngChance(p, 1, 3)) costs[name] = pick(p, COST_PERCENT);
  return costs;
}

function anyBuffer(s: State): number {
  const alive = s.alive.flatMap((yes, i) => (yes ? [i] : []));
  return alive.length === 0 ? -1 : pick(s.p, alive);
}

function anyProcessor(s: State): number {
  const { cpu, gpu } = s.has;
  if (!gpu || (cpu && prngChance(s.p, 2, 5))) return 0;
  return 1 + prngBelow(s.p, s.history.gpus);
}

function anyGpu(s: State): number {
  return 1 + prngBelow(s.p, s.history.gpus);
}

function anyKind(s: State): 'read' | 'write' | 'atomic' {
  if (s.has.atomic && prngChance(s.p, 1, 4)) return 'atomic';
  return s.has.write && prngChance(s.p, 1, 2) ? 'write' : 'read';
}

function anyAccess(s: State): Access {
  const kind = anyKind(s);
  if (kind === 'atomic') return prngChance(s.p, 1, 3) ? 3 : 4;
  if (kind === 'write') return 2;
  return prngChance(s.p, 1, 8) ? 0 : 1;
}

/** A page that is touched often, or any. */
function anyPage(s: State, buffer: number): number {
  const pages = s.history.buffers[buffer].pages;
  const hot = s.hot.filter(([b]) => b === buffer);
  if (hot.length > 0 && prngChance(s.p, 3, 5)) return pick(s.p, hot)[1];
  return prngBelow(s.p, pages);
}

/** Part of a buffer, mostly at odd pages, or all of it. */
function anyRange(s: State, buffer: number): { first: number; outer: number } {
  const pages = s.history.buffers[buffer].pages;
  if (!s.has.subRange || prngChance(s.p, 1, 4)) return { first: 0, outer: pages };
  if (prngChance(s.p, 1, 4)) {
    const first = Math.floor(anyPage(s, buffer) / 16) * 16;
    return { first, outer: Math.min(first + 16 * (1 + prngBelow(s.p, 4)), pages) };
  }
  const first = prngChance(s.p, 1, 2) ? anyPage(s, buffer) : prngBelow(s.p, pages);
  return {
    first,
    outer: first + 1 + prngBelow(s.p, prngChance(s.p, 1, 2) ? pages - first : Math.min(40, pages - first)),
  };
}

function accessStep(s: State): HistoryStep | null {
  const buffer = anyBuffer(s);
  if (buffer < 0) return null;
  const count = prngChance(s.p, 1, 3) ? 1 : 1 + prngBelow(s.p, 12);
  const pages = Array.from({ length: count }, () => anyPage(s, buffer));
  return { do: 'access', on: anyProcessor(s), kind: anyKind(s), buffer, pages };
}

function strideStep(s: State): HistoryStep | null {
  const buffer = anyBuffer(s);
  if (buffer < 0) return null;
  const range = anyRange(s, buffer);
  const pages = range.outer - range.first;
  // Few touches that span the range, or one for each page of a short one.
  const least = Math.max(1, Math.ceil(pages / 24));
  const stride = (least + prngBelow(s.p, 17)) * 4096;
  return { do: 'stride', on: anyProcessor(s), kind: anyKind(s), buffer, ...range, stride };
}

function adviseStep(s: State): HistoryStep | null {
  const buffer = anyBuffer(s);
  if (buffer < 0) return null;
  const may: Advice[] = ADVICES.filter(
    (a) =>
      (s.has.preferred && a.includes('Preferred')) ||
      (s.has.accessedBy && a.includes('AccessedBy')) ||
      (s.has.readMostly && a.includes('ReadMostly')),
  );
  if (may.length === 0) return null;
  const advice = pick(s.p, may.concat(may.filter((a) => a.startsWith('set'))));
  const processor = prngBelow(s.p, s.history.gpus + 1);
  return { do: 'advise', advice, processor, buffer, ...anyRange(s, buffer) };
}

function makeProgram(s: State): Program {
  const on = anyProcessor(s);
  const count = 1 + prngBelow(s.p, prngChance(s.p, 1, 4) ? 8 : 3);
  const accesses: Program['accesses'] = [];
  let [buffer, page] = [anyBuffer(s), 0];
  for (let i = 0; i < count; i++) {
    if (s.has.wild && prngChance(s.p, 1, 10)) {
      accesses.push([WILD, prngBelow(s.p, 4), anyAccess(s)]);
      continue;
    }
    // Neighbours in most cases: that is what warps do.
    if (i === 0 || prngChance(s.p, 1, 4)) {
      buffer = anyBuffer(s);
      page = anyPage(s, buffer);
    } else {
      page = (page + pick(s.p, [0, 1, 1, 16, 31])) % s.history.buffers[buffer].pages;
    }
    accesses.push([buffer, page, anyAccess(s)]);
  }
  const at = prngChance(s.p, 1, 2) ? prngBelow(s.p, 2000) : prngBelow(s.p, 100000);
  return { on, gpc: prngBelow(s.p, 4), client: pick(s.p, T1_CLIENTS), at, accesses };
}

/** Types: serviceable ones, and some that nobody can service. */
const RAW_TYPES = [0, 2, 2, 6, 7, 15, 3, 9, 10];

function makeRaw(s: State): RawFault {
  const buffer = s.has.wild && prngChance(s.p, 1, 8) ? WILD : anyBuffer(s);
  return {
    gpu: anyGpu(s),
    buffer,
    page: buffer === WILD ? prngBelow(s.p, 4) : anyPage(s, buffer),
    access: prngChance(s.p, 1, 3) ? 0 : anyAccess(s),
    type: pick(s.p, RAW_TYPES),
    gpc: prngBelow(s.p, 4),
    client: pick(s.p, T1_CLIENTS),
    at: prngBelow(s.p, 20000),
    late: prngChance(s.p, 1, 3) ? prngBelow(s.p, 5000) : 0,
  };
}

function burstStep(s: State): HistoryStep | null {
  if (anyBuffer(s) < 0) return null;
  const count = prngChance(s.p, 1, 8) ? 20 + prngBelow(s.p, 20) : 1 + prngBelow(s.p, 8);
  const programs = Array.from({ length: count }, () => makeProgram(s));
  const raw = s.has.raw ? Array.from({ length: prngBelow(s.p, 6) }, () => makeRaw(s)) : [];
  const flushAt = s.has.flush && prngChance(s.p, 1, 3) ? [prngBelow(s.p, 30000)] : [];
  return { do: 'burst', programs, raw, flushAt };
}

function groupStep(s: State): HistoryStep | null {
  const buffer = anyBuffer(s);
  if (buffer < 0) return null;
  const operation = s.groups === 0 ? 'create' : pick(s.p, GROUP_OPERATIONS.slice(s.groups >= 3 ? 1 : 0));
  if (operation === 'create') s.groups++;
  return { do: 'group', operation, group: 1 + prngBelow(s.p, Math.max(s.groups, 1)), buffer, ...anyRange(s, buffer) };
}

function nonReplayableStep(s: State): HistoryStep | null {
  if (anyBuffer(s) < 0) return null;
  const faults: [number, number, Access][] = Array.from({ length: 1 + prngBelow(s.p, 4) }, () => {
    const buffer = s.has.wild && prngChance(s.p, 1, 8) ? WILD : anyBuffer(s);
    return [buffer, buffer === WILD ? 0 : anyPage(s, buffer), anyAccess(s)];
  });
  return { do: 'nonReplayable', gpu: anyGpu(s), faults };
}

function freeStep(s: State): HistoryStep | null {
  const dead = s.alive.indexOf(false);
  if (dead >= 0) {
    s.alive[dead] = true;
    return { do: 'allocate', buffer: dead };
  }
  const buffer = anyBuffer(s);
  s.alive[buffer] = false;
  return { do: 'free', buffer };
}

function rangeStep(s: State, make: (buffer: number) => HistoryStep): HistoryStep | null {
  const buffer = anyBuffer(s);
  return buffer < 0 ? null : make(buffer);
}

/** A step of one kind, or null when it makes no sense now. */
const MAKERS: Record<string, { weight: number; features: Feature[]; make: (s: State) => HistoryStep | null }> = {
  access: { weight: 6, features: ['access'], make: accessStep },
  stride: { weight: 3, features: ['stride'], make: strideStep },
  burst: { weight: 4, features: ['burst'], make: burstStep },
  prefetch: {
    weight: 3,
    features: ['prefetch'],
    make: (s) =>
      rangeStep(s, (buffer) => ({
        do: 'prefetch',
        to: prngBelow(s.p, s.history.gpus + 1),
        buffer,
        ...anyRange(s, buffer),
      })),
  },
  advise: { weight: 5, features: [], make: adviseStep },
  contend: {
    weight: 1,
    features: ['contend', 'cpu', 'gpu'],
    make: (s) =>
      rangeStep(s, (buffer) => ({
        do: 'contend',
        gpu: anyGpu(s),
        buffer,
        page: anyPage(s, buffer),
        gpuWrites: 2 + prngBelow(s.p, 12),
        cpuWrites: 2 + prngBelow(s.p, 12),
        pause: prngBelow(s.p, 40),
      })),
  },
  memcpy: {
    weight: 1,
    features: ['memcpy'],
    make: (s) => rangeStep(s, (buffer) => ({ do: 'memcpy', from: buffer, to: -1, ...anyRange(s, buffer) })),
  },
  free: { weight: 2, features: ['free'], make: freeStep },
  group: { weight: 4, features: ['group'], make: groupStep },
  nonReplayable: { weight: 2, features: ['nonReplayable', 'gpu'], make: nonReplayableStep },
  drop: {
    weight: 2,
    features: ['drop', 'cpu'],
    make: (s) => rangeStep(s, (buffer) => ({ do: 'drop', buffer, ...anyRange(s, buffer) })),
  },
  idle: {
    weight: 1,
    features: ['idle'],
    make: (s) => ({ do: 'idle', time: pick(s.p, [20_000, 400_000, 3_000_000, 200_000_000]) }),
  },
};

function makeSteps(s: State): void {
  const makers = Object.values(MAKERS).filter((maker) => maker.features.every((f) => s.has[f]));
  const total = makers.reduce((sum, maker) => sum + maker.weight, 0);
  const count = 5 + prngBelow(s.p, 12);
  for (let i = 0; i < count; i++) {
    let left = prngBelow(s.p, total);
    let chosen = 0;
    while (left >= makers[chosen].weight) left -= makers[chosen++].weight;
    const step = makers[chosen].make(s);
    if (step !== null) s.history.steps.push(step);
  }
}

/** The history of a seed; the same seed always makes the same one. */
export function generateHistory(seed: number): History {
  const p = createPrng(seed);
  const has = Object.fromEntries(
    Object.entries(FEATURES).map(([name, tenths]) => [name, prngChance(p, tenths, 10)]),
  ) as Record<Feature, boolean>;
  if (!has.cpu) has.gpu = true;
  if (!has.access && !has.stride) has.burst = true;
  const gpus = prngChance(p, 1, 3) ? (prngChance(p, 1, 5) ? 3 : 2) : 1;
  const history: History = {
    seed,
    gpus,
    nvlinkPeers: gpus > 1 && prngChance(p, 1, 2),
    faultBufferEntries: pick(p, [8, 16, 64, 256, 256]),
    vidmemPages: prngChance(p, 1, 40) ? 300 + prngBelow(p, 500) : 2 ** 25,
    traced: prngChance(p, 1, 3),
    observed: prngChance(p, 1, 3),
    verify: prngChance(p, 1, 3),
    costs: makeCosts(p, has.costs),
    parameters: makeParameters(p, has.parameters),
    buffers: makeBuffers(p, has.oddBuffers),
    steps: [],
  };
  const hot: [number, number][] = Array.from({ length: 1 + prngBelow(p, 5) }, () => {
    const buffer = prngBelow(p, history.buffers.length);
    return [buffer, prngBelow(p, history.buffers[buffer].pages)];
  });
  if (history.vidmemPages < 2 ** 20) {
    // As in the driver, an access may wait for ever when memory runs out while another one's fatal fault is cancelled.
    has.raw = false;
    has.wild = false;
    has.group = false;
    has.nonReplayable = false;
  }
  if (has.parameters && prngChance(p, 1, 20)) {
    // As in the driver, memory that is forced to the CPU is out of reach for a GPU that may map its own copies alone.
    has.readMostly = false;
    has.preferred = false;
    history.parameters['uvm_enable_builtin_tests'] = 1;
    history.parameters['uvm_fault_force_sysmem'] = 1;
  }
  makeSteps({ p, has, history, alive: history.buffers.map(() => true), hot, groups: 0 });
  return history;
}
