import { describe, expect, it } from 'vitest';
import {
  BASE,
  countEvents,
  createFaultMachine,
  faultEvents,
  replayBatches,
  runMachine,
} from '../../../test/support/fault_machine.ts';
import { CLIENT_TYPE_HUB, type FaultEntry } from '../gpu/fault_buffer.ts';
import { runNextEvent } from '../kernel/clock.ts';
import type { Model } from '../state.ts';
import { isrTopHalf } from './gpu_isr.ts';
import { nonReplayableFaultInject } from './gpu_non_replayable_faults.ts';
import { FATAL_REASON_INVALID_ADDRESS, FATAL_REASON_INVALID_FAULT_TYPE } from './gpu_replayable_faults_types.ts';
import { THRASHING_HINT_PIN } from './perf_thrashing_types.ts';
import {
  rangeGroupAssignRange,
  rangeGroupCreate,
  rangeGroupFind,
  rangeGroupsSetMigrationPolicy,
} from './range_group.ts';
import { NV_ERR_ECC_ERROR, NV_OK } from './status.ts';
import { EVENT_FATAL_FAULT } from './tools.ts';
import { ACCESS_READ, ACCESS_WRITE, G_RESIDENT, OPERATION_NON_REPLAYABLE_FAULTS } from './va_block_types.ts';

const CE0 = 43;
const HUB_CLIENT_CE0 = 1;

function packet(m: Model, page: number, change: Partial<FaultEntry> = {}): FaultEntry {
  const pointer = m.gpus[0].instancePointers[0];
  return {
    instanceAperture: pointer.aperture,
    instanceAddress: pointer.address,
    physicalAperture: 0,
    page: BASE + page,
    timestamp: 0,
    engineId: CE0,
    faultType: 2,
    replayable: false,
    client: HUB_CLIENT_CE0,
    access: 1,
    clientType: CLIENT_TYPE_HUB,
    gpc: 0,
    protectedMode: false,
    replayableEnabled: true,
    valid: true,
    ...change,
  };
}

/** Faults of the copy engine, their interrupt, and all that follows. */
function run(m: Model, packets: readonly FaultEntry[]): void {
  for (const entry of packets) nonReplayableFaultInject(m.gpus[0], entry);
  expect(isrTopHalf(m, 0)).toBe(NV_OK);
  runMachine(m);
}

function fatalReasons(m: Model): number[] {
  const log = m.tools.log;
  return Array.from({ length: log.count }, (_, i) => i)
    .filter((i) => log.kind[i] === EVENT_FATAL_FAULT)
    .map((i) => log.batch[i]);
}

describe('a non-replayable fault', () => {
  it('is serviced in its block, and the channel is cleared behind the work', () => {
    const m = createFaultMachine();
    const operations: number[] = [];
    const select = m.res.seams.selectResidency;
    m.res.seams.selectResidency = (...args) => {
      operations.push(args[7]);
      return select(...args);
    };
    run(m, [packet(m, 3)]);
    expect(operations).toEqual([OPERATION_NON_REPLAYABLE_FAULTS]);
    expect(faultEvents(m)).toEqual([[3, ACCESS_WRITE, 1]]);
    expect(replayBatches(m)).toEqual([1]);
    const nr = m.gpus[0].nonReplayable;
    expect(nr.cleared).toEqual([0]);
    expect(nr.faultServiceTracker).toEqual([]);
    expect(m.vaSpaces[0].ranges[0].blocks[0]?.gpus[0]?.w[G_RESIDENT]).toBe(0xffff);
    expect(m.gpus[0].isr.nonReplayable.bottomHalfCount).toBe(1);
    expect(m.gpus[0].isr.nonReplayable.serviceLock.locked).toBe(false);
  });

  it('does not ask whether its page thrashes', () => {
    const m = createFaultMachine();
    m.thrashingHint.type = THRASHING_HINT_PIN;
    m.thrashingHint.residency = 0;
    run(m, [packet(m, 3)]);
    expect(m.vaSpaces[0].ranges[0].blocks[0]?.gpus[0]?.w[G_RESIDENT]).toBe(0xffff);
  });

  it('keeps its place in the order of arrival and has an id of its own, even on one page', () => {
    const m = createFaultMachine();
    run(m, [packet(m, 700), packet(m, 2), packet(m, 2, { access: 0 })]);
    expect(faultEvents(m)).toEqual([
      [700, ACCESS_WRITE, 1],
      [2, ACCESS_WRITE, 2],
      [2, ACCESS_READ, 3],
    ]);
    expect(m.gpus[0].nonReplayable.cleared).toEqual([0, 0, 0]);
    expect(m.gpus[0].replayable.batch.batchId).toBe(0);
  });

  it('outside of managed memory is fatal and gets its channel killed, once', () => {
    const m = createFaultMachine();
    run(m, [packet(m, 500_000), packet(m, 500_001), packet(m, 1)]);
    expect(fatalReasons(m)).toEqual([FATAL_REASON_INVALID_ADDRESS, FATAL_REASON_INVALID_ADDRESS]);
    const nr = m.gpus[0].nonReplayable;
    expect([nr.killScheduled, nr.killsReported]).toEqual([[0], [0]]);
    expect(nr.killPackets).toHaveLength(8);
    // The packet is the one of the first fatal fault.
    expect(nr.killPackets[3] * 2 ** 20 + (nr.killPackets[2] >>> 12)).toBe(BASE + 500_000);
    expect(m.gpus[0].isr.killItems).toEqual([]);
    // The third fault was serviced all the same.
    expect(nr.cleared).toEqual([0]);
    expect(countEvents(m)).toEqual({ gpuFault: 3, fatalFault: 2, replay: 1 });
  });

  it('of a fatal type is recorded as fatal alone', () => {
    const m = createFaultMachine();
    run(m, [packet(m, 0, { faultType: 3 })]);
    expect(countEvents(m)).toEqual({ fatalFault: 1 });
    expect(fatalReasons(m)).toEqual([FATAL_REASON_INVALID_FAULT_TYPE]);
    expect(m.gpus[0].nonReplayable.killsReported).toEqual([0]);
  });

  it('that is not permitted is fatal, a read too', () => {
    const m = createFaultMachine();
    const space = m.vaSpaces[0];
    const id = rangeGroupCreate(space);
    rangeGroupAssignRange(space, rangeGroupFind(space, id), BASE, BASE + 16);
    rangeGroupsSetMigrationPolicy(space, [id], false);
    run(m, [packet(m, 0, { access: 0 }), packet(m, 16)]);
    expect(countEvents(m)).toEqual({ gpuFault: 2, fatalFault: 1, replay: 1 });
    expect(m.gpus[0].nonReplayable.cleared).toEqual([0]);
  });

  it('of a channel or a GPU that is gone is forgotten', () => {
    const m = createFaultMachine();
    run(m, [packet(m, 0, { instanceAddress: 0x99 })]);
    m.vaSpaces[0].registeredGpus = 0;
    run(m, [packet(m, 0)]);
    expect(countEvents(m)).toEqual({});
    expect(m.gpus[0].nonReplayable.killScheduled).toEqual([]);
  });

  it('whose channel goes away before the kill is not reported', () => {
    const m = createFaultMachine();
    runMachine(m);
    nonReplayableFaultInject(m.gpus[0], packet(m, 500_000));
    isrTopHalf(m, 0);
    while (m.gpus[0].nonReplayable.killScheduled.length === 0) expect(runNextEvent(m)).toBe(true);
    m.gpus[0].instancePointers[0].vaSpace = -1;
    runMachine(m);
    expect(m.gpus[0].nonReplayable.killsReported).toEqual([]);
  });

  it('cannot be taken from RM when RM fails: that is the end of the driver', () => {
    const m = createFaultMachine();
    m.gpus[0].nonReplayable.shadowStatus = NV_ERR_ECC_ERROR;
    nonReplayableFaultInject(m.gpus[0], packet(m, 0));
    isrTopHalf(m, 0);
    while (m.gpus[0].isr.nonReplayable.bottomHalfCount === 0) expect(runNextEvent(m)).toBe(true);
    expect(m.globalStatus).toBe(NV_ERR_ECC_ERROR);
    expect(countEvents(m)).toEqual({});
  });

  it('is not a replayable one', () => {
    const m = createFaultMachine();
    expect(() => nonReplayableFaultInject(m.gpus[0], packet(m, 0, { replayable: true }))).toThrow('shadow buffer');
  });
});

describe('the top half', () => {
  it('says that it scheduled something even when the bottom half is queued already', () => {
    const m = createFaultMachine();
    nonReplayableFaultInject(m.gpus[0], packet(m, 0));
    expect(isrTopHalf(m, 0)).toBe(NV_OK);
    expect(isrTopHalf(m, 0)).toBe(NV_OK);
    runMachine(m);
    expect(m.gpus[0].isr.nonReplayable.bottomHalfCount).toBe(1);
  });
});
