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

/** Bytes of an allocation that a prefetch is of. */
export interface PrefetchRange {
  allocationBytes: number;
  offset: number;
  length: number;
}

const pages = (bytes: number): number => Math.max(PAGE_BYTES, Math.ceil(bytes / PAGE_BYTES) * PAGE_BYTES);

/**
 * Microseconds of a prefetch to a GPU, of which the CPU has `populated` bytes, or back from it to `cpu`. Null where the
 * model of the machine cannot run it.
 */
export function prefetchMicroseconds(
  machines: Machines,
  machine: string,
  to: string,
  range: PrefetchRange,
  populated: number,
): number | null {
  const small = range.length <= RUN_BYTES_MAX;
  const length = small ? pages(range.length) : RUN_BYTES_MAX;
  const offset = small ? range.offset : 0;
  const bytes = small ? Math.max(range.allocationBytes, offset + length) : RUN_BYTES_MAX;
  const times = small ? 1 : range.length / RUN_BYTES_MAX;
  const written = Math.min(length, populated <= 0 ? 0 : pages(populated / times));
  const gpu = to === 'cpu' ? 'gpu0' : to;
  const place = { buffer: NAME, offset };
  const write = { do: 'write', on: 'cpu', ...place, length: written, stride: PAGE_BYTES };
  const prefetch = (where: string) => ({ do: 'prefetch', to: where, ...place, length });
  const steps = [
    ...(written > 0 && to !== 'cpu' ? [write] : []),
    prefetch(gpu),
    ...(to === 'cpu' ? [prefetch(to)] : []),
  ];
  const scenario = { name: 'prefetch', machine, allocations: [{ name: NAME, bytes }], steps };
  const result = executeRun(scenario, machines, { traced: false });
  if (!result.ok) return null;
  const { wall } = result.run.state;
  return wall[wall.length - 1] * times;
}

/** Prefetches that stand for the faults: one of all, and more where more bytes moved than there are. */
function prefetchTime(
  machines: Machines,
  machine: string,
  item: Advice,
  allocationBytes: number,
  moved: number,
): number | null {
  const { offset, length } = item;
  const to = item.processor ?? 'gpu0';
  const range = { allocationBytes, offset, length };
  const first = prefetchMicroseconds(machines, machine, to, range, Math.min(moved, length));
  if (first === null || moved <= length) return first;
  const again = prefetchMicroseconds(machines, machine, to, range, length);
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
  const after = prefetchTime(machines, time.machine, item, allocation.bytes, use?.movedBytes ?? 0);
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
