/**
 * The figures of a report once more, by maps and lists over event objects: slow, simple, and written apart from
 * src/analysis/report, so that one can be held to the other.
 */
import type { UvmEvent } from '../../src/trace/event.ts';

const BLOCK = 512;

interface SlowPage {
  faulted: Set<string>;
  held: Set<string>;
  left: Set<string>;
  moves: number;
  wrote: boolean;
  first: string | null;
}

export interface SlowAllocation {
  faults: Record<string, number>;
  flows: Record<string, { count: number; bytes: number; copy: number }>;
  refaults: Record<string, number>;
  firstTouch: Record<string, number>;
  duplicates: number;
  thrashing: number;
  throttlings: number;
  evictedBytes: number;
  pingPongPages: number;
  pingPongMoves: number;
  pingPongReadOnlyPages: number;
  sharedPages: number;
  sharedBlocks: number;
  falselySharedBlocks: number;
  /** Nanoseconds. */
  gpuTime: number;
  cpuTime: number;
}

export interface SlowBatchNumbers {
  gpu: string;
  batch: number;
  faults: UvmEvent[];
  pages: Set<string>;
  first: number;
  replay: number | null;
}

export interface SlowReport {
  begin: number;
  end: number;
  allocations: Map<string, SlowAllocation>;
  batches: SlowBatchNumbers[];
  standStill: Record<string, number>;
}

function timeOf(event: UvmEvent): number {
  return event.event === 'migration' ? event.begin : event.time;
}

function emptyAllocation(): SlowAllocation {
  return {
    ...{ faults: {}, flows: {}, refaults: {}, firstTouch: {}, duplicates: 0, thrashing: 0, throttlings: 0 },
    ...{ evictedBytes: 0, pingPongPages: 0, pingPongMoves: 0, pingPongReadOnlyPages: 0, sharedPages: 0 },
    ...{ sharedBlocks: 0, falselySharedBlocks: 0, gpuTime: 0, cpuTime: 0 },
  };
}

/** Union of intervals by walking over all their ends. */
function union(list: readonly [number, number][]): number {
  const edges = [...new Set(list.flat())].sort((a, b) => a - b);
  let sum = 0;
  for (let i = 1; i < edges.length; i++) {
    if (list.some(([from, to]) => from <= edges[i - 1] && to >= edges[i])) sum += edges[i] - edges[i - 1];
  }
  return sum;
}

function placeOf(event: UvmEvent): { buffer: string; page: number } {
  if (event.event === 'replay') throw new Error('a replay has no place');
  return { buffer: event.buffer ?? '', page: Math.floor(event.offset / 4096) };
}

/** `only` is the name of events' allocation where they name none; `once`: a replay covers all batches before it. */
export function slowReport(unsorted: readonly UvmEvent[], only: string, once = false): SlowReport {
  const events = unsorted
    .map((event, i) => ({ event, i }))
    .sort((a, b) => timeOf(a.event) - timeOf(b.event) || a.i - b.i)
    .map(({ event }) => event);
  const allocations = new Map<string, SlowAllocation>();
  const pages = new Map<string, SlowPage>();
  const nameOf = (event: UvmEvent): string => placeOf(event).buffer || only;
  const allocation = (event: UvmEvent): SlowAllocation => {
    const name = nameOf(event);
    const its = allocations.get(name) ?? emptyAllocation();
    allocations.set(name, its);
    return its;
  };
  const page = (event: UvmEvent, n: number): SlowPage => {
    const key = `${nameOf(event)}/${n}`;
    const its = pages.get(key) ?? {
      ...{ faulted: new Set<string>(), held: new Set<string>(), left: new Set<string>() },
      ...{ moves: 0, wrote: false, first: null },
    };
    pages.set(key, its);
    return its;
  };
  const pagesOf = (event: UvmEvent & { bytes: number }): number[] => {
    const { page: first } = placeOf(event);
    return Array.from({ length: Math.max(1, Math.ceil(event.bytes / 4096)) }, (_, i) => first + i);
  };
  const add = (counts: Record<string, number>, key: string, n = 1): void => {
    counts[key] = (counts[key] ?? 0) + n;
  };

  const batches: SlowBatchNumbers[] = [];
  const openOf = new Map<string, SlowBatchNumbers>();
  const cpuOpen = new Map<string, { a: SlowAllocation; time: number; end: number }>();
  const cpuAll: { a: SlowAllocation; time: number; end: number }[] = [];
  const blockKey = (event: UvmEvent): string => `${nameOf(event)}/${Math.floor(placeOf(event).page / BLOCK)}`;

  for (const event of events) {
    if (event.event === 'cpuFault' || event.event === 'gpuFault') {
      const who = event.event === 'cpuFault' ? 'cpu' : event.gpu;
      const a = allocation(event);
      add(a.faults, `${who} ${event.access}`);
      const its = page(event, placeOf(event).page);
      if (its.left.has(who)) add(a.refaults, who);
      its.left.delete(who);
      if (its.held.size === 0) {
        its.first = who;
        add(a.firstTouch, who);
      }
      its.faulted.add(who);
      its.held.add(who);
      if (event.access !== 'read' && event.access !== 'prefetch' && its.moves > 0) its.wrote = true;
    }
    switch (event.event) {
      case 'cpuFault': {
        const fault = { a: allocation(event), time: event.time, end: event.time };
        cpuOpen.set(blockKey(event), fault);
        cpuAll.push(fault);
        break;
      }
      case 'gpuFault': {
        let open = openOf.get(event.gpu);
        if (open === undefined || open.batch !== event.batch) {
          const { gpu, batch } = event;
          open = { gpu, batch, faults: [], pages: new Set(), first: event.gpuTime, replay: null };
          openOf.set(gpu, open);
          batches.push(open);
        }
        open.faults.push(event);
        open.first = Math.min(open.first, event.gpuTime);
        const key = `${nameOf(event)}/${placeOf(event).page}`;
        if (open.pages.has(key)) allocation(event).duplicates++;
        open.pages.add(key);
        break;
      }
      case 'replay':
        for (const [i, b] of batches.entries()) {
          if (b.gpu !== event.gpu || b.replay !== null) continue;
          // Of several batches with its number a replay ends the last one.
          const later = batches.slice(i + 1).some((other) => other.gpu === b.gpu && other.batch === b.batch);
          if (once ? b.batch <= event.batch : b.batch === event.batch && !later) b.replay = event.gpuTime;
        }
        if (openOf.get(event.gpu)?.batch === event.batch) openOf.delete(event.gpu);
        if (once && (openOf.get(event.gpu)?.batch ?? Number.POSITIVE_INFINITY) < event.batch) openOf.delete(event.gpu);
        break;
      case 'migration': {
        const a = allocation(event);
        const key = `${event.cause} ${event.src} ${event.dst}`;
        const flow = a.flows[key] ?? { count: 0, bytes: 0, copy: 0 };
        flow.count++;
        flow.bytes += event.bytes;
        flow.copy += Math.max(0, event.gpuEnd - event.gpuBegin);
        a.flows[key] = flow;
        for (const n of pagesOf(event)) {
          const its = page(event, n);
          if (its.first === event.dst) add(a.firstTouch, event.dst, -1);
          its.first = null;
          if (event.src === event.dst) continue;
          its.held.add(event.src);
          its.held.add(event.dst);
          its.left.add(event.src);
          its.left.delete(event.dst);
          its.moves++;
        }
        const fault = cpuOpen.get(blockKey(event));
        const byFault = event.cause === 'coherence' || event.cause === 'prefetch';
        if (event.src === event.dst || fault === undefined) break;
        if (event.dst !== 'cpu' || event.begin > fault.time + 10e6) cpuOpen.delete(blockKey(event));
        else if (byFault) fault.end = Math.max(fault.end, event.end);
        break;
      }
      case 'readDuplicate':
        for (const n of pagesOf(event)) {
          const its = page(event, n);
          if (event.processors.some((who) => its.left.has(who)) && its.moves > 0) its.moves--;
          for (const who of event.processors) {
            its.held.add(who);
            its.left.delete(who);
          }
        }
        allocation(event);
        break;
      case 'readDuplicateInvalidate':
        for (const n of pagesOf(event)) {
          const its = page(event, n);
          for (const who of its.held) its.left.add(who);
          its.left.delete(event.resident);
          its.held.add(event.resident);
        }
        allocation(event);
        break;
      case 'thrashing':
        allocation(event).thrashing++;
        break;
      case 'throttlingStart':
        allocation(event).throttlings++;
        break;
      case 'eviction':
        allocation(event).evictedBytes += event.bytes;
        break;
    }
  }

  const blocks = new Map<string, { name: string; faulted: Set<string>; shared: number }>();
  for (const [key, its] of pages) {
    const at = key.lastIndexOf('/');
    const name = key.slice(0, at);
    const a = allocations.get(name) as SlowAllocation;
    const id = `${name}/${Math.floor(Number(key.slice(at + 1)) / BLOCK)}`;
    const block = blocks.get(id) ?? { name, faulted: new Set<string>(), shared: 0 };
    blocks.set(id, block);
    for (const who of its.faulted) block.faulted.add(who);
    if (its.faulted.size > 1) {
      a.sharedPages++;
      block.shared++;
    }
    if (its.moves < 2) continue;
    a.pingPongPages++;
    a.pingPongMoves += its.moves;
    if (!its.wrote) a.pingPongReadOnlyPages++;
  }
  for (const { name, faulted, shared } of blocks.values()) {
    if (faulted.size < 2) continue;
    const a = allocations.get(name) as SlowAllocation;
    a.sharedBlocks++;
    if (shared === 0) a.falselySharedBlocks++;
  }
  for (const { a, time, end } of cpuAll) a.cpuTime += end - time;
  const standing: Record<string, [number, number][]> = {};
  for (const [i, batch] of batches.entries()) {
    if (batch.replay === null || batch.replay < batch.first) continue;
    const list = standing[batch.gpu] ?? [];
    standing[batch.gpu] = list;
    list.push([batch.first, batch.replay]);
    // Time that batches share is that of the one which began first.
    const before = batches
      .slice(0, i)
      .concat(batches.slice(i + 1))
      .filter((other, n) => {
        if (other.gpu !== batch.gpu || other.replay === null || other.replay < other.first) return false;
        return other.first < batch.first || (other.first === batch.first && n < i);
      });
    const from = Math.max(batch.first, ...before.map(({ replay }) => replay as number));
    const waited = Math.max(0, batch.replay - from);
    for (const fault of batch.faults) allocation(fault).gpuTime += waited / batch.faults.length;
  }
  const times = events.flatMap((event) => (event.event === 'migration' ? [event.begin, event.end] : [event.time]));
  return {
    begin: Math.min(...times),
    end: Math.max(...times),
    allocations,
    batches,
    standStill: Object.fromEntries(Object.entries(standing).map(([gpu, list]) => [gpu, union(list)])),
  };
}
