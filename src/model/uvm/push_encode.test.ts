import { describe, expect, it } from 'vitest';
import { createChannelModel } from '../../../test/support/channel_model.ts';
import { createConfComputingModel } from '../../../test/support/conf_computing_model.ts';
import { wordAt } from '../gpu/byte_memory.ts';
import { METHOD_NAMES, METHOD_WORDS } from '../gpu/methods.ts';
import { makePte, PTE_BIG_UNMAPPED, PTE_INVALID, PTE_LEVEL_2M, PTE_LEVEL_4K, PTE_LEVEL_BIG } from '../gpu/mmu.ts';
import { methodsWalk } from '../gpu/work_launch.ts';
import type { Model } from '../state.ts';
import { CHANNEL_TYPE_MEMOPS } from './channel.ts';
import { confComputingOf } from './conf_computing.ts';
import {
  PURPOSE_CLEAR_FAULTED,
  PURPOSE_TEST,
  type Push,
  pushBegin,
  pushBeginAcquire,
  pushCancel,
  pushCopy,
  pushCopyIn,
  pushCopyOut,
  pushEnd,
  pushMemset,
  pushPte,
  pushReplay,
  pushSecureCopy,
  pushSecureCopyAt,
  pushTimestamp,
  pushTlbInvalidate,
} from './push.ts';
import { CLEAR_FAULTED_BYTES } from './push_bytes.ts';
import { codeBytes, codeInlineRoom, codeNoop, createPushCode } from './push_code.ts';
import { pushEncode } from './push_encode.ts';
import { pushbufferGpuVa } from './secure_memory.ts';
import { createTracker, trackerAddPush } from './tracker.ts';

const PAGE = 2 ** 34;
const PTE = makePte(3, 1);

type Fill = (m: Model, push: Push) => void;

/** One push for each kind of method, and for each way in which entries are written. */
const PUSHES: Record<string, Fill> = {
  nothing: () => {},
  copy: (m, push) => pushCopy(m, push, 1, 0, PAGE, 16, false),
  'copies of one page': (m, push) => pushCopy(m, push, 0, 1, PAGE, 16, true),
  'copy out of a page': (m, push) => pushCopyOut(m, push, 1, PAGE, 100, 0, 8, 5000),
  'copy into a page': (m, push) => pushCopyIn(m, push, 1, PAGE, 8, 0, 8, 100),
  memset: (m, push) => pushMemset(m, push, 1, PAGE, 16),
  'four entries': (m, push) => pushPte(m, push, PTE_LEVEL_4K, PAGE + 1, 4, PTE),
  'five entries, in two calls': (m, push) => {
    pushPte(m, push, PTE_LEVEL_4K, PAGE, 3, PTE);
    pushPte(m, push, PTE_LEVEL_4K, PAGE + 3, 2, makePte(1, 0));
  },
  'entries that do not follow one another': (m, push) => {
    pushPte(m, push, PTE_LEVEL_BIG, PAGE, 3, PTE);
    pushPte(m, push, PTE_LEVEL_BIG, PAGE + 64, 2, PTE);
    pushPte(m, push, PTE_LEVEL_2M, PAGE, 1, PTE);
  },
  'a whole table, set and cleared': (m, push) => {
    pushPte(m, push, PTE_LEVEL_4K, PAGE, 512, PTE);
    pushPte(m, push, PTE_LEVEL_4K, PAGE, 512, PTE_INVALID);
    pushPte(m, push, PTE_LEVEL_BIG, PAGE, 32, PTE_BIG_UNMAPPED);
  },
  'a directory entry among others': (m, push) => {
    pushPte(m, push, PTE_LEVEL_4K, PAGE, 2, PTE);
    pushPte(m, push, 1, PAGE, 1, PTE_INVALID);
    pushPte(m, push, PTE_LEVEL_2M, PAGE, 1, PTE_INVALID);
  },
  'invalidates behind entries': (m, push) => {
    pushPte(m, push, PTE_LEVEL_4K, PAGE, 2, PTE);
    pushTlbInvalidate(m, push, PAGE, 512, false, true);
    pushTlbInvalidate(m, push, PAGE, 512, true, false);
  },
  'replay and cancel': (m, push) => {
    pushReplay(m, push, 1);
    pushCancel(m, push, PAGE, 0, 7);
  },
  timestamps: (m, push) => {
    for (let i = 0; i < 3; i++) {
      pushTimestamp(m, push);
      pushMemset(m, push, 1, PAGE, 1);
    }
  },
  'secure copies of pages': (m, push) => {
    pushSecureCopy(m, push, true, 1, PAGE, 0, 4096, 1, 0);
    pushSecureCopy(m, push, true, 1, PAGE, 32, 100, 1, 1);
    pushSecureCopy(m, push, false, 1, PAGE, 0, 4096, 1, 2);
  },
  'secure copies between addresses': (m, push) => {
    pushSecureCopyAt(m, push, false, 2 ** 45, 2 ** 30, 64, 2 ** 46);
    pushSecureCopyAt(m, push, true, 2 ** 30, 2 ** 45, 64, 2 ** 46);
  },
};

function run(m: Model, fill: Fill, offset = 0): { push: Push; bytes: Uint8Array } {
  const push = pushBegin(m, 0, CHANNEL_TYPE_MEMOPS, PURPOSE_TEST);
  push.offset += offset;
  fill(m, push);
  pushEnd(m, push);
  return { push, bytes: codeBytes(pushEncode(m, push).code) };
}

describe('the bytes of a push', () => {
  const bare = () => createChannelModel({ contents: false });

  it.each(Object.entries(PUSHES))('are as many as were counted: %s', (_name, fill) => {
    for (const offset of [0, 4, 8, 12]) {
      const { push, bytes } = run(bare(), fill, offset);
      expect(bytes.length).toBe(push.bytes);
      expect(methodsWalk(bytes, () => true)).toBe(true);
    }
  });

  it('were compared for every kind of method', () => {
    const seen = new Set<number>();
    for (const fill of Object.values(PUSHES)) {
      const { push } = run(bare(), fill);
      for (let i = 0; i < push.length; i += METHOD_WORDS[push.words[i]]) seen.add(push.words[i]);
    }
    expect([...seen].sort((a, b) => a - b)).toEqual(METHOD_NAMES.map((_, i) => i).slice(1));
  });

  it('are as many as were counted with acquires, and for a channel that is let go on', () => {
    const m = createChannelModel();
    const tracker = createTracker();
    for (let i = 0; i < 3; i++) trackerAddPush(tracker, run(m, PUSHES.memset).push);
    const first = pushBegin(m, 0, 0, PURPOSE_TEST);
    pushMemset(m, first, 1, PAGE, 512);
    pushEnd(m, first);
    trackerAddPush(tracker, first);
    const push = pushBeginAcquire(m, 0, CHANNEL_TYPE_MEMOPS, PURPOSE_CLEAR_FAULTED, tracker);
    expect(push.acquireCount).toBeGreaterThan(0);
    push.bytes += CLEAR_FAULTED_BYTES;
    pushEnd(m, push);
    expect(codeBytes(pushEncode(m, push).code)).toHaveLength(push.bytes);
  });

  it('are the words of the classes', () => {
    const { push, bytes } = run(bare(), (m, one) => pushPte(m, one, PTE_LEVEL_4K, PAGE, 1, PTE));
    const words = Array.from({ length: bytes.length / 4 }, (_, i) => wordAt(bytes, 4 * i));
    // memset_8 of an entry, physical and pipelined; wait for idle; membar; release of the semaphore with a flush.
    expect(words.slice(0, 4)).toEqual([0x200381c0, PTE, 0, 0x01030054]);
    expect(words.slice(4, 6)).toEqual([0x20018099, 0]);
    expect(words[6]).toBe(0x20028102);
    expect(words.slice(9, 11)).toEqual([0x20018106, 1]);
    expect(words.slice(11, 13)).toEqual([0x200180c0, 0x04002581]);
    expect(words.slice(13, 20)).toEqual([0x2001001e, 0, 0x2004000a, 0, 0, 1, 0x28000000]);
    expect(words[20]).toBe(0x20038090);
    expect(words.slice(23)).toEqual([push.trackingValue, 0x200180c0, 0x0400000c]);
  });

  it('have room for data behind a NOP, longer than one NOP can be', () => {
    const code = createPushCode(pushbufferGpuVa(4));
    const at = codeInlineRoom(code, 16, 16);
    expect([at % 16, codeBytes(code).length]).toEqual([0, 4 + 8 + 16]);
    codeNoop(code, 4 * 0x2000 + 8);
    expect(codeBytes(code)).toHaveLength(28 + 4 * 0x2000 + 8);
    expect(methodsWalk(codeBytes(code), () => false)).toBe(true);
  });
});

it('the bytes of a push with Confidential Computing have its encryptions', () => {
  const m = createConfComputingModel({ contents: true });
  m.res.pushCallbacks.push(() => {});
  const { push, bytes } = run(m, (_m, one) => {
    pushTlbInvalidate(m, one, PAGE, 1, true, false);
    one.onComplete = m.res.pushCallbacks.length - 1;
  });
  expect(bytes.length).toBe(push.bytes);
  const modes: number[] = [];
  methodsWalk(bytes, (_subchannel, method, data) => {
    if (method === 0x500) modes.push(data);
    return true;
  });
  expect(modes).toEqual([0, 0]);
  expect(confComputingOf(m.gpus[0].channelManager).bundles.size).toBe(1);
});
