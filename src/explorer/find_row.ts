/** The next row of some kinds, or of a lane, in time, forwards or backwards. */
import type { FindQuery } from './api.ts';
import { type LaneIndex, NO_ROW } from './lane_index.ts';
import { lowerBound, upperBound } from './sort_rows.ts';
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
  const beyond = (i: number): boolean =>
    direction > 0
      ? lane.first[i] > time || (lane.first[i] === time && lane.row[i] > row)
      : lane.first[i] < time || (lane.first[i] === time && lane.row[i] < row);
  // Rows of the same time are told apart by their numbers.
  const from = direction > 0 ? lowerBound(lane.first, time) : upperBound(lane.first, time) - 1;
  for (let i = from; i >= 0 && i < n; i += direction) {
    if (lane.row[i] !== NO_ROW && beyond(i) && passes(lane.row[i])) return i;
  }
  return null;
}

/** The nearest row beyond (time, row) of kinds that lie on no lane, looked for among all rows. */
function nearestOffLanes(
  index: TraceIndex,
  kinds: Uint8Array,
  time: number,
  row: number,
  direction: 1 | -1,
  passes: (row: number) => boolean,
): { time: number; row: number } | null {
  const { trace } = index;
  const { kind } = trace.columns.arrays;
  let best: { time: number; row: number } | null = null;
  for (let i = 0; i < trace.columns.count; i++) {
    if (kinds[kind[i]] === 0) continue;
    const its = index.begins[i];
    if (!(direction * (its - time || i - row) > 0) || !passes(i)) continue;
    if (best === null || direction * (its - best.time || i - best.row) < 0) best = { time: its, row: i };
  }
  return best;
}

/** A row of the block, by time; its rows are at hand in that order. */
function nearestInBlock(
  index: TraceIndex,
  block: number,
  time: number,
  row: number,
  direction: 1 | -1,
  wanted: Uint8Array,
): number | null {
  const rows = index.blockRows();
  const { kind } = index.trace.columns.arrays;
  const begin = rows.start[block];
  const end = rows.start[block + 1];
  const from = direction > 0 ? rows.find(block, time) : rows.find(block, time, true) - 1;
  for (let at = from; at >= begin && at < end; at += direction) {
    const one = rows.rows[at];
    if (wanted[kind[one]] === 1 && direction * (rows.timeAt(at) - time || one - row) > 0) return one;
  }
  return null;
}

function checkQuery(index: TraceIndex, { from, direction, kinds, lane, time, allocation, block }: FindQuery): void {
  const { count } = index.trace.columns;
  if (!Number.isSafeInteger(from) || from < -1 || from >= count) {
    throw new RangeError(`from ${from}; expected a row from 0 to ${count - 1}, or -1`);
  }
  if (direction !== 1 && direction !== -1) throw new RangeError(`direction ${direction}; expected 1 or -1`);
  if (time !== undefined && !Number.isFinite(time))
    throw new RangeError(`time ${time}; expected a number of nanoseconds`);
  if (lane !== undefined && !index.lanes.some((one) => one.lane.id === lane)) {
    throw new RangeError(`lane ${lane}; the trace has no such lane`);
  }
  if (!Array.isArray(kinds)) throw new RangeError('kinds: expected a list of kinds of rows');
  const place = index.places.list[allocation ?? 0];
  if (allocation !== undefined && place === undefined) {
    throw new RangeError(`allocation ${allocation}; the trace has 0 to ${index.places.list.length - 1}`);
  }
  if (block === undefined) return;
  if (allocation === undefined) throw new RangeError(`block ${block}: of which allocation is not said`);
  if (!Number.isSafeInteger(block) || block < 0 || block >= place.blocks) {
    throw new RangeError(`block ${block}; the allocation has 0 to ${place.blocks - 1}`);
  }
}

/**
 * A row of the query's kinds, or of its lane, by time and then by row, or null; rows without a time are passed over. A
 * `from` of -1 stands before all, or behind all, or just before the query's time. Throws RangeError for a query that
 * makes no sense.
 */
export function findRow(index: TraceIndex, query: FindQuery): number | null {
  checkQuery(index, query);
  const { trace, places } = index;
  const { from, direction, kinds, allocation, block } = query;
  const { words, arrays } = trace.columns;
  const start = from < 0 ? Number.NaN : index.begins[from];
  const outside = from < 0 && query.time !== undefined ? query.time : direction * Number.NEGATIVE_INFINITY;
  const time = Number.isNaN(start) ? outside : start;
  const row = from < 0 ? direction * Number.NEGATIVE_INFINITY : from;
  const wanted = Uint8Array.from(words.kind.list, (kind) => (kinds.includes(kind) ? 1 : 0));
  const place = allocation === undefined ? undefined : places.list[allocation];
  if (place !== undefined && block !== undefined) {
    return nearestInBlock(index, place.firstBlock + block, time, row, direction, wanted);
  }
  const its = query.lane;
  const passes = (one: number): boolean =>
    (its !== undefined || wanted[arrays.kind[one]] === 1) &&
    (place === undefined || index.rowPlaces().allocation(one) === allocation);
  if (its !== undefined) {
    const one = index.lanes.find((lane) => lane.lane.id === its) as LaneIndex;
    const at = nearest(one, time, row, direction, passes);
    return at === null ? null : one.row[at];
  }
  let best: { time: number; row: number } | null = null;
  const onLanes = new Set<string>();
  for (const lane of index.lanes) {
    if (lane.lane.group === 'batches' && lane.lane.kinds.length === 0) continue;
    for (const kind of lane.lane.kinds) onLanes.add(kind);
    if (!lane.lane.kinds.some((kind) => kinds.includes(kind))) continue;
    const at = nearest(lane, time, row, direction, passes);
    if (at === null) continue;
    const found = { time: lane.first[at], row: lane.row[at] };
    if (best === null || direction * (found.time - best.time || found.row - best.row) < 0) best = found;
  }
  const off = Uint8Array.from(words.kind.list, (kind, i) => (wanted[i] === 1 && !onLanes.has(kind) ? 1 : 0));
  if (off.includes(1)) {
    const found = nearestOffLanes(index, off, time, row, direction, passes);
    if (found !== null && (best === null || direction * (found.time - best.time || found.row - best.row) < 0)) {
      best = found;
    }
  }
  return best?.row ?? null;
}
