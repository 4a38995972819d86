/**
 * An independent account of what the driver must do for each fault of a history with one GPU: where the page goes and by
 * which rule, what the prefetch tree says, and which pushes it takes, numbered by channel. It is written from the
 * rules alone, page by page and slowly, and calls nothing of the model.
 *
 * It follows histories without thrashing and without unsetReadMostly, and prefetches of pages that are not mapped
 * remotely; it throws on what it does not know.
 */

type Processor = 'cpu' | 'gpu0';
type PushType = 'CPU_TO_GPU' | 'GPU_TO_CPU' | 'GPU_INTERNAL' | 'MEMOPS';

/** Channel types in the order in which they are given copy engines, round and round. */
const TYPES = ['CPU_TO_GPU', 'GPU_TO_CPU', 'GPU_INTERNAL', 'GPU_TO_GPU', 'MEMOPS'] as const;

/** [purpose, number of the copy engine, tracking value] */
export type LedgerPush = [string, number, number];
/** [level, first page, outer page, set, of, passes], pages of the buffer */
export type LedgerLevel = [number, number, number, number, number, boolean];

export interface Account {
  page: number;
  rule: string;
  residency: Processor;
  /** Empty for a block that is touched first at its preferred location. */
  levels: LedgerLevel[];
  prefetched: number[];
  pushes: LedgerPush[];
}

interface Policy {
  preferred: Processor | null;
  /** The GPU is accessed-by. */
  accessedBy: boolean;
  readMostly: boolean;
}

interface Page {
  on: { cpu: boolean; gpu0: boolean };
  /** 0 none, 1 read, 2 read and write, 3 atomics too. The CPU has 0, 1 or 3. */
  may: { cpu: number; gpu0: number };
  duplicated: boolean;
  gpuMemory: boolean;
}

interface Block {
  first: number;
  pages: Page[];
  policy: Policy;
  /** The GPU's page tables have been taken (blocks of less than 2 MiB). */
  tables: boolean;
}

export interface LedgerStep {
  do: string;
  on?: string;
  to?: string;
  advice?: string;
  processor?: string;
  offset?: number;
  length?: number;
}

const BLOCK = 512;
const BIG = 16;
const THRESHOLD = 51;

const other = (p: Processor): Processor => (p === 'cpu' ? 'gpu0' : 'cpu');

/** Whose memory a processor can map: the GPU everybody's, the CPU its own. */
function reaches(p: Processor, memory: Processor): boolean {
  return p === 'gpu0' || memory === 'cpu';
}

export class Ledger {
  #blocks: Block[] = [];
  /** Pushes by copy engine; of an engine's channels the first one alone is used. */
  #count: number[];
  /** 2 MiB pieces of address space whose directory entry points at tables. */
  #directories = new Set<number>();
  #pushes: LedgerPush[] = [];

  /** One buffer of `pages` pages, on a GPU with so many copy engines. */
  constructor(pages: number, copyEngines: number) {
    this.#count = new Array<number>(copyEngines).fill(0);
    for (let first = 0; first < pages; first += BLOCK) {
      const n = Math.min(BLOCK, pages - first);
      this.#blocks.push({
        first,
        pages: Array.from({ length: n }, () => ({
          on: { cpu: false, gpu0: false },
          may: { cpu: 0, gpu0: 0 },
          duplicated: false,
          gpuMemory: false,
        })),
        policy: { preferred: null, accessedBy: false, readMostly: false },
        tables: false,
      });
    }
  }

  #push(purpose: string, type: PushType): void {
    const engine = TYPES.indexOf(type) % this.#count.length;
    this.#pushes.push([purpose, engine, ++this.#count[engine]]);
  }

  /** A step that makes no faults. */
  step(step: LedgerStep): void {
    if (step.do !== 'advise' && step.do !== 'prefetch') return;
    const first = (step.offset ?? 0) / 4096;
    const outer = first + (step.length ?? 0) / 4096;
    if (step.do === 'prefetch') this.#migrate(first, outer, step.to as Processor);
    else this.#advise(step, first, outer);
    this.#pushes = [];
  }

  #split(at: number): void {
    const i = this.#blocks.findIndex((b) => b.first < at && at < b.first + b.pages.length);
    if (i < 0) return;
    const block = this.#blocks[i];
    // With page tables in place a split would push too.
    if (block.pages.some((page) => page.gpuMemory || page.may.gpu0 > 0)) throw new Error('split of a block on the GPU');
    const rest = block.pages.splice(at - block.first);
    this.#blocks.splice(i + 1, 0, { first: at, pages: rest, policy: { ...block.policy }, tables: false });
  }

  #advise(step: LedgerStep, first: number, outer: number): void {
    this.#split(first);
    this.#split(outer);
    for (const block of this.#blocks) {
      if (block.first < first || block.first >= outer) continue;
      switch (step.advice) {
        case 'setPreferredLocation':
          block.policy.preferred = step.processor as Processor;
          if (block.pages.some((p) => !p.on.gpu0 && p.may.gpu0 > 0)) throw new Error('preferred after remote mapping');
          break;
        case 'unsetPreferredLocation':
          block.policy.preferred = null;
          break;
        case 'setAccessedBy':
          block.policy.accessedBy = true;
          this.#addMappings(block);
          break;
        case 'setReadMostly':
          this.#duplicate(
            block,
            block.pages.filter((p) => p.on.cpu),
            'cpu',
          );
          this.#duplicate(
            block,
            block.pages.filter((p) => p.on.gpu0),
            'gpu0',
          );
          block.policy.readMostly = true;
          break;
        default:
          throw new Error(`advice ${step.advice}`);
      }
    }
  }

  /** The GPU maps all that it may: everything where nobody maps, else what leaves the CPU its right to write. */
  #addMappings(block: Block): void {
    for (const protection of [1, 2, 3]) {
      const pages = block.pages.filter((p) => {
        if (!p.on.cpu || p.duplicated) return false;
        const highest = p.may.cpu === 3 ? 2 : 3;
        return highest === protection && p.may.gpu0 < protection;
      });
      this.#mapGpu(block, pages, protection);
    }
  }

  #migrate(first: number, outer: number, to: Processor): void {
    const moved: [Block, Page[]][] = [];
    for (const block of this.#blocks) {
      const pages = block.pages.filter((_, i) => block.first + i >= first && block.first + i < outer);
      if (pages.length === 0) continue;
      const there = pages.filter((p) => p.on[to]);
      if (there.some((p) => p.may[to] === 0)) throw new Error('prefetch of pages that are there and not mapped');
      if (block.policy.readMostly) this.#duplicate(block, pages, to);
      else this.#move(block, pages, to);
      moved.push([block, pages.filter((p) => !there.includes(p))]);
    }
    for (const [block, pages] of moved) {
      if (to === 'gpu0') {
        const exclusive = pages.filter((p) => !p.duplicated);
        this.#mapGpu(block, exclusive, 3);
        this.#mapGpu(
          block,
          pages.filter((p) => p.duplicated),
          1,
        );
      } else {
        for (const page of pages) page.may.cpu = page.duplicated ? 1 : 3;
        if (block.policy.accessedBy && block.policy.preferred !== 'gpu0') this.#mapGpu(block, pages, 2);
      }
    }
  }

  /** Rule and destination of a fault on one page. */
  #residency(block: Block, page: Page, by: Processor, write: boolean): [string, Processor] {
    const { preferred, accessedBy, readMostly } = block.policy;
    if (readMostly) {
      return [
        write
          ? 'read duplication: collapse to the faulting processor'
          : 'read duplication: a copy for the faulting processor',
        by,
      ];
    }
    if (preferred === by) return ['the faulting processor is the preferred location', by];
    const wanted = preferred !== null && reaches(by, preferred) ? preferred : null;
    if (!page.on.cpu && !page.on.gpu0) {
      if (wanted !== null) return ['first touch at the preferred location', wanted];
      return ['first touch at the faulting processor', by];
    }
    const closest = page.on[by] ? by : other(by);
    if (accessedBy && by === 'gpu0') return ['accessed-by: stay and map remotely', closest];
    if (closest !== by && wanted !== null) return ['the preferred location is reachable', wanted];
    return ['migrate to the faulting processor', by];
  }

  /** The tree above one faulted page, and the pages that it asks for besides. */
  #prefetch(block: Block, index: number, to: Processor): { levels: LedgerLevel[]; pages: number[] } {
    const n = block.pages.length;
    const isCandidate = (i: number): boolean => {
      const page = block.pages[i];
      return i !== index && !(to === 'cpu' && page.on.cpu && page.may.cpu > 0);
    };
    if (!block.pages.some((p) => p.on.cpu || p.on.gpu0) && block.policy.preferred === to) {
      return { levels: [], pages: block.pages.map((_, i) => i).filter(isCandidate) };
    }
    const before = block.first % BIG;
    const head = before === 0 ? 0 : BIG - before;
    const pieces = n - head >= BIG;
    // Leaf = page + offset, so that every 16th leaf begins 64 KiB of address space.
    const offset = pieces ? before : 0;
    const leaves: boolean[] = Array.from({ length: n + offset }, () => false);
    for (let i = 0; i < n; i++) if (block.pages[i].on[to] || i === index) leaves[i + offset] = true;
    const piece = Math.floor((index + offset) / BIG);
    for (let leaf = offset; leaf < leaves.length; leaf++) {
      if (!pieces || Math.floor(leaf / BIG) === piece) leaves[leaf] = true;
    }
    let height = 0;
    while (2 ** height < leaves.length) height++;
    const levels: LedgerLevel[] = [];
    let taken: [number, number] | null = null;
    for (let h = 0; h <= height; h++) {
      const first = Math.floor((index + offset) / 2 ** h) * 2 ** h;
      const outer = Math.min(first + 2 ** h, leaves.length);
      const set = leaves.slice(first, outer).filter(Boolean).length;
      const passes = set * 100 > (outer - first) * THRESHOLD;
      if (passes) taken = [first < offset ? offset : first - offset, outer - offset];
      const shift = block.first - offset;
      levels.push([height - h, first + shift, outer + shift, set, outer - first, passes]);
    }
    const pages: number[] = [];
    if (taken !== null) for (let i = taken[0]; i < Math.min(taken[1], n); i++) if (isCandidate(i)) pages.push(i);
    return { levels, pages };
  }

  /** Memory of the GPU for pages: 2 MiB for a whole block, else 64 KiB or 4 KiB; what is nowhere else is zeroed. */
  #populate(block: Block, pages: readonly Page[]): void {
    let zeroed = false;
    for (const page of pages) {
      if (page.on.gpu0 || page.gpuMemory) continue;
      const index = block.pages.indexOf(page);
      const start = Math.floor((block.first + index) / BIG) * BIG - block.first;
      let chunk = [page];
      if (block.pages.length === BLOCK) chunk = block.pages;
      else if (start >= 0 && start + BIG <= block.pages.length) chunk = block.pages.slice(start, start + BIG);
      for (const part of chunk) {
        part.gpuMemory = true;
        if (!part.on.cpu && !part.on.gpu0) zeroed = true;
      }
    }
    if (zeroed) this.#push('memset', 'GPU_INTERNAL');
  }

  #unmap(pages: readonly Page[], from: Processor): void {
    if (from === 'gpu0' && pages.some((p) => p.may.gpu0 > 0)) this.#push('unmap', 'MEMOPS');
    for (const page of pages) page.may[from] = 0;
  }

  /** Pages that are on the other side alone are copied. Returns them. */
  #copy(pages: readonly Page[], to: Processor): Page[] {
    const copied = pages.filter((p) => !p.on[to] && p.on[other(to)]);
    if (copied.length > 0) this.#push('copy', to === 'cpu' ? 'GPU_TO_CPU' : 'CPU_TO_GPU');
    return copied;
  }

  #move(block: Block, pages: readonly Page[], to: Processor): Page[] {
    const away = pages.filter((p) => !p.on[to]);
    this.#unmap(away, 'cpu');
    this.#unmap(away, 'gpu0');
    this.#unmap(
      pages.filter((p) => p.duplicated),
      other(to),
    );
    if (to === 'gpu0') this.#populate(block, pages);
    this.#copy(pages, to);
    for (const page of pages) {
      page.on[to] = true;
      page.on[other(to)] = false;
      page.duplicated = false;
    }
    return away;
  }

  #duplicate(block: Block, pages: readonly Page[], to: Processor): void {
    for (const side of ['cpu', 'gpu0'] as const) {
      const alone = pages.filter((p) => p.on[side] && !p.duplicated);
      this.#unmap(alone, other(side));
      const writable = alone.filter((p) => p.may[side] >= 2);
      if (side === 'gpu0' && writable.length > 0) this.#push('revoke', 'MEMOPS');
      for (const page of writable) page.may[side] = 1;
    }
    if (to === 'gpu0') this.#populate(block, pages);
    for (const page of this.#copy(pages, to)) {
      page.on[to] = true;
      page.duplicated = true;
    }
    for (const page of pages) if (!page.on.cpu && !page.on.gpu0) page.on[to] = true;
  }

  #mapGpu(block: Block, wanted: readonly Page[], protection: number): void {
    const local = block.policy.readMostly || block.policy.preferred === 'gpu0';
    const pages = wanted.filter((p) => p.may.gpu0 < protection && (p.on.gpu0 || (p.on.cpu && !local)));
    for (const target of ['gpu0', 'cpu'] as const) {
      const there = pages.filter((p) => (target === 'gpu0' ? p.on.gpu0 : !p.on.gpu0));
      if (there.length === 0) continue;
      this.#takeTables(block);
      this.#push('map', 'MEMOPS');
      for (const page of there) page.may.gpu0 = protection;
    }
  }

  /** A block of less than 2 MiB shares the directory entry with its neighbours: the first one fills it in. */
  #takeTables(block: Block): void {
    if (block.pages.length === BLOCK || block.tables) return;
    block.tables = true;
    const directory = Math.floor(block.first / BLOCK);
    if (!this.#directories.has(directory)) this.#push('page tree', 'GPU_INTERNAL');
    this.#directories.add(directory);
  }

  /** A fault of the output, in order; `access` is the event's word. */
  fault(by: Processor, page: number, access: string): Account {
    this.#pushes = [];
    const block = this.#blocks.find((b) => page >= b.first && page < b.first + b.pages.length) as Block;
    const index = page - block.first;
    const target = block.pages[index];
    const write = access !== 'read';
    const [rule, residency] = this.#residency(block, target, by, write);
    const { levels, pages } = this.#prefetch(block, index, residency);
    const prefetched = pages.map((i) => block.pages[i]);
    const all = block.pages.filter((p) => p === target || prefetched.includes(p));
    const duplicates = block.policy.readMostly ? all.filter((p) => p !== target || !write) : [];
    const moving = all.filter((p) => !duplicates.includes(p));
    if (duplicates.length > 0) this.#duplicate(block, duplicates, residency);
    const changed = moving.length > 0 ? this.#move(block, moving, residency) : [];
    this.#finish(block, target, all, changed, by, residency, access);
    if (by === 'gpu0') this.#push('replay', 'MEMOPS');
    const first = block.first;
    return { page, rule, residency, levels, prefetched: pages.map((i) => i + first), pushes: this.#pushes };
  }

  /** Rights after the service: compute, take from others, give to the faulting processor, give to accessed-by ones. */
  #finish(
    block: Block,
    target: Page,
    all: readonly Page[],
    changed: readonly Page[],
    by: Processor,
    residency: Processor,
    access: string,
  ): void {
    const native = by === residency;
    const requested = (page: Page): number => {
      if (page !== target || access === 'read') return 1;
      // A CPU's write counts as an atomic access; the GPU's own atomics here are weak and count as writes.
      return by === 'cpu' ? 3 : 2;
    };
    const rights = new Map<Page, number>();
    for (const page of all) {
      let right = requested(page);
      const atomicElsewhere = residency === 'cpu' && page.may.gpu0 === 3;
      if (right === 1 && !block.policy.readMostly && !atomicElsewhere) right = 2;
      if (right === 2 && native) right = 3;
      rights.set(page, right);
    }
    const stayed = all.filter((p) => !changed.includes(p) && (rights.get(p) ?? 0) >= 2);
    if (by === 'cpu' && stayed.some((p) => p.may.gpu0 === 3)) {
      this.#push('revoke', 'MEMOPS');
      for (const page of stayed) if (page.may.gpu0 === 3) page.may.gpu0 = 2;
    }
    if (by === 'gpu0' && residency === 'cpu') {
      for (const page of stayed) if (rights.get(page) === 3 && page.may.cpu === 3) page.may.cpu = 1;
    }
    for (const right of [1, 2, 3]) {
      const pages = all.filter((p) => rights.get(p) === right);
      if (by === 'gpu0') this.#mapGpu(block, pages, right);
      else for (const page of pages) page.may.cpu = right === 1 ? 1 : 3;
    }
    if (by !== 'cpu' || !block.policy.accessedBy || block.policy.readMostly || residency !== 'cpu') return;
    if (block.policy.preferred === 'gpu0') return;
    for (const right of [1, 2, 3]) {
      this.#mapGpu(
        block,
        all.filter((p) => rights.get(p) === right),
        Math.min(right, 2),
      );
    }
  }
}
