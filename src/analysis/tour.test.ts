import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { contentsRead } from '../model/gpu/contents.ts';
import { modelHash } from '../model/model.ts';
import { channelRecentPushes } from '../model/uvm/channel.ts';
import { pageIsResident } from '../model/uvm/va_block.ts';
import { vaBlockFind } from '../model/uvm/va_space.ts';
import { advanceRun } from '../scenario/runner.ts';
import type { MigrationEvent } from '../trace/event.ts';
import { logEvents } from '../trace/log_events.ts';
import { executeRun } from './execute.ts';
import { loadMachines, packageRoot } from './machines.ts';
import { collectTour, TOUR_PAGE, TOUR_SCENARIO, tourRun, tourStep } from './tour.ts';
import { TourRecorder } from './tour_recorder.ts';

const machines = loadMachines();
const tour = collectTour(machines);
const profile = JSON.parse(readFileSync(`${packageRoot()}/profiles/h200-pcie5.json`, 'utf8')).machine;

/** The routine's calls down to the residency decision, in the driver's names and in the model's. */
const STACK: [string, string][] = [
  ['_main_loop', 'mainLoop'],
  ['replayable_faults_isr_bottom_half', 'replayableFaultsIsrBottomHalf'],
  ['uvm_parent_gpu_service_replayable_faults', 'parentGpuServiceReplayableFaults'],
  ['service_fault_batch', 'serviceFaultBatch'],
  ['service_fault_batch_dispatch', 'serviceFaultBatchDispatch'],
  ['service_fault_batch_block', 'serviceFaultBatchBlock'],
  ['service_fault_batch_block_locked', 'serviceFaultBatchBlockLocked'],
  ['uvm_va_block_select_residency', 'vaBlockSelectResidency'],
];

/** Notes the model's own call stack, as JavaScript has it, at the residency decision of the watched page. */
class StackSpy extends TourRecorder {
  functions: string[] = [];
  override residency(...args: Parameters<TourRecorder['residency']>): void {
    super.residency(...args);
    if (args[0].startPage + args[1] !== this.page) return;
    const limit = Error.stackTraceLimit;
    Error.stackTraceLimit = 100;
    const lines = (new Error().stack ?? '').split('\n');
    Error.stackTraceLimit = limit;
    this.functions = lines
      .map((line) => /^\s*at (?:[A-Z]\w*\.)?(\w+)(?: \[as \w+\])? \(/.exec(line)?.[1] ?? '')
      .reverse();
  }
}

describe('item 1', () => {
  it('has the call stack of the routine', () => {
    expect(tour.stack.map((frame) => frame.function)).toEqual(STACK.map(([driver]) => driver));
    const times = tour.stack.map((frame) => frame.time);
    expect(times).toEqual([...times].sort((a, b) => a - b));
  });

  it('agrees with the stack of the model itself', () => {
    const spy = new StackSpy();
    const run = tourRun(machines, spy);
    spy.attach(run.m, run.scenario.allocations[0].firstPage + TOUR_PAGE);
    tourStep(run);
    spy.watch(true);
    spy.functions = [];
    tourStep(run);
    const known = STACK.map(([, model]) => model);
    expect(spy.functions.filter((name) => known.includes(name))).toEqual(known);
    expect(spy.stack).toEqual(tour.stack);
  });
});

describe('item 2', () => {
  it('has the set-up that the machine calls for', () => {
    const { replayable: rf, calls, bottomHalfQ, killChannelQ } = tour.setUp;
    expect(rf).toMatchObject({
      entryBytes: 32,
      maxFaults: profile.faultBufferEntries,
      faultCache: profile.faultBufferEntries,
      orderedFaultCache: profile.faultBufferEntries,
      utlbs: profile.gpcs * profile.utlbsPerGpc,
      maxBatchSize: 256,
      replayPolicy: 2,
      replayUpdatePutRatio: 50,
    });
    expect(calls.map((call) => [call.depth, call.function, call.queue])).toEqual([
      [0, 'uvm_parent_gpu_init_isr', undefined],
      [1, 'uvm_parent_gpu_fault_buffer_init', undefined],
      [2, 'fault_buffer_init_replayable_faults', undefined],
      [3, 'fault_buffer_reinit_replayable_faults', undefined],
      [1, 'nv_kthread_q_init_on_node', 'UVM GPU1 BH'],
      [1, 'nv_kthread_q_init_on_node', 'UVM GPU1 KC'],
    ]);
    expect([bottomHalfQ, killChannelQ].map((queue) => queue.thread)).toEqual(['UVM GPU1 BH', 'UVM GPU1 KC']);
    expect(tour.nodeTrial).toEqual({ wanted: 1, landed: [0, 0, 1], kept: 1 });
  });

  it('has registers and counts that fit each other', () => {
    const { topHalf, fetch, fetchAgain, rearm, batch } = tour.routine;
    expect(topHalf.before).toMatchObject({ get: 0, put: batch.entries, interruptEnabled: true, serviceLocked: false });
    expect(topHalf.after).toMatchObject({ disableIntrRefCount: 1, interruptEnabled: false, serviceLocked: true });
    expect(fetch.before.cachedPut).toBe(fetch.before.cachedGet);
    expect(fetch.after).toMatchObject({ get: batch.entries, cachedGet: batch.entries, cachedPut: batch.entries });
    expect(fetchAgain.before.get).toBe(fetchAgain.before.put);
    expect(rearm.after).toMatchObject({ disableIntrRefCount: 0, interruptEnabled: true, serviceLocked: false });
    expect(rearm.after.cachedGet).toBe(rearm.after.get);
    expect(tour.routine.bottomHalf).toMatchObject({ thread: 'UVM GPU1 BH', queue: 'UVM GPU1 BH' });
  });

  it('goes from station to station in time', () => {
    const r = tour.routine;
    const times = [tour.zero, r.topHalf.time, r.bottomHalf.time, r.fetch.time, r.preprocess, r.service, r.copy.time];
    times.push(r.map.push.begin, r.flush.time, r.wait.begin, r.wait.end, r.rearm.time);
    expect(times).toEqual([...times].sort((a, b) => a - b));
    expect(r.copy.push.finish).toBeLessThanOrEqual(r.map.push.start);
    expect(r.map.push.finish).toBeLessThanOrEqual(r.replay.start);
    expect(r.wait.end).toBeGreaterThanOrEqual(r.replay.finish);
  });
});

describe('items 3 and 5', () => {
  it('say of the page what a run without an observer says', () => {
    const run = tourRun(machines, null);
    const { before, after, back } = tour.oneCopy;
    for (const state of [before, after, tour.explicit.after, back]) {
      tourStep(run);
      const { m, space } = run;
      const page = run.scenario.allocations[0].firstPage + TOUR_PAGE;
      const block = vaBlockFind(space, page);
      if (block === null || m.contents === null) throw new Error('the page has a block and contents');
      const index = page - block.startPage;
      const resident = ['cpu', 'gpu0'].filter((_, id) => pageIsResident(block, id, index));
      expect(state.resident).toEqual(resident);
      expect(Object.keys(state.mapped)).toEqual(resident);
      const [holder] = resident;
      expect(state.words[holder]).toBe(contentsRead(m.contents, holder === 'cpu' ? 0 : 1, page, 0));
    }
  });

  it('have one valid copy at any time', () => {
    const { before, between, after, back } = tour.oneCopy;
    expect([before, between, after, back].map((state) => state.resident)).toEqual([
      ['cpu'],
      ['gpu0'],
      ['gpu0'],
      ['cpu'],
    ]);
    expect(between.mapped).toEqual({});
    expect([before.words['cpu'], after.words['gpu0'], back.words['cpu']]).toEqual([42, 7, 7]);
    expect(after.words['cpu']).toBe(42);
  });

  it('have the migrations of the event log', () => {
    const result = executeRun(TOUR_SCENARIO, machines);
    if (!result.ok) throw new Error(result.error);
    const events = logEvents(result.run.m, result.run.scenario.allocations);
    const moved = events.filter((event): event is MigrationEvent => event.event === 'migration' && event.step === 1);
    expect(tour.oneCopy.migrations.map((one) => [one.first * 4096, one.bytes, one.cause])).toEqual(
      moved.map((event) => [event.offset, event.bytes, event.cause]),
    );
    expect(events.filter((event) => event.step === 2)).toHaveLength(tour.explicit.events);
    expect(tour.explicit.duration).toBe(result.run.state.wall[2] * 1000);
  });
});

describe('item 4', () => {
  it('shows where an armed copy has its place', () => {
    const { residencyUpdated, mapBegun, migrated, mapped, replayed } = tour.copyWindow;
    const { between } = tour.oneCopy;
    expect(between.time).toBeGreaterThanOrEqual(residencyUpdated);
    expect(between.time).toBeLessThanOrEqual(mapBegun);
    expect(migrated).toBeLessThanOrEqual(mapped);
    expect(mapped).toBeLessThan(replayed);
  });
});

describe('items 6 and 7', () => {
  it('count the pushes of a run without an observer', () => {
    const run = tourRun(machines, null);
    advanceRun(run);
    const { channels, pools } = run.m.gpus[0].channelManager;
    expect(tour.channels).toHaveLength(2 * profile.copyEngines);
    for (const [i, row] of tour.channels.entries()) {
      const pushes = channelRecentPushes(run.m, channels[i].id, 1000);
      expect([row.used, row.queuedValue]).toEqual([pushes.length, pushes[0]?.value ?? 0]);
      expect(row.gpuGet).toBe(pushes.filter((push) => push.collected).length);
      expect(row.engine).toBe(pools[channels[i].pool].engine);
    }
    const types = tour.channels.flatMap((row) => row.types);
    expect(new Set(types)).toEqual(new Set(['CPU_TO_GPU', 'GPU_TO_CPU', 'GPU_INTERNAL', 'MEMOPS', 'GPU_TO_GPU']));
  });

  it('have the pushes that explain has', () => {
    const { pushes } = tour.fault;
    expect(tour.pushes.map(({ push }) => [push.purpose, push.channel, push.trackingValue, push.finish])).toEqual(
      pushes.map((push) => [push.purpose, push.channel, push.trackingValue, push.finish]),
    );
    expect(pushes.map((push) => push.purpose)).toEqual(['memset', 'copy', 'map', 'replay']);
  });

  it('show a push that was done before anybody noticed', () => {
    const copy = tour.pushes.find(({ push }) => push.purpose === 'copy');
    const replay = tour.pushes.find(({ push }) => push.purpose === 'replay');
    if (copy === undefined || replay === undefined || copy.collected === null) throw new Error('a copy and a replay');
    const { push } = copy;
    // The replay acquired the copy, and is what the driver waits for: nobody asks for the copy's own value.
    expect(replay.push.acquired).toContainEqual(expect.objectContaining({ channel: push.channel, trackingValue: 1 }));
    expect(replay.push.channel).not.toBe(push.channel);
    expect(replay.seen).toMatchObject({ function: 'uvm_tracker_wait', time: tour.routine.wait.end });
    expect(replay.seen?.completedValue).toBe(tour.routine.replay.trackingValue);
    expect(copy.seen).toBeNull();
    expect(copy.collected).toBe(tour.fault.pushes.find((one) => one.purpose === 'copy')?.noticed);
    expect(copy.collected).toBeGreaterThan(tour.routine.wait.end);
    expect(copy.after).toMatchObject({ payload: 0, completedValue: 0, queuedValue: push.trackingValue, cpuPut: 1 });
    expect(copy.gpfifoEntry).toBe(0);
    expect(copy.end.payload).toBe(copy.end.queuedValue);
  });

  it('have values beyond 32 bits', () => {
    const { trackingValue, previousPayload, payload, completedValue } = tour.wrapped;
    expect(trackingValue).toBe(2 ** 32);
    expect(previousPayload).toBe(2 ** 32 - 1);
    expect(completedValue).toBeGreaterThanOrEqual(trackingValue);
    expect(payload).toBe(completedValue - 2 ** 32);
  });
});

describe('the observer', () => {
  it('changes nothing', () => {
    const watched = new TourRecorder();
    const hashes = [watched, null].map((recorder) => {
      const run = tourRun(machines, recorder);
      recorder?.attach(run.m, run.scenario.allocations[0].firstPage + TOUR_PAGE);
      recorder?.watch(true);
      advanceRun(run);
      return modelHash(run.m);
    });
    expect(hashes[0]).toBe(hashes[1]);
    expect(watched.moments.length).toBeGreaterThan(20);
  });

  it('sees the same each time', () => {
    expect(JSON.stringify(collectTour(machines))).toBe(JSON.stringify(tour));
  });
});

describe('items 4 and 5, the custom copy', () => {
  const { immediate, armed, word } = tour.copyRun;

  it('copies at once without an event, from the GPU', () => {
    expect(immediate.copy).toMatchObject({ form: 'immediate', status: 'NV_OK', bytes: 4096, residentOn: 'gpu0' });
    expect([immediate.events, immediate.word]).toEqual([0, 42]);
  });

  it('copies at the fault what the page held, before it is mapped, and resolves the fault', () => {
    const { copy } = armed;
    expect(copy).toMatchObject({ form: 'armed', state: 'done', snapshot: true, fault: { step: 6, page: 'migrated' } });
    expect([armed.word, word]).toEqual([43, 7]);
    expect(armed.events).toBeGreaterThan(0);
    expect(copy.end).toBeLessThanOrEqual(copy.pageTablePush?.begin ?? -1);
    expect(copy.pageTablePush?.begin).toBeLessThanOrEqual(copy.replay?.begin ?? -1);
  });
});
