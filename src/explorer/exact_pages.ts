/**
 * Where pages were in a run of the model, as the driver kept its books: the scenario is run anew, which gives the same
 * history, and watched.
 */
import { executeRun } from '../analysis/execute.ts';
import type { Machines } from '../analysis/machines.ts';
import type { VaBlock } from '../model/uvm/va_block_types.ts';
import type { Why } from '../model/why.ts';
import type { Run } from '../scenario/runner.ts';
import type { Trace } from '../trace/store/trace_events.ts';
import { residentWords } from './inferred_pages.ts';
import { addPageChange, createPageChanges, type PageChanges, type PageHistory, pageHistory } from './page_history.ts';
import { allocationsOfWords, type Places } from './places.ts';

export interface ExactPages {
  residency: PageHistory;
  /** By processor, in the order of the run's ids: 1 where the page is mapped. */
  mappings: PageHistory[];
}

/** Rows of a trace that is run anew for this, at most. */
const ROWS_MAX = 500_000;

const nothing = (): void => {};

class Watcher implements Why {
  readonly enter = nothing;
  readonly prefetchLevel = nothing;
  readonly prefetch = nothing;
  readonly thrashing = nothing;
  readonly push = nothing;
  readonly residency = nothing;
  readonly changes = createPageChanges(1024);
  readonly mapped: PageChanges[] = [];
  readonly #places: Places;
  readonly #codes: readonly number[];
  #run: Run | null = null;
  #duplicate = false;
  /** Allocation by block id. */
  #allocations: number[] = [];

  constructor(places: Places, codes: readonly number[]) {
    this.#places = places;
    this.#codes = codes;
  }

  attach(run: Run): void {
    this.#run = run;
    for (const _ of this.#codes) this.mapped.push(createPageChanges(1024));
  }

  #add(into: PageChanges, block: VaBlock, first: number, count: number, code: number, ifNowhere: boolean): void {
    const run = this.#run as Run;
    const page = block.startPage + first;
    this.#allocations[block.id] ??= allocationAt(run, block.startPage);
    const allocation = this.#allocations[block.id];
    if (allocation < 0) return;
    const inside = page - run.scenario.allocations[allocation].firstPage;
    addPageChange(into, this.#places.list[allocation], inside, count, run.m.k.now, code, ifNowhere);
  }

  makeResident(_block: VaBlock, _to: number, _w: Uint32Array, _o: number, _cause: number, duplicate: boolean): void {
    this.#duplicate = duplicate;
  }

  populate(block: VaBlock, processor: number, first: number, count: number): void {
    this.#add(this.changes, block, first, count, this.#codes[processor], true);
  }

  copy(block: VaBlock, first: number, count: number, _from: number, to: number): void {
    const code = this.#duplicate ? this.#codes.length + 1 : this.#codes[to];
    this.#add(this.changes, block, first, count, code, false);
  }

  map(block: VaBlock, processor: number, first: number, count: number, protection: number): void {
    this.#add(this.mapped[processor], block, first, count, protection === 0 ? 0 : 1, false);
  }
}

function allocationAt(run: Run, page: number): number {
  return run.scenario.allocations.findIndex(({ firstPage, pages }) => page >= firstPage && page < firstPage + pages);
}

/** The invalidation of duplicates has an event, and no copy. */
function addInvalidations(trace: Trace, places: Places, residents: readonly string[], changes: PageChanges): void {
  const { arrays: a, words, count } = trace.columns;
  const kind = words.kind.numbers.get('readDuplicateInvalidate') ?? -1;
  if (kind < 0) return;
  const allocations = allocationsOfWords(trace);
  for (let i = 0; i < count; i++) {
    if (a.kind[i] !== kind) continue;
    const allocation = allocations[a.buffer[i]];
    if (allocation < 0) continue;
    const code = residents.indexOf(words.src.list[a.src[i]]);
    if (code < 0) continue;
    addPageChange(changes, places.list[allocation], a.offset[i] / 4096, a.bytes[i] / 4096, a.time[i], code, false);
  }
}

/** Whether the trace is a run of a scenario that is in it, and not too long to be run anew. */
export function mayBeExact({ info, columns }: Trace): boolean {
  return info.source === 'run' && info.scenario !== null && columns.count <= ROWS_MAX;
}

/** Of a trace that mayBeExact; null where it does not run as it did. */
export function exactPages(trace: Trace, places: Places, processors: readonly string[], machines: Machines) {
  const { info } = trace;
  const residents = residentWords(processors);
  const codes = processors.map((_, i) => i + 1);
  const watcher = new Watcher(places, codes);
  const executed = executeRun(info.scenario, machines, {
    traced: info.traced,
    parameters: numbersOf(info.parameters),
    why: watcher,
    onRun: (run) => watcher.attach(run),
  });
  if (!executed.ok || executed.run.m.tools.log.count !== eventCount(trace)) return null;
  addInvalidations(trace, places, residents, watcher.changes);
  return {
    residency: pageHistory(watcher.changes, residents, places.blockPages),
    mappings: watcher.mapped.map((changes) => pageHistory(changes, ['not mapped', 'mapped'], places.blockPages)),
  } satisfies ExactPages;
}

function numbersOf(parameters: Trace['info']['parameters']): Record<string, number | string> {
  const numbers: Record<string, number | string> = {};
  for (const [name, value] of Object.entries(parameters))
    numbers[name] = typeof value === 'boolean' ? Number(value) : value;
  return numbers;
}

function eventCount({ columns }: Trace): number {
  const push = columns.words.kind.numbers.get('push') ?? -1;
  let events = 0;
  for (let i = 0; i < columns.count; i++) if (columns.arrays.kind[i] !== push) events++;
  return events;
}
