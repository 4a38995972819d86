/** Times of recorded events as the file format has them. */
import type { UvmEvent } from './event.ts';
import type { TraceColumns } from './store/trace_columns.ts';

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

/** As rebaseEvents, for the events of a trace: the GPU whose clock a row's GPU times are of is found by its words. */
export function rebaseColumns({ arrays, words, count }: TraceColumns): void {
  if (count === 0) return;
  const kind = (name: string): number => words.kind.numbers.get(name) ?? -1;
  const [fault, replay, migration, mapRemote] = ['gpuFault', 'replay', 'migration', 'mapRemote'].map(kind);
  const { src, dst } = arrays;
  // Processors have numbers in two columns.
  const gpus = new Map<string, number>();
  const numberOf = (word: string): number => {
    if (word === 'cpu' || word === '') return -1;
    if (!gpus.has(word)) gpus.set(word, gpus.size);
    return gpus.get(word) as number;
  };
  const ofSrc = words.src.list.map(numberOf);
  const ofDst = words.dst.list.map(numberOf);
  const gpuOf = (row: number): number => {
    const k = arrays.kind[row];
    if (k === migration && ofSrc[src[row]] < 0) return ofDst[dst[row]];
    return k === fault || k === replay || k === migration || k === mapRemote ? ofSrc[src[row]] : -1;
  };
  const base = arrays.time[0];
  const gpuBase = new Float64Array(gpus.size).fill(Number.POSITIVE_INFINITY);
  for (let row = 0; row < count; row++) {
    const gpu = gpuOf(row);
    if (gpu >= 0) gpuBase[gpu] = Math.min(gpuBase[gpu], arrays.gpuTime[row]);
  }
  for (let row = 0; row < count; row++) {
    const gpu = gpuOf(row);
    const shift = gpu < 0 ? 0 : gpuBase[gpu];
    arrays.time[row] -= base;
    if (gpu >= 0) arrays.gpuTime[row] -= shift;
    // A difference of NaN is NaN, but perhaps another one, and the same events are to be the same bytes.
    if (arrays.kind[row] !== migration) continue;
    arrays.timeEnd[row] -= base;
    arrays.gpuTimeEnd[row] -= shift;
  }
}
