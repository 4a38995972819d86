import { describe, expect, it } from 'vitest';
import type { WalkStep } from '../src/explorer/api.ts';
import { dedented, stackOf } from './stack.ts';

function step(depth: number, title: string, kind: WalkStep['kind'] = 'call'): WalkStep {
  return { time: 0, depth, title, file: null, lines: [], kind };
}
const steps = [
  step(0, 'uvm_isr_top_half'),
  step(0, 'replayable_faults_isr_bottom_half'),
  step(1, 'service_fault_batch: batch 1'),
  step(2, 'fetched', 'push'),
  step(3, 'below what is no function'),
  step(1, 'uvm_tracker_wait'),
];

describe('the stack of a step', () => {
  it('has the functions that were called and have not returned, the outermost first', () => {
    expect(stackOf({ steps }, 4)).toEqual([
      { at: 1, name: 'replayable_faults_isr_bottom_half' },
      { at: 2, name: 'service_fault_batch' },
    ]);
    expect(stackOf({ steps }, 5)).toEqual([{ at: 1, name: 'replayable_faults_isr_bottom_half' }]);
  });

  it('is empty outside of any', () => {
    expect(stackOf({ steps }, 1)).toEqual([]);
    expect(stackOf({ steps }, 99)).toEqual([]);
  });
});

describe('lines', () => {
  it('lose the indentation that all of them have', () => {
    expect(dedented(['  a', '    b', '', '  c'])).toBe('a\n  b\n\nc');
    expect(dedented([])).toBe('');
  });
});
