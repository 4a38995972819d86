/**
 * A recording as a trace: its events as rows, with the places and times that they have in a case (recording_case.ts),
 * and what the recording says about itself. Each event becomes a row as soon as it is read, so that ten million of them
 * take a gigabyte and not four.
 */
import { basename } from 'node:path';
import { PAGE_SIZE } from '../base/units.ts';
import { eventTypeName } from '../device/abi/events.ts';
import { rebaseColumns } from './rebase_events.ts';
import {
  allocationPage,
  fittingNotes,
  type MadeUpAllocation,
  machineOfRecording,
  madeUpOffset,
  makeUpAllocations,
  type RecordingCaseOptions,
  recordingNotes,
} from './recording_case.ts';
import { createEventDecoder } from './recording_events.ts';
import { RECORDING_SUFFIX, RecordingFileError, readRecording } from './recording_file.ts';
import {
  createRangeFinder,
  createRangeNames,
  pageAddress,
  type RecordingSurvey,
  surveyRecording,
} from './recording_ranges.ts';
import { createTraceColumns, reserveRows, type TraceColumns, wordNumber } from './store/trace_columns.ts';
import { appendEvent, type Trace } from './store/trace_events.ts';
import { emptyTraceInfo, type TraceInfo } from './store/trace_info.ts';

export interface RecordingTraceOptions extends RecordingCaseOptions {
  /** The version of uvmlab that makes the trace. */
  uvmlab: string;
}

/** Rows without a known range, in the order of the rows. */
interface LostRows {
  length: number;
  rows: number[];
  pages: number[];
  bytes: number[];
}

/** A file may say that it holds more events than it does only by being as long: 72 bytes for each. */
async function gatherRows(survey: RecordingSurvey) {
  const columns = createTraceColumns({ capacity: survey.events });
  const finder = createRangeFinder(survey);
  const begins = survey.ranges.map(allocationPage);
  const several = begins.length > 1;
  const lost: LostRows = { length: 0, rows: [], pages: [], bytes: [] };
  let lostPage = Number.NaN;
  let lostByte = 0;
  const decoder = createEventDecoder(survey.header, (page, byte) => {
    const range = finder.find(page);
    lostPage = range < 0 ? page : Number.NaN;
    lostByte = byte;
    if (range < 0) return { offset: 0 };
    const offset = (page - begins[range]) * PAGE_SIZE + byte;
    return several ? { buffer: survey.ranges[range].name, offset } : { offset };
  });
  let at = 0;
  const take = (event: Parameters<typeof appendEvent>[1]): void => {
    let row: number;
    try {
      row = appendEvent(columns, event);
    } catch (error) {
      throw new RecordingFileError(`${survey.path}: byte ${at}: ${(error as Error).message}`);
    }
    if (!Number.isNaN(lostPage)) {
      lost.length++;
      lost.rows.push(row);
      lost.pages.push(lostPage);
      lost.bytes.push(lostByte);
    }
    lostPage = Number.NaN;
  };
  for await (const frame of readRecording(survey.path)) {
    at = frame.offset;
    if (frame.kind === 'maps') finder.pass();
    else if (frame.kind === 'events') {
      reserveRows(columns, columns.count + frame.count);
      decoder.decode(frame.entries, take);
    }
  }
  return { columns, lost, decoder, finder };
}

/** Gives rows at unknown addresses their places in allocations that are made up. */
function placeLost(
  columns: TraceColumns,
  lost: LostRows,
  of: (page: number) => MadeUpAllocation,
  named: boolean,
): void {
  const { offset, buffer } = columns.arrays;
  for (const [i, row] of lost.rows.entries()) {
    const allocation = of(lost.pages[i]);
    offset[row] = madeUpOffset(allocation, lost.pages[i], lost.bytes[i]);
    if (named) buffer[row] = wordNumber(columns.words.buffer, allocation.name);
  }
}

/** The only range of the maps turned out not to be the only allocation: its events get its name. */
function nameRows(columns: TraceColumns, name: string): void {
  const { kind, buffer } = columns.arrays;
  const replay = columns.words.kind.numbers.get('replay') ?? -1;
  const number = wordNumber(columns.words.buffer, name);
  for (let row = 0; row < columns.count; row++) if (kind[row] !== replay && buffer[row] === 0) buffer[row] = number;
}

function allocationsOf({ ranges }: RecordingSurvey, made: readonly MadeUpAllocation[]): TraceInfo['allocations'] {
  const known = ranges.map((range) => ({
    name: range.name,
    bytes: (range.endPage - allocationPage(range)) * PAGE_SIZE,
    kind: 'managed' as const,
    address: pageAddress(allocationPage(range)),
  }));
  const others = made.map(({ name, bytes, block }) => ({
    name,
    bytes,
    kind: 'managed' as const,
    address: pageAddress(block * 512),
  }));
  return [...known, ...others];
}

/**
 * The trace of a recording. Rejects with RecordingFileError for what readRecording does not take. A machine that nobody
 * knows is null.
 */
export async function createRecordingTrace(path: string, options: RecordingTraceOptions): Promise<Trace> {
  const survey = await surveyRecording(path);
  const { header } = survey;
  const notes = recordingNotes(survey);
  const machine = machineOfRecording(path, header, options, notes);
  const gathered = await gatherRows(survey);
  const { columns, lost, decoder } = gathered;
  const nameFor = createRangeNames();
  for (const { firstPage } of survey.ranges) nameFor(firstPage);
  const { made, of } = makeUpAllocations(lost.pages, nameFor);
  const allocations = allocationsOf(survey, made);
  for (const { address, bytes } of allocations) {
    if (!Number.isSafeInteger(bytes))
      throw new RecordingFileError(`${path}: the range at ${address} has ${bytes} bytes`);
  }
  placeLost(columns, lost, of, allocations.length > 1);
  if (survey.ranges.length === 1 && made.length > 0) nameRows(columns, survey.ranges[0].name);
  rebaseColumns(columns);
  notes.push(...fittingNotes(survey, gathered, made));
  const dropped = [...survey.dropped].map(([type, count]) => [
    eventTypeName(type) ?? `type ${type}`,
    Math.min(count, Number.MAX_SAFE_INTEGER),
  ]);
  const info: TraceInfo = {
    ...emptyTraceInfo(basename(path, RECORDING_SUFFIX), 'recording', options.uvmlab),
    driver: header.driver,
    machine,
    processors: header.processors.map(({ word, name, uuid }) => ({
      word,
      ...(name === undefined ? {} : { name }),
      uuid,
    })),
    parameters: header.parameters,
    allocations,
    hasBuffers: allocations.length > 1,
    clock: header.cpuClock,
    dropped: Object.fromEntries(dropped),
    leftOut: Object.fromEntries(decoder.leftOut),
    notes,
    command: header.command,
    ended: survey.end?.reason ?? null,
  };
  return { info, columns };
}
