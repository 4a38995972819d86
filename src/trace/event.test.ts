import { describe, expect, it } from 'vitest';
import { EVENT_TYPE } from '../device/abi/events.ts';
import { checkEvents, EVENT_KINDS, identity, sameIdentity, type UvmEvent } from './event.ts';

/** One event of each kind, with every field. */
const EVENTS: UvmEvent[] = [
  { event: 'cpuFault', access: 'write', offset: 4096, time: 5, step: 0 },
  {
    event: 'gpuFault',
    gpu: 'gpu0',
    type: 'invalidPde',
    access: 'read',
    offset: 0,
    batch: 274,
    gpc: 1,
    client: 33,
    time: 6,
    gpuTime: 0,
    step: 1,
  },
  { event: 'replay', gpu: 'gpu0', batch: 274, time: 7, gpuTime: 32, step: 1 },
  {
    event: 'migration',
    cause: 'prefetch',
    src: 'cpu',
    dst: 'gpu0',
    offset: 4096,
    bytes: 61440,
    begin: 1,
    end: 2,
    gpuBegin: 3,
    gpuEnd: 4,
    step: 1,
  },
  {
    event: 'mapRemote',
    cause: 'policy',
    src: 'gpu1',
    dst: 'cpu',
    offset: 0,
    bytes: 8192,
    time: 1,
    gpuTime: 2,
    step: 2,
  },
  { event: 'readDuplicate', offset: 0, bytes: 4096, processors: ['cpu', 'gpu0'], time: 1, step: 2 },
  { event: 'readDuplicateInvalidate', resident: 'gpu0', offset: 0, bytes: 4096, time: 1, step: 2 },
  { event: 'thrashing', offset: 0, bytes: 4096, processors: ['cpu', 'gpu0'], time: 1, step: 2 },
  { event: 'throttlingStart', processor: 'cpu', offset: 8192, time: 1, step: 2 },
  { event: 'throttlingEnd', processor: 'cpu', offset: 8192, time: 1, step: 2 },
  {
    event: 'fatalFault',
    processor: 'gpu0',
    type: 'poison',
    access: 'read',
    reason: 'invalidAddress',
    offset: 0,
    time: 1,
    step: 2,
  },
  { event: 'eviction', src: 'gpu0', dst: 'cpu', offset: 0, causedBy: 2097152, bytes: 4096, time: 1, step: 2 },
];

describe('identity', () => {
  it('names the fields of each kind in a fixed order', () => {
    expect(EVENTS.map(identity)).toEqual([
      'cpuFault access=write offset=4096',
      'gpuFault gpu=gpu0 type=invalidPde access=read offset=0',
      'replay gpu=gpu0',
      'migration cause=prefetch src=cpu dst=gpu0 offset=4096 bytes=61440',
      'mapRemote cause=policy src=gpu1 dst=cpu offset=0 bytes=8192',
      'readDuplicate offset=0 bytes=4096 processors=cpu,gpu0',
      'readDuplicateInvalidate resident=gpu0 offset=0 bytes=4096',
      'thrashing offset=0 bytes=4096 processors=cpu,gpu0',
      'throttlingStart processor=cpu offset=8192',
      'throttlingEnd processor=cpu offset=8192',
      'fatalFault processor=gpu0 type=poison access=read reason=invalidAddress offset=0',
      'eviction src=gpu0 dst=cpu offset=0 causedBy=2097152 bytes=4096',
    ]);
    expect(EVENTS.map((e) => e.event)).toEqual(EVENT_KINDS);
    expect(identity({ ...EVENTS[0], buffer: 'b' } as UvmEvent)).toBe('cpuFault access=write offset=4096 buffer=b');
  });

  it('looks at identity fields alone', () => {
    for (const event of EVENTS) {
      for (const [field, value] of Object.entries(event)) {
        if (field === 'event') continue;
        const other = typeof value === 'number' ? value + 4096 : Array.isArray(value) ? ['cpu', 'gpu1'] : `${value}x`;
        const changed = { ...event, [field]: other } as UvmEvent;
        const inIdentity = identity(event).includes(` ${field}=`);
        expect(sameIdentity(event, changed, true), `${event.event}.${field}`).toBe(!inIdentity);
      }
      expect(sameIdentity(event, structuredClone(event), true)).toBe(true);
    }
    expect(sameIdentity(EVENTS[8], EVENTS[9], true)).toBe(false);
  });

  it('looks at the buffer when asked to', () => {
    const a = { ...EVENTS[0], buffer: 'a' } as UvmEvent;
    const b = { ...EVENTS[0], buffer: 'b' } as UvmEvent;
    expect(sameIdentity(a, b, true)).toBe(false);
    expect(sameIdentity(a, b, false)).toBe(true);
  });
});

describe('checkEvents', () => {
  function errorOf(events: unknown, faultsOnly = false): string {
    const result = checkEvents(events, 'observed.events', faultsOnly);
    return result.ok ? 'no error' : result.error;
  }

  it('passes every kind on as it is', () => {
    expect(checkEvents(EVENTS, 'observed.events', false)).toEqual({ ok: true, events: EVENTS });
  });

  it('gives the faults alone, whatever the rest is', () => {
    const events = [...EVENTS, { event: 'migration', cause: 7 }, { event: 'fromTheFuture' }, 5, null];
    expect(checkEvents(events, 'observed.events', true)).toEqual({ ok: true, events: EVENTS.slice(0, 2) });
  });

  it('needs every field but gpc, client, step and buffer', () => {
    for (const event of EVENTS) {
      for (const field of Object.keys(event)) {
        const { [field]: _, ...rest } = event as unknown as Record<string, unknown>;
        const optional = ['gpc', 'client', 'step'].includes(field);
        const want = optional ? 'no error' : `observed.events[0].${field}: missing; expected `;
        expect(errorOf([rest]).startsWith(want), `${event.event} without ${field}: ${errorOf([rest])}`).toBe(true);
      }
    }
  });

  it('says which field is wrong and what is valid', () => {
    const [cpu, gpu, replay, migration] = EVENTS;
    const fatal = EVENTS[10];
    const cases: [unknown, string][] = [
      [{ ...cpu, access: 'touch' }, '.access: "touch"; expected one of read, write, atomic, prefetch'],
      [{ ...cpu, offset: -1 }, '.offset: -1; expected a whole number from 0'],
      [{ ...cpu, offset: 0.5 }, '.offset: 0.5; expected a whole number from 0'],
      [{ ...cpu, time: '5' }, '.time: "5"; expected a number'],
      [{ ...gpu, gpu: 'cpu' }, '.gpu: "cpu"; expected a GPU (gpu0, gpu1, ...)'],
      [{ ...gpu, gpu: 0 }, '.gpu: 0; expected a processor (cpu, gpu0, gpu1, ...)'],
      [{ ...gpu, batch: null }, '.batch: null; expected a whole number from 0'],
      [{ ...gpu, step: -1 }, '.step: -1; expected a whole number from 0'],
      [{ ...gpu, buffer: 1 }, '.buffer: 1; expected the name of a buffer'],
      [{ ...gpu, client: 'x' }, '.client: "x"; expected a whole number from 0'],
      [{ ...replay, gpuTime: null }, '.gpuTime: null; expected a number'],
      [
        { ...migration, cause: 'policy' },
        '.cause: "policy"; expected one of invalid, user, coherence, prefetch, eviction, accessCounters',
      ],
      [{ ...migration, dst: 'gpu01' }, '.dst: "gpu01"; expected a processor (cpu, gpu0, gpu1, ...)'],
      [
        { ...fatal, reason: 'unknown' },
        '.reason: "unknown"; expected one of invalid, invalidAddress, invalidPermissions, invalidFaultType, ' +
          'outOfMemory, internalError, invalidOperation',
      ],
      [
        { ...EVENTS[5], processors: ['cpu', 5] },
        '.processors: ["cpu",5]; expected a list of processors (cpu, gpu0, gpu1, ...)',
      ],
      [{ event: 'toString' }, `.event: "toString"; expected one of ${EVENT_KINDS.join(', ')}`],
      [5, ': 5; expected an event'],
      [null, ': null; expected an event'],
    ];
    for (const [event, message] of cases) {
      expect(errorOf([event])).toBe(`observed.events[0]${message}`);
    }
    expect(errorOf({})).toBe('observed.events: {}; expected a list of events');
    expect(errorOf(undefined)).toBe('observed.events: missing; expected a list of events');
  });

  it('wants a step in all events or in none', () => {
    const { step: _, ...bare } = EVENTS[0];
    expect(errorOf([bare, bare])).toBe('no error');
    expect(errorOf([EVENTS[1], bare])).toBe(
      'observed.events[1].step: missing, though other events have one; expected all or none',
    );
    expect(errorOf([EVENTS[2], bare], true)).toBe('no error');
  });
});

it('every kind of event is the name of a type of the driver', () => {
  for (const kind of EVENT_KINDS) expect(Object.keys(EVENT_TYPE)).toContain(kind);
});
