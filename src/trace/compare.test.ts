import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { compareEvents } from './compare.ts';
import type { UvmEvent } from './event.ts';

const FROM_0 = { recordedFromStep: 0 };

function cpuFault(step: number | null, offset: number): UvmEvent {
  const event: UvmEvent = { event: 'cpuFault', access: 'read', offset, time: 0 };
  return step === null ? event : { ...event, step };
}

function gpuFault(step: number | null, offset: number, batch: number, gpu = 'gpu0'): UvmEvent {
  const event: UvmEvent = {
    event: 'gpuFault',
    gpu,
    type: 'invalidPte',
    access: 'read',
    offset,
    batch,
    time: 0,
    gpuTime: 0,
  };
  return step === null ? event : { ...event, step };
}

function replay(step: number, gpu = 'gpu0'): UvmEvent {
  return { event: 'replay', step, gpu, batch: 0, time: 0, gpuTime: 0 };
}

function migration(step: number, offset: number): UvmEvent {
  const place = { cause: 'coherence' as const, src: 'cpu', dst: 'gpu0', offset, bytes: 4096 };
  return { event: 'migration', step, ...place, begin: 0, end: 0, gpuBegin: 0, gpuEnd: 0 };
}

/** Eviction, thrashing and throttling, at one place each. */
const EVICTION: UvmEvent = {
  event: 'eviction',
  src: 'gpu0',
  dst: 'cpu',
  offset: 0,
  causedBy: 1,
  bytes: 1,
  time: 0,
  step: 0,
};
const THRASHING: UvmEvent = {
  event: 'thrashing',
  offset: 0,
  bytes: 4096,
  processors: ['cpu', 'gpu0'],
  time: 0,
  step: 0,
};
const THROTTLING: UvmEvent = { event: 'throttlingStart', processor: 'cpu', offset: 0, time: 0, step: 0 };

/** The message of the first difference, or 'same'. */
function message(recorded: UvmEvent[], produced: UvmEvent[], options = FROM_0): string {
  const result = compareEvents(recorded, produced, options);
  expect(result.same).toBe(result.firstDifference === null);
  return result.firstDifference?.message ?? 'same';
}

describe('lists of events', () => {
  it('are the same whatever the order between kinds and the times are', () => {
    const recorded = [gpuFault(0, 0, 5), gpuFault(0, 4096, 5), migration(0, 0), migration(0, 4096), replay(0)];
    const produced = [migration(0, 0), replay(0), migration(0, 4096), gpuFault(0, 0, 77), gpuFault(0, 4096, 77)];
    const later: UvmEvent[] = produced.map((e) => Object.assign({ ...e }, { time: 99, gpuTime: 9, begin: 8, gpc: 7 }));
    expect(compareEvents(recorded, later, FROM_0)).toEqual({
      same: true,
      timeDependent: false,
      firstDifference: null,
      counts: {
        gpuFault: { recorded: 2, produced: 2 },
        replay: { recorded: 1, produced: 1 },
        migration: { recorded: 2, produced: 2 },
      },
    });
  });

  it('differ in order, in a field, in length', () => {
    const r = [migration(3, 0), migration(3, 4096)];
    expect(compareEvents(r, [r[1], r[0]], FROM_0).firstDifference).toEqual({
      step: 3,
      kind: 'migration',
      what: 'events',
      index: 0,
      recorded: 'migration cause=coherence src=cpu dst=gpu0 offset=0 bytes=4096',
      produced: 'migration cause=coherence src=cpu dst=gpu0 offset=4096 bytes=4096',
      message:
        'step 3, migration 0: recorded migration cause=coherence src=cpu dst=gpu0 offset=0 bytes=4096, ' +
        'produced migration cause=coherence src=cpu dst=gpu0 offset=4096 bytes=4096',
    });
    expect(message(r, [r[0]])).toMatch(/^step 3, migration 1: recorded migration .*, produced nothing$/);
    expect(message([r[0]], r)).toMatch(/^step 3, migration 1: recorded nothing, produced migration /);
    expect(message(r, [r[0], { ...r[1], cause: 'prefetch' } as UvmEvent])).toContain(
      'produced migration cause=prefetch',
    );
  });

  it('differ in the number of replays', () => {
    expect(message([replay(0)], [replay(0)])).toBe('same');
    expect(message([replay(0)], [replay(0), replay(0)])).toBe(
      'step 0, replay 1: recorded nothing, produced replay gpu=gpu0',
    );
    expect(message([replay(0, 'gpu1')], [replay(0)])).toContain('step 0, replay 0: recorded replay gpu=gpu1');
  });

  it('name the earliest step and, in it, the first kind', () => {
    const produced = [migration(2, 0), replay(1), migration(1, 0)];
    expect(compareEvents([], produced, FROM_0).firstDifference).toMatchObject({ step: 1, kind: 'replay', index: 0 });
  });

  it('are compared in their own step', () => {
    const recorded = [cpuFault(1, 0), cpuFault(2, 4096)];
    expect(message(recorded, [cpuFault(1, 0), cpuFault(1, 4096)])).toMatch(/^step 1, cpuFault 1: recorded nothing/);
    expect(message(recorded, [cpuFault(2, 4096), cpuFault(1, 0)])).toBe('same');
  });

  it('are compared as one where the recording has no steps', () => {
    const recorded = [cpuFault(null, 0), cpuFault(null, 4096)];
    expect(message(recorded, [cpuFault(1, 0), cpuFault(2, 4096)])).toBe('same');
    expect(message(recorded, [cpuFault(1, 4096), cpuFault(2, 0)])).toMatch(
      /^cpuFault 0: recorded cpuFault access=read offset=0/,
    );
    expect(message(recorded, [cpuFault(0, 0), cpuFault(1, 0), cpuFault(2, 4096)], { recordedFromStep: 1 })).toBe(
      'same',
    );
  });

  it('count from the first recorded step on', () => {
    const recorded = [cpuFault(1, 0)];
    const produced = [migration(0, 0), cpuFault(1, 0)];
    expect(message(recorded, produced, { recordedFromStep: 1 })).toBe('same');
    expect(message(recorded, produced)).toContain('step 0, migration 0');
    expect(message([cpuFault(0, 0), cpuFault(1, 0)], [cpuFault(1, 0)], { recordedFromStep: 1 })).toBe('same');
    expect(message([], [cpuFault(1, 0)], { recordedFromStep: 1 })).toContain('recorded nothing');
    expect(compareEvents(recorded, produced, { recordedFromStep: 1 }).counts).toEqual({
      cpuFault: { recorded: 1, produced: 1 },
    });
  });

  it('compare buffers where the recording names them', () => {
    const named = (buffer: string): UvmEvent => ({ ...cpuFault(0, 0), buffer }) as UvmEvent;
    expect(message([named('a')], [named('b')])).toContain('recorded cpuFault access=read offset=0 buffer=a');
    expect(message([named('a')], [cpuFault(0, 0)])).not.toBe('same');
    expect(message([cpuFault(0, 0)], [named('b')])).toBe('same');
  });

  it('leave out evictions that a recording cannot have', () => {
    expect(message([cpuFault(0, 0)], [cpuFault(0, 0), EVICTION])).toBe('same');
    expect(message([EVICTION], [EVICTION])).toBe('same');
    expect(message([EVICTION], [])).toContain('eviction 0: recorded eviction src=gpu0');
    expect(message([EVICTION], [EVICTION, EVICTION])).toContain('eviction 1: recorded nothing');
  });
});

describe('batches', () => {
  const faults = (batches: number[]): UvmEvent[] => batches.map((batch, i) => gpuFault(0, i * 4096, batch));

  it('are the same by their sizes, not by their numbers', () => {
    expect(message(faults([1, 1, 2]), faults([8, 8, 9]))).toBe('same');
    expect(message(faults([1, 2, 1]), faults([5, 6, 7]))).toBe('same');
  });

  it('differ in size and number', () => {
    expect(compareEvents(faults([1, 1, 2]), faults([1, 2, 2]), FROM_0).firstDifference).toEqual({
      step: 0,
      kind: 'gpuFault',
      what: 'batches',
      index: 0,
      recorded: '2',
      produced: '1',
      message: 'step 0, size of batch 0 of gpu0: recorded 2, produced 1',
    });
    expect(message(faults([1, 2, 3]), faults([1, 2, 2]))).toBe(
      'step 0, size of batch 1 of gpu0: recorded 1, produced 2',
    );
    expect(message(faults([1, 1]), faults([1, 2]))).toBe('step 0, size of batch 0 of gpu0: recorded 2, produced 1');
  });

  it('form on each GPU apart, whatever lies between', () => {
    const of = (second: number): UvmEvent[] => [
      gpuFault(0, 0, 1, 'gpu0'),
      gpuFault(0, 0, 1, 'gpu1'),
      gpuFault(0, 4096, 1, 'gpu0'),
      gpuFault(0, 4096, second, 'gpu1'),
    ];
    expect(message(of(1), of(1))).toBe('same');
    expect(message(of(1), of(2))).toBe('step 0, size of batch 0 of gpu1: recorded 2, produced 1');
  });

  it('end with their step', () => {
    const steps = (batch: number): UvmEvent[] => [gpuFault(0, 0, 1), gpuFault(1, 0, batch)];
    expect(message(steps(1), steps(2))).toBe('same');
    const bare = [gpuFault(null, 0, 1), gpuFault(null, 0, 1)];
    expect(message(bare, steps(1))).toBe('same');
    expect(message(bare, steps(2))).toBe('size of batch 0 of gpu0: recorded 2, produced 1');
  });
});

describe('dependence on time', () => {
  it('is a thrashing or throttling event on either side, in any step', () => {
    const option = { recordedFromStep: 1 };
    for (const event of [THRASHING, THROTTLING, { ...THROTTLING, event: 'throttlingEnd' } as UvmEvent]) {
      expect(compareEvents([event], [], option)).toMatchObject({ same: true, timeDependent: true });
      expect(compareEvents([], [event], option)).toMatchObject({ same: true, timeDependent: true });
    }
    expect(compareEvents([cpuFault(0, 0)], [migration(0, 0)], option).timeDependent).toBe(false);
  });
});

it('finds real recordings the same as themselves, and not with one event less', () => {
  const lines = readFileSync(new URL('../../test/fixtures/real-cases.jsonl', import.meta.url), 'utf8').trim();
  let compared = 0;
  for (const line of lines.split('\n')) {
    const { recordedFromStep, observed } = JSON.parse(line);
    expect(message(observed.events, structuredClone(observed.events), { recordedFromStep })).toBe('same');
    for (let i = 0; i < observed.events.length; i++) {
      compared += 1;
      expect(message(observed.events, observed.events.toSpliced(i, 1), { recordedFromStep })).not.toBe('same');
    }
  }
  expect(compared).toBe(26);
});
