import { describe, expect, it } from 'vitest';
import {
  BASE,
  countEvents,
  createFaultMachine,
  faultEvents,
  replayBatches,
  runMachine,
  startProgram,
  watchPushes,
} from '../../../test/support/fault_machine.ts';
import { faultBufferInject } from '../gpu/fault_buffer.ts';
import { runNextEvent } from '../kernel/clock.ts';
import type { Model } from '../state.ts';
import { PURPOSE_CANCEL, PURPOSE_REPLAY } from './push.ts';
import { ACCESS_PREFETCH, ACCESS_READ, ACCESS_WRITE } from './va_block_types.ts';

const READ = ACCESS_READ;
const WRITE = ACCESS_WRITE;
/** Pages that belong to nothing. */
const NOWHERE = BASE + 1_000_000;

/** Purposes of the pushes that matter, in order: 'replay' and 'cancel'. */
function recordPushes(m: Model): string[] {
  const purposes: string[] = [];
  watchPushes(m, (purpose) => {
    if (purpose === PURPOSE_REPLAY) purposes.push('replay');
    if (purpose === PURPOSE_CANCEL) purposes.push('cancel');
  });
  return purposes;
}

describe('a precise cancel', () => {
  it('replays, cancels each page that is fatal, and replays again', () => {
    const m = createFaultMachine();
    const purposes = recordPushes(m);
    const outcomes = [0, 1, 2].map((i) => startProgram(m, [[NOWHERE + i, READ]], 0, i));
    runMachine(m);
    expect(outcomes).toEqual([['cancelled'], ['cancelled'], ['cancelled']]);
    // The last replay is the one that every bottom half owes.
    expect(purposes).toEqual(['replay', 'cancel', 'cancel', 'cancel', 'replay', 'replay']);
    expect(countEvents(m)).toEqual({ gpuFault: 6, fatalFault: 3, replay: 3 });
  });

  it('does not keep the good faults of the batch from being serviced', () => {
    const m = createFaultMachine({ parameters: { uvm_perf_prefetch_enable: 0 } });
    const bad = startProgram(m, [[NOWHERE, WRITE]], 0, 0);
    const good = startProgram(m, [[BASE, READ]], 0, 1);
    runMachine(m);
    expect([bad, good]).toEqual([['cancelled'], ['replayed']]);
    expect(faultEvents(m)).toEqual([
      [0, READ, 1],
      [NOWHERE - BASE, WRITE, 1],
      [NOWHERE - BASE, WRITE, 2],
    ]);
    expect(replayBatches(m)).toEqual([1, 2, 2]);
  });

  it('services faults that come while it looks, under its own batch id', () => {
    const m = createFaultMachine({ parameters: { uvm_perf_prefetch_enable: 0 } });
    startProgram(m, [[NOWHERE, READ]], 0, 0);
    let replays = 0;
    watchPushes(m, (purpose, finish) => {
      if (purpose !== PURPOSE_REPLAY || replays++ > 0) return;
      faultBufferInject(m, 0, BASE + 8, WRITE, 0, 0, 1, 0, finish, finish);
    });
    runMachine(m);
    expect(faultEvents(m)).toEqual([
      [NOWHERE - BASE, READ, 1],
      [8, WRITE, 2],
      [NOWHERE - BASE, READ, 2],
    ]);
    expect(m.vaSpaces[0].ranges[0].blocks[0]?.gpus[0]?.w[0]).toBe(1 << 8);
  });

  it('ends with nothing to cancel when the fatal fault was stale', () => {
    const m = createFaultMachine();
    const purposes = recordPushes(m);
    // Nobody waits for it, so the replay does not bring it back.
    faultBufferInject(m, 0, NOWHERE, READ, 0, 0, 0, 0, 0, 0);
    runMachine(m);
    expect(purposes).toEqual(['replay', 'replay', 'replay']);
    expect(countEvents(m)).toEqual({ gpuFault: 1, replay: 3 });
    expect(m.gpus[0].replayable.batch.batchId).toBe(1);
  });

  it('stops, and replays, when the GPU left the VA space meanwhile', () => {
    const m = createFaultMachine();
    startProgram(m, [[NOWHERE, READ]], 0, 0);
    const purposes: number[] = [];
    watchPushes(m, (purpose) => {
      purposes.push(purpose);
      m.vaSpaces[0].registeredGpus = 0;
    });
    // The fault of the access comes back for ever; nobody has cancelled it.
    for (let i = 0; i < 100; i++) expect(runNextEvent(m)).toBe(true);
    expect(purposes).not.toContain(PURPOSE_CANCEL);
    // Recorded once: without the GPU in its VA space a fault is ignored.
    expect(faultEvents(m)).toHaveLength(1);
  });

  it.each([
    [1, 2],
    [2, 1],
  ])('counts as a batch: with %i allowed, one more fault makes %i bottom halves', (batches, bottomHalves) => {
    const m = createFaultMachine({ parameters: { uvm_perf_fault_max_batches_per_service: batches } });
    startProgram(m, [[NOWHERE, READ]], 0, 0);
    let replays = 0;
    watchPushes(m, (purpose) => {
      // Arrives when the replay that ends the cancel has been pushed: the flush before it did not see it.
      if (purpose !== PURPOSE_REPLAY || ++replays !== 2) return;
      faultBufferInject(m, 0, BASE, READ, 0, 0, 1, 0, m.k.now, m.k.now);
    });
    runMachine(m);
    expect(faultEvents(m).map((event) => [event[0], event[2]])).toEqual([
      [NOWHERE - BASE, 1],
      [NOWHERE - BASE, 2],
      [0, 3],
    ]);
    expect(m.gpus[0].isr.replayable.bottomHalfCount).toBe(bottomHalves);
  });

  it('takes all that is in the buffer, however small a batch is', () => {
    const m = createFaultMachine({ parameters: { uvm_perf_fault_batch_count: 2 } });
    const purposes = recordPushes(m);
    const outcomes = [0, 1, 2, 3, 4].map((i) => startProgram(m, [[NOWHERE + i, READ]], 0, i));
    runMachine(m);
    expect(outcomes.flat()).toEqual(new Array(5).fill('cancelled'));
    expect(purposes).toEqual(['replay', 'cancel', 'cancel', 'cancel', 'cancel', 'cancel', 'replay', 'replay']);
    expect(faultEvents(m).map((event) => event[2])).toEqual([1, 1, 2, 2, 2, 2, 2]);
  });

  it('does not come for a prefetch', () => {
    const m = createFaultMachine();
    const purposes = recordPushes(m);
    faultBufferInject(m, 0, NOWHERE, ACCESS_PREFETCH, 0, 0, 0, 0, 0, 0);
    runMachine(m);
    expect(purposes).toEqual(['replay']);
  });

  it('leaves a prefetch on the page of a fatal read to itself', () => {
    const m = createFaultMachine();
    faultBufferInject(m, 0, NOWHERE, ACCESS_PREFETCH, 0, 0, 0, 0, 0, 0);
    const reader = startProgram(m, [[NOWHERE, READ]], 0, 1);
    runMachine(m);
    expect(reader).toEqual(['cancelled']);
    // The read is first in service order; the prefetch is reported with it and not fatal.
    expect(faultEvents(m).map((event) => [event[1], event[2]])).toEqual([
      [READ, 1],
      [ACCESS_PREFETCH, 1],
      [READ, 2],
    ]);
    expect(countEvents(m).fatalFault).toBe(1);
  });
});
