/** Holds an exported trace to the trace that it was made of: every row, batch, counter and flow, worked out anew. */
import { expect } from 'vitest';
import type { ThrottlingEvent, UvmEvent } from '../../src/trace/event.ts';
import { exportPerfetto, type PerfettoSummary } from '../../src/trace/export/perfetto.ts';
import type { PushEntry } from '../../src/trace/push_log.ts';
import { eventAt, pushAt, type Trace } from '../../src/trace/store/trace_events.ts';
import { type Args, type ReadEvent, type ReadPerfetto, readPerfetto } from './perfetto_reader.ts';

/** What an event of the export must be. */
interface Wanted {
  category: string;
  process: string;
  path: string;
  name: string;
  begin: bigint;
  end: bigint;
  args: Args;
}

export interface Checked {
  bytes: Uint8Array;
  read: ReadPerfetto;
  summary: PerfettoSummary;
}

/** Fields of events that are annotations, and their names there. */
const FIELDS: Readonly<Record<string, string>> = {
  access: 'access',
  type: 'type',
  buffer: 'buffer',
  offset: 'offset',
  step: 'step',
  batch: 'batch',
  gpc: 'gpc',
  client: 'client',
  gpuTime: 'gpu_time',
  begin: 'time',
  end: 'time_end',
  gpuBegin: 'gpu_time',
  gpuEnd: 'gpu_time_end',
  bytes: 'bytes',
  cause: 'cause',
  reason: 'cause',
  src: 'src',
  dst: 'dst',
  resident: 'src',
  causedBy: 'caused_by',
};
const PUSH_FIELDS: Readonly<Record<string, string>> = {
  push: 'push',
  step: 'step',
  type: 'type',
  channel: 'channel',
  pool: 'pool',
  engine: 'engine',
  gpfifo: 'gpfifo',
  trackingSemaphoreValue: 'value',
  methods: 'methods',
  bytes: 'bytes',
  begin: 'time',
  end: 'time_end',
  started: 'gpu_time',
  finished: 'gpu_time_end',
  completed: 'completed',
  noticed: 'noticed',
};

function argOf(value: unknown): string | bigint | number {
  return typeof value === 'number' && Number.isInteger(value) ? BigInt(value) : (value as string | number);
}

function argsOf(of: object, fields: Readonly<Record<string, string>>, row: number): Args {
  const args: Args = { row: BigInt(row) };
  for (const [field, value] of Object.entries(of)) {
    const name = fields[field];
    if (name !== undefined && value !== null && value !== '') args[name] = argOf(value);
  }
  return args;
}

interface Rows {
  events: { row: number; event: UvmEvent }[];
  pushes: { row: number; push: PushEntry }[];
}

function rowsOf({ columns }: Trace): Rows {
  const rows: Rows = { events: [], pushes: [] };
  for (let row = 0; row < columns.count; row++) {
    const event = eventAt(columns, row);
    if (event !== null) rows.events.push({ row, event });
    else rows.pushes.push({ row, push: pushAt(columns, row) as PushEntry });
  }
  return rows;
}

const timeOf = (event: UvmEvent): number => (event.event === 'migration' ? event.begin : event.time);

/** The least time of all that are shown, or 0, by which all are moved if it is negative. */
function shiftOf(trace: Trace, { events, pushes }: Rows): bigint {
  const oneClock = trace.info.clock === 'virtual';
  const times: number[] = (trace.info.steps ?? []).flatMap(({ begin, end }) => [begin, end]);
  for (const { event } of events) {
    times.push(timeOf(event));
    if (event.event === 'migration') times.push(event.end);
    if (oneClock && 'gpuTime' in event) times.push(event.gpuTime);
    if (oneClock && event.event === 'migration') times.push(event.gpuBegin, event.gpuEnd);
  }
  for (const { push } of pushes) {
    times.push(push.begin, push.end);
    if (oneClock) times.push(push.started, push.finished);
  }
  const least = times.reduce((one, other) => Math.min(one, other), Number.POSITIVE_INFINITY);
  return Number.isFinite(least) && Math.round(least) < 0 ? -BigInt(Math.round(least)) : 0n;
}

export function checkPerfetto(trace: Trace): Checked {
  const chunks: Uint8Array[] = [];
  const summary = exportPerfetto(trace, (chunk) => chunks.push(chunk.slice()));
  const bytes = Buffer.concat(chunks);
  const read = readPerfetto(bytes);
  const rows = rowsOf(trace);
  const shift = shiftOf(trace, rows);
  const oneClock = trace.info.clock === 'virtual';
  const moved = (time: number): bigint => BigInt(Math.round(time)) + shift;
  const span = (begin: number, end: number) => ({ begin: moved(begin), end: moved(end < begin ? begin : end) });
  const processOf = (word: string): string => {
    const known = trace.info.processors.find((one) => one.word === word)?.name;
    return (word === 'cpu' ? 'CPU' : word) + (known === undefined ? '' : ` (${known})`);
  };
  const whole = `uvmlab: ${trace.info.name}`;
  const wanted: Wanted[] = [];
  const instant = (
    row: number,
    event: UvmEvent,
    process: string,
    path: string,
    name: string,
    hidden: string[] = [],
  ) => {
    const args = argsOf(event, FIELDS, row);
    for (const field of hidden) delete args[field];
    if ('processors' in event && event.processors.length > 0) args['processors'] = event.processors.join();
    wanted.push({ category: event.event, process, path, name, ...span(timeOf(event), timeOf(event)), args });
  };
  const throttles: { row: number; event: ThrottlingEvent }[] = [];
  for (const { row, event } of rows.events) {
    switch (event.event) {
      case 'cpuFault':
        instant(row, event, processOf('cpu'), 'faults/CPU faults', event.access);
        break;
      case 'gpuFault':
        instant(row, event, processOf(event.gpu), 'faults/GPU faults', event.access);
        break;
      case 'replay':
        instant(row, event, processOf(event.gpu), 'faults/replays', 'replay');
        break;
      case 'fatalFault':
        instant(row, event, processOf(event.processor), 'faults/fatal faults', event.reason);
        break;
      case 'mapRemote':
        instant(row, event, processOf(event.src), 'memory/remote mappings', event.cause);
        break;
      case 'eviction':
        instant(row, event, processOf(event.src), 'memory/evictions', 'eviction');
        break;
      case 'readDuplicate':
      case 'readDuplicateInvalidate':
        instant(row, event, whole, 'shared pages/read duplication', event.event);
        break;
      case 'thrashing':
        instant(row, event, whole, 'shared pages/thrashing', 'thrashing');
        break;
      case 'throttlingStart':
      case 'throttlingEnd':
        throttles.push({ row, event });
        break;
      case 'migration': {
        const process = processOf(event.src === 'cpu' ? event.dst : event.src);
        const args = argsOf(event, FIELDS, row);
        const way = `${event.src} to ${event.dst}`;
        const common = { process, name: event.cause, args };
        const cpu = span(event.begin, event.end);
        wanted.push({ category: 'migration', path: `memory/migrations ${way}`, ...common, ...cpu });
        const gpu = span(event.gpuBegin, event.gpuEnd);
        if (oneClock) wanted.push({ category: 'copy', path: `memory/copies ${way}`, ...common, ...gpu });
        break;
      }
    }
  }
  // A start and the next half at its page, if that is an end, are one.
  const open = new Map<string, (typeof throttles)[number]>();
  const throttling: { row: number; end: number | null; event: (typeof throttles)[number]['event'] }[] = [];
  for (const one of [...throttles].sort((a, b) => timeOf(a.event) - timeOf(b.event) || a.row - b.row)) {
    const { processor, buffer, offset } = one.event;
    const key = JSON.stringify([processor, buffer, Math.floor(offset / 4096)]);
    const before = open.get(key);
    open.delete(key);
    if (one.event.event === 'throttlingStart') {
      if (before !== undefined) throttling.push({ ...before, end: null });
      open.set(key, one);
    } else if (before !== undefined) throttling.push({ ...before, end: timeOf(one.event) });
    else throttling.push({ ...one, end: null });
  }
  for (const one of open.values()) throttling.push({ ...one, end: null });
  for (const { row, end, event } of throttling) {
    if (end === null) {
      instant(row, event, processOf(event.processor), 'shared pages/throttling without its other half', event.event);
    } else {
      const args = argsOf(event, FIELDS, row);
      const at = { process: processOf(event.processor), path: 'shared pages/throttled', ...span(timeOf(event), end) };
      wanted.push({ category: 'throttling', name: 'throttled', ...at, args });
    }
  }
  for (const { row, push } of rows.pushes) {
    const args = argsOf(push, PUSH_FIELDS, row);
    const acquires = push.acquires.map((one) => `${one.gpu}/${one.channel}=${one.value}`).join(' ');
    if (acquires !== '') args['acquires'] = acquires;
    const submission = { process: processOf('cpu'), path: `channels/pushes to ${push.gpu}`, name: push.purpose, args };
    wanted.push({ category: 'submission', ...submission, ...span(push.begin, push.end) });
    const path = `channels/channel ${push.channel}, engine ${push.engine}`;
    const execution = { process: processOf(push.gpu), path, name: push.purpose, args };
    if (oneClock) wanted.push({ category: 'push', ...execution, ...span(push.started, push.finished) });
  }
  const events = [...read.slices, ...read.instants];
  compareRows(wanted, events);
  checkBatches(rows, read, moved, processOf);
  checkCounters(rows, read, moved, processOf, trace);
  checkFlows(rows, events, oneClock, summary);
  expect(summary).toMatchObject({
    bytes: bytes.length,
    tracks: read.tracks.length,
    slices: read.slices.length,
    instants: read.instants.length,
    counters: [...read.counters.values()].reduce((sum, values) => sum + values.length, 0),
    leftOut: 0,
    shift: Number(shift),
  });
  return { bytes, read, summary };
}

const OF_SEVERAL_ROWS = ['trace', 'step', 'allocation', 'batch'];

function text(value: unknown): string {
  return JSON.stringify(value, (_, one: unknown) => (typeof one === 'bigint' ? `${one}n` : one));
}

/** Every row is there once, with its place, its times and all of its fields; and nothing else is. */
function compareRows(wanted: readonly Wanted[], events: readonly ReadEvent[]): void {
  const lines = (list: readonly Wanted[]): string[] =>
    list
      .map(({ args, ...rest }) => text({ ...rest, args: Object.entries(args).sort(([a], [b]) => (a < b ? -1 : 1)) }))
      .sort();
  const have = events
    .filter(({ category }) => !OF_SEVERAL_ROWS.includes(category))
    .map(({ category, track, name, begin, end, args }) => {
      return { category, process: track.process, path: track.path, name, begin, end, args };
    });
  // In the order of the fields of `wanted`.
  const order = ({ category, process, path, name, begin, end, args }: Wanted): Wanted => {
    return { category, process, path, name, begin, end, args };
  };
  const [left, right] = [lines(have), lines(wanted.map(order))];
  expect(left.length).toBe(right.length);
  const first = left.findIndex((line, i) => line !== right[i]);
  if (first >= 0) expect(left[first]).toBe(right[first]);
}

interface Batch {
  gpu: string;
  batch: number;
  first: number;
  last: number;
  faults: number;
  pages: Set<string>;
  replay: number | null;
}

function batchesOf({ events }: Rows): Batch[] {
  const batches = new Map<string, Batch>();
  const replays: { gpu: string; batch: number; time: number }[] = [];
  for (const { event } of events) {
    if (event.event === 'replay') replays.push(event);
    if (event.event !== 'gpuFault') continue;
    const { gpu, batch, time } = event;
    const key = `${gpu} ${batch}`;
    const one = batches.get(key) ?? { gpu, batch, first: time, last: time, faults: 0, pages: new Set(), replay: null };
    batches.set(key, one);
    one.first = Math.min(one.first, time);
    one.last = Math.max(one.last, time);
    one.faults++;
    one.pages.add(text([event.buffer, Math.floor(event.offset / 4096)]));
  }
  replays.sort((a, b) => a.batch - b.batch || a.time - b.time);
  for (const one of batches.values()) {
    one.replay = replays.find(({ gpu, batch }) => gpu === one.gpu && batch >= one.batch)?.time ?? null;
  }
  return [...batches.values()];
}

type Moved = (time: number) => bigint;

function checkBatches(rows: Rows, read: ReadPerfetto, moved: Moved, processOf: (word: string) => string): void {
  const have = read.slices.filter(({ category }) => category === 'batch');
  const lines = have.map(({ track, begin, end, args }) => {
    expect(track.path).toBe('faults/batches');
    expect(args['duplicates']).toBe((args['faults'] as bigint) - (args['pages'] as bigint));
    return text([track.process, args['batch'], begin, end, args['faults'], args['pages'], args['replay_time'] ?? null]);
  });
  const wanted = batchesOf(rows).map(({ gpu, batch, first, last, faults, pages, replay }) => {
    const end = Math.max(first, replay ?? last);
    const time = replay === null ? null : argOf(replay);
    return text([processOf(gpu), BigInt(batch), moved(first), moved(end), BigInt(faults), BigInt(pages.size), time]);
  });
  expect(lines.sort()).toEqual(wanted.sort());
}

/** Steps of a counter worked out from scratch: the last value of each time. */
function stepsOf(changes: { time: bigint; by: number }[], floor: number): { time: bigint; value: bigint }[] {
  const steps: { time: bigint; value: bigint }[] = [];
  let value = 0;
  for (const { time, by } of changes) {
    value = Math.max(floor, value + by);
    if (steps.length > 0 && steps[steps.length - 1].time === time) steps.pop();
    steps.push({ time, value: BigInt(value) });
  }
  return steps;
}

function checkCounters(
  rows: Rows,
  read: ReadPerfetto,
  moved: Moved,
  processOf: (word: string) => string,
  trace: Trace,
): void {
  const changes = new Map<string, { at: number; time: bigint; by: number; floor: number }[]>();
  const change = (process: string, path: string, at: number, by: number, floor: number): void => {
    const key = `${process}: ${path}`;
    const list = changes.get(key) ?? [];
    list.push({ at, time: moved(at), by, floor });
    changes.set(key, list);
  };
  for (const { event } of rows.events) {
    if (event.event !== 'migration') continue;
    const { src, dst, begin, end, bytes, buffer } = event;
    const at = Math.max(begin, end);
    const none = Number.NEGATIVE_INFINITY;
    change(processOf(src === 'cpu' ? dst : src), `memory/moved ${src} to ${dst}`, at, bytes, none);
    for (const [word, by] of [
      [src, -bytes],
      [dst, bytes],
    ] as const) {
      change(processOf(word), 'memory/resident by migrations', at, by, 0);
      const whole = `uvmlab: ${trace.info.name}`;
      if (buffer !== undefined) change(whole, `allocations/${buffer}/on ${word}`, at, by, 0);
    }
  }
  for (const { gpu, first, faults, replay } of batchesOf(rows)) {
    const path = 'faults/faults outstanding';
    change(processOf(gpu), path, first, faults, Number.NEGATIVE_INFINITY);
    if (replay !== null) change(processOf(gpu), path, Math.max(first, replay), -faults, Number.NEGATIVE_INFINITY);
  }
  const have = new Map([...read.counters].map(([track, values]) => [`${track.process}: ${track.path}`, values]));
  expect([...have.keys()].sort()).toEqual([...changes.keys()].sort());
  for (const [key, list] of changes) {
    list.sort((a, b) => a.at - b.at);
    const values = have.get(key) as { time: bigint; value: bigint }[];
    expect(values, key).toEqual(stepsOf(list, list[0].floor));
    if (key.includes('memory/moved')) {
      for (let i = 1; i < values.length; i++) expect(values[i].value).toBeGreaterThanOrEqual(values[i - 1].value);
    }
  }
}

/** Each flow has two ends: a push and its submission, or a push and one that acquired what it released. */
function checkFlows(rows: Rows, events: readonly ReadEvent[], oneClock: boolean, summary: PerfettoSummary): void {
  const ends = new Map<bigint, ReadEvent[]>();
  for (const event of events) for (const id of event.flows) ends.set(id, [...(ends.get(id) ?? []), event]);
  expect(summary.flows).toBe(ends.size);
  const have: string[] = [];
  for (const [id, list] of ends) {
    expect(id).toBeGreaterThan(0n);
    expect(list.length).toBe(2);
    const [one, other] = list.map(({ category, args }) => [category, args['row']] as const);
    have.push(
      text(
        [one, other].sort((a, b) =>
          a[0] === b[0] ? Number((a[1] as bigint) - (b[1] as bigint)) : a[0] < b[0] ? 1 : -1,
        ),
      ),
    );
  }
  const wanted: string[] = [];
  const released = new Map<string, number>();
  for (const { row, push } of oneClock ? rows.pushes : []) {
    wanted.push(
      text([
        ['submission', BigInt(row)],
        ['push', BigInt(row)],
      ]),
    );
    for (const { gpu, channel, value } of push.acquires) {
      const from = released.get(`${gpu}/${channel}=${value}`);
      if (from !== undefined)
        wanted.push(
          text([
            ['push', BigInt(from)],
            ['push', BigInt(row)],
          ]),
        );
    }
    released.set(`${push.gpu}/${push.channel}=${push.trackingSemaphoreValue}`, row);
  }
  expect(have.sort()).toEqual(wanted.sort());
}
