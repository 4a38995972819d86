/**
 * Where pages were, concluded from a trace's events alone: a migration puts its pages where it went to, read duplication
 * onto several, and a page that nothing is known of is where it was first asked for. Pages that were populated without
 * an event (the neighbours of a first touch) are not known of.
 */
import { PAGE_SIZE } from '../base/units.ts';
import type { Trace } from '../trace/store/trace_events.ts';
import { addPageChange, createPageChanges, type PageHistory, pageHistory } from './page_history.ts';
import { allocationOf, type Places } from './places.ts';
import { rowBegin, timeAxis } from './row_times.ts';

/** `none`, the processors of the trace, `several`. */
export function residentWords(processors: readonly string[]): string[] {
  return ['none', ...processors, 'several'];
}

export function inferPages(trace: Trace, places: Places, processors: readonly string[]): PageHistory {
  const { arrays: a, words, count } = trace.columns;
  const axis = timeAxis(trace);
  const residents = residentWords(processors);
  const several = residents.length - 1;
  const codeOf = (word: number): number => residents.indexOf(words.src.list[word]);
  const codes = Uint8Array.from(words.src.list, (_, word) => Math.max(0, codeOf(word)));
  const dstCodes = Uint8Array.from(words.dst.list, (word) => Math.max(0, residents.indexOf(word)));
  const kinds = words.kind.list.map((kind) => kind);
  const changes = createPageChanges(1024);
  for (let i = 0; i < count; i++) {
    const kind = kinds[a.kind[i]];
    const fault = kind === 'cpuFault' || kind === 'gpuFault';
    if (!fault && kind !== 'migration' && kind !== 'readDuplicate' && kind !== 'readDuplicateInvalidate') continue;
    const allocation = allocationOf(places, trace, i);
    if (allocation < 0) continue;
    const begin = rowBegin(trace, i, axis);
    const page = Math.floor(a.offset[i] / PAGE_SIZE);
    const pages = fault ? 1 : Math.max(1, Math.ceil(a.bytes[i] / PAGE_SIZE));
    const code = kind === 'migration' ? dstCodes[a.dst[i]] : kind === 'readDuplicate' ? several : codes[a.src[i]];
    // The driver's books change when the copy is pushed: what it says of duplicates comes behind that, on the same clock.
    const time = kind === 'migration' ? a.time[i] : begin;
    addPageChange(changes, places.list[allocation], page, pages, time, code, fault);
  }
  return pageHistory(changes, residents, places.blockPages);
}
