/** Times of recorded events as the file format has them. */
import type { UvmEvent } from './event.ts';

/** The GPU whose clock an event's GPU times are of, or null where it has none. */
function gpuOfTimes(event: UvmEvent): string | null {
  switch (event.event) {
    case 'gpuFault':
    case 'replay':
      return event.gpu;
    case 'migration':
      // Who pushes the copy: the source, unless that is the CPU.
      if (event.src !== 'cpu') return event.src;
      return event.dst === 'cpu' ? null : event.dst;
    case 'mapRemote':
      return event.src === 'cpu' ? null : event.src;
    default:
      return null;
  }
}

function firstGpuTime(event: UvmEvent): number {
  if (event.event === 'migration') return event.gpuBegin;
  return event.event === 'gpuFault' || event.event === 'replay' || event.event === 'mapRemote' ? event.gpuTime : 0;
}

/** Makes times count from the first event, and those of each GPU's clock from its smallest: in place. */
export function rebaseEvents(events: readonly UvmEvent[]): void {
  if (events.length === 0) return;
  const first = events[0];
  const base = first.event === 'migration' ? first.begin : first.time;
  const gpuBase = new Map<string, number>();
  for (const event of events) {
    const gpu = gpuOfTimes(event);
    if (gpu === null) continue;
    gpuBase.set(gpu, Math.min(gpuBase.get(gpu) ?? Number.POSITIVE_INFINITY, firstGpuTime(event)));
  }
  for (const event of events) {
    const gpu = gpuOfTimes(event);
    const shift = gpu === null ? 0 : (gpuBase.get(gpu) as number);
    if (event.event === 'migration') {
      event.begin -= base;
      event.end -= base;
      event.gpuBegin -= shift;
      event.gpuEnd -= shift;
      continue;
    }
    event.time -= base;
    if (event.event === 'gpuFault' || event.event === 'replay' || event.event === 'mapRemote') event.gpuTime -= shift;
  }
}
