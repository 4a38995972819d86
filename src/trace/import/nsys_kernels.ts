/** Kernels during which a GPU faulted, as an export of Nsight Systems has them. */
import type { TraceInfo } from '../store/trace_info.ts';
import { textsOf } from './nsys_strings.ts';
import { quoted, type SqliteReader, wholeNumber } from './sqlite_reader.ts';

const KERNELS = 'CUPTI_ACTIVITY_KIND_KERNEL';
const COLUMNS = ['start', 'end', 'deviceId', 'shortName'] as const;
/** Rows that are kept: those whose batches took longest. */
const KEPT_MAX = 200;

type FaultKernel = TraceInfo['gpuFaultKernels'][number];

/** A batch of faults: its GPU, its first fault's allocation and time, and how long it took (ns). */
export interface KernelBatch {
  gpu: string;
  allocation: string;
  time: number;
  length: number;
}

/** Times are nanoseconds on the axis of the trace; the name is a number of StringIds. */
interface Kernel {
  gpu: string;
  launch: number;
  start: number;
  end: number;
  name: string;
}

/**
 * Kernels that run at a time, for times that do not go back. Of several that run at once on a GPU it is the one that
 * began last.
 */
class Running {
  readonly #kernels: Iterator<Kernel>;
  readonly #stacks = new Map<string, Kernel[]>();
  #next: IteratorResult<Kernel>;

  constructor(kernels: Iterable<Kernel>) {
    this.#kernels = kernels[Symbol.iterator]();
    this.#next = this.#kernels.next();
  }

  at(gpu: string, time: number): Kernel | undefined {
    while (this.#next.done !== true && this.#next.value.start <= time) {
      const kernel = this.#next.value;
      const stack = this.#stacks.get(kernel.gpu) ?? [];
      this.#stacks.set(kernel.gpu, stack);
      stack.push(kernel);
      this.#next = this.#kernels.next();
    }
    const stack = this.#stacks.get(gpu) ?? [];
    // What has ended is of no use to later times either.
    while (stack.length > 0 && stack[stack.length - 1].end < time) stack.pop();
    return stack[stack.length - 1];
  }

  /** Kernels behind the last batch are not read: the query ends here. */
  close(): void {
    this.#kernels.return?.();
  }
}

/** All launches, in order of their starts. */
function* launches(database: SqliteReader, zero: bigint): Generator<Kernel, void> {
  const columns = COLUMNS.map((column) => quoted(column)).join(', ');
  let launch = 0;
  for (const row of database.rows(`SELECT ${columns} FROM ${quoted(KERNELS)} ORDER BY "start"`)) {
    const [start, end, device] = [row['start'], row['end'], row['deviceId']].map(wholeNumber);
    if (start === null || end === null || device === null) continue;
    const times = { start: Number(start - zero), end: Number(end - zero) };
    yield { gpu: `gpu${device}`, launch: launch++, ...times, name: String(row['shortName']) };
  }
}

/**
 * `batches` in order of their times; `zero` is the export's time that is 0 in the trace. Nothing where the export does
 * not have the table, or not these columns of it.
 */
export function kernelsOf(database: SqliteReader, zero: bigint, batches: Iterable<KernelBatch>): FaultKernel[] {
  const columns = database.tables.get(KERNELS) ?? [];
  if (!COLUMNS.every((column) => columns.includes(column))) return [];
  const running = new Running(launches(database, zero));
  const found = new Map<string, { id: string; launches: Set<number>; length: number; row: FaultKernel }>();
  for (const { gpu, allocation, time, length } of batches) {
    const kernel = running.at(gpu, time);
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
  running.close();
  const kept = [...found.values()].sort((a, b) => b.length - a.length).slice(0, KEPT_MAX);
  const names = textsOf(database, new Set(kept.map(({ id }) => id)));
  return kept.map(({ id, launches, length, row }) => ({
    ...row,
    ...{ kernel: names.get(id) ?? '', launches: launches.size, microseconds: length / 1000 },
  }));
}
