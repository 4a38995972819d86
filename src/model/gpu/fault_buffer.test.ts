import { describe, expect, it } from 'vitest';
import { createPrng, prngBelow } from '../../base/prng.ts';
import { createKernel, registerHandler, runNextEvent, runUntilIdle } from '../kernel/clock.ts';
import type { Model } from '../state.ts';
import {
  createHwFaultBuffer,
  ENGINE_GRAPHICS,
  FAULT_ENTRY_WORDS,
  FAULT_OVERFLOW,
  type FaultEntry,
  faultBufferClearInterrupt,
  faultBufferClearValid,
  faultBufferDisableInterrupt,
  faultBufferEnableInterrupt,
  faultBufferInject,
  faultBufferInterruptArrives,
  faultBufferInterruptTaken,
  faultBufferIsValid,
  faultBufferReadGet,
  faultBufferReadPut,
  faultBufferRetriggerInterrupt,
  faultBufferSetPrefetchFilter,
  faultBufferValidTime,
  faultBufferWriteGet,
  faultEntryDecode,
  faultEntryEncode,
  HW_ACCESS_ATOMIC_STRONG,
  HW_ACCESS_ATOMIC_WEAK,
  HW_ACCESS_PREFETCH,
  HW_ACCESS_READ,
  HW_ACCESS_WRITE,
  type HwFaultBuffer,
  PREFETCH_FILTER_SEND_ALL,
  PREFETCH_FILTER_SEND_NONE,
} from './fault_buffer.ts';

const ZERO: FaultEntry = {
  instanceAperture: 0,
  instanceAddress: 0,
  physicalAperture: 0,
  page: 0,
  timestamp: 0,
  engineId: 0,
  faultType: 0,
  replayable: false,
  client: 0,
  access: 0,
  clientType: 0,
  gpc: 0,
  protectedMode: false,
  replayableEnabled: false,
  valid: false,
};

function words(change: Partial<FaultEntry>): number[] {
  const w = new Uint32Array(FAULT_ENTRY_WORDS);
  faultEntryEncode(w, 0, { ...ZERO, ...change });
  return Array.from(w);
}

/** The bits that a change to an entry of zeros sets, as "word:bit". */
function bits(change: Partial<FaultEntry>): string[] {
  return words(change).flatMap((word, i) =>
    Array.from({ length: 32 }, (_, bit) => bit)
      .filter((bit) => ((word >>> bit) & 1) === 1)
      .map((bit) => `${i}:${bit}`),
  );
}

function range(word: number, first: number, last: number): string[] {
  return Array.from({ length: last - first + 1 }, (_, i) => `${word}:${first + i}`);
}

describe('an entry', () => {
  it('has each field where the class C369 has it', () => {
    expect(bits({ instanceAperture: 3 })).toEqual(range(0, 8, 9));
    expect(bits({ instanceAddress: 2 ** 52 - 1 })).toEqual([...range(0, 12, 31), ...range(1, 0, 31)]);
    expect(bits({ physicalAperture: 3 })).toEqual(range(2, 0, 1));
    expect(bits({ page: 2 ** 52 - 1 })).toEqual([...range(2, 12, 31), ...range(3, 0, 31)]);
    expect(bits({ timestamp: 2 ** 32 - 1 })).toEqual(range(4, 0, 31));
    expect(bits({ timestamp: 2 ** 53 - 2 ** 32 })).toEqual(range(5, 0, 20));
    expect(bits({ engineId: 511 })).toEqual(range(6, 0, 8));
    expect(bits({ faultType: 31 })).toEqual(range(7, 0, 4));
    expect(bits({ replayable: true })).toEqual(['7:7']);
    expect(bits({ client: 127 })).toEqual(range(7, 8, 14));
    expect(bits({ access: 15 })).toEqual(range(7, 16, 19));
    expect(bits({ clientType: 1 })).toEqual(['7:20']);
    expect(bits({ gpc: 31 })).toEqual(range(7, 24, 28));
    expect(bits({ protectedMode: true })).toEqual(['7:29']);
    expect(bits({ replayableEnabled: true })).toEqual(['7:30']);
    expect(bits({ valid: true })).toEqual(['7:31']);
  });

  it('splits addresses below and above 20 bits of 4 KiB units', () => {
    expect(words({ page: 1 })[2]).toBe(0x1000);
    expect(words({ page: 2 ** 20 }).slice(2, 4)).toEqual([0, 1]);
    expect(words({ instanceAddress: 2 ** 20 + 5 }).slice(0, 2)).toEqual([5 << 12, 1]);
  });

  it('decodes to what was encoded', () => {
    const prng = createPrng(7);
    const w = new Uint32Array(3 * FAULT_ENTRY_WORDS);
    for (let i = 0; i < 500; i++) {
      const entry: FaultEntry = {
        instanceAperture: prngBelow(prng, 4),
        instanceAddress: prngBelow(prng, 2 ** 32) * 2 ** 20 + prngBelow(prng, 2 ** 20),
        physicalAperture: prngBelow(prng, 4),
        page: prngBelow(prng, 2 ** 32) * 2 ** 20 + prngBelow(prng, 2 ** 20),
        timestamp: prngBelow(prng, 2 ** 20) * 2 ** 32 + prngBelow(prng, 2 ** 32),
        engineId: prngBelow(prng, 512),
        faultType: prngBelow(prng, 32),
        replayable: prngBelow(prng, 2) === 1,
        client: prngBelow(prng, 128),
        access: prngBelow(prng, 16),
        clientType: prngBelow(prng, 2),
        gpc: prngBelow(prng, 32),
        protectedMode: prngBelow(prng, 2) === 1,
        replayableEnabled: prngBelow(prng, 2) === 1,
        valid: prngBelow(prng, 2) === 1,
      };
      faultEntryEncode(w, FAULT_ENTRY_WORDS, entry);
      expect(faultEntryDecode(w, FAULT_ENTRY_WORDS)).toEqual(entry);
    }
    expect(w.subarray(0, 8)).toEqual(new Uint32Array(8));
    expect(w.subarray(16)).toEqual(new Uint32Array(8));
  });
});

/** Times at which the CPU took an interrupt. */
interface Fixture {
  m: Model;
  b: HwFaultBuffer;
  interrupts: number[];
}

const LATENCY = 1000;

function createFixture(entries: number): Fixture {
  const b = createHwFaultBuffer(entries);
  const interrupts: number[] = [];
  const m = {
    cost: { interruptLatency: LATENCY },
    res: { handlers: [] },
    k: createKernel(),
    gpus: [{ index: 0, faultBuffer: b, instancePointers: [{ address: 0x12345, aperture: 2, vaSpace: 0 }] }],
  } as unknown as Model;
  b.interruptKind = registerHandler(m, (model, gpu, time) => {
    if (!faultBufferInterruptArrives(model, gpu, time)) return;
    interrupts.push(model.k.now);
    faultBufferInterruptTaken(model, gpu);
  });
  return { m, b, interrupts };
}

function inject(m: Model, page: number, time: number, validAt = time): boolean {
  return faultBufferInject(m, 0, page, 1, 2, 3, 4, 0, time, validAt);
}

function pageAt(b: HwFaultBuffer, slot: number): number {
  return faultEntryDecode(b.words, slot * FAULT_ENTRY_WORDS).page;
}

/** The driver's two writes. */
function moveGet(m: Model, index: number): void {
  faultBufferWriteGet(m, 0, index);
  faultBufferWriteGet(m, 0, (index | FAULT_OVERFLOW) >>> 0);
}

describe('the buffer', () => {
  it('writes an entry with all that the driver reads', () => {
    const { m, b } = createFixture(8);
    faultBufferInject(m, 0, 2 ** 33 + 7, 2, 6, 5, 0x35, 0, 5000, 5000);
    m.k.now = 5000;
    expect(faultBufferReadPut(m, b)).toBe(1);
    expect(faultEntryDecode(b.words, 0)).toEqual({
      ...ZERO,
      instanceAperture: 2,
      instanceAddress: 0x12345,
      page: 2 ** 33 + 7,
      timestamp: 4992,
      engineId: ENGINE_GRAPHICS,
      faultType: 6,
      replayable: true,
      client: 0x35,
      access: HW_ACCESS_WRITE,
      gpc: 5,
      replayableEnabled: true,
      valid: true,
    });
  });

  it('writes the hardware access type of each driver access type', () => {
    const { m, b } = createFixture(8);
    for (let access = 0; access < 5; access++) faultBufferInject(m, 0, 0, access, 0, 0, 0, 0, 0, 0);
    faultBufferReadPut(m, b);
    const types = [0, 1, 2, 3, 4].map((slot) => faultEntryDecode(b.words, slot * FAULT_ENTRY_WORDS).access);
    expect(types).toEqual([
      HW_ACCESS_PREFETCH,
      HW_ACCESS_READ,
      HW_ACCESS_WRITE,
      HW_ACCESS_ATOMIC_WEAK,
      HW_ACCESS_ATOMIC_STRONG,
    ]);
  });

  it('moves PUT at the time of arrival and not before', () => {
    const { m, b } = createFixture(8);
    inject(m, 1, 300);
    m.k.now = 299;
    expect(faultBufferReadPut(m, b)).toBe(0);
    m.k.now = 300;
    expect(faultBufferReadPut(m, b)).toBe(1);
  });

  it('orders arrivals by time, and equal times by who came first', () => {
    const { m, b } = createFixture(64);
    const times = [500, 100, 300, 100, 500, 200, 100];
    times.forEach((time, i) => {
      inject(m, i, time);
    });
    m.k.now = 500;
    expect(faultBufferReadPut(m, b)).toBe(7);
    expect(Array.from({ length: 7 }, (_, slot) => pageAt(b, slot))).toEqual([1, 3, 6, 5, 2, 0, 4]);
  });

  it('keeps many arrivals in order while they grow, wrap and are taken out', () => {
    const { m, b } = createFixture(4096);
    const prng = createPrng(3);
    const expected: [number, number][] = [];
    let taken = 0;
    for (let round = 0; round < 40; round++) {
      for (let i = 0; i < 25; i++) {
        const time = m.k.now + prngBelow(prng, 50);
        expected.push([time, round * 25 + i]);
        inject(m, round * 25 + i, time);
      }
      m.k.now += 20;
      const put = faultBufferReadPut(m, b);
      expected.sort((x, y) => x[0] - y[0] || x[1] - y[1]);
      expect(put).toBe(expected.filter(([time]) => time <= m.k.now).length);
      for (; taken < put; taken++) expect(pageAt(b, taken)).toBe(expected[taken][1]);
    }
    expect(taken).toBeGreaterThan(900);
  });

  it('sets a late valid bit at its time, whoever arrived in between', () => {
    const { m, b } = createFixture(8);
    inject(m, 1, 100, 250);
    inject(m, 2, 110);
    m.k.now = 120;
    expect(faultBufferReadPut(m, b)).toBe(2);
    expect(faultBufferIsValid(m, b, 0)).toBe(false);
    expect(faultBufferIsValid(m, b, 1)).toBe(true);
    expect(faultBufferValidTime(m, b, 0)).toBe(250);
    m.k.now = 249;
    expect(faultBufferIsValid(m, b, 0)).toBe(false);
    m.k.now = 250;
    expect(faultBufferIsValid(m, b, 0)).toBe(true);
    faultBufferClearValid(b, 0);
    expect(faultBufferIsValid(m, b, 0)).toBe(false);
    expect(faultBufferValidTime(m, b, 0)).toBe(Number.POSITIVE_INFINITY);
  });

  it('has no valid entry in an empty slot', () => {
    const { m, b } = createFixture(8);
    m.k.now = 1e9;
    expect(faultBufferIsValid(m, b, 0)).toBe(false);
  });

  it('wraps, and is full with one slot left', () => {
    const { m, b } = createFixture(4);
    for (let i = 0; i < 3; i++) inject(m, i, 0);
    expect(faultBufferReadPut(m, b)).toBe(3);
    moveGet(m, 2);
    for (let i = 3; i < 5; i++) inject(m, i, 0);
    expect(faultBufferReadPut(m, b)).toBe(1);
    expect([pageAt(b, 2), pageAt(b, 3), pageAt(b, 0)]).toEqual([2, 3, 4]);
    expect(b.dropped).toBe(0);
    inject(m, 5, 0);
    expect(faultBufferReadPut(m, b)).toBe((1 | FAULT_OVERFLOW) >>> 0);
    expect(b.dropped).toBe(1);
  });

  it('delivers nothing after an overflow until GET moved and the bit is cleared', () => {
    const { m, b } = createFixture(4);
    for (let i = 0; i < 5; i++) inject(m, i, 0);
    expect(faultBufferReadPut(m, b)).toBe((3 | FAULT_OVERFLOW) >>> 0);
    expect(faultBufferReadGet(b)).toBe(FAULT_OVERFLOW);
    expect(b.dropped).toBe(2);
    // The first write moves GET: there is room now, and still nothing is delivered.
    faultBufferWriteGet(m, 0, 3);
    inject(m, 9, 0);
    expect(faultBufferReadPut(m, b)).toBe((3 | FAULT_OVERFLOW) >>> 0);
    expect(b.dropped).toBe(3);
    // The second write clears the bit.
    faultBufferWriteGet(m, 0, (3 | FAULT_OVERFLOW) >>> 0);
    inject(m, 10, 0);
    expect(faultBufferReadPut(m, b)).toBe(0);
    expect(faultBufferReadGet(b)).toBe(3);
    expect(pageAt(b, 3)).toBe(10);
    expect(b.written).toBe(4);
  });

  it('lets a fault that arrives before the write of GET meet the old GET', () => {
    const { m, b } = createFixture(4);
    for (let i = 0; i < 3; i++) inject(m, i, 0);
    inject(m, 3, 50);
    m.k.now = 60;
    moveGet(m, 3);
    expect(b.dropped).toBe(1);
    inject(m, 4, 61);
    m.k.now = 61;
    expect(faultBufferReadPut(m, b)).toBe(0);
  });

  it('reports prefetches unless the filter holds them back, and everything else always', () => {
    const { m, b } = createFixture(8);
    faultBufferSetPrefetchFilter(b, PREFETCH_FILTER_SEND_NONE);
    expect(faultBufferInject(m, 0, 1, 0, 0, 0, 0, 0, 0, 0)).toBe(false);
    expect(faultBufferInject(m, 0, 1, 1, 0, 0, 0, 0, 0, 0)).toBe(true);
    faultBufferSetPrefetchFilter(b, PREFETCH_FILTER_SEND_ALL);
    expect(faultBufferInject(m, 0, 1, 0, 0, 0, 0, 0, 0, 0)).toBe(true);
    expect(faultBufferReadPut(m, b)).toBe(2);
  });

  it('refuses a GET beyond its end', () => {
    const { m } = createFixture(4);
    expect(() => faultBufferWriteGet(m, 0, 4)).toThrow('beyond the buffer');
  });
});

describe('the interrupt', () => {
  it('reaches the CPU a latency after the fault', () => {
    const { m, interrupts } = createFixture(8);
    inject(m, 1, 300);
    runUntilIdle(m);
    expect(interrupts).toEqual([300 + LATENCY]);
  });

  it('is one for the faults that arrive while it is on its way', () => {
    const { m, interrupts } = createFixture(8);
    for (let i = 0; i < 4; i++) inject(m, i, 100 * i);
    runUntilIdle(m);
    expect(interrupts).toEqual([LATENCY]);
  });

  it('comes for an earlier fault at the earlier time', () => {
    const { m, interrupts } = createFixture(8);
    inject(m, 1, 800);
    inject(m, 2, 500);
    runNextEvent(m);
    expect(interrupts).toEqual([500 + LATENCY]);
    runUntilIdle(m);
    expect(interrupts).toEqual([500 + LATENCY]);
  });

  it('comes again for a fault that arrives after it', () => {
    const { m, interrupts } = createFixture(8);
    inject(m, 1, 0);
    inject(m, 2, LATENCY + 1);
    runUntilIdle(m);
    expect(interrupts).toEqual([LATENCY, 2 * LATENCY + 1]);
  });

  it('does not come while it is disabled, and comes when a pending one is enabled', () => {
    const { m, b, interrupts } = createFixture(8);
    faultBufferDisableInterrupt(m, 0);
    inject(m, 1, 10);
    runUntilIdle(m);
    m.k.now = 50;
    faultBufferRetriggerInterrupt(m, 0);
    runUntilIdle(m);
    expect(interrupts).toEqual([]);
    expect(b.interruptPending).toBe(true);
    m.k.now = 60;
    faultBufferEnableInterrupt(m, 0);
    runUntilIdle(m);
    expect(interrupts).toEqual([60 + LATENCY]);
  });

  it('is forgotten when it is disabled on its way', () => {
    const { m, interrupts } = createFixture(8);
    inject(m, 1, 0);
    m.k.now = 500;
    faultBufferDisableInterrupt(m, 0);
    runUntilIdle(m);
    expect(interrupts).toEqual([]);
  });

  it('is forgotten when its pending bit is cleared, and raised anew by a write of GET while GET is not PUT', () => {
    const { m, interrupts } = createFixture(8);
    inject(m, 1, 0);
    faultBufferReadPut(m, m.gpus[0].faultBuffer);
    faultBufferDisableInterrupt(m, 0);
    faultBufferClearInterrupt(m, 0);
    faultBufferEnableInterrupt(m, 0);
    runUntilIdle(m);
    expect(interrupts).toEqual([]);
    m.k.now = 5000;
    faultBufferWriteGet(m, 0, 0);
    runUntilIdle(m);
    expect(interrupts).toEqual([5000 + LATENCY]);
    m.k.now = 9000;
    faultBufferClearInterrupt(m, 0);
    faultBufferWriteGet(m, 0, 1);
    runUntilIdle(m);
    expect(interrupts).toEqual([5000 + LATENCY]);
  });

  it('comes for a fault that is on its way when it is enabled', () => {
    const { m, interrupts } = createFixture(8);
    faultBufferDisableInterrupt(m, 0);
    inject(m, 1, 700);
    m.k.now = 100;
    faultBufferEnableInterrupt(m, 0);
    runUntilIdle(m);
    expect(interrupts).toEqual([700 + LATENCY]);
  });
});
