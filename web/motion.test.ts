import { describe, expect, it } from 'vitest';
import { createMotion, shiftedMotion } from './motion.ts';

describe('a motion', () => {
  it('holds what was moved to until it rests, and tells who watches', () => {
    const motion = createMotion();
    let told = 0;
    const end = motion.watch(() => told++);
    expect(motion.get()).toBeNull();
    motion.move({ begin: 1, end: 2 });
    expect(motion.get()).toEqual({ begin: 1, end: 2 });
    expect(told).toBe(1);
    end();
    motion.move({ begin: 3, end: 4 });
    expect(told).toBe(1);
    motion.settle();
    motion.rest();
    expect(motion.get()).toBeNull();
  });

  it('is not put to rest by a page that shows an earlier place', () => {
    const motion = createMotion();
    motion.move({ begin: 1, end: 2 });
    motion.settle();
    motion.move({ begin: 3, end: 4 });
    motion.rest();
    expect(motion.get()).toEqual({ begin: 3, end: 4 });
    motion.settle();
    expect(motion.get()).toEqual({ begin: 3, end: 4 });
    motion.rest();
    expect(motion.get()).toBeNull();
  });

  it('is shared by timelines with times of their own', () => {
    const motion = createMotion();
    const left = shiftedMotion(motion, 1000);
    const right = shiftedMotion(motion, 50);
    left.move({ begin: 1010, end: 1020 });
    expect(motion.get()).toEqual({ begin: 10, end: 20 });
    expect(right.get()).toEqual({ begin: 60, end: 70 });
    right.settle();
    right.rest();
    expect(left.get()).toBeNull();
  });
});
