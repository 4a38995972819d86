import { describe, expect, it } from 'vitest';
import {
  createMethodMemory,
  METHOD_NAMES,
  METHOD_SECURE_DECRYPT_AT,
  METHOD_WORDS,
  methodMemoryClaim,
  methodMemoryGrow,
  methodMemoryRelease,
} from './methods.ts';

describe('methods', () => {
  it('have a name and a length each', () => {
    expect(METHOD_WORDS.length).toBe(METHOD_SECURE_DECRYPT_AT + 1);
    expect(METHOD_NAMES.length).toBe(METHOD_WORDS.length);
    expect(new Set(METHOD_NAMES).size).toBe(METHOD_NAMES.length);
  });
});

describe('method memory', () => {
  it('hands out the buffer freed last, and a new one only when none is free', () => {
    const memory = createMethodMemory();
    const first = methodMemoryClaim(memory);
    const second = methodMemoryClaim(memory);
    expect([first, second]).toEqual([0, 1]);
    methodMemoryRelease(memory, first);
    methodMemoryRelease(memory, second);
    expect(methodMemoryClaim(memory)).toBe(second);
    expect(methodMemoryClaim(memory)).toBe(first);
    expect(methodMemoryClaim(memory)).toBe(2);
  });

  it('keeps the words of a buffer that grows', () => {
    const memory = createMethodMemory();
    const buffer = methodMemoryClaim(memory);
    const words = memory.buffers[buffer];
    words.set(words.map((_, i) => 2 ** 40 + i));
    const grown = methodMemoryGrow(memory, buffer);
    expect(memory.buffers[buffer]).toBe(grown);
    expect(grown.length).toBe(2 * words.length);
    expect(grown.subarray(0, words.length)).toEqual(words);
  });
});
