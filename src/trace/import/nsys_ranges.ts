/**
 * Managed allocations of an export of Nsight Systems, which has them where it was recorded with
 * --cuda-memory-usage=true: rows of CUDA_GPU_MEMORY_USAGE_EVENTS, each an allocation or its end.
 */
import { PAGES_PER_BLOCK } from '../../base/units.ts';
import { type SqliteReader, wholeNumber } from './sqlite_reader.ts';

export const MEMORY_USAGE = 'CUDA_GPU_MEMORY_USAGE_EVENTS';
const COLUMNS = ['start', 'address', 'bytes', 'memKind', 'memoryOperationType'] as const;
/** ENUM_CUDA_MEM_KIND: managed, and variables that are. */
export const MANAGED = [4, 6];
/** ENUM_CUDA_DEV_MEM_EVENT_OPER: an allocation; 1 is its end. */
export const ALLOCATION = 0;
const PAGE = 4096n;
const ADDRESSES = 1n << 64n;
/** Bytes of an allocation that a number holds, and more than any machine has. */
const BYTES_MAX = 2n ** 53n;
/** Managed allocations that are told apart, at most: a program with more allocates for each of its objects. */
export const RANGES_MAX = 50_000;

/** An allocation over its life. Pages are 4 KiB page numbers, times nanoseconds on the axis of the trace. */
export interface NsysRange {
  firstPage: number;
  /** Behind the last one. */
  endPage: number;
  begin: number;
  /** Infinity where it was never freed. */
  end: number;
}

/** The page of a range where its allocation begins: a multiple of 2 MiB, as in recordings. */
export function rangeBegin(range: NsysRange): number {
  return Math.floor(range.firstPage / PAGES_PER_BLOCK) * PAGES_PER_BLOCK;
}

/** Live ranges by address; they do not overlap. */
class Live {
  readonly ranges: NsysRange[] = [];

  /** Index of the first range that ends behind a page. */
  at(page: number): number {
    let low = 0;
    let high = this.ranges.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.ranges[middle].endPage <= page) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** The range that holds a page. */
  find(page: number): NsysRange | undefined {
    const range = this.ranges[this.at(page)];
    return range !== undefined && range.firstPage <= page ? range : undefined;
  }

  /** Adds a range and returns those that it takes the place of. */
  add(range: NsysRange): NsysRange[] {
    const from = this.at(range.firstPage);
    let to = from;
    while (to < this.ranges.length && this.ranges[to].firstPage < range.endPage) to++;
    return this.ranges.splice(from, to - from, range);
  }

  drop(range: NsysRange): void {
    const at = this.at(range.firstPage);
    if (this.ranges[at] === range) this.ranges.splice(at, 1);
  }
}

/**
 * In order of their beginnings; `zero` is the export's time that is 0 in the trace. Null where the export does not have
 * the table, or not these columns of it, or more than RANGES_MAX allocations.
 */
export function readRanges(database: SqliteReader, zero: bigint): NsysRange[] | null {
  const columns = database.tables.get(MEMORY_USAGE) ?? [];
  if (!COLUMNS.every((column) => columns.includes(column))) return null;
  const live = new Live();
  const ranges: NsysRange[] = [];
  const sql =
    `SELECT ${COLUMNS.map((column) => `"${column}"`).join(', ')} FROM ${MEMORY_USAGE} ` +
    `WHERE "memKind" IN (${MANAGED.join(', ')}) ORDER BY "start"`;
  for (const row of database.rows(sql)) {
    const [start, given, bytes, operation] = [
      row['start'],
      row['address'],
      row['bytes'],
      row['memoryOperationType'],
    ].map(wholeNumber);
    if (start === null || given === null || bytes === null || bytes <= 0n || bytes > BYTES_MAX) continue;
    const time = Number(start - zero);
    const address = ((given % ADDRESSES) + ADDRESSES) % ADDRESSES;
    const firstPage = Number(address / PAGE);
    if (operation !== BigInt(ALLOCATION)) {
      const freed = live.find(firstPage);
      if (freed?.firstPage !== firstPage) continue;
      freed.end = time;
      live.drop(freed);
      continue;
    }
    const range: NsysRange = {
      firstPage,
      endPage: Number((address + bytes + PAGE - 1n) / PAGE),
      begin: time,
      end: Number.POSITIVE_INFINITY,
    };
    // What was there was freed without a row.
    for (const gone of live.add(range)) gone.end = time;
    ranges.push(range);
    if (ranges.length > RANGES_MAX) return null;
  }
  return ranges;
}

/** Finds the range of a page at a time; times must not go back from one call to the next. */
export function createRangeSearch(ranges: readonly NsysRange[]): (page: number, time: number) => NsysRange | undefined {
  const lived = ranges.filter(({ begin, end }) => end > begin);
  const ends = [...lived].sort((a, b) => (a.end === b.end ? 0 : a.end - b.end));
  const live = new Live();
  let begun = 0;
  let ended = 0;
  const endBefore = (time: number): void => {
    for (; ended < ends.length && ends[ended].end < time; ended++) live.drop(ends[ended]);
  };
  return (page, time) => {
    for (; begun < lived.length && lived[begun].begin <= time; begun++) {
      // What an address was before ends first, where it is used again at once.
      endBefore(lived[begun].begin + 1);
      live.add(lived[begun]);
    }
    endBefore(time);
    return live.find(page);
  };
}
