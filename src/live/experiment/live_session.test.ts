import { describe, expect, it } from 'vitest';
import type { UvmEvent } from '../../trace/event.ts';
import { awaitsReplay, namedProcessors } from './live_session.ts';

const fault = (batch: number, gpu = 'gpu0'): UvmEvent => ({
  event: 'gpuFault',
  gpu,
  type: 'invalidPte',
  access: 'read',
  batch,
  offset: 0,
  time: 1,
  gpuTime: 1,
});
const replay = (batch: number, gpu = 'gpu0'): UvmEvent => ({ event: 'replay', gpu, batch, time: 1, gpuTime: 1 });
const CPU_FAULT: UvmEvent = { event: 'cpuFault', access: 'read', offset: 0, time: 1 };

describe('a replay', () => {
  it.each<[string, UvmEvent[], boolean]>([
    ['nothing', [], false],
    ['no fault of a GPU', [CPU_FAULT, replay(3)], false],
    ['a fault alone', [fault(5)], true],
    ['an earlier replay', [replay(5), fault(5)], true],
    ['the replay of the batch before', [fault(4), fault(5), replay(4)], true],
    ['the replay of the batch', [fault(4), fault(5), replay(5)], false],
    ['the replay of a later batch', [fault(5), replay(6)], false],
    ['a fault behind the replay', [fault(5), replay(5), fault(6)], true],
    ['the other GPU waiting', [fault(5), fault(9, 'gpu1'), replay(5)], true],
    ['the other GPU replaying', [fault(5), replay(5, 'gpu1')], true],
    ['both GPUs done', [fault(5), fault(9, 'gpu1'), replay(9, 'gpu1'), replay(5)], false],
    ['a number that has wrapped', [fault(2 ** 32 - 1), replay(0)], false],
    ['a number that is to wrap', [fault(0), replay(2 ** 32 - 1)], true],
    ['almost half of all numbers later', [fault(5), replay(5 + 2 ** 31 - 1)], false],
    ['half of all numbers later', [fault(5), replay(5 + 2 ** 31)], true],
  ])('after %s is awaited or not', (_what, events, awaited) => {
    expect(awaitsReplay(events, 0)).toBe(awaited);
  });

  it('of an earlier step does not count', () => {
    expect(awaitsReplay([fault(5), CPU_FAULT], 1)).toBe(false);
    expect(awaitsReplay([fault(5), fault(6), replay(5)], 1)).toBe(true);
  });
});

it('GPUs are named by their numbers in CUDA, and others as they were', () => {
  const processors = [
    { number: 0, word: 'cpu', uuid: 'c' },
    { number: 1, word: 'gpu0', uuid: 'x' },
    { number: 9, word: 'gpu1', uuid: 'y' },
    { number: 17, word: 'gpu2', uuid: 'z' },
  ];
  const devices = [
    { ordinal: 0, name: 'A', uuid: 'y' },
    { ordinal: 1, name: 'B', uuid: 'x' },
  ];
  expect(namedProcessors(processors, { devices }).map(({ number, word }) => [number, word])).toEqual([
    [0, 'cpu'],
    [1, 'gpu1'],
    [9, 'gpu0'],
    [17, 'gpu2'],
  ]);
  expect(processors[1].word).toBe('gpu0');
});
