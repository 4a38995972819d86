/**
 * The predicted gain of a prefetch where a program's accesses are not known: the service of its faults, as the model
 * replays them, against a prefetch of the same bytes, as the model runs it.
 */
import { executeRun } from '../execute.ts';
import type { Machines } from '../machines.ts';
import type { Untraced } from '../untraced_time.ts';
import { gainInterval } from './model_error.ts';
import type { Advice, AllocationReport, Prediction } from './report_types.ts';

/** The prefetch that is run is of at most this much; larger ones take as many times longer. */
const RUN_BYTES_MAX = 2 ** 28;
const PAGE_BYTES = 4096;
const NAME = 'range';

/**
 * Microseconds of a prefetch of `length` bytes to a GPU, of which the CPU has `populated`, or back from it. Null where
 * the machine's model cannot run it.
 */
export function prefetchMicroseconds(
  machines: Machines,
  machine: string,
  to: string,
  length: number,
  populated: number,
): number | null {
  const bytes = Math.min(RUN_BYTES_MAX, Math.max(PAGE_BYTES, Math.ceil(length / PAGE_BYTES) * PAGE_BYTES));
  const share = length / bytes;
  const written = Math.min(bytes, Math.ceil(populated / share / PAGE_BYTES) * PAGE_BYTES);
  const gpu = to === 'cpu' ? 'gpu0' : to;
  const prefetch = (where: string) => ({ do: 'prefetch', to: where, buffer: NAME, offset: 0, length: bytes });
  const write = { do: 'write', on: 'cpu', buffer: NAME, offset: 0, length: written, stride: PAGE_BYTES };
  const steps = [
    ...(written > 0 && to !== 'cpu' ? [write] : []),
    prefetch(gpu),
    ...(to === 'cpu' ? [prefetch(to)] : []),
  ];
  const scenario = { name: 'prefetch', machine, allocations: [{ name: NAME, bytes }], steps };
  const result = executeRun(scenario, machines, { traced: false });
  if (!result.ok) return null;
  const { wall } = result.run.state;
  return wall[wall.length - 1] * Math.max(1, share);
}

/** Prefetches that stand for the faults: one of all, and more where more bytes moved than there are. */
function prefetchTime(machines: Machines, machine: string, item: Advice, moved: number): number | null {
  const { length } = item;
  const to = item.processor ?? 'gpu0';
  const first = prefetchMicroseconds(machines, machine, to, length, Math.min(moved, length));
  if (first === null || moved <= length) return first;
  const again = prefetchMicroseconds(machines, machine, to, length, length);
  return again === null ? null : first + again * (moved / length - 1);
}

/** The gain, or why it cannot be said. Only for the rules `prefetch` and `prefetchBack`. */
export function bytesGain(
  item: Advice,
  allocation: AllocationReport,
  untraced: Untraced,
  machines: Machines,
): { ok: true; prediction: Prediction } | { ok: false; why: string } {
  if (item.rule !== 'prefetch' && item.rule !== 'prefetchBack') {
    return { ok: false, why: 'accesses that did not fault are not in the trace, so the model cannot run the change' };
  }
  const { time, services } = untraced;
  if (!time.movedAlike) {
    return { ok: false, why: 'the replay of the faults does not move what was recorded, so it tells no cost of them' };
  }
  const service = services.get(allocation.name ?? '');
  if (service === undefined) return { ok: false, why: 'the replay has no fault of the allocation' };
  const use = allocation.uses.find(({ processor }) => processor === item.processor);
  const faults = use?.faults ?? 0;
  const before =
    item.rule === 'prefetchBack' ? service.cpuMicroseconds : (service.gpuMicroseconds * faults) / allocation.gpuFaults;
  const after = prefetchTime(machines, time.machine, item, use?.movedBytes ?? 0);
  if (after === null)
    return { ok: false, why: `the model of ${time.machine} cannot run a prefetch to ${item.processor}` };
  const { low, high } = gainInterval(before, after);
  return {
    ok: true,
    prediction: {
      basis: 'bytes',
      machine: time.machine,
      removedMicroseconds: before,
      addedMicroseconds: after,
      gainMicroseconds: before - after,
      lowMicroseconds: low,
      highMicroseconds: high,
      uncertain: low <= 0 && high >= 0,
      assumption:
        'the service of the recorded faults, replayed by the model without tracing, against a prefetch of the same ' +
        'bytes on the model; as if the program waited for either, and the prefetch spared all of these faults',
    },
  };
}
