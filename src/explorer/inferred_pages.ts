/**
 * Where pages were, concluded from a trace's events alone: a migration puts its pages where it went to, read
 * duplication onto several, and a page that nothing is known of is where it was first asked for. Pages that were
 * populated without an event (the neighbours of a first touch) are not known of.
 */
import { PAGE_SIZE, PAGES_PER_BLOCK } from '../base/units.ts';
import type { Trace } from '../trace/store/trace_events.ts';
import { HistoryBuilder, NOWHERE, type PageHistory } from './page_history.ts';
import type { Places } from './places.ts';
import { checkSpread, type RowPlaces } from './row_places.ts';
import { SLICE_ROWS, type Slices } from './slices.ts';
import { sortedOrder } from './sort_rows.ts';

/** `none`, the processors of the trace, `several`. */
export function residentWords(processors: readonly string[]): string[] {
  return ['none', ...processors, 'several'];
}

/** How a kind of row changes residency. */
const LEAVES = 0;
const FIRST_TOUCH = 1;
const TO_DST = 2;
const TO_SEVERAL = 3;
const TO_SRC = 4;

function rulesOfKinds({ columns }: Trace): Uint8Array {
  const rules: Record<string, number> = {
    cpuFault: FIRST_TOUCH,
    gpuFault: FIRST_TOUCH,
    migration: TO_DST,
    readDuplicate: TO_SEVERAL,
    readDuplicateInvalidate: TO_SRC,
  };
  return Uint8Array.from(columns.words.kind.list, (kind) => rules[kind] ?? LEAVES);
}

/** Blocks of which the first fault of each page is looked for, 2 KiB each; of others all faults count. */
const LISTS_MAX = 2 ** 16;

/** Rows that may change where pages are: all that move pages, and of each page the first fault by time. */
class ChangingRows {
  start = new Uint32Array(0);
  rows = new Uint32Array(0);

  *find(trace: Trace, blocks: number, rowPlaces: RowPlaces, begins: Float64Array, rules: Uint8Array): Slices<void> {
    const { arrays: a, count } = trace.columns;
    const { kind, offset } = a;
    /** By block, of each page: its first fault's row and 1, or 0. */
    const faults: (Uint32Array | undefined)[] = new Array(blocks);
    const start = new Uint32Array(blocks + 1);
    let taken = 0;
    let lists = 0;
    for (let row = 0; row < count; row++) {
      if (row % SLICE_ROWS === 0) yield;
      const rule = rules[kind[row]];
      if (rule === LEAVES) continue;
      const first = rowPlaces.firstBlock(row);
      if (first < 0) continue;
      if (rule === FIRST_TOUCH) {
        let its = faults[first];
        if (its === undefined && lists < LISTS_MAX) {
          its = new Uint32Array(PAGES_PER_BLOCK);
          faults[first] = its;
          lists++;
        }
        if (its === undefined) {
          start[first + 1]++;
          continue;
        }
        const page = Math.floor(offset[row] / PAGE_SIZE) % PAGES_PER_BLOCK;
        if (its[page] === 0) start[first + 1]++;
        if (its[page] === 0 || begins[row] < begins[its[page] - 1]) its[page] = row + 1;
        continue;
      }
      const last = rowPlaces.lastBlock(row, first);
      taken += last - first + 1;
      checkSpread(taken, count);
      for (let block = first; block <= last; block++) start[block + 1]++;
    }
    for (let block = 0; block < blocks; block++) start[block + 1] += start[block];
    const rows = new Uint32Array(start[blocks]);
    const next = start.slice(0, blocks);
    for (let block = 0; block < blocks; block++) {
      for (const row of faults[block] ?? []) if (row > 0) rows[next[block]++] = row - 1;
    }
    for (let row = 0; row < count; row++) {
      if (row % SLICE_ROWS === 0) yield;
      const rule = rules[kind[row]];
      if (rule === LEAVES) continue;
      const first = rowPlaces.firstBlock(row);
      if (first < 0 || (rule === FIRST_TOUCH && faults[first] !== undefined)) continue;
      const last = rowPlaces.lastBlock(row, first);
      for (let block = first; block <= last; block++) rows[next[block]++] = row;
    }
    this.start = start;
    this.rows = rows;
  }
}

/**
 * A history from the rows of each block. A page that is somewhere stays somewhere, so of its faults the first alone can
 * be a first touch. Changes at one time come in the order of their rows.
 */
export function* inferPages(
  trace: Trace,
  places: Places,
  rowPlaces: RowPlaces,
  begins: Float64Array,
  processors: readonly string[],
): Slices<PageHistory> {
  const { arrays: a, words } = trace.columns;
  const residents = residentWords(processors);
  const several = residents.length - 1;
  const codes = (list: readonly string[]) => Uint8Array.from(list, (word) => Math.max(0, residents.indexOf(word)));
  const srcCodes = codes(words.src.list);
  const dstCodes = codes(words.dst.list);
  const rules = rulesOfKinds(trace);
  const changing = new ChangingRows();
  yield* changing.find(trace, places.blocks, rowPlaces, begins, rules);
  let done = 0;
  const builder = new HistoryBuilder(residents, places.blockPages);
  for (const { firstBlock, blocks } of places.list) {
    for (let block = firstBlock; block < firstBlock + blocks; block++) {
      const from = changing.start[block];
      const rows = changing.rows.subarray(from, changing.start[block + 1]);
      done += rows.length;
      if (done > SLICE_ROWS) {
        done = 0;
        yield;
      }
      // Those of faults stand in front of the others: by row first, so that at one time rows come in their order.
      rows.sort();
      const times = new Float64Array(rows.length);
      for (let i = 0; i < rows.length; i++) {
        const row = rows[i];
        // The driver's books change when the copy is pushed, and what it says of duplicates comes behind that.
        const pushed = rules[a.kind[row]] === TO_DST ? a.time[row] : Number.NaN;
        times[i] = Number.isNaN(pushed) ? begins[row] : pushed;
      }
      const order = sortedOrder(times);
      const firstPage = (block - firstBlock) * PAGES_PER_BLOCK;
      builder.begin(block);
      for (let k = 0; k < rows.length; k++) {
        const at = order === null ? k : order[k];
        const row = rows[at];
        const rule = rules[a.kind[row]];
        const page = Math.floor(a.offset[row] / PAGE_SIZE);
        const pages = rule === FIRST_TOUCH ? 1 : Math.max(1, Math.ceil(a.bytes[row] / PAGE_SIZE));
        const first = Math.max(page, firstPage);
        const outer = Math.min(page + pages, firstPage + PAGES_PER_BLOCK);
        const code = rule === TO_DST ? dstCodes[a.dst[row]] : rule === TO_SEVERAL ? several : srcCodes[a.src[row]];
        if (code === NOWHERE) continue;
        builder.change(times[at], first - firstPage, outer - first, code, rule === FIRST_TOUCH);
      }
    }
  }
  return builder.finish();
}
