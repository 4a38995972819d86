/**
 * Models the parts of uvm_gpu_replayable_faults.c (driver 580.105.08) that threads call: uvm_gpu_fault_buffer_flush and
 * the test ioctl of the prefetch lapse. A flush takes the ISR's service lock, so it waits for a bottom half that runs.
 */
import { nextEventTime } from '../kernel/clock.ts';
import type { Model } from '../state.ts';
import type { Gpu } from './gpu.ts';
import { parentGpuReplayableFaultsIsrLock, parentGpuReplayableFaultsIsrUnlock } from './gpu_isr.ts';
import { faultBufferFlushLocked } from './gpu_replayable_faults_push.ts';
import { FLUSH_MODE_WAIT_UPDATE_PUT, REPLAY_TYPE_START } from './gpu_replayable_faults_types.ts';
import { trackerWaitEnd } from './tracker.ts';

/**
 * Drops all faults in the buffer and replays (uvm_gpu_fault_buffer_flush): before a suspend, when a user channel is
 * freed, when a VA space loses its mm. The replay is neither counted nor recorded. Returns a driver status. Runs in a
 * thread.
 */
export function* gpuFaultBufferFlush(m: Model, gpu: Gpu): Generator<number, number, void> {
  yield* parentGpuReplayableFaultsIsrLock(m, gpu);
  // The flush waits for the replays so far, and looks at PUT after that: what others do meanwhile comes first.
  const end = trackerWaitEnd(m, gpu.replayable.replayTracker);
  if (end > m.k.now && end < Infinity) yield end;
  else if (nextEventTime(m) < m.k.now) yield m.k.now;
  const status = faultBufferFlushLocked(m, gpu, FLUSH_MODE_WAIT_UPDATE_PUT, REPLAY_TYPE_START, null);
  parentGpuReplayableFaultsIsrUnlock(m, gpu);
  return status;
}

/** uvm_test_set_prefetch_faults_reenable_lapse: milliseconds; 0 means that prefetch faults are never disabled. */
export function testSetPrefetchFaultsReenableLapse(gpu: Gpu, lapseMsec: number): void {
  gpu.replayable.reenablePrefetchFaultsLapseMsec = lapseMsec;
}
