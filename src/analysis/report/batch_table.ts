/** Batches of GPU faults as columns, and how they end: by the next batch of their GPU, and by a replay. */

/** The arrays of a table, and the share of each allocation in each batch's faults. */
export interface BatchTable {
  /** Whether the trace has any: if not, none is waited for. */
  hasReplays: boolean;
  /** Of the driver, as its parameter has it: which replays there are. */
  policy: number;
  count: number;
  gpu: Uint16Array;
  batch: Int32Array;
  faults: Int32Array;
  duplicates: Int32Array;
  blocks: Int32Array;
  firstRow: Uint32Array;
  /** First entry by the GPU's clock; when the driver had come to the first fault; the last fault; ns. */
  firstGpu: Float64Array;
  firstTime: Float64Array;
  lastTime: Float64Array;
  /** Of the replay; NaN before it. */
  replayGpu: Float64Array;
  replayTime: Float64Array;
  /** Shares `share[b]` to `share[b + 1]` - 1 are those of batch `b`. */
  share: Uint32Array;
  shares: number;
  shareAllocation: Uint32Array;
  shareFaults: Int32Array;
  shareDuplicates: Int32Array;
  open: Map<number, OpenBatch>;
}

/** The batch of a GPU whose faults come in. */
interface OpenBatch {
  number: number;
  faults: number;
  duplicates: number;
  firstRow: number;
  firstGpu: number;
  firstTime: number;
  lastTime: number;
  pages: Set<number | string>;
  blocks: Set<number | string>;
  lastBlock: number | string;
  byAllocation: Map<number, { faults: number; duplicates: number }>;
  /** Batches without a replay, oldest first from `oldest` on; and all of them by number. */
  waiting: number[];
  oldest: number;
  waitingOf: Map<number, number>;
}

const NUMBERS = ['gpu', 'batch', 'faults', 'duplicates', 'blocks', 'firstRow'] as const;
const TIMES = ['firstGpu', 'firstTime', 'lastTime', 'replayGpu', 'replayTime'] as const;

export function createBatchTable(hasReplays: boolean, policy = 2): BatchTable {
  const n = 256;
  return {
    hasReplays,
    policy,
    count: 0,
    gpu: new Uint16Array(n),
    batch: new Int32Array(n),
    faults: new Int32Array(n),
    duplicates: new Int32Array(n),
    blocks: new Int32Array(n),
    firstRow: new Uint32Array(n),
    firstGpu: new Float64Array(n),
    firstTime: new Float64Array(n),
    lastTime: new Float64Array(n),
    replayGpu: new Float64Array(n),
    replayTime: new Float64Array(n),
    share: new Uint32Array(n + 1),
    shares: 0,
    shareAllocation: new Uint32Array(n),
    shareFaults: new Int32Array(n),
    shareDuplicates: new Int32Array(n),
    open: new Map(),
  };
}

function grown<A extends Uint16Array | Uint32Array | Int32Array | Float64Array>(array: A, length: number): A {
  const larger = new (array.constructor as new (n: number) => A)(length);
  larger.set(array);
  return larger;
}

function growBatches(t: BatchTable): void {
  if (t.count < t.gpu.length) return;
  const length = t.count * 2;
  const arrays = t as unknown as Record<string, Float64Array>;
  for (const key of [...NUMBERS, ...TIMES]) arrays[key] = grown(arrays[key], length);
  t.share = grown(t.share, length + 1);
}

function growShares(t: BatchTable, more: number): void {
  if (t.shares + more <= t.shareAllocation.length) return;
  const length = (t.shares + more) * 2;
  t.shareAllocation = grown(t.shareAllocation, length);
  t.shareFaults = grown(t.shareFaults, length);
  t.shareDuplicates = grown(t.shareDuplicates, length);
}

function freshBatch(): OpenBatch {
  return {
    number: -1,
    faults: 0,
    duplicates: 0,
    firstRow: 0,
    firstGpu: 0,
    firstTime: 0,
    lastTime: 0,
    pages: new Set(),
    blocks: new Set(),
    lastBlock: -1,
    byAllocation: new Map(),
    waiting: [],
    oldest: 0,
    waitingOf: new Map(),
  };
}

function close(t: BatchTable, gpu: number, open: OpenBatch): void {
  if (open.faults === 0) return;
  growBatches(t);
  const b = t.count++;
  t.gpu[b] = gpu;
  t.batch[b] = open.number;
  t.faults[b] = open.faults;
  t.duplicates[b] = open.duplicates;
  t.blocks[b] = open.blocks.size;
  t.firstRow[b] = open.firstRow;
  t.firstGpu[b] = open.firstGpu;
  t.firstTime[b] = open.firstTime;
  t.lastTime[b] = open.lastTime;
  t.replayGpu[b] = Number.NaN;
  t.replayTime[b] = Number.NaN;
  growShares(t, open.byAllocation.size);
  for (const [allocation, its] of open.byAllocation) {
    t.shareAllocation[t.shares] = allocation;
    t.shareFaults[t.shares] = its.faults;
    t.shareDuplicates[t.shares] = its.duplicates;
    t.shares++;
  }
  t.share[t.count] = t.shares;
  if (t.hasReplays) {
    if (t.policy === POLICY_ONCE) open.waiting.push(b);
    open.waitingOf.set(open.number, b);
  }
  open.faults = 0;
  open.duplicates = 0;
  open.pages.clear();
  open.blocks.clear();
  open.lastBlock = -1;
  open.byAllocation.clear();
}

export interface BatchFault {
  gpu: number;
  batch: number;
  row: number;
  time: number;
  gpuTime: number;
  allocation: number;
  /** What is the same for the same 2 MiB, and for the same page. */
  block: number | string;
  page: number | string;
}

/** Adds a fault. True where its page has one in the batch already. */
export function addBatchFault(t: BatchTable, f: BatchFault): boolean {
  let open = t.open.get(f.gpu);
  if (open === undefined) {
    open = freshBatch();
    t.open.set(f.gpu, open);
  }
  if (open.number !== f.batch || open.faults === 0) {
    close(t, f.gpu, open);
    open.number = f.batch;
    open.firstRow = f.row;
    open.firstGpu = f.gpuTime;
    open.firstTime = f.time;
    open.lastTime = f.time;
  }
  open.faults++;
  if (f.gpuTime < open.firstGpu) open.firstGpu = f.gpuTime;
  if (f.time > open.lastTime) open.lastTime = f.time;
  if (f.block !== open.lastBlock) {
    open.blocks.add(f.block);
    open.lastBlock = f.block;
  }
  const before = open.pages.size;
  open.pages.add(f.page);
  const duplicate = open.pages.size === before;
  if (duplicate) open.duplicates++;
  let its = open.byAllocation.get(f.allocation);
  if (its === undefined) {
    its = { faults: 0, duplicates: 0 };
    open.byAllocation.set(f.allocation, its);
  }
  its.faults++;
  if (duplicate) its.duplicates++;
  return duplicate;
}

/** The first row of the batch of a GPU whose faults come in: what tells it from all others. */
export function openBatchRow(t: BatchTable, gpu: number): number {
  return t.open.get(gpu)?.firstRow ?? -1;
}

/** After each block, the last one ends the batch; after all batches at hand, one for several of them. */
const POLICY_BLOCK = 0;
const POLICY_ONCE = 3;

function setReplay(t: BatchTable, b: number, time: number, gpuTime: number): void {
  if (!Number.isNaN(t.replayGpu[b]) && (t.policy !== POLICY_BLOCK || gpuTime < t.replayGpu[b])) return;
  t.replayGpu[b] = gpuTime;
  t.replayTime[b] = time;
}

/**
 * A replay ends the batch of its number. By the policy `once` it covers those before it that have none, too; by the
 * others a batch without a replay is one whose replay was lost.
 */
export function addReplay(t: BatchTable, gpu: number, batch: number, time: number, gpuTime: number): void {
  const open = t.open.get(gpu);
  if (open === undefined) return;
  const covers = t.policy === POLICY_ONCE;
  if (open.number === batch || (covers && open.number < batch)) close(t, gpu, open);
  const exact = open.waitingOf.get(batch);
  if (exact !== undefined) {
    setReplay(t, exact, time, gpuTime);
    if (t.policy !== POLICY_BLOCK) open.waitingOf.delete(batch);
  }
  while (covers && open.oldest < open.waiting.length && t.batch[open.waiting[open.oldest]] <= batch) {
    const b = open.waiting[open.oldest++];
    setReplay(t, b, time, gpuTime);
    if (open.waitingOf.get(t.batch[b]) === b) open.waitingOf.delete(t.batch[b]);
  }
  if (open.oldest === open.waiting.length) {
    open.waiting.length = 0;
    open.oldest = 0;
  }
}

/** Closes what is open. */
export function endBatches(t: BatchTable): void {
  for (const [gpu, open] of t.open) close(t, gpu, open);
}

/** Nanoseconds from a batch's first entry to its replay; 0 where there is none, or clocks that make no sense. */
export function serviceOf(t: BatchTable, b: number): number {
  const time = t.replayGpu[b] - t.firstGpu[b];
  return time > 0 ? time : 0;
}

/** Whether a batch has a replay behind its first fault. */
export function isReplayed(t: BatchTable, b: number): boolean {
  return t.replayGpu[b] >= t.firstGpu[b];
}
