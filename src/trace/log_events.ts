/** The model's event log (model/uvm/tools.ts) as the event objects of the file format. */
import { PAGE_SIZE } from '../base/units.ts';
import type { Model } from '../model/state.ts';
import {
  EVENT_CPU_FAULT,
  EVENT_FATAL_FAULT,
  EVENT_GPU_FAULT,
  EVENT_MAP_REMOTE,
  EVENT_MIGRATION,
  EVENT_READ_DUPLICATE,
  EVENT_READ_DUPLICATE_INVALIDATE,
  EVENT_REPLAY,
  EVENT_THRASHING,
  EVENT_THROTTLING_END,
  EVENT_THROTTLING_START,
  type EventLog,
} from '../model/uvm/tools.ts';
import { toolsAccessType, toolsFaultType } from '../model/uvm/tools_codes.ts';
import { processorName } from '../model/uvm/va_space.ts';
import type { Allocation } from '../scenario/scenario.ts';
import {
  ACCESS_WORDS,
  FATAL_REASON_WORDS,
  FAULT_TYPE_WORDS,
  type FaultTypeWord,
  MAP_REMOTE_CAUSE_WORDS,
  MIGRATION_CAUSE_WORDS,
  type ProcessorWord,
  type UvmEvent,
} from './event.ts';

/** The word for a fault type of the hardware. */
export function faultTypeWord(hardware: number): FaultTypeWord {
  return FAULT_TYPE_WORDS[toolsFaultType(hardware)];
}

function processorsOf(mask: number): ProcessorWord[] {
  const words: ProcessorWord[] = [];
  for (let id = 0; id < 32; id++) if ((mask & (1 << id)) !== 0) words.push(processorName(id));
  return words;
}

/** Where a page lies: its buffer's index and the byte offset in it. */
export function placeOf(allocations: readonly Allocation[], page: number): { index: number; offset: number } {
  let low = 0;
  let high = allocations.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (allocations[middle].firstPage <= page) low = middle;
    else high = middle - 1;
  }
  return { index: low, offset: (page - allocations[low].firstPage) * PAGE_SIZE };
}

/** One log entry as an event. */
export function eventAt(log: EventLog, i: number, allocations: readonly Allocation[]): UvmEvent {
  const step = log.step[i];
  const kind = log.kind[i];
  const time = log.time[i];
  if (kind === EVENT_REPLAY) {
    const gpu = processorName(log.src[i]);
    return { event: 'replay', step, gpu, batch: log.batch[i], time, gpuTime: log.gpuTime[i] };
  }
  const { index, offset } = placeOf(allocations, log.page[i]);
  const place = allocations.length > 1 ? { step, buffer: allocations[index].name, offset } : { step, offset };
  const bytes = log.pages[i] * PAGE_SIZE;
  switch (kind) {
    case EVENT_CPU_FAULT:
      return { event: 'cpuFault', access: ACCESS_WORDS[log.a[i]], ...place, time };
    case EVENT_GPU_FAULT:
      return {
        event: 'gpuFault',
        gpu: processorName(log.src[i]),
        type: faultTypeWord(log.a[i]),
        access: ACCESS_WORDS[toolsAccessType(log.b[i])],
        ...place,
        batch: log.batch[i],
        gpc: log.gpc[i],
        client: log.client[i],
        time,
        gpuTime: log.gpuTime[i],
      };
    case EVENT_MIGRATION:
      return {
        event: 'migration',
        cause: MIGRATION_CAUSE_WORDS[log.a[i]],
        src: processorName(log.src[i]),
        dst: processorName(log.dst[i]),
        ...place,
        bytes,
        begin: time,
        end: log.end[i],
        gpuBegin: log.gpuTime[i],
        gpuEnd: log.gpuEnd[i],
      };
    case EVENT_MAP_REMOTE:
      return {
        event: 'mapRemote',
        cause: MAP_REMOTE_CAUSE_WORDS[log.a[i]],
        src: processorName(log.src[i]),
        dst: processorName(log.dst[i]),
        ...place,
        bytes,
        time,
        gpuTime: log.gpuTime[i],
      };
    case EVENT_READ_DUPLICATE:
      return { event: 'readDuplicate', ...place, bytes: PAGE_SIZE, processors: processorsOf(log.processors[i]), time };
    case EVENT_READ_DUPLICATE_INVALIDATE:
      return {
        event: 'readDuplicateInvalidate',
        resident: processorName(log.src[i]),
        ...place,
        bytes: PAGE_SIZE,
        time,
      };
    case EVENT_THRASHING:
      return { event: 'thrashing', ...place, bytes: PAGE_SIZE, processors: processorsOf(log.processors[i]), time };
    case EVENT_THROTTLING_START:
      return { event: 'throttlingStart', processor: processorName(log.src[i]), ...place, time };
    case EVENT_THROTTLING_END:
      return { event: 'throttlingEnd', processor: processorName(log.src[i]), ...place, time };
    case EVENT_FATAL_FAULT:
      return {
        event: 'fatalFault',
        processor: processorName(log.src[i]),
        type: log.src[i] === 0 ? 'invalid' : faultTypeWord(log.a[i]),
        access: ACCESS_WORDS[toolsAccessType(log.b[i])],
        reason: FATAL_REASON_WORDS[log.batch[i]],
        ...place,
        time,
      };
    default:
      throw new RangeError(`log entry ${i} has kind ${kind}`);
  }
}

/** All events of a run, in the order in which the driver's queue would hold them. */
export function logEvents(m: Model, allocations: readonly Allocation[]): UvmEvent[] {
  const log = m.tools.log;
  const events: UvmEvent[] = [];
  for (let i = 0; i < log.count; i++) events.push(eventAt(log, i, allocations));
  return events;
}
