/** Everything that is worked out once for a trace, each part when it is first asked for. */
import type { Machines } from '../analysis/machines.ts';
import type { Trace } from '../trace/store/trace_events.ts';
import { columnKeys } from '../trace/store/trace_schema.ts';
import { type Batches, batchesOf } from './batches.ts';
import { buildLanes } from './build_lanes.ts';
import { type ExactPages, exactPages } from './exact_pages.ts';
import { inferPages } from './inferred_pages.ts';
import { type LaneIndex, NO_ROW } from './lane_index.ts';
import type { PageHistory } from './page_history.ts';
import { blockOf, type Places, placesOf } from './places.ts';

/** Rows by block: those of block b are `rows[start[b]]` to before `rows[start[b + 1]]`, in the order of the trace. */
export interface BlockRows {
  start: Uint32Array;
  rows: Uint32Array;
}

/** What `processors` are where a trace does not list them: those that its rows name. */
function processorWords({ info, columns }: Trace): string[] {
  const words = new Set(info.processors.map(({ word }) => word));
  for (const key of ['src', 'dst'] as const) for (const word of columns.words[key].list) words.add(word);
  words.delete('');
  const collator = new Intl.Collator('en', { numeric: true });
  return [...words].sort((x, y) => Number(y === 'cpu') - Number(x === 'cpu') || collator.compare(x, y));
}

export class TraceIndex {
  readonly trace: Trace;
  readonly processors: string[];
  readonly places: Places;
  readonly lanes: LaneIndex[];
  /** Rows of faults in their order: fault n is `faultRows[n - 1]`. */
  readonly faultRows: Uint32Array;
  readonly begin: number;
  readonly end: number;
  readonly #machines: Machines;
  #laneOfRow: Map<number, Int16Array> = new Map();
  #batches: Map<number, Batches> | null = null;
  #exact: ExactPages | null | undefined;
  #inferred: PageHistory | null = null;
  #blockRows: BlockRows | null = null;

  /** The driver's file of a function, or null where it is not known. */
  readonly fileOf: (driverFunction: string) => string | null;

  constructor(trace: Trace, machines: Machines, fileOf: (driverFunction: string) => string | null = () => null) {
    this.fileOf = fileOf;
    const missing = columnKeys(trace.columns.pushes).filter((key) => !trace.columns.loaded.has(key));
    if (missing.length > 0) throw new RangeError(`columns that were not loaded: ${missing.join(', ')}`);
    this.trace = trace;
    this.#machines = machines;
    this.processors = processorWords(trace);
    this.places = placesOf(trace);
    this.lanes = buildLanes(trace);
    this.faultRows = faultRowsOf(trace);
    const used = this.lanes.filter(({ lane }) => lane.rows > 0);
    this.begin = used.reduce((least, { first }) => Math.min(least, first[0]), Number.POSITIVE_INFINITY);
    this.end = used.reduce((most, { reach }) => Math.max(most, reach[reach.length - 1]), Number.NEGATIVE_INFINITY);
    if (used.length === 0) {
      this.begin = 0;
      this.end = 0;
    }
  }

  lane(id: string): LaneIndex {
    const lane = this.lanes.find((one) => one.lane.id === id);
    if (lane === undefined) {
      const valid = this.lanes.map((one) => one.lane.id).join(', ');
      throw new RangeError(`lane ${id}: there is none of that name; valid: ${valid === '' ? 'none' : valid}`);
    }
    return lane;
  }

  /** The lane on which a row lies, or null. Of several, the one that shows the row itself. */
  laneOf(row: number): string | null {
    let lanes = this.#laneOfRow.get(0);
    if (lanes === undefined) {
      lanes = new Int16Array(this.trace.columns.count).fill(-1);
      // Batches have their first fault's row, which has a lane of its own.
      for (const [i, { row: rows, lane }] of this.lanes.entries()) {
        if (lane.group === 'batches' && lane.kinds.length === 0) continue;
        for (const one of rows) if (one !== NO_ROW) lanes[one] = i;
      }
      this.#laneOfRow.set(0, lanes);
    }
    return lanes[row] < 0 ? null : this.lanes[lanes[row]].lane.id;
  }

  batches(): Map<number, Batches> {
    this.#batches ??= batchesOf(this.trace);
    return this.#batches;
  }

  exact(): ExactPages | null {
    if (this.#exact === undefined) {
      this.#exact = exactPages(this.trace, this.places, this.processors, this.#machines);
    }
    return this.#exact;
  }

  /** As the model's books have it, where the trace is a run of it; else concluded. */
  residency(): PageHistory {
    const exact = this.exact();
    if (exact !== null) return exact.residency;
    this.#inferred ??= inferPages(this.trace, this.places, this.processors);
    return this.#inferred;
  }

  blockRows(): BlockRows {
    this.#blockRows ??= rowsByBlock(this.trace, this.places);
    return this.#blockRows;
  }

  get machines(): Machines {
    return this.#machines;
  }

  /** Number of the fault, from 1, or null where the row is none. */
  faultOf(row: number): number | null {
    let low = 0;
    let high = this.faultRows.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.faultRows[middle] < row) low = middle + 1;
      else high = middle;
    }
    return this.faultRows[low] === row ? low + 1 : null;
  }
}

function faultRowsOf({ columns }: Trace): Uint32Array {
  const { kind } = columns.arrays;
  const cpu = columns.words.kind.numbers.get('cpuFault') ?? -1;
  const gpu = columns.words.kind.numbers.get('gpuFault') ?? -1;
  let n = 0;
  for (let i = 0; i < columns.count; i++) if (kind[i] === cpu || kind[i] === gpu) n++;
  const rows = new Uint32Array(n);
  let at = 0;
  for (let i = 0; i < columns.count; i++) if (kind[i] === cpu || kind[i] === gpu) rows[at++] = i;
  return rows;
}

function rowsByBlock(trace: Trace, places: Places): BlockRows {
  const { count } = trace.columns;
  const start = new Uint32Array(places.blocks + 1);
  for (let i = 0; i < count; i++) {
    const block = blockOf(places, trace, i);
    if (block >= 0) start[block + 1]++;
  }
  for (let b = 0; b < places.blocks; b++) start[b + 1] += start[b];
  const rows = new Uint32Array(start[places.blocks]);
  const next = start.slice(0, places.blocks);
  for (let i = 0; i < count; i++) {
    const block = blockOf(places, trace, i);
    if (block >= 0) rows[next[block]++] = i;
  }
  return { start, rows };
}
