/**
 * When a row began and ended, on the one axis that a picture has. In a run of the model both clocks are the virtual one,
 * so what a GPU did is where the GPU did it. A recorded GPU's clock cannot be compared with the CPU's: there a row
 * begins by the CPU's clock, and lasts as long as it did by the GPU's.
 */
import type { Trace } from '../trace/store/trace_events.ts';

/** True where times of a GPU lie on the axis of `time`. */
export function oneClock(trace: Trace): boolean {
  return trace.info.clock === 'virtual';
}

/** Begin of a row; NaN where it has no time. */
export function rowBegin({ columns }: Trace, row: number, one: boolean): number {
  const gpu = columns.arrays.gpuTime[row];
  return one && !Number.isNaN(gpu) ? gpu : columns.arrays.time[row];
}

/** End of a row, not before its begin. */
export function rowEnd({ columns }: Trace, row: number, begin: number): number {
  const { gpuTime, gpuTimeEnd, timeEnd } = columns.arrays;
  const gpu = gpuTimeEnd[row] - gpuTime[row];
  if (!Number.isNaN(gpu)) return begin + Math.max(0, gpu);
  const cpu = timeEnd[row];
  return Number.isNaN(cpu) ? begin : Math.max(begin, cpu);
}
