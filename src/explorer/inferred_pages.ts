/**
 * Where pages were, concluded from a trace's events alone: a migration puts its pages where it went to, read
 * duplication onto several, and a page that nothing is known of is where it was first asked for. Pages that were
 * populated without an event (the neighbours of a first touch) are not known of.
 */
import { PAGE_SIZE, PAGES_PER_BLOCK } from '../base/units.ts';
import type { Trace } from '../trace/store/trace_events.ts';
import type { BlockRows } from './block_rows.ts';
import { HistoryBuilder, type PageHistory } from './page_history.ts';
import type { Places } from './places.ts';
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

/** A history from the rows of each block. Changes at one time come in the order in which their rows began. */
export function inferPages(
  trace: Trace,
  places: Places,
  blockRows: BlockRows,
  processors: readonly string[],
): PageHistory {
  const { arrays: a, words } = trace.columns;
  const residents = residentWords(processors);
  const several = residents.length - 1;
  const codes = (list: readonly string[]) => Uint8Array.from(list, (word) => Math.max(0, residents.indexOf(word)));
  const srcCodes = codes(words.src.list);
  const dstCodes = codes(words.dst.list);
  const rules = rulesOfKinds(trace);
  const builder = new HistoryBuilder(residents, places.blockPages);
  let times = new Float64Array(1024);
  let changing = new Uint32Array(1024);
  for (const { firstBlock, blocks } of places.list) {
    for (let block = firstBlock; block < firstBlock + blocks; block++) {
      const { start, rows } = blockRows;
      const room = start[block + 1] - start[block];
      if (room > times.length) {
        times = new Float64Array(room);
        changing = new Uint32Array(room);
      }
      let n = 0;
      for (let at = start[block]; at < start[block + 1]; at++) {
        const row = rows[at];
        const rule = rules[a.kind[row]];
        if (rule === LEAVES) continue;
        const begin = blockRows.timeAt(at);
        // The driver's books change when the copy is pushed, and what it says of duplicates comes behind that.
        times[n] = rule === TO_DST ? a.time[row] : begin;
        changing[n++] = row;
      }
      const order = sortedOrder(times.subarray(0, n));
      const firstPage = (block - firstBlock) * PAGES_PER_BLOCK;
      builder.begin(block);
      for (let k = 0; k < n; k++) {
        const at = order === null ? k : order[k];
        const row = changing[at];
        const rule = rules[a.kind[row]];
        const page = Math.floor(a.offset[row] / PAGE_SIZE);
        const pages = rule === FIRST_TOUCH ? 1 : Math.max(1, Math.ceil(a.bytes[row] / PAGE_SIZE));
        const first = Math.max(page, firstPage);
        const outer = Math.min(page + pages, firstPage + PAGES_PER_BLOCK);
        const code = rule === TO_DST ? dstCodes[a.dst[row]] : rule === TO_SEVERAL ? several : srcCodes[a.src[row]];
        builder.change(times[at], first - firstPage, outer - first, code, rule === FIRST_TOUCH);
      }
    }
  }
  return builder.finish();
}
