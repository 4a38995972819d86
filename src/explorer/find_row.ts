/** The next row of some kinds in time, forwards or backwards. */
import type { FindQuery } from './api.ts';
import { type LaneIndex, NO_ROW } from './lane_index.ts';
import { blockOf } from './places.ts';
import { rowBegin, timeAxis } from './row_times.ts';
import { lowerBound } from './sort_rows.ts';
import type { TraceIndex } from './trace_index.ts';

/** The nearest position of a lane beyond (time, row) whose row passes; null where there is none. */
function nearest(
  lane: LaneIndex,
  time: number,
  row: number,
  direction: 1 | -1,
  passes: (row: number) => boolean,
): number | null {
  const n = lane.first.length;
  const at = lowerBound(lane.first, time);
  const beyond = (i: number): boolean =>
    direction > 0
      ? lane.first[i] > time || (lane.first[i] === time && lane.row[i] > row)
      : lane.first[i] < time || (lane.first[i] === time && lane.row[i] < row);
  // Rows of one time lie around `at`; backwards the search begins behind them.
  let i = at;
  if (direction < 0) while (i < n && lane.first[i] === time) i++;
  for (i = direction > 0 ? at : i - 1; i >= 0 && i < n; i += direction) {
    if (lane.row[i] !== NO_ROW && beyond(i) && passes(lane.row[i])) return i;
  }
  return null;
}

/** A row of the query's kinds, by time and then by row, or null. A `from` of -1 stands before all, or behind all. */
export function findRow(index: TraceIndex, query: FindQuery): number | null {
  const { trace, places } = index;
  const { from, direction, kinds } = query;
  const { count, words, arrays } = trace.columns;
  if (!Number.isSafeInteger(from) || from < -1 || from >= count) {
    throw new RangeError(`from ${from}; expected a row from 0 to ${count - 1}, or -1`);
  }
  const edge = direction > 0 ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;
  const time = from < 0 ? edge : rowBegin(trace, from, timeAxis(trace));
  const row = from < 0 ? -1 : from;
  const wanted = new Set(kinds.map((kind) => words.kind.numbers.get(kind) ?? -1));
  const { allocation, block } = query;
  const place = allocation === undefined ? undefined : places.list[allocation];
  const passes = (one: number): boolean => {
    if (!wanted.has(arrays.kind[one])) return false;
    if (place === undefined) return true;
    const its = blockOf(places, trace, one);
    if (its < place.firstBlock || its >= place.firstBlock + place.blocks) return false;
    return block === undefined || its === place.firstBlock + block;
  };
  let best: { time: number; row: number } | null = null;
  for (const lane of index.lanes) {
    if (!lane.lane.kinds.some((kind) => kinds.includes(kind))) continue;
    const at = nearest(lane, time, row, direction, passes);
    if (at === null) continue;
    const found = { time: lane.first[at], row: lane.row[at] };
    const order = best === null ? -1 : direction * (found.time - best.time || found.row - best.row);
    if (order < 0) best = found;
  }
  return best?.row ?? null;
}
