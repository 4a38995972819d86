/**
 * Exports of Nsight Systems (`nsys export --type sqlite`) as traces, of which the unified memory is read: page faults
 * of CPU and GPUs, migrations and managed allocations. Tables and columns are those of NVIDIA's documentation; what
 * they hold was compared with recordings of the same programs (docs/nsys.md).
 */
import { closeSync, openSync, readSync, statSync } from 'node:fs';
import { basename } from 'node:path';
import { PAGE_SIZE, PAGES_PER_BLOCK } from '../../base/units.ts';
import type { KnownMachines } from '../../scenario/machine.ts';
import { machineOfRecording, makeUpAllocations } from '../recording_case.ts';
import { RecordingFileError } from '../recording_file.ts';
import { createRangeNames, pageAddress } from '../recording_ranges.ts';
import { setWord, type TraceColumns, wordAt } from '../store/trace_columns.ts';
import type { Trace } from '../store/trace_events.ts';
import { TraceFileError } from '../store/trace_file_error.ts';
import { emptyTraceInfo, type TraceInfo } from '../store/trace_info.ts';
import { type KernelBatch, kernelsOf } from './nsys_kernels.ts';
import { type NsysMeta, readMeta } from './nsys_meta.ts';
import { createRangeSearch, MEMORY_USAGE, type NsysRange, RANGES_MAX, rangeBegin, readRanges } from './nsys_ranges.ts';
import { countProcesses, NSYS_TABLES, type NsysRows, RECORD_WITH, readRows } from './nsys_rows.ts';
import { openSqlite, type SqliteReader } from './sqlite_reader.ts';

const NSYS_SUFFIX = '.sqlite';
const MAGIC = 'SQLite format 3\0';

/** Gives each row its place: in the allocations of the export, else in ranges of 2 MiB around what was touched. */
function place(g: NsysRows, ranges: readonly NsysRange[]): { allocations: TraceInfo['allocations']; lost: number } {
  const { columns, pages, bytes } = g;
  const { offset, time } = columns.arrays;
  const nameFor = createRangeNames();
  const managed = (name: string, page: number, size: number): TraceInfo['allocations'][number] => ({
    ...{ name, bytes: size, kind: 'managed', address: pageAddress(page) },
  });
  const names = new Map(ranges.map((range) => [range, nameFor(range.firstPage)]));
  const known = [...names].map(([range, name]) =>
    managed(name, rangeBegin(range), (range.endPage - rangeBegin(range)) * PAGE_SIZE),
  );
  const search = createRangeSearch(ranges);
  const rows: number[] = [];
  const found: (NsysRange | undefined)[] = [];
  for (let row = 0; row < columns.count; row++) {
    if (Number.isNaN(pages[row])) continue;
    rows.push(row);
    found.push(search(pages[row], time[row]));
  }
  const lost = rows.filter((_, i) => found[i] === undefined).map((row) => pages[row]);
  const { made, of } = makeUpAllocations(lost, nameFor);
  const isNamed = known.length + made.length > 1;
  for (const [i, row] of rows.entries()) {
    const range = found[i];
    const [name, begin] =
      range === undefined
        ? [of(pages[row]).name, of(pages[row]).block * PAGES_PER_BLOCK]
        : [names.get(range) as string, rangeBegin(range)];
    offset[row] = (pages[row] - begin) * PAGE_SIZE + bytes[row];
    if (isNamed) setWord(columns, 'buffer', row, name);
  }
  const others = made.map(({ name, bytes: size, block }) => managed(name, block * PAGES_PER_BLOCK, size));
  return { allocations: [...known, ...others], lost: lost.length };
}

function notesOf(g: NsysRows, database: SqliteReader, meta: NsysMeta, lost: number, known: boolean): string[] {
  const notes = [...meta.notes];
  if (!known) {
    const why = database.tables.has(MEMORY_USAGE)
      ? `The table ${MEMORY_USAGE} lacks columns, or has more than ${RANGES_MAX} managed allocations`
      : `The export has no table ${MEMORY_USAGE}, so it tells no allocations`;
    notes.push(`${why}: ranges of 2 MiB around what was touched stand for them.`);
  } else if (lost > 0) {
    notes.push(`${lost} rows are at addresses without a managed allocation; ranges of 2 MiB around them stand for it.`);
  }
  if (g.batches > 0) {
    notes.push(
      `Of each of the ${g.batches} batches of GPU faults an export has the first page alone, on which ${g.faults} of ` +
        'the faults were: how many faults there were in all, and on which pages, it does not tell.',
    );
  }
  notes.push('An export tells no type of a fault, no access of the CPU, no thrashing and no remote mappings.');
  if (g.causeless > 0) notes.push(`${g.causeless} migrations, as all those between GPUs, have no cause in an export.`);
  const processes = countProcesses(database);
  if (processes > 1) {
    notes.push(
      `The rows are of ${processes} processes, which are not told apart: one address may be memory of several.`,
    );
  }
  for (const table of Object.keys(NSYS_TABLES)) {
    if (!database.tables.has(table)) notes.push(`The export has no table ${table}: ${RECORD_WITH}.`);
  }
  return notes;
}

function checkFile(path: string): void {
  let head: Buffer;
  try {
    if (statSync(path).isDirectory()) throw new TraceFileError(`${path}: cannot be read: it is a folder`);
    const file = openSync(path, 'r');
    try {
      head = Buffer.alloc(MAGIC.length);
      readSync(file, head, 0, head.length, 0);
    } finally {
      closeSync(file);
    }
  } catch (error) {
    if (error instanceof TraceFileError) throw error;
    const { code, message } = error as NodeJS.ErrnoException;
    throw new TraceFileError(`${path}: cannot be read: ${code === 'ENOENT' ? 'there is no such file' : message}`);
  }
  if (head.toString('latin1') !== MAGIC) throw new TraceFileError(`${path}: byte 0: this is no SQLite database`);
}

/** The processors by name: GPUs have the numbers that the program's CUDA gave them. */
function processorsOf(g: NsysRows, meta: NsysMeta): TraceInfo['processors'] {
  const gpus = [...g.devices].sort((a, b) => a - b);
  return [
    { word: 'cpu' },
    ...gpus.map((device) => {
      const name = meta.gpuNames.get(device);
      return { word: `gpu${device}`, ...(name === undefined ? {} : { name }) };
    }),
  ];
}

/** Rows of a kind, and the allocation of each; `only` is its name where there is one alone and rows do not say it. */
function* rowsOf(columns: TraceColumns, kind: string, only: string): Iterable<[row: number, allocation: string]> {
  const { words, arrays } = columns;
  const wanted = words.kind.numbers.get(kind) ?? -1;
  for (let row = 0; row < columns.count; row++) {
    if (arrays.kind[row] === wanted) yield [row, wordAt(columns, 'buffer', row) || only];
  }
}

/** Batches of GPU faults by the times of their first faults. */
function* batchesOf({ columns, lengths }: NsysRows, only: string): Iterable<KernelBatch> {
  for (const [row, allocation] of rowsOf(columns, 'gpuFault', only)) {
    const time = columns.arrays.time[row];
    yield { gpu: wordAt(columns, 'src', row), allocation, time, length: lengths[row] };
  }
}

/** Place in code and allocation of each CPU fault. */
function* cpuFaultsOf({ columns, sites }: NsysRows, only: string): Iterable<readonly [number, string]> {
  for (const [row, allocation] of rowsOf(columns, 'cpuFault', only)) yield [sites[row], allocation];
}

export interface ImportOptions {
  /** The version of uvmlab that makes the trace. */
  uvmlab: string;
  /** The machine profile; that of the GPU's name where it is left out. */
  machine?: string;
  machines?: KnownMachines;
  /** False passes Node's own reader by. */
  builtIn?: boolean;
}

function traceOf(path: string, database: SqliteReader, options: ImportOptions): Trace {
  const g = readRows(path, database);
  const { columns } = g;
  const zero = g.zero ?? 0n;
  const ranges = readRanges(database, zero);
  const { allocations, lost } = place(g, ranges ?? []);
  const only = allocations[0]?.name ?? '';
  const meta = readMeta(database);
  const notes = notesOf(g, database, meta, lost, ranges !== null);
  const processors = processorsOf(g, meta);
  const info: TraceInfo = {
    ...emptyTraceInfo(basename(path, NSYS_SUFFIX), 'nsys', options.uvmlab),
    driver: meta.driver,
    machine: machineOfRecording(path, { machine: null, processors }, options, notes),
    processors,
    allocations,
    hasBuffers: allocations.length > 1,
    clock: 'nsys',
    leftOut: g.leftOut,
    gpuFaultKernels: kernelsOf(database, zero, batchesOf(g, only)),
    cpuFaultSites: g.places.counted(cpuFaultsOf(g, only)),
    notes,
    command: meta.command,
  };
  return { info, columns };
}

/**
 * The unified memory of an export. Rejects with TraceFileError, which names the file and the table, for a file that is
 * no export, has none of the tables, or lacks columns.
 */
export async function importNsys(path: string, options: ImportOptions): Promise<Trace> {
  checkFile(path);
  let database: SqliteReader;
  try {
    database = await openSqlite(path, options.builtIn);
  } catch (error) {
    throw new TraceFileError(`${path}: ${(error as Error).message}`);
  }
  try {
    return traceOf(path, database, options);
  } catch (error) {
    if (error instanceof TraceFileError) throw error;
    if (error instanceof RecordingFileError) throw new TraceFileError(error.message);
    throw new TraceFileError(`${path}: ${(error as Error).message}`);
  } finally {
    database.close();
  }
}
