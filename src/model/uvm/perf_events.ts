/**
 * Models uvm_perf_events.c (driver 580.105.08): the points where performance heuristics listen. The driver keeps a list
 * of callbacks for each event; here the listeners are fixed, in the driver's order of registration (thrashing, then
 * tools, which va_block_copy.ts calls itself because its records ride on the push).
 *
 * Left out: block destroy and shrink notifications (the callers drop the thrashing state directly), module load order.
 */
import type { Model } from '../state.ts';
import { perfThrashingMigrationEvent, perfThrashingRevocationEvent } from './perf_thrashing.ts';
import type { VaBlock } from './va_block_types.ts';

/**
 * A run of pages is about to change place; residency still names the old one.
 *
 * `copyMode`: read duplication (the source keeps its copy). `stagedHop`: first hop of a copy staged in system memory.
 */
export function perfEventNotifyMigration(
  m: Model,
  block: VaBlock,
  destination: number,
  first: number,
  count: number,
  cause: number,
  copyMode: boolean,
  stagedHop: boolean,
): void {
  perfThrashingMigrationEvent(m, block, destination, first, count, cause, copyMode, stagedHop);
}

/** A processor lost a right on a run of pages that stay where they are. */
export function perfEventNotifyRevocation(
  m: Model,
  block: VaBlock,
  processor: number,
  first: number,
  count: number,
): void {
  perfThrashingRevocationEvent(m, block, processor, first, count);
}
