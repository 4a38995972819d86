/**
 * Facts of the tour's items 4 and 5: the custom copy, and its rival. The copy routine itself is not part of the model
 * yet: `copyIdea` is the one place that says so, and `copyWindow` is the gap of the live run that it needs.
 */
import type { FaultExplanation } from './explain.ts';
import { walkItems } from './explain_items.ts';

export interface CopyIdea {
  /** Whether this model can carry the routine out. */
  runs: boolean;
  /** The command that measures it beside CUDA's own copies; null while there is none. */
  comparison: string | null;
}

export function copyIdea(): CopyIdea {
  return { runs: false, comparison: null };
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
