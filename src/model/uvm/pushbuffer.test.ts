import { describe, expect, it } from 'vitest';
import { createMethodMemory } from '../gpu/methods.ts';
import {
  createPushbuffer,
  PUSH_MAX_CONCURRENT_PUSHES,
  pushbufferBeginPush,
  pushbufferEndPush,
  pushbufferMarkCompleted,
} from './pushbuffer.ts';

describe('pushbuffer', () => {
  it('has room for 16 open pushes and not for 17', () => {
    const pushbuffer = createPushbuffer();
    const memory = createMethodMemory();
    const begin = () => pushbufferBeginPush(pushbuffer, memory);
    const open = Array.from({ length: PUSH_MAX_CONCURRENT_PUSHES }, begin);
    expect(new Set(open).size).toBe(16);
    expect(new Set(open.map((push) => push.words)).size).toBe(16);
    expect(begin).toThrow('too many open pushes');
    pushbufferEndPush(pushbuffer, open[5]);
    expect(begin()).toBe(open[5]);
    expect(begin).toThrow('too many open pushes');
  });

  it('reuses a push only after 15 more have begun', () => {
    const pushbuffer = createPushbuffer();
    const memory = createMethodMemory();
    const first = pushbufferBeginPush(pushbuffer, memory);
    first.trackingValue = 9;
    pushbufferEndPush(pushbuffer, first);
    for (let i = 0; i < 15; i++) {
      const push = pushbufferBeginPush(pushbuffer, memory);
      expect(push).not.toBe(first);
      pushbufferEndPush(pushbuffer, push);
    }
    expect(first.trackingValue).toBe(9);
    expect(pushbufferBeginPush(pushbuffer, memory)).toBe(first);
    expect(first.trackingValue).toBe(0);
  });

  it('counts what was ended and not collected', () => {
    const pushbuffer = createPushbuffer();
    const memory = createMethodMemory();
    for (let i = 0; i < 3; i++) pushbufferEndPush(pushbuffer, pushbufferBeginPush(pushbuffer, memory));
    expect(pushbuffer.pendingPushes).toBe(3);
    pushbufferMarkCompleted(pushbuffer);
    expect(pushbuffer.pendingPushes).toBe(2);
  });
});
