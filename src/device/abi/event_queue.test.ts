import { describe, expect, it } from 'vitest';
import { createPrng, prngBelow, prngChance } from '../../base/prng.ts';
import {
  CONTROL_BUFFER_BYTES,
  createEventQueueReader,
  createEventQueueWriter,
  drainEventQueue,
  enqueueEvent,
  eventQueuePending,
  eventQueuePoll,
  eventQueueReadable,
  takeDropped,
} from './event_queue.ts';
import { EVENT_ENTRY_BYTES_V1, EVENT_ENTRY_BYTES_V2 } from './events.ts';

interface Pair {
  reader: ReturnType<typeof createEventQueueReader>;
  writer: ReturnType<typeof createEventQueueWriter>;
  control: Uint8Array;
}

function pair(size: number, bytes = EVENT_ENTRY_BYTES_V2, shared = false): Pair {
  const controlMemory = shared ? new SharedArrayBuffer(4096) : new ArrayBuffer(4096);
  const ringMemory = shared ? new SharedArrayBuffer(size * bytes) : new ArrayBuffer(size * bytes);
  const control = new Uint8Array(controlMemory);
  const ring = new Uint8Array(ringMemory);
  return {
    reader: createEventQueueReader(control, ring, bytes),
    writer: createEventQueueWriter(control, ring, bytes),
    control,
  };
}

/** An entry whose every byte tells its type and number. */
function entry(type: number, number: number, bytes = EVENT_ENTRY_BYTES_V2): Uint8Array {
  const e = new Uint8Array(bytes).fill(number % 251);
  e[0] = type;
  new DataView(e.buffer).setUint32(4, number, true);
  return e;
}

function whole(e: Uint8Array, number: number): boolean {
  return entry(e[0], number, e.length).every((byte, i) => byte === e[i]);
}

/** Types and numbers of all that wait, in order; every entry is checked to be whole. */
function drain(p: Pair): [number, number][] {
  const got: [number, number][] = [];
  const { entryBytes } = p.reader;
  const count = drainEventQueue(p.reader, (span) => {
    for (let at = 0; at < span.length; at += entryBytes) {
      const e = span.slice(at, at + entryBytes);
      const number = new DataView(e.buffer).getUint32(4, true);
      if (!whole(e, number)) throw new Error(`entry ${number} is torn`);
      got.push([e[0], number]);
    }
  });
  expect(count).toBe(got.length);
  return got;
}

const words = (p: Pair): number[] => [...new Uint32Array(p.control.buffer, 0, 4)];

describe('the control buffer', () => {
  it('has the positions of reader and writer and 64 counters of 64 bits', () => {
    expect(CONTROL_BUFFER_BYTES).toBe(16 + 64 * 8);
    const p = pair(4);
    for (let i = 0; i < 3; i++) enqueueEvent(p.writer, entry(2, i));
    expect(words(p)).toEqual([0, 0, 3, 3]);
    enqueueEvent(p.writer, entry(13, 3));
    enqueueEvent(p.writer, entry(63, 4));
    enqueueEvent(p.writer, entry(63, 5));
    expect(words(p)).toEqual([0, 0, 3, 3]);
    const counters = new BigUint64Array(p.control.buffer, 16, 64);
    expect([counters[13], counters[63]]).toEqual([1n, 2n]);
    drain(p);
    expect(words(p)).toEqual([3, 3, 3, 3]);
  });

  it('carries from the low half of a counter into the high one', () => {
    const p = pair(2);
    const counters = new BigUint64Array(p.control.buffer, 16, 64);
    counters[2] = 0xffffffffn;
    enqueueEvent(p.writer, entry(2, 0));
    enqueueEvent(p.writer, entry(2, 1));
    expect(counters[2]).toBe(0x100000000n);
    enqueueEvent(p.writer, entry(2, 2));
    expect(counters[2]).toBe(0x100000001n);
    expect(takeDropped(p.reader)).toEqual([[2, 0x100000001]]);
  });

  it('is refused when it is too small or crooked, and so is a ring of another size', () => {
    const ring = new Uint8Array(4 * 72);
    const control = new Uint8Array(CONTROL_BUFFER_BYTES);
    expect(() => createEventQueueReader(control.subarray(1), ring, 72)).toThrow('a control buffer of 527 bytes');
    const crooked = new Uint8Array(600).subarray(2);
    expect(() => createEventQueueReader(crooked, ring, 72)).toThrow('a control buffer at byte 2');
    for (const entries of [0, 1, 3, 6]) {
      const wrong = new Uint8Array(entries * 72);
      expect(() => createEventQueueWriter(control, wrong, 72)).toThrow(
        `has ${entries} entries; expected a power of two`,
      );
    }
    expect(() => createEventQueueReader(control, new Uint8Array(100), 72)).toThrow('expected a power of two');
    expect(createEventQueueReader(control, new Uint8Array(2 * 72), 72).size).toBe(2);
  });
});

describe('draining', () => {
  it('takes a queue that wraps around in two spans', () => {
    const p = pair(4);
    for (let i = 0; i < 3; i++) enqueueEvent(p.writer, entry(1, i));
    drain(p);
    for (let i = 3; i < 6; i++) enqueueEvent(p.writer, entry(1, i));
    const spans: number[] = [];
    expect(drainEventQueue(p.reader, (span) => spans.push(span.length / 72))).toBe(3);
    expect(spans).toEqual([1, 2]);
    expect(eventQueuePending(p.reader)).toBe(0);
  });

  it('releases no span whose reader throws', () => {
    const p = pair(4);
    for (let i = 0; i < 3; i++) enqueueEvent(p.writer, entry(1, i));
    drain(p);
    for (let i = 3; i < 6; i++) enqueueEvent(p.writer, entry(1, i));
    let spans = 0;
    expect(() =>
      drainEventQueue(p.reader, () => {
        if (++spans === 2) throw new Error('full disk');
      }),
    ).toThrow('full disk');
    expect(drain(p)).toEqual([
      [1, 4],
      [1, 5],
    ]);
  });

  it('ignores what lies beyond the size in positions that others wrote', () => {
    const p = pair(4);
    new Uint32Array(p.control.buffer).fill(0xfffffffc, 0, 4);
    enqueueEvent(p.writer, entry(1, 7));
    expect(words(p).slice(2)).toEqual([1, 1]);
    expect(drain(p)).toEqual([[1, 7]]);
  });
});

describe('waking', () => {
  it('happens at the threshold, once for each position of the reader', () => {
    const p = pair(8);
    expect(p.writer.threshold).toBe(4);
    const woken = Array.from({ length: 6 }, (_, i) => enqueueEvent(p.writer, entry(1, i)));
    expect(woken).toEqual([false, false, false, true, false, false]);
    drain(p);
    expect(Array.from({ length: 5 }, (_, i) => enqueueEvent(p.writer, entry(1, i)))).toEqual([
      false,
      false,
      false,
      true,
      false,
    ]);
  });

  it('happens again for the same position after a poll', () => {
    const p = pair(8);
    for (let i = 0; i < 4; i++) enqueueEvent(p.writer, entry(1, i));
    expect(enqueueEvent(p.writer, entry(1, 4))).toBe(false);
    expect(eventQueuePoll(p.writer)).toBe(true);
    expect(enqueueEvent(p.writer, entry(1, 5))).toBe(true);
  });

  it('follows the threshold: 0 is always readable, the size never', () => {
    const p = pair(4);
    p.writer.threshold = 0;
    expect(eventQueueReadable(p.writer)).toBe(true);
    p.writer.threshold = 4;
    for (let i = 0; i < 3; i++) expect(enqueueEvent(p.writer, entry(1, i))).toBe(false);
    expect(eventQueuePoll(p.writer)).toBe(false);
    p.writer.threshold = 3;
    expect(eventQueuePoll(p.writer)).toBe(true);
  });
});

/** The same history against a plain array of what must be in the queue. */
function history(seed: number, size: number, bytes: number, shared: boolean): { dropped: number; wraps: number } {
  const prng = createPrng(seed);
  const p = pair(size, bytes, shared);
  const queue: [number, number][] = [];
  const lost = new Map<number, number>();
  let told = new Map<number, number>();
  let number = 0;
  let dropped = 0;
  for (let round = 0; round < 60; round++) {
    for (let burst = prngBelow(prng, size + 3); burst > 0; burst--) {
      const type = 1 + prngBelow(prng, 14);
      enqueueEvent(p.writer, entry(type, number, bytes));
      if (queue.length < size - 1) queue.push([type, number]);
      else {
        lost.set(type, (lost.get(type) ?? 0) + 1);
        dropped++;
      }
      number++;
    }
    expect(eventQueuePending(p.reader)).toBe(queue.length);
    if (prngChance(prng, 2, 3)) expect(drain(p)).toEqual(queue.splice(0));
    if (prngChance(prng, 1, 2)) {
      const news = [...lost].map(([type, n]) => [type, n - (told.get(type) ?? 0)]).filter(([, n]) => n > 0);
      expect(takeDropped(p.reader)).toEqual(news.sort((a, b) => a[0] - b[0]));
      told = new Map(lost);
    }
  }
  return { dropped, wraps: Math.floor((number - dropped) / size) };
}

describe('random histories', () => {
  it.each([2, 4, 8, 16, 32, 64])('of %i entries, against a plain array', (size) => {
    let dropped = 0;
    let wraps = 0;
    for (let seed = 0; seed < 12; seed++) {
      const bytes = seed % 2 === 0 ? EVENT_ENTRY_BYTES_V2 : EVENT_ENTRY_BYTES_V1;
      const result = history(seed * 100 + size, size, bytes, seed % 3 === 0);
      dropped += result.dropped;
      wraps += result.wraps;
    }
    expect(dropped).toBeGreaterThan(20);
    expect(wraps).toBeGreaterThan(100);
  });
});
