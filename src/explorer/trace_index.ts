/**
 * Everything that is worked out once for a trace, each part when it is first asked for. A trace may have a part of its
 * columns at first: lanes need few of them, and the others are read when a question needs them.
 */
import type { Machines } from '../analysis/machines.ts';
import type { Trace } from '../trace/store/trace_events.ts';
import { type ColumnKey, columnKeys } from '../trace/store/trace_schema.ts';
import { type Batches, batchesOf } from './batches.ts';
import { BlockRows } from './block_rows.ts';
import { buildLanes, laneIdOf } from './build_lanes.ts';
import { type ExactPages, exactPages, mayBeExact } from './exact_pages.ts';
import { inferPages } from './inferred_pages.ts';
import type { LaneIndex } from './lane_index.ts';
import type { PageHistory } from './page_history.ts';
import { type Places, placesOf } from './places.ts';
import { RowPlaces } from './row_places.ts';
import { rowBegins } from './row_times.ts';
import { runSlices, runSlicesWith, type Slices } from './slices.ts';

/** More than any machine has; what a row says of processors is counted in bytes. */
const PROCESSORS_MAX = 64;

/** Columns that lanes are made from. */
const TIMELINE: readonly ColumnKey[] = [
  'kind',
  'time',
  'timeEnd',
  'gpuTime',
  'gpuTimeEnd',
  'src',
  'dst',
  'access',
  'cause',
  'batch',
  'type',
  'channel',
];
/** Columns that tell places. */
export const PLACES: readonly ColumnKey[] = ['buffer', 'offset', 'bytes'];

/** The columns without which a trace has no index; those of throttlings are paired by their places. */
export function timelineColumns(pushes: boolean, throttlings: boolean): ColumnKey[] {
  const wanted = throttlings ? [...TIMELINE, ...PLACES] : TIMELINE;
  return columnKeys(pushes).filter((key) => wanted.includes(key) && (pushes || key !== 'type'));
}

/** Fetches columns that a trace does not have yet, into it. */
export type LoadColumns = (keys: readonly ColumnKey[]) => Promise<void>;

/** What `processors` are where a trace does not list them: those that its rows name. */
function processorWords({ info, columns }: Trace): string[] {
  const words = new Set(info.processors.map(({ word }) => word));
  for (const key of ['src', 'dst'] as const) for (const word of columns.words[key].list) words.add(word);
  words.delete('');
  if (words.size > PROCESSORS_MAX) throw new RangeError(`the trace names more than ${PROCESSORS_MAX} processors`);
  const collator = new Intl.Collator('en', { numeric: true });
  return [...words].sort((x, y) => Number(y === 'cpu') - Number(x === 'cpu') || collator.compare(x, y));
}

export class TraceIndex {
  readonly trace: Trace;
  readonly machines: Machines;
  /** The driver's file of a function, or null where it is not known. */
  readonly fileOf: (driverFunction: string) => string | null;
  readonly processors: string[];
  readonly places: Places;
  readonly lanes: LaneIndex[];
  readonly batches: Map<number, Batches>;
  /** Rows of faults in their order: fault n is `faultRows[n - 1]`. */
  readonly faultRows: Uint32Array;
  /** Begin of each row, NaN for one without a time. */
  readonly begins: Float64Array;
  readonly begin: number;
  readonly end: number;
  readonly #load: LoadColumns | null;
  readonly #laneIds: Set<string>;
  #exact: ExactPages | null | undefined;
  #inferred: PageHistory | null = null;
  #rowPlaces: RowPlaces | null = null;
  #blockRows: BlockRows | null = null;
  #inferring: Promise<PageHistory> | null = null;
  #sorting: Promise<BlockRows> | null = null;

  /** The columns of timelineColumns must be there; the others too, unless `load` can bring them. */
  constructor(
    trace: Trace,
    machines: Machines,
    fileOf: (driverFunction: string) => string | null = () => null,
    load: LoadColumns | null = null,
  ) {
    this.trace = trace;
    this.machines = machines;
    this.fileOf = fileOf;
    this.#load = load;
    const { pushes, words } = trace.columns;
    this.#check(
      load === null ? columnKeys(pushes) : timelineColumns(pushes, words.kind.numbers.has('throttlingStart')),
    );
    this.processors = processorWords(trace);
    this.places = placesOf(trace);
    this.batches = batchesOf(trace);
    this.begins = rowBegins(trace);
    this.lanes = buildLanes(trace, this.batches, this.begins);
    this.#laneIds = new Set(this.lanes.map(({ lane }) => lane.id));
    this.faultRows = faultRowsOf(trace);
    const least = this.lanes.reduce((time, { first }) => Math.min(time, first[0]), Number.POSITIVE_INFINITY);
    const most = this.lanes.reduce((time, { until }) => Math.max(time, until), Number.NEGATIVE_INFINITY);
    this.begin = this.lanes.length === 0 ? 0 : least;
    this.end = this.lanes.length === 0 ? 0 : most;
  }

  #missing(keys: readonly ColumnKey[]): ColumnKey[] {
    const { loaded, pushes } = this.trace.columns;
    return columnKeys(pushes).filter((key) => keys.includes(key) && !loaded.has(key));
  }

  #check(keys: readonly ColumnKey[]): void {
    const missing = this.#missing(keys);
    if (missing.length > 0) throw new RangeError(`columns that were not loaded: ${missing.join(', ')}`);
  }

  /** Waits until the trace has these columns, or all. */
  async need(keys: readonly ColumnKey[] = columnKeys(this.trace.columns.pushes)): Promise<void> {
    const missing = this.#missing(keys);
    if (missing.length > 0) await this.#load?.(missing);
    this.#check(keys);
  }

  lane(id: string): LaneIndex {
    const lane = this.lanes.find((one) => one.lane.id === id);
    if (lane === undefined) {
      const valid = this.lanes.map((one) => one.lane.id).join(', ');
      throw new RangeError(`lane ${id}: there is none of that name; valid: ${valid === '' ? 'none' : valid}`);
    }
    return lane;
  }

  /** The lane on which a row lies, or null. */
  laneOf(row: number): string | null {
    const id = laneIdOf(this.trace, row);
    return id !== null && this.#laneIds.has(id) ? id : null;
  }

  /** As the model's books have it; null where the trace is no run of it, or does not run as it did. */
  exact(): ExactPages | null {
    if (this.#exact === undefined) {
      this.#exact = mayBeExact(this.trace) ? exactPages(this.trace, this.places, this.processors, this.machines) : null;
    }
    return this.#exact;
  }

  #infer(): Slices<PageHistory> {
    return inferPages(this.trace, this.places, this.rowPlaces(), this.begins, this.processors);
  }

  #sortByBlock(): Slices<BlockRows> {
    return BlockRows.of(this.trace.columns.count, this.places, this.rowPlaces(), this.begins);
  }

  /** Works out what residency() gives, with pauses. PLACES must be there. */
  async prepareResidency(pause: () => Promise<void>): Promise<void> {
    if (this.exact() !== null || this.#inferred !== null) return;
    this.#inferring ??= runSlicesWith(this.#infer(), pause);
    this.#inferred = await this.#inferring;
  }

  /** Works out what blockRows() gives, with pauses. PLACES must be there. */
  async prepareBlockRows(pause: () => Promise<void>): Promise<void> {
    if (this.#blockRows !== null) return;
    this.#sorting ??= runSlicesWith(this.#sortByBlock(), pause);
    this.#blockRows = await this.#sorting;
  }

  /** PLACES must be there. */
  residency(): { history: PageHistory; known: 'exact' | 'inferred' } {
    const exact = this.exact();
    if (exact !== null) return { history: exact.residency, known: 'exact' };
    this.#inferred ??= runSlices(this.#infer());
    return { history: this.#inferred, known: 'inferred' };
  }

  /** PLACES must be there. */
  rowPlaces(): RowPlaces {
    if (this.#rowPlaces === null) this.#check(PLACES);
    this.#rowPlaces ??= new RowPlaces(this.trace, this.places, this.begins);
    return this.#rowPlaces;
  }

  /** PLACES must be there. */
  blockRows(): BlockRows {
    this.#blockRows ??= runSlices(this.#sortByBlock());
    return this.#blockRows;
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
