/** A whole model with small costs, and programs on its GPUs, for the tests of the fault path. */

import profile from '../../profiles/h200-pcie5.json' with { type: 'json' };
import { assert } from '../../src/base/assert.ts';
import { hostRunUntil } from '../../src/model/gpu/host.ts';
import { CLIENT_PARKED, clientsAddSlot, clientsIssue, clientsOutcome } from '../../src/model/gpu/sm.ts';
import { runUntilIdle } from '../../src/model/kernel/clock.ts';
import { BLOCKED, threadCreate } from '../../src/model/kernel/thread.ts';
import { createModel } from '../../src/model/model.ts';
import type { Costs, MachineSpec } from '../../src/model/spec.ts';
import type { Model } from '../../src/model/state.ts';
import { channelManagerWait } from '../../src/model/uvm/channel.ts';
import { parseModuleParameters } from '../../src/model/uvm/params.ts';
import { NV_OK } from '../../src/model/uvm/status.ts';
import {
  EVENT_FATAL_FAULT,
  EVENT_GPU_FAULT,
  EVENT_MIGRATION,
  EVENT_REPLAY,
  EVENT_THRASHING,
  EVENT_THROTTLING_START,
} from '../../src/model/uvm/tools.ts';
import { vaSpaceMmap } from '../../src/model/uvm/va_space.ts';
import type { Why } from '../../src/model/why.ts';
import { toyCipher } from './toy_cipher.ts';

/** Every cost is 1 ns, but for those that decide who comes first. */
const COSTS = {
  ...(Object.fromEntries(Object.keys(profile.costs).map((name) => [name, 1])) as unknown as Costs),
  faultToEntry: 100,
  interruptLatency: 1000,
  replayToResume: 500,
  bottomHalfWake: 300,
  pushLatency: 50,
  replay: 200,
};

/** Page that the tests' allocations begin at: a 2 MiB boundary above 2^32 bytes. */
export const BASE = 512 * 4096;

export interface FaultMachineOptions {
  entries?: number;
  gpus?: number;
  parameters?: Record<string, unknown>;
  costs?: Partial<Costs>;
  why?: Why;
  /** Without peers and remote mappings; encryption is toyCipher's. */
  confidentialComputing?: boolean;
}

/** A machine with `entries` slots in its fault buffer (default 2048), checks on, and 64 MiB managed from BASE on. */
export function createFaultMachine(options: FaultMachineOptions = {}): Model {
  const { entries = 2048, gpus = 1, parameters = {}, costs = {}, why, confidentialComputing = false } = options;
  const spec: MachineSpec = {
    name: 'test',
    driver: '580',
    architecture: 'hopper',
    gpus,
    nvlinkPeers: false,
    faultBufferEntries: entries,
    utlbsPerGpc: 19,
    gpcs: 8,
    vidmemBytes: 2 ** 37,
    copyEngines: 8,
    confidentialComputing,
  };
  const parsed = parseModuleParameters(parameters, entries, confidentialComputing);
  assert(parsed.ok, 'bad test parameters');
  const m = createModel(
    spec,
    parsed.params,
    { ...COSTS, ...costs },
    { verify: true, why: why ?? null, aead: toyCipher },
  );
  assert(vaSpaceMmap(m.vaSpaces[0], BASE, 16384, 0) === NV_OK, 'managed memory for the tests');
  return m;
}

/** One access of a program: a page and the driver's access type. */
export type Access = readonly [page: number, access: number];

/** What became of each access of a program: 'hit', 'replayed' or 'cancelled'; filled while it runs. */
export type Outcomes = string[];

/**
 * Starts a program that makes its accesses one after the other, through client `client` of GPC `gpc`. It ends with its
 * first cancelled access.
 */
export function startProgram(m: Model, accesses: readonly Access[], gpc = 0, client = 0, at = m.k.now): Outcomes {
  const outcomes: Outcomes = [];
  const slot = clientsAddSlot(m, 0, gpc, client, 0, -1);
  function* run(): Generator<number, void, void> {
    if (at > m.k.now) yield at;
    for (const [page, access] of accesses) {
      yield m.k.now;
      hostRunUntil(m, 0, m.k.now);
      if (clientsIssue(m, 0, slot, page, access)) {
        outcomes.push('hit');
        continue;
      }
      let outcome = clientsOutcome(m, 0, slot);
      while (outcome === CLIENT_PARKED) {
        yield BLOCKED;
        outcome = clientsOutcome(m, 0, slot);
      }
      outcomes.push(outcome === 2 ? 'replayed' : 'cancelled');
      if (outcome !== 2) return;
    }
  }
  const thread = threadCreate(m, 'program', run());
  m.gpus[0].clients.thread[slot] = thread;
  return outcomes;
}

/** Runs the machine until nothing is left to do, and collects all pushes, so that the log is complete. */
export function runMachine(m: Model): void {
  runUntilIdle(m);
  for (const gpu of m.gpus) channelManagerWait(m, gpu.index);
}

const KIND_NAMES: Record<number, string> = {
  [EVENT_GPU_FAULT]: 'gpuFault',
  [EVENT_REPLAY]: 'replay',
  [EVENT_FATAL_FAULT]: 'fatalFault',
  [EVENT_MIGRATION]: 'migration',
  [EVENT_THRASHING]: 'thrashing',
  [EVENT_THROTTLING_START]: 'throttlingStart',
};

/** Number of records by kind. */
export function countEvents(m: Model): Record<string, number> {
  const counts: Record<string, number> = {};
  for (let i = 0; i < m.tools.log.count; i++) {
    const name = KIND_NAMES[m.tools.log.kind[i]] ?? `kind ${m.tools.log.kind[i]}`;
    counts[name] = (counts[name] ?? 0) + 1;
  }
  return counts;
}

/** GPU fault records, in order: [page relative to BASE, access type, batch]. */
export function faultEvents(m: Model): [number, number, number][] {
  const log = m.tools.log;
  const events: [number, number, number][] = [];
  for (let i = 0; i < log.count; i++) {
    if (log.kind[i] === EVENT_GPU_FAULT) events.push([log.page[i] - BASE, log.b[i], log.batch[i]]);
  }
  return events;
}

/** Batch ids of the replay records, in order. */
export function replayBatches(m: Model): number[] {
  const log = m.tools.log;
  const batches: number[] = [];
  for (let i = 0; i < log.count; i++) if (log.kind[i] === EVENT_REPLAY) batches.push(log.batch[i]);
  return batches;
}

/** Runs a generator as a thread of its own, and the machine until nothing is left to do. */
export function runThread(m: Model, body: Generator<number, unknown, void>): void {
  function* run(): Generator<number, void, void> {
    yield* body as Generator<number, void, void>;
  }
  threadCreate(m, 'test', run());
  runMachine(m);
}

/** Has `push` told the purpose (PURPOSE_*) and the finish of each push. */
export function watchPushes(m: Model, push: (purpose: number, finish: number) => void): void {
  const nothing = (): void => {};
  m.res.why = {
    enter: nothing,
    residency: nothing,
    prefetchLevel: nothing,
    prefetch: nothing,
    thrashing: nothing,
    push: (purpose, _gpu, _channel, _value, _begin, _start, finish) => push(purpose, finish),
    copy: nothing,
    map: nothing,
  };
}
