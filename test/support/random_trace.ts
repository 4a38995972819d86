/** Random traces: every kind of event, every field, drawn from a seed. */
import { createPrng, type Prng, prngBelow, prngChance } from '../../src/base/prng.ts';
import {
  ACCESS_WORDS,
  EVENT_KINDS,
  type EventKind,
  FATAL_REASON_WORDS,
  FAULT_TYPE_WORDS,
  MAP_REMOTE_CAUSE_WORDS,
  MIGRATION_CAUSE_WORDS,
  type UvmEvent,
} from '../../src/trace/event.ts';
import type { PushEntry } from '../../src/trace/push_log.ts';
import { createTraceColumns } from '../../src/trace/store/trace_columns.ts';
import { appendEvent, appendPush, type Trace } from '../../src/trace/store/trace_events.ts';
import { emptyTraceInfo } from '../../src/trace/store/trace_info.ts';

function pick<T>(p: Prng, list: readonly T[]): T {
  return list[prngBelow(p, list.length)];
}

/** Now and then a large number, or one at an edge. */
function whole(p: Prng): number {
  const form = prngBelow(p, 8);
  if (form === 0) return 0;
  if (form === 1) return Number.MAX_SAFE_INTEGER - prngBelow(p, 3);
  if (form === 2) return 2 ** 32 - 2 + prngBelow(p, 4);
  return prngBelow(p, 2 ** 30) * 4096;
}

function time(p: Prng): number {
  const form = prngBelow(p, 6);
  if (form === 0) return 0 - prngBelow(p, 1000);
  if (form === 1) return prngBelow(p, 2 ** 32) + 0.25;
  return prngBelow(p, 2 ** 32) * 1000 + prngBelow(p, 1000);
}

function randomEvent(p: Prng, steps: boolean, buffers: readonly string[]): UvmEvent {
  const kind: EventKind = pick(p, EVENT_KINDS);
  const processor = (): string => pick(p, ['cpu', 'gpu0', 'gpu1', 'gpu17']);
  const gpu = pick(p, ['gpu0', 'gpu3']);
  const head = steps ? { step: prngBelow(p, 5) } : {};
  const place = { ...head, ...(buffers.length > 0 ? { buffer: pick(p, buffers) } : {}), offset: whole(p) };
  const access = pick(p, ACCESS_WORDS.slice(1));
  const type = pick(p, FAULT_TYPE_WORDS);
  const bytes = whole(p);
  const batch = prngBelow(p, 2 ** 31);
  const processors = ['cpu', 'gpu0', 'gpu1', 'gpu2'].filter(() => prngChance(p, 1, 2));
  const pair = { src: processor(), dst: processor() };
  switch (kind) {
    case 'cpuFault':
      return { event: kind, access, ...place, time: time(p) };
    case 'gpuFault': {
      const client = prngChance(p, 3, 4) ? { gpc: prngBelow(p, 8), client: prngBelow(p, 70) } : {};
      return { event: kind, gpu, type, access, ...place, batch, ...client, time: time(p), gpuTime: time(p) };
    }
    case 'replay':
      return { event: kind, ...head, gpu, batch, time: time(p), gpuTime: time(p) };
    case 'migration': {
      const cause = pick(p, MIGRATION_CAUSE_WORDS);
      const times = { begin: time(p), end: time(p), gpuBegin: time(p), gpuEnd: time(p) };
      return { event: kind, cause, ...pair, ...place, bytes, ...times };
    }
    case 'mapRemote':
      return {
        event: kind,
        cause: pick(p, MAP_REMOTE_CAUSE_WORDS),
        ...pair,
        ...place,
        bytes,
        time: time(p),
        gpuTime: time(p),
      };
    case 'readDuplicate':
    case 'thrashing':
      return { event: kind, ...place, bytes, processors, time: time(p) };
    case 'readDuplicateInvalidate':
      return { event: kind, resident: processor(), ...place, bytes, time: time(p) };
    case 'throttlingStart':
    case 'throttlingEnd':
      return { event: kind, processor: processor(), ...place, time: time(p) };
    case 'fatalFault':
      return {
        event: kind,
        processor: processor(),
        type,
        access,
        reason: pick(p, FATAL_REASON_WORDS),
        ...place,
        time: time(p),
      };
    case 'eviction':
      return { event: kind, ...pair, ...place, causedBy: whole(p), bytes, time: time(p) };
  }
}

function randomPush(p: Prng, push: number): PushEntry {
  return {
    step: prngBelow(p, 4),
    push,
    gpu: pick(p, ['gpu0', 'gpu1']),
    channel: prngBelow(p, 64),
    type: prngChance(p, 1, 4) ? null : pick(p, ['CPU_TO_GPU', 'MEMOPS']),
    pool: prngBelow(p, 8),
    engine: prngBelow(p, 8),
    gpfifo: prngBelow(p, 1024),
    trackingSemaphoreValue: whole(p),
    acquires: Array.from({ length: prngBelow(p, 4) }, () => ({
      gpu: 'gpu0',
      channel: prngBelow(p, 64),
      value: whole(p),
    })),
    methods: prngBelow(p, 100),
    bytes: prngBelow(p, 1000),
    begin: time(p),
    end: time(p),
    started: time(p),
    finished: time(p),
    completed: time(p),
    noticed: prngChance(p, 1, 2) ? null : time(p),
    purpose: pick(p, ['copy', 'mapping', 'replay']),
  };
}

/** `rows` random rows, and the events among them. */
export function randomTrace(seed: number, rows: number, { pushes = false } = {}): { trace: Trace; events: UvmEvent[] } {
  const p = createPrng(seed);
  const steps = prngChance(p, 1, 2);
  const buffers = pick(p, [[], ['a'], ['a', 'b', 'a buffer "with" signs, ö and 日本']]);
  const columns = createTraceColumns({ pushes });
  const events: UvmEvent[] = [];
  for (let row = 0; row < rows; row++) {
    if (pushes && prngChance(p, 1, 3)) appendPush(columns, randomPush(p, row));
    else {
      const event = randomEvent(p, steps, buffers);
      events.push(event);
      appendEvent(columns, event);
    }
  }
  const info = { ...emptyTraceInfo(`random ${seed}`, 'lines', '0'), hasSteps: steps, hasBuffers: buffers.length > 0 };
  return { trace: { info, columns }, events };
}
