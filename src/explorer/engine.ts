/** Traces in memory, and the answers to what a page asks of them: the one implementation of TraceBackend's questions. */
import type { Machines } from '../analysis/machines.ts';
import type { Trace } from '../trace/store/trace_events.ts';
import type { TraceBackend, TraceEntry, TraceSummary } from './api.ts';
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
  /** Adds a trace, or replaces the one of that id; what fails is kept as broken, with its reason. */
  add(id: string, label: string, trace: Trace): void;
  /** A place for a trace that is being opened. */
  opening(id: string, label: string): void;
  /** A file that is no trace. */
  broken(id: string, label: string, error: string): void;
  remove(id: string): void;
}

interface Held {
  label: string;
  index: TraceIndex;
}
type Entry = { label: string } & ({ held: Held; summary: TraceSummary } | { error: string | null });

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
  const entries = new Map<string, Entry>();
  const get = (id: string): TraceIndex => {
    const its = entries.get(id);
    if (its !== undefined && 'held' in its) return its.held.index;
    if (its !== undefined) throw new RangeError(`trace ${id} ${its.error === null ? 'is being opened' : its.error}`);
    const valid = [...entries.keys()].join(', ');
    throw new RangeError(`trace ${id}: there is none of that name; valid: ${valid === '' ? 'none' : valid}`);
  };
  const entryOf = ([id, its]: [string, Entry]): TraceEntry => {
    const { label } = its;
    if ('held' in its) return { state: 'ready', id, label, summary: its.summary };
    return its.error === null ? { state: 'opening', id, label } : { state: 'broken', id, label, error: its.error };
  };
  return {
    add: (id, label, trace) => {
      try {
        const held = { label, index: new TraceIndex(trace, machines, fileOf) };
        entries.set(id, { label, held, summary: summaryOf(id, held) });
      } catch (error) {
        entries.set(id, { label, error: error instanceof Error ? error.message : String(error) });
      }
    },
    opening: (id, label) => {
      entries.set(id, { label, error: null });
    },
    broken: (id, label, error) => {
      entries.set(id, { label, error });
    },
    remove: (id) => {
      entries.delete(id);
    },
    traces: async () => [...entries].map(entryOf),
    tile: async (id, lane, begin, end, width) => tileOf(get(id).lane(lane), begin, end, width),
    row: async (id, row) => rowDetail(get(id), row),
    find: async (id, query) => findRow(get(id), query),
    space: async (id, time, span) => spaceAt(get(id), time, span),
    block: async (id, allocation, block, time) => {
      const index = get(id);
      const detail = blockAt(index, allocation, block, time);
      const last = lastFaultBefore(index, index.places.list[allocation].firstBlock + block, time);
      if (last === null || whyNoWalk(index.trace, index.faultRows.length) !== null) return detail;
      const explained = explainFaultOf(index, last);
      const prefetch = explained.ok ? explained.explanation.prefetch : null;
      return prefetch === null ? detail : { ...detail, tree: treeOf(prefetch) };
    },
    walk: async (id, fault) => walkOf(get(id), fault),
    compare: async (left, right) => compareTraces(get(left), get(right), { left, right }),
  };
}
