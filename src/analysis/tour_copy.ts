/**
 * Facts of the tour's items 4 and 5: the custom copy, on a run of its own, and `copyWindow`, the gap of the tour's live
 * fault in which an armed copy has its place.
 */
import { contentsRead } from '../model/gpu/contents.ts';
import { CPU_ID } from '../model/uvm/processors.ts';
import { type CopyEntry, copyEntries } from '../trace/copies.ts';
import { logEvents } from '../trace/log_events.ts';
import { executeRun } from './execute.ts';
import type { FaultExplanation } from './explain.ts';
import { walkItems } from './explain_items.ts';
import type { Machines } from './machines.ts';

/** The command that measures the routine beside CUDA's own copies. */
export const COMPARISON = 'uvmlab compare-copies';

/** One copy of the run: what it was, the events of its step, and the first word that B has at the end. */
export interface LiveCopy {
  copy: CopyEntry;
  /** Events of the driver in the step that copies; for the armed form in the step of the fault. */
  events: number;
  word: number;
}

export interface CopyRun {
  scenario: typeof COPY_SCENARIO;
  immediate: LiveCopy;
  armed: LiveCopy;
  /** First word of the page itself at the end: what the GPU wrote when its fault was resolved. */
  word: number;
}

const PAGE = 5;
const IMMEDIATE_STEP = 3;
const FAULT_STEP = 6;

/** A page on the GPU is copied at once; then it comes back to the CPU, and is copied at the GPU's next fault on it. */
export const COPY_SCENARIO = {
  name: 'tour-copies',
  machine: 'h200-pcie5',
  allocations: [
    { name: 'a', bytes: 1048576 },
    { name: 'b', bytes: 8192, kind: 'host' },
  ],
  steps: [
    { on: 'cpu', do: 'write', buffer: 'a', pages: [PAGE], value: 42 },
    { on: 'gpu0', do: 'read', buffer: 'a', pages: [PAGE] },
    { do: 'setCopyFrom', buffer: 'a', page: PAGE },
    { do: 'setNextCopy', buffer: 'b', page: 0 },
    { on: 'cpu', do: 'write', buffer: 'a', pages: [PAGE], value: 43 },
    { do: 'setNextCopy', buffer: 'b', page: 1, arm: true },
    { on: 'gpu0', do: 'write', buffer: 'a', pages: [PAGE], value: 7 },
    { do: 'copyStatus', wait: true },
  ],
};

/** Carries out the two forms. Throws an Error where the run is not the one it is written for. */
export function copyRun(machines: Machines): CopyRun {
  const result = executeRun(COPY_SCENARIO, machines, { contents: true });
  if (!result.ok) throw new Error(`the tour: ${result.error}`);
  const { m, scenario } = result.run;
  const [a, b] = scenario.allocations;
  const [immediate, armed] = copyEntries(m, scenario.allocations);
  const { contents } = m;
  if (contents === null || immediate === undefined || armed === undefined) throw new Error('the tour: no copies');
  const events = logEvents(m, scenario.allocations);
  const live = (copy: CopyEntry, step: number, page: number): LiveCopy => ({
    copy,
    events: events.filter((event) => event.step === step).length,
    word: contentsRead(contents, CPU_ID, b.firstPage + page, 0),
  });
  return {
    scenario: COPY_SCENARIO,
    immediate: live(immediate, IMMEDIATE_STEP, 0),
    armed: live(armed, FAULT_STEP, 1),
    word: contentsRead(contents, 1, a.firstPage + PAGE, 0),
  };
}

/** Where in the live fault an armed copy has its place: the page has arrived, and nobody maps it. */
export interface CopyWindow {
  /** The CPU's side: residency updated, mapping not yet begun. */
  residencyUpdated: number;
  mapBegun: number;
  /** The GPU's side: the migration's push is done, the page-table push has not started. */
  migrated: number;
  mapped: number;
  replayed: number;
}

export function copyWindow(fault: FaultExplanation): CopyWindow {
  const items = [...walkItems(fault.calls)];
  const finish = items.find((item) => item.kind === 'call' && item.function === 'uvm_va_block_service_finish');
  const copy = fault.pushes.find((push) => push.purpose === 'copy');
  const map = fault.pushes.find((push) => push.purpose === 'map');
  const replay = fault.pushes.find((push) => push.purpose === 'replay');
  if (finish?.kind !== 'call' || copy === undefined || map === undefined || replay === undefined) {
    throw new Error('the tour: the fault has no copy, mapping and replay');
  }
  return {
    residencyUpdated: finish.time,
    mapBegun: map.begin,
    migrated: copy.finish,
    mapped: map.start,
    replayed: replay.start,
  };
}
