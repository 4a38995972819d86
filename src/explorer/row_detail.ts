/** One row in words, and the rows that belong to it. */
import { PAGE_SIZE, PAGES_PER_BLOCK } from '../base/units.ts';
import { type TraceColumns, wordAt } from '../trace/store/trace_columns.ts';
import { type ColumnKey, TRACE_COLUMNS } from '../trace/store/trace_schema.ts';
import type { RowDetail } from './api.ts';
import { MIGRATION } from './places.ts';
import { rowEnd } from './row_times.ts';
import type { TraceIndex } from './trace_index.ts';

/** Columns in the order in which they should be read; the others follow in the order of the file. */
const ORDER: readonly ColumnKey[] = ['kind', 'src', 'dst', 'access', 'type', 'cause', 'buffer', 'offset', 'bytes'];
const LABELS: Partial<Record<ColumnKey, string>> = { src: 'processor', causedBy: 'caused by offset' };
/** Rows that are named as related, at most. */
const RELATED = 12;
/** Rows of a block behind a fault that are looked at for its migrations. */
const LOOK_AHEAD = 64;

/** Microseconds with the nanoseconds behind the point. */
export function timeText(ns: number): string {
  return `${(ns / 1000).toLocaleString('en', { minimumFractionDigits: 3, maximumFractionDigits: 3 })} µs`;
}

export function sizeText(bytes: number): string {
  if (bytes >= 2 ** 20) return `${(bytes / 2 ** 20).toLocaleString('en', { maximumFractionDigits: 2 })} MiB`;
  if (bytes >= 1024) return `${(bytes / 1024).toLocaleString('en', { maximumFractionDigits: 2 })} KiB`;
  return `${bytes} bytes`;
}

function fieldText(index: TraceIndex, key: ColumnKey, row: number): string | null {
  const { columns } = index.trace;
  const { type, unit } = TRACE_COLUMNS[key];
  if (type === 'word' || type === 'text') {
    const text = wordAt(columns, key, row);
    return text === '' ? null : text;
  }
  const value = columns.arrays[key][row];
  if (Number.isNaN(value) || value === -1) return null;
  if (unit === 'ns') return timeText(value);
  return unit === 'bytes' && key === 'bytes' ? `${sizeText(value)}` : value.toLocaleString('en');
}

function fieldsOf(index: TraceIndex, row: number): RowDetail['fields'] {
  const keys = Object.keys(TRACE_COLUMNS) as ColumnKey[];
  const rest = keys.filter((key) => !ORDER.includes(key));
  const fields: RowDetail['fields'] = [];
  for (const key of [...ORDER, ...rest]) {
    if (!index.trace.columns.loaded.has(key)) continue;
    const value = fieldText(index, key, row);
    const name = key === 'src' && wordAt(index.trace.columns, 'dst', row) !== '' ? 'from' : LABELS[key];
    if (value !== null) fields.push({ name: key === 'dst' ? 'to' : (name ?? TRACE_COLUMNS[key].name), value });
  }
  return fields;
}

export function placeOfRow(index: TraceIndex, row: number): RowDetail['place'] {
  const { places, trace } = index;
  const allocation = index.rowPlaces().allocation(row);
  if (allocation < 0) return null;
  const page = Math.floor(trace.columns.arrays.offset[row] / PAGE_SIZE);
  const block = Math.floor(page / PAGES_PER_BLOCK);
  if (block >= places.list[allocation].blocks) return null;
  const pages = Math.max(1, Math.ceil(trace.columns.arrays.bytes[row] / PAGE_SIZE));
  return { allocation, block, page: page % PAGES_PER_BLOCK, pages };
}

function channelText({ arrays }: TraceColumns, row: number): string {
  return `channel ${arrays.channel[row]}`;
}

function placeText(index: TraceIndex, { allocation, block, page, pages }: NonNullable<RowDetail['place']>): string {
  const { name } = index.trace.info.allocations[allocation];
  return `page ${block * PAGES_PER_BLOCK + page} of ${name}${pages > 1 ? `, ${pages} pages` : ''}`;
}

/** One line of a row: what it is and where. */
export function rowText(index: TraceIndex, row: number): string {
  const { columns } = index.trace;
  const word = (key: ColumnKey): string => wordAt(columns, key, row);
  const place = placeOfRow(index, row);
  const at = place === null ? '' : `, ${placeText(index, place)}`;
  switch (word('kind')) {
    case 'cpuFault':
      return `CPU ${word('access')} fault${at}`;
    case 'gpuFault':
      return `${word('src')} ${word('access')} fault (${word('type')})${at}`;
    case 'replay':
      return `replay of ${word('src')}, batch ${columns.arrays.batch[row]}`;
    case 'migration':
      return `migration ${word('src')} to ${word('dst')} (${word('cause')})${at}`;
    case 'mapRemote':
      return `${word('src')} maps memory of ${word('dst')} (${word('cause')})${at}`;
    case 'readDuplicate':
      return `read duplication on ${word('processors')}${at}`;
    case 'readDuplicateInvalidate':
      return `duplicates dropped, ${word('src')} keeps its copy${at}`;
    case 'thrashing':
      return `thrashing between ${word('processors')}${at}`;
    case 'throttlingStart':
      return `${word('src')} throttled${at}`;
    case 'throttlingEnd':
      return `${word('src')} no longer throttled${at}`;
    case 'fatalFault':
      return `fatal fault of ${word('src')}: ${word('cause')}${at}`;
    case 'eviction':
      return `eviction ${word('src')} to ${word('dst')}${at}`;
    case 'push':
      return `push ${columns.arrays.push[row]} (${word('cause')}) on ${word('src')} ${channelText(columns, row)}`;
    default:
      return `${word('kind')}${at}`;
  }
}

/** The replay of a GPU fault's batch, and the batch's first fault. */
function relatedOfBatch(index: TraceIndex, row: number): RowDetail['related'] {
  const { arrays: a } = index.trace.columns;
  const batches = index.batches.get(a.src[row]);
  const at = batches?.batch.subarray(0, batches.count).indexOf(a.batch[row]) ?? -1;
  if (batches === undefined || at < 0) return [];
  const related: RowDetail['related'] = [];
  if (batches.replayed[at] === 1) related.push({ row: batches.replayRow[at], label: 'the replay of its batch' });
  if (batches.firstRow[at] !== row) related.push({ row: batches.firstRow[at], label: 'first fault of its batch' });
  return related;
}

/** The first migration to its processor that a fault's page took part in from then on. */
function relatedMigration(index: TraceIndex, row: number): RowDetail['related'] {
  const { trace } = index;
  const { arrays: a, words } = trace.columns;
  const place = placeOfRow(index, row);
  if (place === null) return [];
  const begin = index.begins[row];
  const rows = index.blockRows();
  const block = index.places.list[place.allocation].firstBlock + place.block;
  let seen = 0;
  for (let at = rows.find(block, begin); at < rows.start[block + 1] && seen < LOOK_AHEAD; at++, seen++) {
    const other = rows.rows[at];
    if (index.rowPlaces().form(other) !== MIGRATION || words.src.list[a.src[row]] !== words.dst.list[a.dst[other]])
      continue;
    const offset = a.offset[row] - a.offset[other];
    if (offset < 0 || offset >= a.bytes[other]) continue;
    return [{ row: other, label: 'the migration that brought its page' }];
  }
  return [];
}

function relatedToFault(index: TraceIndex, row: number): RowDetail['related'] {
  const isGpu = wordAt(index.trace.columns, 'kind', row) === 'gpuFault';
  return [...(isGpu ? relatedOfBatch(index, row) : []), ...relatedMigration(index, row)];
}

function relatedToPush(index: TraceIndex, row: number): RowDetail['related'] {
  const { columns } = index.trace;
  const wanted = wordAt(columns, 'acquires', row)
    .split(' ')
    .filter((text) => text !== '');
  const related: RowDetail['related'] = [];
  for (const text of wanted) {
    const match = /^(\w+)\/(\d+)=(\d+)$/.exec(text);
    if (match === null) continue;
    const lane = index.lanes.find(({ lane: { id } }) => id === `${match[1]}/${match[2]}`);
    const value = Number(match[3]);
    const its = lane?.row.find((other) => columns.arrays.value[other] === value);
    if (its !== undefined) related.push({ row: its, label: `it waited for ${rowText(index, its)}, value ${value}` });
  }
  return related.slice(0, RELATED);
}

/** Throws RangeError for a row that the trace does not have. */
export function rowDetail(index: TraceIndex, row: number): RowDetail {
  const { trace } = index;
  if (!Number.isSafeInteger(row) || row < 0 || row >= trace.columns.count) {
    const { count } = trace.columns;
    throw new RangeError(`row ${row}; the trace has ${count === 0 ? 'no rows' : `rows 0 to ${count - 1}`}`);
  }
  const kind = wordAt(trace.columns, 'kind', row);
  const begin = index.begins[row];
  const fault = index.faultOf(row);
  const related = fault !== null ? relatedToFault(index, row) : kind === 'push' ? relatedToPush(index, row) : [];
  return {
    row,
    title: rowText(index, row),
    lane: index.laneOf(row),
    begin,
    end: rowEnd(trace, row, begin),
    fields: fieldsOf(index, row),
    fault,
    place: placeOfRow(index, row),
    related,
  };
}
