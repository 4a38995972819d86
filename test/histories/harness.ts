/** A machine on which a history runs, and what must hold between its steps. */
import profileJson from '../../profiles/h200-pcie5.json' with { type: 'json' };
import { maskTest } from '../../src/base/page_mask.ts';
import { contentsRead, contentsWrite } from '../../src/model/gpu/contents.ts';
import { nextEventTime, runNextEvent } from '../../src/model/kernel/clock.ts';
import { THREAD_BLOCKED, THREAD_DONE, threadCreate } from '../../src/model/kernel/thread.ts';
import { createModel } from '../../src/model/model.ts';
import type { Costs, MachineSpec } from '../../src/model/spec.ts';
import type { Model } from '../../src/model/state.ts';
import { parseModuleParameters } from '../../src/model/uvm/params.ts';
import { rangeGroupMigratable } from '../../src/model/uvm/range_group.ts';
import { NV_OK } from '../../src/model/uvm/status.ts';
import { residentOffset, residentWords } from '../../src/model/uvm/va_block.ts';
import { vaSpaceCheck } from '../../src/model/uvm/va_block_check.ts';
import type { VaBlock } from '../../src/model/uvm/va_block_types.ts';
import { vaRangeFind } from '../../src/model/uvm/va_space.ts';
import { parseProfile } from '../../src/scenario/profile.ts';
import { createRun, type Run } from '../../src/scenario/runner.ts';
import type { Allocation, Scenario } from '../../src/scenario/scenario.ts';
import { type Coverage, count, countingObserver } from './coverage.ts';
import { type History, WILD } from './history.ts';
import { residencyOpinion } from './oracle.ts';

/** What a history found wrong; the step and the seed are added by runHistory. */
export class HistoryFailure extends Error {
  override name = 'HistoryFailure';
}

export function fail(message: string): never {
  throw new HistoryFailure(message);
}

/** A little above 2^32 bytes of address, at a 2 MiB boundary. */
const BASE = 512 * 2100;
/** More events or decisions than this in one step: it goes in circles. */
const EVENTS_MAX = 100_000;
const DECISIONS_MAX = 30_000;

const profile = parseProfile(profileJson);

export interface Harness {
  history: History;
  m: Model;
  run: Run;
  coverage: Coverage;
  /** Linux dropped CPU entries at least once. */
  dropped: boolean;
  /** Events and decisions that the step may still take. */
  events: number;
  decisions: number;
  /** Vidmem may run out, so that accesses end in fatal faults and calls fail. */
  scarce: boolean;
  /** Client slots by GPU that programs take turns with. */
  slots: number[][];
  nextValue: number;
}

function machineOf(history: History): { spec: MachineSpec; costs: Costs } {
  const spec: MachineSpec = {
    ...profile.spec,
    gpus: history.gpus,
    nvlinkPeers: history.nvlinkPeers,
    faultBufferEntries: history.faultBufferEntries,
    vidmemBytes: history.vidmemPages * 4096,
  };
  const costs: Record<string, number> = { ...(history.traced ? profile.traced : profile.untraced) };
  for (const [name, percent] of Object.entries(history.costs)) costs[name] = Math.round((costs[name] * percent) / 100);
  return { spec, costs: costs as unknown as Costs };
}

function scenarioOf(history: History): Scenario {
  const allocations: Allocation[] = [];
  let page = BASE;
  for (const [i, buffer] of history.buffers.entries()) {
    page += buffer.gap;
    allocations.push({
      name: `b${i}`,
      bytes: buffer.pages * 4096,
      pages: buffer.pages,
      firstPage: page,
      kind: 'managed',
    });
    page += buffer.pages;
  }
  return { name: `seed ${history.seed}`, machine: 'test', gpus: history.gpus, parameters: {}, allocations, steps: [] };
}

/** Compares every residency decision with the second opinion, and counts them. */
function watchDecisions(h: Harness): void {
  const seams = h.m.res.seams;
  const decide = seams.selectResidency;
  seams.selectResidency = (m, block, context, page, processor, accessMask, hint, operation) => {
    if (--h.decisions < 0) fail(`page ${page} of block ${block.id} is decided upon again and again`);
    const want = residencyOpinion(m, block, page, processor, accessMask, hint, operation);
    count(h.coverage, h.ruleNames[want.rule]);
    const have = decide(m, block, context, page, processor, accessMask, hint, operation);
    if (have !== want.residency || context.readDuplicate !== want.readDuplicate) {
      fail(`page ${page} of block ${block.id} goes to processor ${have}; ${h.ruleNames[want.rule]}: ${want.residency}`);
    }
    return have;
  };
}
