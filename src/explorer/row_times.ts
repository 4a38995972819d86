/**
 * When a row began and ended, on the one axis that a picture has. In a run of the model both clocks are the virtual one,
 * so what a GPU did is where the GPU did it. A recorded GPU's clock cannot be compared with the CPU's: there a row
 * begins by the CPU's clock, and lasts as long as it did by the GPU's.
 */
import type { Trace } from '../trace/store/trace_events.ts';

/** Begin of each row; NaN for one without a time. The array may be one of the trace's own. */
export function rowBegins({ info, columns }: Trace): Float64Array {
  const { time, gpuTime } = columns.arrays;
  if (info.clock !== 'virtual') return time;
  const begins = gpuTime.slice();
  for (let i = 0; i < begins.length; i++) if (Number.isNaN(begins[i])) begins[i] = time[i];
  return begins;
}

/** End of a row, not before its begin. */
export function rowEnd({ columns }: Trace, row: number, begin: number): number {
  const { gpuTime, gpuTimeEnd, timeEnd } = columns.arrays;
  const gpu = gpuTimeEnd[row] - gpuTime[row];
  if (!Number.isNaN(gpu)) return begin + Math.max(0, gpu);
  const cpu = timeEnd[row];
  return Number.isNaN(cpu) ? begin : Math.max(begin, cpu);
}
