import { describe, expect, it } from 'vitest';
import type { UvmEvent } from '../trace/event.ts';
import { addTallies, flowBytes, summarize } from './summary.ts';

function gpuFault(step: number, gpu: string, batch: number): UvmEvent {
  return { event: 'gpuFault', gpu, type: 'invalidPte', access: 'read', step, offset: 0, batch, time: 0, gpuTime: 0 };
}

function migration(step: number, cause: 'coherence' | 'prefetch', dst: string, bytes: number): UvmEvent {
  const times = { begin: 0, end: 0, gpuBegin: 0, gpuEnd: 0 };
  return { event: 'migration', cause, src: 'cpu', dst, step, offset: 0, bytes, ...times };
}

describe('summarize', () => {
  it('counts events in their steps and sums them up', () => {
    const events: UvmEvent[] = [
      { event: 'cpuFault', access: 'write', step: 0, offset: 0, time: 0 },
      { event: 'cpuFault', access: 'write', step: 0, offset: 4096, time: 0 },
      gpuFault(1, 'gpu0', 7),
      { event: 'replay', gpu: 'gpu0', step: 1, batch: 7, time: 0, gpuTime: 0 },
      { event: 'thrashing', step: 1, offset: 0, bytes: 4096, processors: ['cpu', 'gpu0'], time: 0 },
      { event: 'throttlingStart', step: 1, processor: 'cpu', offset: 0, time: 0 },
      { event: 'throttlingEnd', step: 1, processor: 'cpu', offset: 0, time: 0 },
      { event: 'readDuplicate', step: 1, offset: 0, bytes: 4096, processors: ['cpu', 'gpu0'], time: 0 },
    ];
    const { steps, total } = summarize(events, [10, 20.5]);
    expect(steps.map((s) => s.cpuFaults)).toEqual([2, 0]);
    expect(steps.map((s) => s.gpuFaults)).toEqual([0, 1]);
    expect(steps.map((s) => s.replays)).toEqual([0, 1]);
    expect(steps.map((s) => s.wallMicroseconds)).toEqual([10, 20.5]);
    expect(total).toMatchObject({
      cpuFaults: 2,
      thrashing: 1,
      throttlings: 1,
      readDuplicates: 1,
      wallMicroseconds: 30.5,
    });
  });

  it('counts batches by GPU, also where two GPUs take turns', () => {
    const events = [
      gpuFault(0, 'gpu0', 1),
      gpuFault(0, 'gpu1', 1),
      gpuFault(0, 'gpu0', 1),
      gpuFault(0, 'gpu1', 2),
      gpuFault(1, 'gpu0', 2),
    ];
    expect(summarize(events, [1, 1]).steps.map((s) => s.batches)).toEqual([3, 1]);
  });

  it('keeps causes and directions apart', () => {
    const events = [
      migration(0, 'coherence', 'gpu0', 4096),
      migration(0, 'prefetch', 'gpu0', 61440),
      migration(0, 'coherence', 'gpu1', 4096),
      migration(0, 'coherence', 'gpu0', 8192),
    ];
    const { migrations } = summarize(events, [1]).total;
    expect(migrations).toEqual([
      { cause: 'coherence', src: 'cpu', dst: 'gpu0', count: 2, bytes: 12288 },
      { cause: 'prefetch', src: 'cpu', dst: 'gpu0', count: 1, bytes: 61440 },
      { cause: 'coherence', src: 'cpu', dst: 'gpu1', count: 1, bytes: 4096 },
    ]);
    expect(flowBytes(migrations)).toBe(77824);
  });

  it('counts events that name no step in the first', () => {
    const event: UvmEvent = { event: 'cpuFault', access: 'read', offset: 0, time: 0 };
    expect(summarize([event], []).steps).toHaveLength(1);
    expect(summarize([event], [1, 2]).steps[0].cpuFaults).toBe(1);
  });
});

describe('addTallies', () => {
  it('joins equal flows and leaves the summands alone', () => {
    const a = summarize([migration(0, 'prefetch', 'gpu0', 4096)], [3]).total;
    const b = summarize([migration(0, 'prefetch', 'gpu0', 8192)], [4]).total;
    const sum = addTallies([a, b]);
    expect(sum.wallMicroseconds).toBe(7);
    expect(sum.migrations).toEqual([{ cause: 'prefetch', src: 'cpu', dst: 'gpu0', count: 2, bytes: 12288 }]);
    expect(a.migrations[0].count).toBe(1);
  });
});
