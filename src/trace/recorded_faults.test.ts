import { describe, expect, it } from 'vitest';
import { STREAM_CPU_FAULT } from '../scenario/fault_stream.ts';
import type { Allocation } from '../scenario/scenario.ts';
import type { FaultEvent } from './event.ts';
import { faultStream } from './recorded_faults.ts';

const ALLOCATIONS: Allocation[] = [{ name: 'a', bytes: 2 ** 20, pages: 256, firstPage: 1000, kind: 'managed' }];

function gpu(page: number, batch: number, time: number, gpuTime: number, more: Partial<FaultEvent> = {}): FaultEvent {
  const fault = { event: 'gpuFault', gpu: 'gpu0', type: 'invalidPte', access: 'read', offset: page * 4096 } as const;
  return { ...fault, batch, time, gpuTime, ...more } as FaultEvent;
}

function cpu(page: number, time: number): FaultEvent {
  return { event: 'cpuFault', access: 'write', offset: page * 4096, time };
}

/** Entries as `page` with `c` before CPU faults, batches apart. */
function order(faults: FaultEvent[]): string {
  const result = faultStream(faults, ALLOCATIONS);
  if (!result.ok) throw new Error(result.error);
  const { stream } = result;
  let text = '';
  for (let i = 0; i < stream.count; i++) {
    const isCpu = stream.kind[i] === STREAM_CPU_FAULT;
    if (i > 0)
      text +=
        !isCpu && stream.kind[i - 1] !== STREAM_CPU_FAULT && stream.batch[i] === stream.batch[i - 1] ? ' ' : ' | ';
    text += `${isCpu ? 'c' : ''}${stream.page[i] - 1000}`;
  }
  return text;
}

describe('faultStream', () => {
  it('orders a batch by GPU time, and entries of one GPU time as they are listed', () => {
    expect(order([gpu(1, 0, 5, 64), gpu(2, 0, 5, 32), gpu(3, 0, 5, 64), gpu(4, 0, 5, 32)])).toBe('2 4 1 3');
  });

  it('puts CPU faults and batches into the order of their times', () => {
    expect(order([gpu(1, 0, 20, 0), gpu(2, 1, 40, 0), cpu(3, 30), cpu(4, 10)])).toBe('c4 | 1 | c3 | 2');
  });

  it('keeps a batch whole when a fault of another processor is listed inside it', () => {
    const other = gpu(9, 5, 11, 0, { gpu: 'gpu1' });
    expect(order([gpu(1, 0, 10, 0), cpu(8, 12), other, gpu(2, 0, 13, 1), gpu(3, 1, 14, 0)])).toBe('1 2 | 9 | c8 | 3');
  });

  it('names a fault that lies in no buffer', () => {
    expect(faultStream([gpu(256, 0, 0, 0)], ALLOCATIONS)).toMatchObject({ ok: false });
    expect(faultStream([gpu(255, 0, 0, 0)], ALLOCATIONS).ok).toBe(true);
    const result = faultStream([gpu(0, 0, 0, 0, { buffer: 'b' })], ALLOCATIONS);
    expect(!result.ok && result.error).toContain("of buffer 'b', which does not exist");
  });
});
