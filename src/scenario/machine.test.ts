import { expect, it } from 'vitest';
import { machineGpus, processorId, processorWord, processorWords } from './machine.ts';

it('turns processor words into ids and back', () => {
  expect(processorWords(2)).toEqual(['cpu', 'gpu0', 'gpu1']);
  expect(processorWords(2).map((word) => processorId(word, 2))).toEqual([0, 1, 2]);
  expect(processorWord(8)).toBe('gpu7');
});

it('knows only the GPUs that the machine has, and only their plain names', () => {
  expect(processorId('gpu1', 1)).toBe(-1);
  expect(processorId('gpu1', 2)).toBe(2);
  for (const word of ['', 'gpu', 'GPU0', 'gpu00', 'gpu01', 'gpu-1', 'cpu0', ' gpu0', 'gpu99999']) {
    expect(processorId(word, 8), word).toBe(-1);
  }
});

it('finds machines by their own names', () => {
  const machines = { one: { gpus: 1 }, two: { gpus: 2 } };
  expect(machineGpus('two', machines)).toBe(2);
  expect(machineGpus('three', machines)).toBe(-1);
  expect(machineGpus('toString', machines)).toBe(-1);
});
