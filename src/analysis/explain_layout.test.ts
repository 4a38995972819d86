import { describe, expect, it } from 'vitest';
import { callParent, isRoot } from './explain_calls.ts';
import { countedPages, PLAIN_STYLE, TextBuilder, wrap } from './explain_layout.ts';

describe('the caller of a function', () => {
  const SERVICE = 'uvm_parent_gpu_service_replayable_faults';

  it('is the innermost of its callers that is open', () => {
    const open = ['replayable_faults_isr_bottom_half', SERVICE, 'preprocess_fault_batch', 'fault_buffer_flush_locked'];
    expect(callParent(open, 'push_replay_on_gpu')).toBe(4);
    expect(callParent(open, 'service_fault_batch')).toBe(2);
    expect(callParent(open, 'fault_buffer_flush_locked')).toBe(3);
    expect(callParent(open.slice(0, 2), 'fault_buffer_flush_locked')).toBe(2);
  });

  it('is nobody for where the driver is entered, and for what none of its callers leads to', () => {
    expect(callParent([SERVICE], 'uvm_api_migrate')).toBe(0);
    expect(callParent(['uvm_api_migrate'], 'service_fault_batch')).toBe(0);
    expect([isRoot('uvm_isr_top_half'), isRoot(SERVICE), isRoot('unheard_of')]).toEqual([true, false, false]);
  });

  it('is whoever is open for a function that is not in the table', () => {
    expect(callParent(['uvm_api_migrate', 'x'], 'unheard_of')).toBe(2);
  });
});

describe('lines', () => {
  it('break at blanks, at the last column and not before', () => {
    expect(wrap('one two three', 7)).toEqual(['one two', 'three']);
    expect(wrap('one two three', 6)).toEqual(['one', 'two', 'three']);
    expect(wrap('unbreakable', 3)).toEqual(['unbreakable']);
  });

  it('count no colour codes', () => {
    expect(wrap('\u001b[1mone\u001b[22m two', 7)).toHaveLength(1);
    expect(wrap('\u001b[1mone\u001b[22m two', 6)).toHaveLength(2);
  });

  it('have times since the zero, and indentation', () => {
    const b = new TextBuilder(2000, PLAIN_STYLE, 80);
    b.line(3500, 1, 'call');
    b.line(1000, 0, 'before');
    b.note(2, 'why');
    expect(b.lines).toEqual(['    +1.500    call', '    -1.000  before', '                why']);
  });
});

it('names pages as runs, and not more of them than can be read', () => {
  expect(countedPages([{ first: 5, count: 1 }])).toBe('page 5');
  expect(
    countedPages([
      { first: 0, count: 16 },
      { first: 20, count: 1 },
    ]),
  ).toBe('17 pages 0..15, 20');
  const many = Array.from({ length: 8 }, (_, i) => ({ first: 2 * i, count: 1 }));
  expect(countedPages(many)).toBe('8 pages 0, 2, 4, 6, 8, 10 and 2 more runs');
});
