/** The faults of a recording as the stream that a replay delivers (scenario/fault_stream.ts). */
import { PAGE_SIZE } from '../base/units.ts';
import { createFaultStream, type FaultStream, STREAM_CPU_FAULT, STREAM_GPU_FAULT } from '../scenario/fault_stream.ts';
import type { Allocation } from '../scenario/scenario.ts';
import type { FaultEvent, GpuFaultEvent } from './event.ts';

/** Hardware fault type by tools word; the fatal ones never come from a recording's gpuFault events. */
const HARDWARE_TYPE: Readonly<Record<string, number>> = { invalidPde: 0, invalidPte: 2, write: 6, atomic: 15 };
/** The driver's access type by word; a recording cannot tell weak atomics from strong ones. */
const ACCESS_TYPE: Readonly<Record<string, number>> = { prefetch: 0, read: 1, write: 2, atomic: 3 };

/** A batch's entries in the order in which they entered the buffer: by GPU time, then as listed. */
function arrivalOrder(batch: GpuFaultEvent[]): GpuFaultEvent[] {
  return batch
    .map((event, index) => ({ event, index }))
    .sort((a, b) => a.event.gpuTime - b.event.gpuTime || a.index - b.index)
    .map((entry) => entry.event);
}

/**
 * CPU faults and GPU batches in the order of their times, each as a list. Faults of another processor that a file lists
 * between two of a batch do not end it.
 */
function deliveries(faults: readonly FaultEvent[]): FaultEvent[][] {
  const open = new Map<string, FaultEvent[]>();
  const out: FaultEvent[][] = [];
  for (const event of faults) {
    const batch = event.event === 'cpuFault' ? undefined : open.get(event.gpu);
    const first = batch?.[0] as GpuFaultEvent | undefined;
    if (event.event === 'gpuFault' && first?.batch === event.batch && first.step === event.step) {
      batch?.push(event);
      continue;
    }
    const fresh = [event];
    if (event.event === 'gpuFault') open.set(event.gpu, fresh);
    out.push(fresh);
  }
  return out.sort(([a], [b]) => (a.step ?? -1) - (b.step ?? -1) || a.time - b.time);
}

export type StreamResult = { ok: true; stream: FaultStream } | { ok: false; error: string };

/** `faults` are the recorded faults in the order of the file. */
export function faultStream(faults: readonly FaultEvent[], allocations: readonly Allocation[]): StreamResult {
  const byName = new Map(allocations.map((allocation) => [allocation.name, allocation]));
  const stream = createFaultStream(faults.length);
  let error: string | null = null;
  const pageOf = (event: FaultEvent): number => {
    const allocation = event.buffer === undefined ? allocations[0] : byName.get(event.buffer);
    const page = Math.floor(event.offset / PAGE_SIZE);
    if (allocation === undefined || page < 0 || page >= allocation.pages) {
      error ??= `a recorded fault names offset ${event.offset} of buffer '${event.buffer ?? ''}', which does not exist`;
      return 0;
    }
    return allocation.firstPage + page;
  };
  const push = (event: FaultEvent, batch: number): void => {
    const i = stream.count++;
    stream.step[i] = event.step ?? -1;
    stream.page[i] = pageOf(event);
    stream.time[i] = event.time;
    stream.batch[i] = batch;
    if (event.event === 'cpuFault') {
      stream.kind[i] = STREAM_CPU_FAULT;
      stream.access[i] = event.access === 'read' ? 0 : 1;
      return;
    }
    stream.kind[i] = STREAM_GPU_FAULT;
    stream.access[i] = ACCESS_TYPE[event.access] ?? 1;
    stream.type[i] = HARDWARE_TYPE[event.type] ?? 2;
    stream.gpu[i] = Number(event.gpu.slice(3));
    stream.gpc[i] = event.gpc ?? 0;
    stream.client[i] = event.client ?? 0;
  };
  for (const [group, events] of deliveries(faults).entries()) {
    if (events[0].event === 'cpuFault') push(events[0], -1);
    else for (const entry of arrivalOrder(events as GpuFaultEvent[])) push(entry, group);
  }
  return error === null ? { ok: true, stream } : { ok: false, error };
}
