/**
 * What the page asks of a trace, and what it gets: one contract with two implementations, over HTTP (`uvmlab serve`)
 * and in a worker of the page (a live run of the model). Both hold a trace as columns (trace/store) and answer with the
 * functions of this room, so nothing here knows Node or the DOM.
 *
 * Times are nanoseconds by the clock of `time` of the trace, rows its row numbers, processors words (`cpu`, `gpu0`).
 * Lists that can be long are typed arrays.
 */
import type { Item } from '../analysis/explain_items.ts';
import type { TraceInfo } from '../trace/store/trace_info.ts';

/** One line of the timeline. Lanes of a group stand together. */
export interface Lane {
  id: string;
  label: string;
  group: 'steps' | 'cpu' | 'gpu' | 'batches' | 'migrations' | 'thrashing' | 'evictions' | 'channels' | 'copies';
  /** Kinds of rows that lie on it. */
  kinds: string[];
  /** `spans` have a begin and an end, `points` do not. */
  shape: 'spans' | 'points';
  rows: number;
}

export interface TraceSummary {
  /** By which the other questions name the trace. */
  id: string;
  /** As the user gave it: a file's name, or a scenario's. */
  label: string;
  info: TraceInfo;
  rows: number;
  /** First and last time of anything. */
  begin: number;
  end: number;
  /** Rows by kind. */
  kinds: Record<string, number>;
  lanes: Lane[];
  /** Each allocation with its place in the list of all blocks of 2 MiB. */
  allocations: { name: string; bytes: number; firstBlock: number; blocks: number }[];
  /** Processors with events, `cpu` first. */
  processors: string[];
  /**
   * Where pages were: `exact` where the model says so, `inferred` where it is concluded from migrations and faults (a
   * page that was populated without an event is not known of).
   */
  residency: 'exact' | 'inferred';
  /** Why a fault cannot be walked through, or null where it can. */
  noWalk: string | null;
  /** Number of faults, which are numbered from 1 as by `uvmlab explain`. */
  faults: number;
}

/** What there is to see: a trace, one that is being opened, or a file that is none. */
export type TraceEntry =
  | { state: 'ready'; id: string; label: string; summary: TraceSummary }
  | { state: 'opening'; id: string; label: string }
  | { state: 'broken'; id: string; label: string; error: string };

/** A part of a lane for a width in pixels. */
export interface Tile {
  lane: string;
  begin: number;
  end: number;
  /**
   * `rows`: each row of the lane in the window is there (`first`, `last`, `row`, `kind`; for points first is last).
   * `density`: there are too many; for each of `width` equal parts of the window the number of rows in it, the share of
   * its time that spans cover (0 to 255), and the most frequent kind.
   */
  detail: 'rows' | 'density';
  first: Float64Array;
  last: Float64Array;
  row: Uint32Array;
  /** Index in `kinds`: what a bar's colour is by. */
  kind: Uint8Array;
  /** Where spans of a lane overlap: the line of the lane on which each row lies, from 0. */
  depth: Uint8Array;
  count: Uint32Array;
  covered: Uint8Array;
  /** Words that colours go by: kinds of events, causes of migrations, purposes of pushes. */
  kinds: string[];
}

/** One row with all that it has, and the rows that belong to it. */
export interface RowDetail {
  row: number;
  /** In one line: what it is and where. */
  title: string;
  lane: string | null;
  begin: number;
  end: number;
  /** In the order in which they should be read. */
  fields: { name: string; value: string }[];
  /** Number of the fault, where the row is one; else null. */
  fault: number | null;
  /** Allocation index, block in it, and page in the block; null where it has no place. */
  place: { allocation: number; block: number; page: number; pages: number } | null;
  related: { row: number; label: string }[];
}

/** The address space at one time: for each block of 2 MiB of all allocations, one after another. */
export interface Space {
  time: number;
  /** As `residency` of the summary: `inferred` also where a run could not be run anew. */
  known: 'exact' | 'inferred';
  /** Pages of each block by residency: row `b * residents.length + r`. */
  pages: Uint16Array;
  /** What a residency can be: `none`, then processors, then `several` (read duplicated). */
  residents: string[];
  /** Events in the window around the time, for each block: faults, and bytes that moved. */
  faults: Uint32Array;
  moved: Float64Array;
  thrashing: Uint32Array;
}

export interface BlockDetail {
  allocation: number;
  block: number;
  time: number;
  known: 'exact' | 'inferred';
  /** Virtual page range in the allocation: pages of the block that belong to it. */
  firstPage: number;
  pageCount: number;
  /** For 512 pages: index in `residents`; 255 outside of the allocation. */
  residency: Uint8Array;
  residents: string[];
  /** Which processors map the page: bit 0 the CPU, bit 1 + g GPU g; null where it is not known. */
  mapped: Uint16Array | null;
  faults: Uint32Array;
  migrations: Uint32Array;
  /** Rows of the block up to the end of the trace, in order of time; at most `historyLimit`, around the time. */
  history: { row: number; time: number; text: string }[];
  historyCount: number;
  /** The prefetch tree of the last fault of the block before the time, or null where it is not known. */
  tree: {
    text: string;
    destination: string;
    /** From the leaf to the root: pages of the node in the allocation, leaves set of how many, whether it passes. */
    levels: { level: number; first: number; outer: number; set: number; size: number; passes: boolean }[];
  } | null;
}

/** A fault walked through the routine: the items of `uvmlab explain`, flattened in the order in which they happen. */
export interface Walk {
  /** Of all times here: the trace's own, or the model's where it replays a recording's faults. */
  clock: 'trace' | 'model';
  fault: number;
  faults: number;
  /** The fault's row of the trace, and its time by the trace's clock. */
  row: number;
  at: number;
  title: string;
  outcome: string;
  begin: number;
  end: number | null;
  place: RowDetail['place'];
  steps: WalkStep[];
  notes: string[];
}
export interface WalkStep {
  time: number;
  depth: number;
  /** A function of the driver, or what the item is. */
  title: string;
  /** The driver's file, for functions. */
  file: string | null;
  /** As lines of text, with the decision's inputs. */
  lines: string[];
  kind: Item['kind'];
}

/** Two traces beside each other. */
export interface Comparison {
  left: string;
  right: string;
  /** By kind: rows on either side. */
  kinds: { kind: string; left: number; right: number }[];
  /**
   * The first event that differs, by the rule of docs/formats.md ("the same"): for each step and kind the lists of
   * identities; null where there is none.
   */
  first: {
    step: number | null;
    kind: string;
    /** `batches`: the faults are the same, but came in batches of other sizes. */
    what: 'events' | 'batches';
    /** Position in the step's list of that kind, or of that GPU's batches. */
    index: number;
    left: { row: number; text: string } | null;
    right: { row: number; text: string } | null;
  } | null;
  /** Number of kinds and steps that differ. */
  differences: number;
  /** When each step was on either side, by its events; empty where neither trace has steps. */
  steps: {
    step: number;
    left: { begin: number; end: number } | null;
    right: { begin: number; end: number } | null;
  }[];
  durationLeft: number;
  durationRight: number;
}

export interface FindQuery {
  kinds: string[];
  /** Id of a lane: its rows are looked through, of whatever kind, and `kinds` does not count. */
  lane?: string;
  /** Where `from` is -1: the time to begin at, forwards or backwards. */
  time?: number;
  /** Allocation index and block, where only those are wanted. */
  allocation?: number;
  block?: number;
  from: number;
  direction: 1 | -1;
}

/** Rejects with an Error whose message is meant for the reader. */
export interface TraceBackend {
  traces(): Promise<TraceEntry[]>;
  tile(trace: string, lane: string, begin: number, end: number, width: number): Promise<Tile>;
  row(trace: string, row: number): Promise<RowDetail>;
  /** The next row by time, or null. `from` is a row, or -1 for the beginning. */
  find(trace: string, query: FindQuery): Promise<number | null>;
  space(trace: string, time: number, window: number): Promise<Space>;
  block(trace: string, allocation: number, block: number, time: number): Promise<BlockDetail>;
  walk(trace: string, fault: number): Promise<Walk>;
  compare(left: string, right: string): Promise<Comparison>;
}

/** What the page's worker can do besides: run a scenario on the model and hand it over as a trace. */
export interface LiveBackend extends TraceBackend {
  /** The scenario as JSON text; resolves with the trace's id. `onProgress` gets finished and all steps. */
  start(scenario: string, onProgress: (done: number, steps: number) => void): Promise<string>;
}
