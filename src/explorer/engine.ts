/** Traces in memory, and the answers to what a page asks of them: the one implementation of TraceBackend's questions. */
import type { Machines } from '../analysis/machines.ts';
import type { Trace } from '../trace/store/trace_events.ts';
import type { TraceBackend, TraceSummary } from './api.ts';
import { compareTraces } from './compare_traces.ts';
import { findRow } from './find_row.ts';
import { rowDetail } from './row_detail.ts';
import { blockAt, lastFaultBefore, spaceAt } from './space.ts';
import { tileOf } from './tiles.ts';
import { TraceIndex } from './trace_index.ts';
import { explainFaultOf, treeOf, walkOf, whyNoWalk } from './walk.ts';

export interface EngineOptions {
  machines: Machines;
  /** The driver's file of a function, for walks. */
  fileOf?: (driverFunction: string) => string | null;
}

export interface Engine extends TraceBackend {
  /** Adds a trace, or replaces the one of that id. */
  add(id: string, label: string, trace: Trace): void;
  remove(id: string): void;
}

interface Held {
  label: string;
  index: TraceIndex;
}

function summaryOf(id: string, { label, index }: Held): TraceSummary {
  const { trace, lanes, places } = index;
  const { columns, info } = trace;
  const kinds: Record<string, number> = {};
  const counts = new Float64Array(columns.words.kind.list.length);
  for (let i = 0; i < columns.count; i++) counts[columns.arrays.kind[i]]++;
  for (const [number, kind] of columns.words.kind.list.entries()) if (counts[number] > 0) kinds[kind] = counts[number];
  return {
    id,
    label,
    info,
    rows: columns.count,
    begin: index.begin,
    end: index.end,
    kinds,
    lanes: lanes.map(({ lane }) => lane),
    allocations: info.allocations.map(({ name, bytes }, i) => ({
      name,
      bytes,
      firstBlock: places.list[i].firstBlock,
      blocks: places.list[i].blocks,
    })),
    processors: index.processors,
    residency: index.exact() === null ? 'inferred' : 'exact',
    noWalk: whyNoWalk(trace, index.faultRows.length),
    faults: index.faultRows.length,
  };
}

/** No traces yet. Questions about a trace that is not there, or a place that it does not have, reject. */
export function createEngine({ machines, fileOf }: EngineOptions): Engine {
  const held = new Map<string, Held>();
  const get = (id: string): Held => {
    const its = held.get(id);
    if (its === undefined) {
      const valid = [...held.keys()].join(', ');
      throw new RangeError(`trace ${id}: there is none of that name; valid: ${valid === '' ? 'none' : valid}`);
    }
    return its;
  };
  return {
    add: (id, label, trace) => {
      held.set(id, { label, index: new TraceIndex(trace, machines, fileOf) });
    },
    remove: (id) => {
      held.delete(id);
    },
    traces: async () => [...held].map(([id, its]) => summaryOf(id, its)),
    tile: async (id, lane, begin, end, width) => tileOf(get(id).index.lane(lane), begin, end, width),
    row: async (id, row) => rowDetail(get(id).index, row),
    find: async (id, query) => findRow(get(id).index, query),
    space: async (id, time, span) => spaceAt(get(id).index, time, span),
    block: async (id, allocation, block, time) => {
      const { index } = get(id);
      const detail = blockAt(index, allocation, block, time);
      const last = lastFaultBefore(index, index.places.list[allocation].firstBlock + block, time);
      if (last === null || whyNoWalk(index.trace, index.faultRows.length) !== null) return detail;
      const explained = explainFaultOf(index, last);
      const prefetch = explained.ok ? explained.explanation.prefetch : null;
      return prefetch === null ? detail : { ...detail, tree: treeOf(prefetch) };
    },
    walk: async (id, fault) => walkOf(get(id).index, fault),
    compare: async (left, right) => compareTraces(get(left).index, get(right).index, { left, right }),
  };
}
