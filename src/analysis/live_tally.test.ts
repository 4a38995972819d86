import { describe, expect, it } from 'vitest';
import { encodeEventV2 } from '../device/abi/events.ts';
import {
  createLiveTally,
  hottestBlocks,
  liveLines,
  livePlainLine,
  migratedBytes,
  tallyDrops,
  tallyEntries,
} from './live_tally.ts';

function joined(...entries: Uint8Array[]): Uint8Array {
  return Uint8Array.from(entries.flatMap((entry) => [...entry]));
}

const gpuFault = (address: bigint, batchId: number) =>
  encodeEventV2('gpuFault', { gpuIndex: 1, address, batchId, timeStamp: 5n });
const migration = (cause: number, srcIndex: number, dstIndex: number, migratedBytes: bigint) =>
  encodeEventV2('migration', { migrationCause: cause, srcIndex, dstIndex, address: 0x7f0000000000n, migratedBytes });

const A = 0x7f1200000000n;
const B = A + 0x200000n;

describe('tallyEntries', () => {
  it('counts faults, and batches where their number changes, also across calls', () => {
    const tally = createLiveTally();
    tallyEntries(tally, joined(gpuFault(A, 7), gpuFault(A + 4096n, 7), gpuFault(B, 8)));
    tallyEntries(tally, joined(gpuFault(B + 0x1ff000n, 8), encodeEventV2('cpuFault', { address: A })));
    expect(tally.entries).toBe(5);
    expect(tally.events[3]).toBe(4);
    expect(tally.events[1]).toBe(1);
    expect(tally.batches).toBe(2);
    expect(hottestBlocks(tally, 9)).toEqual([
      { address: A, faults: 3 },
      { address: B, faults: 2 },
    ]);
    expect(hottestBlocks(tally, 1)).toEqual([{ address: A, faults: 3 }]);
  });

  it('adds bytes up by cause and direction', () => {
    const tally = createLiveTally();
    tallyEntries(tally, joined(migration(2, 0, 1, 4096n), migration(2, 0, 1, 65536n), migration(1, 1, 0, 2n ** 33n)));
    tallyEntries(tally, joined(migration(3, 1, 9, 8192n)));
    expect(migratedBytes(tally)).toEqual([
      { what: 'user to cpu', bytes: 2 ** 33 },
      { what: 'coherence to gpu', bytes: 69632 },
      { what: 'prefetch between gpus', bytes: 8192 },
    ]);
  });

  it('takes spans at any place in memory', () => {
    const tally = createLiveTally();
    const shifted = new Uint8Array(73);
    shifted.set(gpuFault(A, 1), 1);
    tallyEntries(tally, shifted.subarray(1));
    expect(tally.events[3]).toBe(1);
    expect(hottestBlocks(tally, 1)).toEqual([{ address: A, faults: 1 }]);
  });
});

describe('the view', () => {
  it('shows totals, and rates since the last time', () => {
    const before = createLiveTally();
    tallyEntries(before, gpuFault(A, 1));
    const now = structuredClone(before);
    tallyEntries(now, joined(gpuFault(A, 1), gpuFault(A, 1), migration(2, 0, 1, 2n ** 21n)));
    tallyDrops(now, 1234);
    const lines = liveLines(before, now, 12.25, 0.5);
    expect(lines[0]).toBe('recording, 12.3 s, 4 events, 1,234 LOST');
    expect(lines[1]).toMatch(/gpu faults +3 {2}4\/s$/);
    expect(lines.join('\n')).toContain('coherence to gpu              2.0 MiB');
    expect(lines.at(-1)).toBe('    0x7f1200000000  3');
    expect(livePlainLine(now, 12.25)).toBe(
      '12.3 s: gpu faults 3 in 1 batches, cpu faults 0, coherence to gpu 2.0 MiB, LOST 1,234',
    );
  });

  it('shows no rate the first time', () => {
    expect(liveLines(null, createLiveTally(), 0)[1]).toMatch(/gpu faults +0$/);
  });
});
