/**
 * What a recording holds, in numbers. Its entries are read as columns, a piece of the file at a time, so that a
 * recording may have any number of them.
 */
import { PAGE_SIZE, PAGES_PER_BLOCK } from '../base/units.ts';
import { appendEvents, clearEventColumns, createEventColumns, type EventColumns } from '../device/abi/event_columns.ts';
import {
  ACCESS_WORDS,
  MAP_REMOTE_CAUSE_WORDS,
  MIGRATION_CAUSE_WORDS,
  NODE_MIGRATION_CAUSE_WORDS,
} from '../device/abi/event_words.ts';
import { EVENT_ENTRY_BYTES_V2, EVENT_TYPE, eventTypeName, RECORDED_EVENTS } from '../device/abi/events.ts';
import { type RecordingEnd, type RecordingHeader, readRecording } from '../trace/recording_file.ts';
import { createRangeFinder, type RangeFinder, type RecordingSurvey } from '../trace/recording_ranges.ts';
import { createLiveTally, hottestBlocks, tallyEntries } from './live_tally.ts';
import type { Flow } from './summary.ts';

export interface FaultCount {
  /** `cpu`, `gpu0`, ..., or `processor N` for a number that the recording has no word for. */
  processor: string;
  access: string;
  count: number;
}

/** Sizes of batches: numbers of faults as they were recorded, with those that were merged. */
export interface BatchNumbers {
  count: number;
  median: number;
  p90: number;
  max: number;
  /** Faults on a page that has one in the same batch already. */
  duplicates: number;
  /**
   * Batches whose replay was recorded, and the sum of their times from the first fault's entry in the fault buffer to
   * the replay, both by the GPU's clock.
   */
  replayed: number;
  serviceMicroseconds: number;
}

export interface AllocationReport {
  /** Its address in hexadecimal (trace/recording_ranges.ts); null: addresses without a known range. */
  name: string | null;
  bytes: number;
  cpuFaults: number;
  gpuFaults: number;
  /** Migrated bytes by direction. */
  toGpu: number;
  toCpu: number;
  betweenGpus: number;
  betweenCpuNodes: number;
  thrashing: number;
  throttlings: number;
  remoteMaps: number;
  remoteMapBytes: number;
}

/** Times are microseconds, sizes bytes. Lists are in order of their first event, unless they say otherwise. */
export interface RecordingReport {
  header: RecordingHeader;
  /** All that it recorded. */
  entries: number;
  /** From the first time of an event to the last one; 0 without events. */
  durationMicroseconds: number;
  /** By name (`type N` where the driver has none), and by number of type. */
  events: Record<string, number>;
  dropped: Record<string, number>;
  /** Places in the stream where events were lost. */
  gaps: number;
  faults: FaultCount[];
  batches: BatchNumbers;
  migrations: Flow[];
  remoteMaps: Flow[];
  /** Those with events, in order of their first snapshot, then by address. */
  allocations: AllocationReport[];
  /** Ranges of the maps that had no event. */
  quietAllocations: number;
  /** The 2 MiB with most faults, most first; the address in hexadecimal. */
  hottest: { address: string; faults: number; allocation: string | null }[];
  notes: { text: string; time?: number }[];
  /** Null where the recorder did not come to its end. */
  end: RecordingEnd | null;
  /** The last frame was cut, and this many bytes of it at the end of the file are of no use. */
  truncated: boolean;
  ignoredBytes: number;
}

/** How many 2 MiB ranges are listed. */
const HOTTEST = 8;

/** The batch of a GPU whose faults come in. */
interface OpenBatch {
  batch: number;
  size: number;
  pages: Set<number>;
}

/** Numbers of an allocation, in a row of `Totals.rows`. */
const ROW = {
  cpuFaults: 0,
  gpuFaults: 1,
  toGpu: 2,
  toCpu: 3,
  betweenGpus: 4,
  betweenCpuNodes: 5,
  thrashing: 6,
  throttlings: 7,
  remoteMaps: 8,
  remoteMapBytes: 9,
  events: 10,
} as const;
const ROW_LENGTH = 11;

interface Totals {
  finder: RangeFinder;
  words: ReadonlyMap<number, string>;
  first: number;
  last: number;
  /** Faults by processor number and access: processor * 256 + access. */
  faults: Map<number, number>;
  open: Map<number, OpenBatch>;
  /** Numbers of batches by their sizes. */
  sizes: Map<number, number>;
  duplicates: number;
  /** Replays are among the recorded kinds of events. */
  hasReplays: boolean;
  /** First GPU time of batches without a replay yet: GPU number * 2^32 + batch. */
  waiting: Map<number, number>;
  replayed: number;
  service: number;
  migrations: Map<number, Flow>;
  remoteMaps: Map<number, Flow>;
  /** A row for each range, and one for addresses without any. */
  rows: Float64Array;
}

function word(t: Totals, processor: number): string {
  return t.words.get(processor) ?? `processor ${processor}`;
}

function closeBatch(t: Totals, open: OpenBatch): void {
  if (open.size === 0) return;
  t.sizes.set(open.size, (t.sizes.get(open.size) ?? 0) + 1);
  t.duplicates += open.size - open.pages.size;
  open.size = 0;
  open.pages.clear();
}

function addGpuFault(t: Totals, c: EventColumns, i: number): void {
  const gpu = c.src[i];
  let open = t.open.get(gpu);
  if (open === undefined) {
    open = { batch: -1, size: 0, pages: new Set() };
    t.open.set(gpu, open);
  }
  const key = gpu * 2 ** 32 + c.batch[i];
  if (open.batch !== c.batch[i]) {
    closeBatch(t, open);
    open.batch = c.batch[i];
  }
  if (t.hasReplays) t.waiting.set(key, Math.min(t.waiting.get(key) ?? c.gpuTime[i], c.gpuTime[i]));
  open.size++;
  open.pages.add(c.page[i]);
}

function addReplay(t: Totals, c: EventColumns, i: number): void {
  const key = c.src[i] * 2 ** 32 + c.batch[i];
  const first = t.waiting.get(key);
  if (first === undefined) return;
  t.waiting.delete(key);
  t.replayed++;
  t.service += c.gpuTime[i] - first;
}

/** Adds to the flow of the row's cause, source and destination. */
function addFlow(t: Totals, flows: Map<number, Flow>, words: readonly string[], c: EventColumns, i: number): void {
  const key = (c.cause[i] * 65536 + c.src[i]) * 65536 + c.dst[i];
  let flow = flows.get(key);
  if (flow === undefined) {
    const cause = words[c.cause[i]] ?? `cause ${c.cause[i]}`;
    flow = { cause, src: word(t, c.src[i]), dst: word(t, c.dst[i]), count: 0, bytes: 0 };
    flows.set(key, flow);
  }
  flow.count++;
  flow.bytes += c.bytes[i];
}

/** The number of a row that a migration's bytes go to. The CPU has the number 0. */
function directionOf(c: EventColumns, i: number): number {
  if (c.src[i] === 0) return c.dst[i] === 0 ? ROW.betweenCpuNodes : ROW.toGpu;
  return c.dst[i] === 0 ? ROW.toCpu : ROW.betweenGpus;
}

function addFault(t: Totals, c: EventColumns, i: number): void {
  const key = c.src[i] * 256 + c.access[i];
  t.faults.set(key, (t.faults.get(key) ?? 0) + 1);
}

/** Types that have a time. */
const TIMED: ReadonlySet<number> = new Set(RECORDED_EVENTS.map((name) => EVENT_TYPE[name]));

function addEvent(t: Totals, c: EventColumns, i: number): void {
  const type = c.type[i];
  if (!TIMED.has(type)) return;
  t.first = Math.min(t.first, c.time[i]);
  t.last = Math.max(t.last, c.time[i], c.end[i]);
  if (type === EVENT_TYPE.replay) {
    addReplay(t, c, i);
    return;
  }
  const range = t.finder.find(c.page[i]);
  const row = (range < 0 ? t.rows.length / ROW_LENGTH - 1 : range) * ROW_LENGTH;
  const { rows } = t;
  rows[row + ROW.events]++;
  switch (type) {
    case EVENT_TYPE.cpuFault:
      rows[row + ROW.cpuFaults]++;
      addFault(t, c, i);
      break;
    case EVENT_TYPE.gpuFault:
      rows[row + ROW.gpuFaults]++;
      addFault(t, c, i);
      addGpuFault(t, c, i);
      break;
    case EVENT_TYPE.migration: {
      const direction = directionOf(c, i);
      rows[row + direction] += c.bytes[i];
      const words = direction === ROW.betweenCpuNodes ? NODE_MIGRATION_CAUSE_WORDS : MIGRATION_CAUSE_WORDS;
      addFlow(t, t.migrations, words, c, i);
      break;
    }
    case EVENT_TYPE.mapRemote:
      rows[row + ROW.remoteMaps]++;
      rows[row + ROW.remoteMapBytes] += c.bytes[i];
      addFlow(t, t.remoteMaps, MAP_REMOTE_CAUSE_WORDS, c, i);
      break;
    case EVENT_TYPE.thrashing:
      rows[row + ROW.thrashing]++;
      break;
    case EVENT_TYPE.throttlingStart:
      rows[row + ROW.throttlings]++;
      break;
  }
}

/** The smallest size that at least this share of the batches does not pass. */
function quantile(sizes: readonly (readonly [size: number, count: number])[], total: number, share: number): number {
  let seen = 0;
  for (const [size, count] of sizes) {
    seen += count;
    if (seen >= total * share) return size;
  }
  return 0;
}

function batchNumbers(t: Totals): BatchNumbers {
  const sizes = [...t.sizes].sort((a, b) => a[0] - b[0]);
  const count = sizes.reduce((sum, [, n]) => sum + n, 0);
  return {
    count,
    median: quantile(sizes, count, 0.5),
    p90: quantile(sizes, count, 0.9),
    max: sizes.length === 0 ? 0 : sizes[sizes.length - 1][0],
    duplicates: t.duplicates,
    replayed: t.replayed,
    serviceMicroseconds: t.service / 1000,
  };
}

function allocationReports(t: Totals, { ranges }: RecordingSurvey): AllocationReport[] {
  const reports: AllocationReport[] = [];
  for (let i = 0; i <= ranges.length; i++) {
    const row = t.rows.subarray(i * ROW_LENGTH, (i + 1) * ROW_LENGTH);
    if (row[ROW.events] === 0) continue;
    const range = i < ranges.length ? ranges[i] : null;
    reports.push({
      name: range?.name ?? null,
      bytes: range === null ? 0 : (range.endPage - range.firstPage) * PAGE_SIZE,
      cpuFaults: row[ROW.cpuFaults],
      gpuFaults: row[ROW.gpuFaults],
      toGpu: row[ROW.toGpu],
      toCpu: row[ROW.toCpu],
      betweenGpus: row[ROW.betweenGpus],
      betweenCpuNodes: row[ROW.betweenCpuNodes],
      thrashing: row[ROW.thrashing],
      throttlings: row[ROW.throttlings],
      remoteMaps: row[ROW.remoteMaps],
      remoteMapBytes: row[ROW.remoteMapBytes],
    });
  }
  return reports;
}

/** The ranges that touch 2 MiB of addresses over the whole recording: the name of the only one, or null. */
function rangeOfBlock({ ranges }: RecordingSurvey, block: number): string | null {
  const first = block * PAGES_PER_BLOCK;
  const touching = ranges.filter((range) => range.firstPage < first + PAGES_PER_BLOCK && range.endPage > first);
  return touching.length === 1 ? touching[0].name : null;
}

function named(counts: Iterable<readonly [type: number, count: number]>): Record<string, number> {
  const names: Record<string, number> = {};
  for (const [type, count] of counts) if (count > 0) names[eventTypeName(type) ?? `type ${type}`] = count;
  return names;
}

/** Reads the entries of a surveyed recording. Throws RecordingFileError as readRecording does. */
export async function reportRecording(survey: RecordingSurvey): Promise<RecordingReport> {
  const t: Totals = {
    finder: createRangeFinder(survey),
    words: new Map(survey.header.processors.map(({ number, word: its }) => [number, its])),
    first: Number.POSITIVE_INFINITY,
    last: Number.NEGATIVE_INFINITY,
    faults: new Map(),
    open: new Map(),
    sizes: new Map(),
    duplicates: 0,
    hasReplays: survey.header.events.includes('replay'),
    waiting: new Map(),
    replayed: 0,
    service: 0,
    migrations: new Map(),
    remoteMaps: new Map(),
    rows: new Float64Array((survey.ranges.length + 1) * ROW_LENGTH),
  };
  const tally = createLiveTally();
  const columns = createEventColumns(undefined, 'relative');
  for await (const frame of readRecording(survey.path)) {
    if (frame.kind === 'maps') t.finder.pass();
    if (frame.kind !== 'events') continue;
    tallyEntries(tally, frame.entries);
    clearEventColumns(columns);
    appendEvents(columns, frame.entries, EVENT_ENTRY_BYTES_V2);
    for (let i = 0; i < columns.count; i++) addEvent(t, columns, i);
  }
  for (const open of t.open.values()) closeBatch(t, open);
  const allocations = allocationReports(t, survey);
  return {
    header: survey.header,
    entries: survey.events,
    durationMicroseconds: t.last > t.first ? (t.last - t.first) / 1000 : 0,
    events: named(tally.events.entries()),
    dropped: named(survey.dropped),
    gaps: survey.gaps,
    faults: [...t.faults].map(([key, count]) => ({
      processor: word(t, Math.floor(key / 256)),
      access: ACCESS_WORDS[key % 256] ?? `access ${key % 256}`,
      count,
    })),
    batches: batchNumbers(t),
    migrations: [...t.migrations.values()],
    remoteMaps: [...t.remoteMaps.values()],
    allocations,
    quietAllocations: survey.ranges.length - allocations.filter(({ name }) => name !== null).length,
    hottest: hottestBlocks(tally, HOTTEST).map(({ address, faults }) => ({
      address: address.toString(16),
      faults,
      allocation: rangeOfBlock(survey, Number(address >> 21n)),
    })),
    notes: survey.notes,
    end: survey.end,
    truncated: survey.truncated,
    ignoredBytes: survey.ignoredBytes,
  };
}
