import { describe, expect, it } from 'vitest';
import { createPrng, prngBelow } from '../../base/prng.ts';
import { createMethodMemory } from '../gpu/methods.ts';
import { PUSH_SIZE_MAX } from './push_bytes.ts';
import {
  createPushbuffer,
  PUSH_MAX_CONCURRENT_PUSHES,
  PUSHBUFFER_CHUNK_SIZE,
  PUSHBUFFER_CHUNKS,
  type Push,
  type Pushbuffer,
  pushbufferBeginPush,
  pushbufferEndPush,
  pushbufferHasSpace,
  pushbufferMarkCompleted,
} from './pushbuffer.ts';

const ALL = 2 ** PUSHBUFFER_CHUNKS - 1;
const memory = createMethodMemory();
const begin = (pushbuffer: Pushbuffer): Push => pushbufferBeginPush(pushbuffer, memory);

function end(pushbuffer: Pushbuffer, push: Push, bytes: number): number {
  push.bytes = bytes;
  return pushbufferEndPush(pushbuffer, push);
}

const add = (pushbuffer: Pushbuffer, bytes: number): number => end(pushbuffer, begin(pushbuffer), bytes);
const chunkOf = (push: Push): number => Math.floor(push.offset / PUSHBUFFER_CHUNK_SIZE);

describe('pushes of a pushbuffer', () => {
  it('are 16 at once and not 17', () => {
    const pushbuffer = createPushbuffer();
    const open = Array.from({ length: PUSH_MAX_CONCURRENT_PUSHES }, () => begin(pushbuffer));
    expect(new Set(open).size).toBe(16);
    expect(new Set(open.map((push) => push.words)).size).toBe(16);
    expect(() => begin(pushbuffer)).toThrow('too many open pushes');
    end(pushbuffer, open[5], 24);
    expect(begin(pushbuffer)).toBe(open[5]);
    expect(() => begin(pushbuffer)).toThrow('too many open pushes');
  });

  it('are used again only after 15 more have begun', () => {
    const pushbuffer = createPushbuffer();
    const first = begin(pushbuffer);
    first.trackingValue = 9;
    end(pushbuffer, first, 24);
    for (let i = 0; i < 15; i++) {
      const push = begin(pushbuffer);
      expect(push).not.toBe(first);
      end(pushbuffer, push, 24);
    }
    expect(first.trackingValue).toBe(9);
    expect(begin(pushbuffer)).toBe(first);
    expect(first.trackingValue).toBe(0);
  });

  it('are counted from their end to their collection', () => {
    const pushbuffer = createPushbuffer();
    const spans = [0, 1, 2].map(() => add(pushbuffer, 24));
    expect(pushbuffer.pendingPushes).toBe(3);
    pushbufferMarkCompleted(pushbuffer, spans[1]);
    expect(pushbuffer.pendingPushes).toBe(2);
  });
});

describe('the chunks of a pushbuffer', () => {
  it('take the lowest idle one, then the lowest with room; all are idle again in the end', () => {
    const pushbuffer = createPushbuffer();
    const spans: number[] = [];
    for (let i = 0; i < 16; i++) {
      const push = begin(pushbuffer);
      expect(push.offset).toBe(i * PUSHBUFFER_CHUNK_SIZE);
      spans.push(end(pushbuffer, push, 24));
    }
    expect([pushbuffer.idleChunks, pushbuffer.availableChunks]).toEqual([0, ALL]);
    const open = begin(pushbuffer);
    expect(open.offset).toBe(24);
    // Chunk 0 has a push that is being built, so the next one is in chunk 1, unless another is idle.
    pushbufferMarkCompleted(pushbuffer, spans[7]);
    expect(begin(pushbuffer).offset).toBe(7 * PUSHBUFFER_CHUNK_SIZE);
    expect(begin(pushbuffer).offset).toBe(PUSHBUFFER_CHUNK_SIZE + 24);
    for (const [i, span] of spans.entries()) if (i !== 7) pushbufferMarkCompleted(pushbuffer, span);
    expect(pushbuffer.idleChunks).toBe(ALL & ~0b10000011);
    // Its end looks for room: the 24 bytes before it are free, the chunk goes on behind it.
    const last = end(pushbuffer, open, 24);
    expect([pushbuffer.idleChunks & 1, pushbuffer.availableChunks & 1, pushbuffer.nextPushStart[0]]).toEqual([
      0, 1, 48,
    ]);
    pushbufferMarkCompleted(pushbuffer, last);
    expect([pushbuffer.idleChunks & 1, pushbuffer.nextPushStart[0]]).toEqual([1, 0]);
  });

  it('hold 128 pushes of the largest size, and each completion makes room for one more', () => {
    const pushbuffer = createPushbuffer();
    const spans = Array.from({ length: 128 }, () => add(pushbuffer, PUSH_SIZE_MAX));
    expect([pushbuffer.idleChunks, pushbuffer.availableChunks]).toEqual([0, 0]);
    for (let i = 0; i < 4 * 128; i++) {
      expect(pushbufferHasSpace(pushbuffer)).toBe(false);
      // The oldest one of the lowest chunk, as a GPU that runs them in order.
      pushbufferMarkCompleted(pushbuffer, spans.shift() as number);
      expect(pushbufferHasSpace(pushbuffer)).toBe(true);
      spans.push(add(pushbuffer, PUSH_SIZE_MAX));
    }
    expect(() => begin(pushbuffer)).toThrow('space');
  });

  it('hold as many small pushes as there are, and are all idle when these are completed, in any order', () => {
    const pushbuffer = createPushbuffer();
    const random = createPrng(11);
    const spans = Array.from({ length: 1500 }, () => add(pushbuffer, 24));
    expect(new Set(spans).size).toBe(1500);
    while (spans.length > 0) {
      const [span] = spans.splice(prngBelow(random, spans.length), 1);
      pushbufferMarkCompleted(pushbuffer, span);
      expect(pushbuffer.pendingPushes).toBe(spans.length);
    }
    expect([pushbuffer.idleChunks, pushbuffer.availableChunks]).toEqual([ALL, ALL]);
    // Their places are given out again.
    const again = Array.from({ length: 1500 }, () => add(pushbuffer, 24));
    expect(Math.max(...again)).toBeLessThan(pushbuffer.spans.length);
    expect(pushbuffer.spanCount).toBe(1500);
  });

  it('know the end of a chunk and the push that is pending first', () => {
    const pushbuffer = createPushbuffer();
    pushbuffer.idleChunks = pushbuffer.availableChunks = 1;
    const last = PUSHBUFFER_CHUNK_SIZE - PUSH_SIZE_MAX;
    const spans = [add(pushbuffer, PUSH_SIZE_MAX - 4), add(pushbuffer, PUSH_SIZE_MAX)];
    for (let i = 2; i < 7; i++) spans.push(add(pushbuffer, PUSH_SIZE_MAX));
    // One word more than a push of the largest size is left.
    expect(pushbuffer.nextPushStart[0]).toBe(last - 4);
    spans.push(add(pushbuffer, 8));
    expect(pushbufferHasSpace(pushbuffer)).toBe(false);
    pushbufferMarkCompleted(pushbuffer, spans[0]);
    expect(pushbufferHasSpace(pushbuffer)).toBe(false);
    // In the middle, out of order: no room comes of it, until the first one goes too.
    pushbufferMarkCompleted(pushbuffer, spans[2]);
    expect(pushbufferHasSpace(pushbuffer)).toBe(false);
    pushbufferMarkCompleted(pushbuffer, spans[1]);
    expect([pushbufferHasSpace(pushbuffer), pushbuffer.nextPushStart[0]]).toEqual([true, 0]);
    const wrapped = add(pushbuffer, 3 * PUSH_SIZE_MAX - 4);
    expect(pushbufferHasSpace(pushbuffer)).toBe(false);
    // The last one of the chunk moves its end back.
    pushbufferMarkCompleted(pushbuffer, wrapped);
    expect([pushbufferHasSpace(pushbuffer), pushbuffer.nextPushStart[0]]).toEqual([true, 0]);
  });

  it('never give the same bytes away twice, whatever the order of completion', () => {
    const pushbuffer = createPushbuffer();
    const random = createPrng(7);
    const below = (n: number): number => prngBelow(random, n);
    const open: Push[] = [];
    const pending: { span: number; begin: number; end: number }[] = [];
    let full = 0;
    for (let step = 0; step < 30_000; step++) {
      const what = below(step % 3000 < 1500 ? 5 : 9);
      if (what < 3) {
        if (!pushbufferHasSpace(pushbuffer)) full++;
        else if (open.length < 16) {
          const push = begin(pushbuffer);
          expect(open.some((other) => chunkOf(other) === chunkOf(push))).toBe(false);
          const outer = push.offset + PUSH_SIZE_MAX;
          expect(Math.floor((outer - 1) / PUSHBUFFER_CHUNK_SIZE)).toBe(chunkOf(push));
          expect(pending.filter((other) => other.begin < outer && other.end > push.offset)).toEqual([]);
          open.push({ ...push });
        }
      } else if (what < 5 && open.length > 0) {
        const [{ slot, offset }] = open.splice(below(open.length), 1);
        const bytes = 4 * (6 + below(PUSH_SIZE_MAX / 4 - 6));
        pending.push({ span: end(pushbuffer, pushbuffer.pushes[slot], bytes), begin: offset, end: offset + bytes });
      } else if (what >= 5 && pending.length > 0) {
        pushbufferMarkCompleted(pushbuffer, pending.splice(below(Math.min(pending.length, 6)), 1)[0].span);
      }
    }
    expect(full).toBeGreaterThan(100);
    for (const push of open) end(pushbuffer, pushbuffer.pushes[push.slot], 24);
    expect(pushbuffer.pendingPushes).toBe(pending.length + open.length);
  });
});
