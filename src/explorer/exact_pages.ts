/**
 * Where pages were in a run of the model, as the driver kept its books: the scenario is run anew, which gives the same
 * history, and watched.
 */
import { executeRun } from '../analysis/execute.ts';
import type { Machines } from '../analysis/machines.ts';
import { MASK_WORDS } from '../base/page_mask.ts';
import { mappedOffset, residentWords as maskOf, residentOffset } from '../model/uvm/va_block.ts';
import type { VaBlock } from '../model/uvm/va_block_types.ts';
import { PROT_READ_ONLY } from '../model/uvm/va_block_types.ts';
import type { Why } from '../model/why.ts';
import type { Run } from '../scenario/runner.ts';
import type { Trace } from '../trace/store/trace_events.ts';
import { residentWords } from './inferred_pages.ts';
import { addPageChange, createPageChanges, type PageChanges, type PageHistory, pageHistory } from './page_history.ts';
import type { Places } from './places.ts';

export interface ExactPages {
  residency: PageHistory;
  /** By processor, in the order of the run's ids: 1 where the page is mapped. */
  mappings: PageHistory[];
}

/** Rows of a trace that is run anew for this, at most. */
const ROWS_MAX = 500_000;

const nothing = (): void => {};

function bitOf(words: Uint32Array, offset: number, page: number): boolean {
  return ((words[offset + (page >>> 5)] >>> (page & 31)) & 1) === 1;
}

/**
 * Looks at the driver's masks of residency and mappings: at those of the block that is being serviced whenever the
 * observer is called, and at all of them between two steps.
 */
class Watcher implements Why {
  readonly prefetchLevel = nothing;
  readonly thrashing = nothing;
  readonly changes = createPageChanges(1024);
  readonly mapped: PageChanges[] = [];
  readonly #places: Places;
  readonly #processors: number;
  #run: Run | null = null;
  #step = -1;
  #block: VaBlock | null = null;
  readonly differing = new Uint32Array(MASK_WORDS);
  /**
   * What the masks of each block were when they were looked at last, by block id: where pages are, MASK_WORDS for each
   * processor, then what it maps.
   */
  readonly #seen: Uint32Array[] = [];

  constructor(places: Places, processors: number) {
    this.#places = places;
    this.#processors = processors;
  }

  attach(run: Run): void {
    this.#run = run;
    for (let i = 0; i < this.#processors; i++) this.mapped.push(createPageChanges(1024));
  }

  #add(into: PageChanges, block: VaBlock, first: number, count: number, code: number): void {
    const { scenario, m } = this.#run as Run;
    const page = block.startPage + first;
    const at = scenario.allocations.findIndex(({ firstPage, pages }) => page >= firstPage && page < firstPage + pages);
    if (at < 0) return;
    addPageChange(into, this.#places.list[at], page - scenario.allocations[at].firstPage, count, m.k.now, code, false);
  }

  /** Where a page is, as a code of residentWords. */
  #codeOf(seen: Uint32Array, page: number): number {
    let code = 0;
    for (let id = 0; id < this.#processors; id++) {
      if (!bitOf(seen, id * MASK_WORDS, page)) continue;
      if (code !== 0) return this.#processors + 1;
      code = id + 1;
    }
    return code;
  }

  /** Takes over a mask of the block, row `row` of `seen`; what changed is added to `differing`. */
  #take(seen: Uint32Array, row: number, words: Uint32Array | null, offset: number, differing: Uint32Array): void {
    for (let w = 0; w < MASK_WORDS; w++) {
      const now = words === null ? 0 : words[offset + w];
      differing[w] |= seen[row * MASK_WORDS + w] ^ now;
      seen[row * MASK_WORDS + w] = now;
    }
  }

  /** Adds the changes of a mask in runs of pages that have one code. */
  #addRuns(into: PageChanges, block: VaBlock, differing: Uint32Array, codeOf: (page: number) => number): void {
    if (differing.every((word) => word === 0)) return;
    for (let page = 0; page < block.n; page++) {
      if (!bitOf(differing, 0, page)) continue;
      const first = page;
      const code = codeOf(page);
      while (page + 1 < block.n && bitOf(differing, 0, page + 1) && codeOf(page + 1) === code) page++;
      this.#add(into, block, first, page + 1 - first, code);
    }
  }

  #look(block: VaBlock): void {
    const count = this.#processors;
    const seen = this.#seen[block.id] ?? new Uint32Array(2 * count * MASK_WORDS);
    this.#seen[block.id] = seen;
    const { differing } = this;
    differing.fill(0);
    for (let id = 0; id < count; id++) {
      this.#take(seen, id, block.dead ? null : maskOf(block, id), residentOffset(id), differing);
    }
    this.#addRuns(this.changes, block, differing, (page) => this.#codeOf(seen, page));
    for (let id = 0; id < count; id++) {
      differing.fill(0);
      // A processor's masks of what it maps lie where its mask of residency does.
      const words = block.dead ? null : maskOf(block, id);
      this.#take(seen, count + id, words, mappedOffset(id, PROT_READ_ONLY), differing);
      this.#addRuns(this.mapped[id], block, differing, (page) =>
        bitOf(seen, (count + id) * MASK_WORDS, page) ? 1 : 0,
      );
    }
  }

  /** Between two steps all blocks are looked at: memory may have been freed. */
  all(): void {
    const { m } = this.#run as Run;
    for (const space of m.vaSpaces) {
      for (const { blocks } of space.ranges) for (const block of blocks) if (block !== null) this.#look(block);
    }
  }

  #again(): void {
    const run = this.#run;
    // While the model is being made there is nothing to see.
    if (run === null) return;
    if (run.state.step !== this.#step) {
      this.#step = run.state.step;
      this.all();
    } else if (this.#block !== null) this.#look(this.#block);
  }

  enter(): void {
    this.#again();
  }
  leave(): void {
    this.#again();
  }
  event(): void {
    this.#again();
  }
  push(): void {
    this.#again();
  }
  copy(): void {
    this.#again();
  }

  #of(block: VaBlock): void {
    this.#again();
    this.#block = block;
  }

  makeResident(block: VaBlock): void {
    this.#of(block);
  }
  populate(block: VaBlock): void {
    this.#of(block);
  }
  residency(block: VaBlock): void {
    this.#of(block);
  }
  prefetch(block: VaBlock): void {
    this.#of(block);
  }

  map(block: VaBlock): void {
    this.#of(block);
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
  const watcher = new Watcher(places, processors.length);
  const executed = executeRun(info.scenario, machines, {
    traced: info.traced,
    parameters: numbersOf(info.parameters),
    why: watcher,
    onRun: (run) => watcher.attach(run),
  });
  if (!executed.ok || executed.run.m.tools.log.count !== eventCount(trace)) return null;
  watcher.all();
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
