/** Traces in memory, and the answers to what a page asks of them: the one implementation of TraceBackend. */
import type { ExplainResult, FaultExplanation } from '../analysis/explain.ts';
import type { Machines } from '../analysis/machines.ts';
import type { Trace } from '../trace/store/trace_events.ts';
import type { BlockDetail, TraceBackend, TraceEntry, TraceSummary } from './api.ts';
import { type Comparable, compareDigest, compareList, compareSides, compareTraits, sideOf } from './compare_traces.ts';
import { mayBeExact } from './exact_pages.ts';
import { findRow } from './find_row.ts';
import { rowDetail } from './row_detail.ts';
import { blockAt, lastFaultBefore, needsBlockRows, spaceAt } from './space.ts';
import { tileOf } from './tiles.ts';
import { type LoadColumns, PLACES, TraceIndex } from './trace_index.ts';
import { explainFaultOf, treeOf, walkOf, whyNoWalk } from './walk.ts';

export interface EngineOptions {
  machines: Machines;
  /** The driver's file of a function, for walks. */
  fileOf?: (driverFunction: string) => string | null;
  /** Lets others have a turn, between slices of work that takes long. */
  pause?: () => Promise<void>;
}

export interface Engine extends TraceBackend, Comparable {
  /**
   * Adds a trace, or replaces the one of that id; what fails is kept as broken, with its reason. With `load` the trace
   * needs no more columns than timelineColumns of trace_index.ts at first.
   */
  add(id: string, label: string, trace: Trace, load?: LoadColumns): void;
  /** A place for a trace that is being opened. */
  opening(id: string, label: string): void;
  /** A file that is no trace. */
  broken(id: string, label: string, error: string): void;
  remove(id: string): void;
}

/** Explanations that are kept: a walk back and forth, and the blocks under a cursor, ask for few. */
const EXPLAINED = 16;
/** Faults up to which a block's tree is looked for: each costs a run of all of them. */
const TREE_FAULTS_MAX = 20_000;

interface Held {
  label: string;
  index: TraceIndex;
  explained: Map<number, ExplainResult<FaultExplanation>>;
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
    residency: mayBeExact(trace) ? 'exact' : 'inferred',
    noWalk: whyNoWalk(trace, index.faultRows.length),
    faults: index.faultRows.length,
  };
}

/** The explanation of a fault; the last ones are kept. */
function explained({ index, explained: kept }: Held, fault: number): ExplainResult<FaultExplanation> {
  const result = kept.get(fault) ?? explainFaultOf(index, fault);
  kept.delete(fault);
  kept.set(fault, result);
  for (const oldest of kept.keys()) {
    if (kept.size <= EXPLAINED) break;
    kept.delete(oldest);
  }
  return result;
}

function withTree(held: Held, detail: BlockDetail): BlockDetail {
  const { index } = held;
  const faults = index.faultRows.length;
  if (faults > TREE_FAULTS_MAX || whyNoWalk(index.trace, faults) !== null) return detail;
  const { firstBlock } = index.places.list[detail.allocation];
  const last = lastFaultBefore(index, firstBlock + detail.block, detail.time);
  if (last === null) return detail;
  const result = explained(held, last);
  const prefetch = result.ok ? result.explanation.prefetch : null;
  return prefetch === null ? detail : { ...detail, tree: treeOf(prefetch) };
}

/** No traces yet. Questions about a trace that is not there, or a place that it does not have, reject. */
export function createEngine({ machines, fileOf, pause = async () => {} }: EngineOptions): Engine {
  const entries = new Map<string, Entry>();
  const heldOf = (id: string): Held => {
    const its = entries.get(id);
    if (its !== undefined && 'held' in its) return its.held;
    if (its !== undefined) throw new RangeError(whyNotReady(id, its.error));
    throw new RangeError(noTrace(id, [...entries.keys()]));
  };
  const get = (id: string): TraceIndex => heldOf(id).index;
  const whole = async (id: string): Promise<TraceIndex> => {
    const index = get(id);
    await index.need();
    return index;
  };
  const entryOf = ([id, its]: [string, Entry]): TraceEntry => {
    const { label } = its;
    if ('held' in its) return { state: 'ready', id, label, summary: its.summary };
    return its.error === null ? { state: 'opening', id, label } : { state: 'broken', id, label, error: its.error };
  };
  const engine: Engine = {
    add: (id, label, trace, load) => {
      try {
        const held = { label, index: new TraceIndex(trace, machines, fileOf, load), explained: new Map() };
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
    row: async (id, row) => {
      const index = await whole(id);
      if (index.faultOf(row) !== null) await index.prepareBlockRows(pause);
      return rowDetail(index, row);
    },
    find: async (id, query) => {
      const index = get(id);
      if (query?.allocation !== undefined) {
        await index.need(PLACES);
        if (query.block !== undefined) await index.prepareBlockRows(pause);
      }
      return findRow(index, query);
    },
    space: async (id, time, span) => {
      const index = get(id);
      await index.need(PLACES);
      await index.prepareResidency(pause);
      if (needsBlockRows(index, time, span)) await index.prepareBlockRows(pause);
      return spaceAt(index, time, span);
    },
    block: async (id, allocation, block, time) => {
      const index = await whole(id);
      await index.prepareResidency(pause);
      await index.prepareBlockRows(pause);
      const detail = blockAt(index, allocation, block, time);
      return withTree(heldOf(id), detail);
    },
    walk: async (id, fault) => {
      const index = await whole(id);
      return walkOf(index, fault, () => explained(heldOf(id), fault));
    },
    compare: (left, right) => compareSides(sideOf(engine, left), sideOf(engine, right), { left, right }),
    compareTraits: async (id) => compareTraits(get(id)),
    compareDigest: async (id, rule) => compareDigest(await whole(id), rule),
    compareList: async (id, rule, name) => compareList(await whole(id), rule, name),
  };
  return engine;
}

/** Why a question about a trace that is there is not answered. */
export function whyNotReady(id: string, error: string | null): string {
  return error === null ? `trace ${id} is being opened` : `trace ${id} cannot be shown: ${error}`;
}

export function noTrace(id: string, ids: readonly string[]): string {
  return `trace ${id}: there is none of that name; valid: ${ids.length === 0 ? 'none' : ids.join(', ')}`;
}
