import { describe, expect, it } from 'vitest';
import { randomTimeline } from '../../test/support/random_timeline.ts';
import { loadMachines } from '../analysis/machines.ts';
import { EVENT_KINDS, type UvmEvent } from '../trace/event.ts';
import { createTraceColumns } from '../trace/store/trace_columns.ts';
import { appendEvent, appendPush, eventAt } from '../trace/store/trace_events.ts';
import { emptyTraceInfo } from '../trace/store/trace_info.ts';
import { rowDetail } from './row_detail.ts';
import { TraceIndex } from './trace_index.ts';

const machines = loadMachines();
const PAGE = 4096;
const fault = (offset: number, batch: number, time: number): UvmEvent => ({
  event: 'gpuFault',
  gpu: 'gpu0',
  type: 'invalidPte',
  access: 'write',
  offset,
  batch,
  time,
  gpuTime: time,
  gpc: 3,
  client: 17,
});
const migration = (dst: string, offset: number, bytes: number, begin: number): UvmEvent => ({
  event: 'migration',
  cause: 'coherence',
  src: dst === 'cpu' ? 'gpu0' : 'cpu',
  dst,
  offset,
  bytes,
  begin,
  end: begin + 30,
  gpuBegin: begin,
  gpuEnd: begin + 20,
});

function indexOf(events: readonly UvmEvent[], allocations = [{ name: 'a', bytes: 2 ** 22 }]): TraceIndex {
  const columns = createTraceColumns();
  for (const event of events) appendEvent(columns, event);
  const info = {
    ...emptyTraceInfo('t', 'lines', '0'),
    allocations: allocations.map((one) => ({ ...one, kind: 'managed' as const, address: null })),
  };
  return new TraceIndex({ info, columns }, machines);
}

describe('a row in words', () => {
  it('has what it is, where, its fields in order, and its number as a fault', () => {
    const index = indexOf([migration('gpu0', 0, PAGE, 5), fault(514 * PAGE + 12, 7, 1_234_567)]);
    const detail = rowDetail(index, 1);
    expect(detail.title).toBe('gpu0 write fault (invalidPte), page 514 of a');
    expect(detail.place).toEqual({ allocation: 0, block: 1, page: 2, pages: 1 });
    expect([detail.fault, detail.lane, detail.begin, detail.end]).toEqual([1, 'faults gpu0', 1_234_567, 1_234_567]);
    expect(detail.fields.map(({ name }) => name)).toEqual([
      'kind',
      'processor',
      'access',
      'type',
      'offset',
      'time',
      'gpu_time',
      'batch',
      'gpc',
      'client',
    ]);
    expect(detail.fields).toContainEqual({ name: 'time', value: '1,234.567 µs' });
    const moved = rowDetail(index, 0);
    expect(moved.fields).toContainEqual({ name: 'from', value: 'cpu' });
    expect(moved.fields).toContainEqual({ name: 'to', value: 'gpu0' });
    expect(moved.fields).toContainEqual({ name: 'bytes', value: '4 KiB' });
    expect([moved.fault, moved.end]).toEqual([null, 25]);
  });

  it('leads from a fault to its replay, the first fault of its batch, and the migration that brought its page', () => {
    const events: UvmEvent[] = [
      migration('gpu0', 0, 8 * PAGE, 1),
      fault(PAGE, 1, 10),
      fault(2 * PAGE, 1, 11),
      migration('cpu', 0, 8 * PAGE, 15),
      migration('gpu0', 3 * PAGE, PAGE, 16),
      migration('gpu0', 0, 3 * PAGE, 20),
      { event: 'replay', gpu: 'gpu0', batch: 1, time: 30, gpuTime: 30 },
    ];
    const { related } = rowDetail(indexOf(events), 2);
    expect(related).toEqual([
      { row: 6, label: 'the replay of its batch' },
      { row: 1, label: 'first fault of its batch' },
      { row: 5, label: 'the migration that brought its page' },
    ]);
    expect(rowDetail(indexOf(events), 1).related.map(({ row }) => row)).toEqual([6, 5]);
    // A page just beyond what came is not brought by it.
    const beyond = indexOf([fault(3 * PAGE, 1, 10), migration('gpu0', 0, 3 * PAGE, 20)]);
    expect(rowDetail(beyond, 0).related).toEqual([]);
  });

  it('leads from a push to those that it waited for', () => {
    const columns = createTraceColumns({ pushes: true });
    const push = (
      channel: number,
      value: number,
      acquires: { gpu: string; channel: number; value: number }[],
    ): void => {
      const times = { begin: 1, end: 2, started: 3, finished: 4, completed: 5, noticed: null };
      const place = { step: 0, push: value, gpu: 'gpu0', channel, type: 'MEMOPS', pool: 0, engine: 0, gpfifo: 0 };
      const rest = { trackingSemaphoreValue: value, methods: 1, bytes: 4, purpose: 'copy' };
      appendPush(columns, { ...place, ...times, ...rest, acquires });
    };
    push(3, 8, []);
    push(3, 9, []);
    push(4, 1, [
      { gpu: 'gpu0', channel: 3, value: 9 },
      { gpu: 'gpu0', channel: 30, value: 1 },
    ]);
    const index = new TraceIndex({ info: emptyTraceInfo('t', 'lines', '0'), columns }, machines);
    expect(rowDetail(index, 2).related).toEqual([
      { row: 1, label: 'it waited for push 9 (copy) on gpu0 channel 3, value 9' },
    ]);
  });

  it('is there for each kind of row', () => {
    const { trace } = randomTimeline(4, 300, { pushes: true });
    const index = new TraceIndex(trace, machines);
    const titles = new Map<string, string>();
    for (let row = 0; row < 300; row++) {
      const { title, fields, fault: number } = rowDetail(index, row);
      const kind = eventAt(trace.columns, row)?.event ?? 'push';
      titles.set(kind, title);
      expect(fields[0]).toEqual({ name: 'kind', value: kind });
      expect(number !== null).toBe(kind === 'cpuFault' || kind === 'gpuFault');
      expect(title).not.toMatch(/undefined|NaN|^,|,$/);
    }
    expect([...titles.keys()].sort()).toEqual([...EVENT_KINDS, 'push'].sort());
    expect(new Set(titles.values()).size).toBe(titles.size);
  });

  it('refuses rows that are not there', () => {
    const index = indexOf([fault(0, 1, 1)]);
    for (const row of [-1, 1, 0.5, Number.NaN])
      expect(() => rowDetail(index, row)).toThrow(`row ${row}; the trace has rows 0 to 0`);
  });
});
