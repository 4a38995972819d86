/** Kernels during which a GPU faulted, as an export of Nsight Systems has them. */
import type { TraceInfo } from '../store/trace_info.ts';
import { textsOf } from './nsys_strings.ts';
import { quoted, type SqliteReader, type SqliteValue } from './sqlite_reader.ts';

const KERNELS = 'CUPTI_ACTIVITY_KIND_KERNEL';
const COLUMNS = ['start', 'end', 'deviceId', 'shortName'] as const;
/** Rows that are kept: those whose batches took longest. */
const KEPT_MAX = 200;

type FaultKernel = TraceInfo['gpuFaultKernels'][number];

/** A batch of faults: its GPU by number and word, the time of its first fault, and how long it took (ns). */
export interface KernelBatch {
  device: number;
  gpu: string;
  allocation: string;
  time: bigint;
  length: number;
}

interface Kernel {
  launch: number;
  start: bigint;
  end: bigint;
  name: string;
}

function wide(value: SqliteValue | undefined): bigint | null {
  if (typeof value === 'bigint') return value;
  return typeof value === 'number' && Number.isSafeInteger(value) ? BigInt(value) : null;
}

/**
 * Kernels that run at a time, for times that do not go back. Of several that run at once on a GPU it is the one that
 * began last.
 */
class Running {
  readonly #rows: Iterator<Record<string, SqliteValue>>;
  readonly #stacks = new Map<number, Kernel[]>();
  #next: { device: number; kernel: Kernel } | null = null;
  #launches = 0;

  constructor(database: SqliteReader) {
    const columns = COLUMNS.map((column) => quoted(column)).join(', ');
    this.#rows = database.rows(`SELECT ${columns} FROM ${quoted(KERNELS)} ORDER BY "start"`)[Symbol.iterator]();
    this.#next = this.#read();
  }

  #read(): { device: number; kernel: Kernel } | null {
    for (;;) {
      const { value: row, done } = this.#rows.next();
      if (done === true) return null;
      const [start, end, device] = [row['start'], row['end'], row['deviceId']].map(wide);
      if (start === null || end === null || device === null) continue;
      const kernel = { launch: this.#launches++, start, end, name: String(row['shortName']) };
      return { device: Number(device), kernel };
    }
  }

  at(device: number, time: bigint): Kernel | undefined {
    while (this.#next !== null && this.#next.kernel.start <= time) {
      const stack = this.#stacks.get(this.#next.device) ?? [];
      this.#stacks.set(this.#next.device, stack);
      stack.push(this.#next.kernel);
      this.#next = this.#read();
    }
    const stack = this.#stacks.get(device) ?? [];
    // What has ended is of no use to later times either.
    while (stack.length > 0 && stack[stack.length - 1].end < time) stack.pop();
    return stack[stack.length - 1];
  }
}

/** `batches` in order of their times. Nothing where the export does not have the table, or not these columns of it. */
export function kernelsOf(database: SqliteReader, batches: Iterable<KernelBatch>): FaultKernel[] {
  const columns = database.tables.get(KERNELS) ?? [];
  if (!COLUMNS.every((column) => columns.includes(column))) return [];
  const running = new Running(database);
  const found = new Map<string, { id: string; launches: Set<number>; length: number; row: FaultKernel }>();
  for (const { device, gpu, allocation, time, length } of batches) {
    const kernel = running.at(device, time);
    const id = kernel?.name ?? '';
    const key = `${gpu} ${id} ${allocation}`;
    const its = found.get(key) ?? {
      ...{ id, launches: new Set<number>(), length: 0 },
      row: { allocation, gpu, kernel: '', launches: 0, batches: 0, microseconds: 0 },
    };
    found.set(key, its);
    if (kernel !== undefined) its.launches.add(kernel.launch);
    its.row.batches++;
    its.length += length;
  }
  const kept = [...found.values()].sort((a, b) => b.length - a.length).slice(0, KEPT_MAX);
  const names = textsOf(database, new Set(kept.map(({ id }) => id)));
  return kept.map(({ id, launches, length, row }) => ({
    ...row,
    ...{ kernel: names.get(id) ?? '', launches: launches.size, microseconds: length / 1000 },
  }));
}
