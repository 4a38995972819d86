/** Runs of scenarios with a tool attached through the device: what the ring holds is what the event format says. */
import { describe, expect, it } from 'vitest';
import { loadMachines } from '../src/analysis/machines.ts';
import {
  appendEvents,
  createEventColumns,
  type EventColumns,
  eventProcessors,
} from '../src/device/abi/event_columns.ts';
import {
  ACCESS_WORDS,
  FATAL_REASON_WORDS,
  FAULT_TYPE_WORDS,
  MAP_REMOTE_CAUSE_WORDS,
  MIGRATION_CAUSE_WORDS,
} from '../src/device/abi/event_words.ts';
import { decodeEvent, eventTypeName, RECORDED_EVENTS } from '../src/device/abi/events.ts';
import { IOCTL } from '../src/device/abi/ioctls.ts';
import { ioctl } from '../src/device/device.ts';
import { drainEvents, enableEvents, flushEvents, openEventSource } from '../src/device/event_source.ts';
import { createModelDevice, createModelDriver } from '../src/device/model/model_device.ts';
import { advanceRun } from '../src/scenario/runner.ts';
import { parseScenario } from '../src/scenario/scenario.ts';
import { createSession } from '../src/scenario/session.ts';
import { logEvents } from '../src/trace/log_events.ts';

const ALL = { offset: 0, length: 4194304 };
/** A page that CPU and GPU take from each other until one of them is held off. */
const PING_PONG = Array.from({ length: 12 }, (_, i) => ({
  on: i % 2 === 0 ? 'gpu0' : 'cpu',
  do: 'write',
  buffer: 'a',
  pages: [800],
}));
const STEPS = [
  { on: 'cpu', do: 'write', buffer: 'a', ...ALL, stride: 4096 },
  { on: 'gpu0', do: 'read', buffer: 'a', pages: [0, 1, 700, 3, 900] },
  { do: 'advise', advice: 'setReadMostly', buffer: 'a', offset: 0, length: 2097152 },
  { on: 'gpu1', do: 'read', buffer: 'a', pages: [0, 5, 100, 701] },
  { on: 'cpu', do: 'write', buffer: 'a', pages: [5, 100] },
  { do: 'advise', advice: 'setPreferredLocation', processor: 'cpu', buffer: 'b', ...ALL },
  { do: 'advise', advice: 'setAccessedBy', processor: 'gpu0', buffer: 'b', ...ALL },
  { on: 'gpu0', do: 'write', buffer: 'b', pages: [0, 600] },
  { do: 'prefetch', to: 'gpu1', buffer: 'a', ...ALL },
  {
    do: 'contend',
    gpu: 'gpu0',
    buffer: 'b',
    page: 3,
    gpuWrites: 40,
    gpuPauseCycles: 100,
    cpuWrites: 40,
    cpuPauseMicroseconds: 20,
  },
  {
    do: 'contend',
    gpu: 'gpu1',
    buffer: 'a',
    page: 900,
    gpuWrites: 40,
    gpuPauseCycles: 100,
    cpuWrites: 40,
    cpuPauseMicroseconds: 20,
  },
  ...PING_PONG,
];

/** A run of STEPS with queues of both versions attached by another process from the start. */
async function recorded(version: 1 | 2) {
  const machines = loadMachines();
  const json = {
    name: 'watched',
    machine: '2xh200-nvlink',
    allocations: [
      { name: 'a', bytes: 4194304 },
      { name: 'b', bytes: 4194304 },
    ],
    steps: STEPS,
  };
  const parsed = parseScenario(json, machines.known);
  if (!parsed.ok) throw new Error(parsed.error);
  const session = createSession(parsed.scenario, machines.profile(parsed.scenario.machine));
  if (!session.ok) throw new Error(session.error);
  const { run } = session;
  const driver = createModelDriver(run.m);
  const program = createModelDevice(driver);
  const uvm = await program.open('uvm');
  await ioctl(program, uvm, IOCTL.INITIALIZE, {});
  const tool = createModelDevice(driver);
  const source = await openEventSource(tool, await tool.adopt(program.pid, uvm.fd), { entries: 8192, version });
  await enableEvents(source, RECORDED_EVENTS);
  expect(advanceRun(run)).toBe(true);
  expect(run.state.error).toBeNull();
  await flushEvents(source);
  const columns = createEventColumns();
  const objects: ReturnType<typeof decodeEvent>[] = [];
  const drained = drainEvents(source, (span) => {
    appendEvents(columns, span, source.entryBytes);
    for (let at = 0; at < span.length; at += source.entryBytes) {
      objects.push(decodeEvent(span.slice(at, at + source.entryBytes)));
    }
  });
  expect(drained.dropped).toEqual([]);
  return {
    events: logEvents(run.m, parsed.scenario.allocations),
    columns,
    objects,
    allocations: parsed.scenario.allocations,
  };
}

const processor = (version: 1 | 2, number: number): string => {
  if (number === 0) return 'cpu';
  return `gpu${version === 1 ? number - 1 : (number - 1) / 8}`;
};

type Recorded = Awaited<ReturnType<typeof recorded>>;

/** Row `i` in the words of the event format. */
function rowAsEvent(r: Recorded, c: EventColumns, i: number, version: 1 | 2): Record<string, unknown> {
  const event = eventTypeName(c.type[i]) ?? 'unknown';
  const src = processor(version, c.src[i]);
  const dst = processor(version, c.dst[i]);
  const [time, gpuTime] = [c.time[i], c.gpuTime[i]];
  if (event === 'replay') return { event, gpu: src, batch: c.batch[i], time, gpuTime };
  const index = c.page[i] >= r.allocations[1].firstPage ? 1 : 0;
  const { name, firstPage } = r.allocations[index];
  const place = { event, buffer: name, offset: (c.page[i] - firstPage) * 4096 + c.offset[i] };
  const bytes = c.bytes[i];
  const access = ACCESS_WORDS[c.access[i]];
  const processors = eventProcessors(c, i).map((number) => processor(version, number));
  switch (event) {
    case 'cpuFault':
      return { ...place, access, time };
    case 'gpuFault': {
      const [type, batch, gpc, client] = [FAULT_TYPE_WORDS[c.faultType[i]], c.batch[i], c.gpc[i], c.client[i]];
      return { ...place, gpu: src, type, access, batch, gpc, client, time, gpuTime };
    }
    case 'migration': {
      const cause = MIGRATION_CAUSE_WORDS[c.cause[i]];
      return { ...place, cause, src, dst, bytes, begin: time, end: c.end[i], gpuBegin: gpuTime, gpuEnd: c.gpuEnd[i] };
    }
    case 'mapRemote':
      return { ...place, cause: MAP_REMOTE_CAUSE_WORDS[c.cause[i]], src, dst, bytes, time, gpuTime };
    case 'readDuplicate':
    case 'thrashing':
      return { ...place, bytes, processors, time };
    case 'readDuplicateInvalidate':
      return { ...place, resident: src, bytes, time };
    case 'fatalFault': {
      const [type, reason] = [FAULT_TYPE_WORDS[c.faultType[i]], FATAL_REASON_WORDS[c.cause[i]]];
      return { ...place, processor: src, type, access, reason, time };
    }
    default:
      return { ...place, processor: src, time };
  }
}

describe.each([1, 2] as const)('version %i', (version) => {
  it('holds the events of the log, in order and with every field', async () => {
    const r = await recorded(version);
    const expected = r.events.map(({ step: _step, ...event }) => event);
    const got = Array.from({ length: r.columns.count }, (_, i) => rowAsEvent(r, r.columns, i, version));
    expect(got.length).toBeGreaterThan(100);
    expect(got).toEqual(expected);
    const kinds = new Set(expected.map((event) => event.event));
    expect([...kinds].sort()).toEqual([...RECORDED_EVENTS].filter((kind) => kind !== 'fatalFault').sort());
    r.objects.forEach(({ name, values }, i) => {
      expect(name).toBe(expected[i].event);
      expect(Number(values.timeStamp ?? values.beginTimeStamp)).toBe(r.columns.time[i]);
    });
  });
});
