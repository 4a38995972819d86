import { expect, it } from 'vitest';
import { nearestNames } from './nearest_names.ts';

const KNOWN = ['uvm_push_end', 'uvm_push_end_and_wait', 'uvm_push_wait', 'block_map'];

it('names that contain it come first, then those a few letters away', () => {
  expect(nearestNames('push_end', KNOWN)).toEqual(['uvm_push_end', 'uvm_push_end_and_wait']);
  expect(nearestNames('uvm_push_wend', KNOWN)).toEqual(['uvm_push_end', 'uvm_push_wait']);
  expect(nearestNames('BLOCK_MAB', KNOWN)).toEqual(['block_map']);
});

it('nothing is like nonsense, or like nothing', () => {
  expect(nearestNames('zzzzzzzzz', KNOWN)).toEqual([]);
  expect(nearestNames('', KNOWN)).toEqual([]);
});
