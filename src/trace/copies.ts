/** The model's records of the copy routine (model/copy_routine) as the objects of the file format. */
import {
  COPY_ARMED,
  COPY_DONE,
  COPY_ENDED,
  COPY_RUNNING,
  type CopyPush,
  type CopyRecord,
  FORM_ARMED,
  FORM_IMMEDIATE,
  HOW_MAPPED,
  HOW_MIGRATED,
  HOW_STALE,
} from '../model/copy_routine/types.ts';
import type { Model } from '../model/state.ts';
import { INVALID_ID } from '../model/uvm/processors.ts';
import { NV_OK, statusName } from '../model/uvm/status.ts';
import { processorName } from '../model/uvm/va_space.ts';
import type { Allocation } from '../scenario/scenario.ts';

/** A place in a buffer: its name and a page of it; a page beyond all buffers has none. */
export interface CopyPlace {
  buffer: string | null;
  page: number;
}

/** A push on a GPU. Times are nanoseconds of its execution. */
export interface CopyPushEntry {
  gpu: string;
  channel: number;
  value: number;
  begin: number;
  end: number;
}

/** One copy. Times are nanoseconds, null where there is none. */
export interface CopyEntry {
  step: number;
  form: 'immediate' | 'async' | 'armed';
  state: 'armed' | 'running' | 'done' | 'ended';
  status: string;
  /** Null while an armed copy waits for whichever page faults. */
  from: CopyPlace | null;
  to: CopyPlace;
  bytes: number;
  residentOn: string | null;
  snapshot: boolean;
  writableOn: string[];
  begin: number | null;
  end: number | null;
  pushes: CopyPushEntry[];
  /** Armed copies alone: what became of the page, in which step, on which GPU. */
  fault?: { step: number; gpu: string; page: 'migrated' | 'mapped' | 'stale' | 'cancelled' };
  pageTablePush?: CopyPushEntry | null;
  replay?: CopyPushEntry | null;
  /** Armed: ns that the bottom half was busy with the copy; 0 before. */
  bottomHalfTime?: number;
}

function placeOf(page: number, allocations: readonly Allocation[]): CopyPlace {
  for (const { name, firstPage, pages } of allocations) {
    if (page >= firstPage && page < firstPage + pages) return { buffer: name, page: page - firstPage };
  }
  return { buffer: null, page };
}

function pushEntry(push: CopyPush): CopyPushEntry {
  const { gpu, channel, value, begin, end } = push;
  return { gpu: processorName(gpu + 1), channel, value, begin, end };
}

function stateWord(state: number): CopyEntry['state'] {
  if (state === COPY_ARMED) return 'armed';
  if (state === COPY_RUNNING) return 'running';
  return state === COPY_DONE ? 'done' : 'ended';
}

function processorNames(mask: number): string[] {
  const names: string[] = [];
  for (let id = 0; id < 31; id++) if ((mask & (1 << id)) !== 0) names.push(processorName(id));
  return names;
}

function faultOf(record: CopyRecord): NonNullable<CopyEntry['fault']> {
  const { how } = record;
  const page =
    how === HOW_MIGRATED ? 'migrated' : how === HOW_MAPPED ? 'mapped' : how === HOW_STALE ? 'stale' : 'cancelled';
  return { step: record.faultStep, gpu: processorName(record.gpu + 1), page };
}

/** A copy whose pushes are all over by `now` has ended, whether or not anybody has asked. */
function stateAt(record: CopyRecord, now: number): number {
  if (record.state !== COPY_RUNNING || record.end > now) return record.state;
  return record.status === NV_OK ? COPY_DONE : COPY_ENDED;
}

function copyEntry(record: CopyRecord, allocations: readonly Allocation[], now: number): CopyEntry {
  const entry: CopyEntry = {
    step: record.step,
    form: record.form === FORM_IMMEDIATE ? 'immediate' : record.form === FORM_ARMED ? 'armed' : 'async',
    state: stateWord(stateAt(record, now)),
    status: statusName(record.status),
    from: record.fromPage < 0 ? null : placeOf(record.fromPage, allocations),
    to: placeOf(record.toPage, allocations),
    bytes: record.bytes,
    residentOn: record.residentOn === INVALID_ID ? null : processorName(record.residentOn),
    snapshot: record.snapshot,
    writableOn: processorNames(record.writableOn),
    begin: record.begin < 0 ? null : record.begin,
    end: record.end < 0 ? null : record.end,
    pushes: record.pushes.map(pushEntry),
  };
  if (record.form !== FORM_ARMED) return entry;
  if (record.gpu >= 0) entry.fault = faultOf(record);
  entry.pageTablePush = record.pageTablePush === null ? null : pushEntry(record.pageTablePush);
  entry.replay = record.replay === null ? null : pushEntry(record.replay);
  entry.bottomHalfTime = record.bottomHalfTime;
  return entry;
}

/** All copies of the first VA space, in the order in which they were asked for. */
export function copyEntries(m: Model, allocations: readonly Allocation[]): CopyEntry[] {
  return m.vaSpaces[0].copy.records.map((record) => copyEntry(record, allocations, m.k.now));
}
