/**
 * Exports of Nsight Systems (`nsys export --type sqlite`) as traces, of which the unified memory is read: page faults
 * of CPU and GPUs, migrations and managed allocations. Tables and columns are those of NVIDIA's documentation; what
 * they hold was compared with recordings of the same programs (docs/nsys.md).
 */
import { closeSync, openSync, readSync, statSync } from 'node:fs';
import { basename } from 'node:path';
import { PAGE_SIZE, PAGES_PER_BLOCK } from '../../base/units.ts';
import type { KnownMachines } from '../../scenario/machine.ts';
import { machineOfRecording, madeUpOffset, makeUpAllocations } from '../recording_case.ts';
import { RecordingFileError } from '../recording_file.ts';
import { createRangeNames, pageAddress } from '../recording_ranges.ts';
import { addRow, createTraceColumns, type TraceColumns, wordNumber } from '../store/trace_columns.ts';
import type { Trace } from '../store/trace_events.ts';
import { TraceFileError } from '../store/trace_file_error.ts';
import { emptyTraceInfo, type TraceInfo } from '../store/trace_info.ts';
import type { ColumnKey } from '../store/trace_schema.ts';
import { type KernelBatch, kernelsOf } from './nsys_kernels.ts';
import { type NsysMeta, readMeta } from './nsys_meta.ts';
import { createRangeSearch, MEMORY_USAGE, type NsysRange, RANGES_MAX, rangeBegin, readRanges } from './nsys_ranges.ts';
import { createSites, SITE_NONE, type Sites } from './nsys_sites.ts';
import { openSqlite, quoted, type SqliteReader, type SqliteValue } from './sqlite_reader.ts';

const NSYS_SUFFIX = '.sqlite';
const CPU_FAULTS = 'CUDA_UM_CPU_PAGE_FAULT_EVENTS';
const GPU_FAULTS = 'CUDA_UM_GPU_PAGE_FAULT_EVENTS';
const MEMCPY = 'CUPTI_ACTIVITY_KIND_MEMCPY';
const MAGIC = 'SQLite format 3\0';

/** Columns that have to be there. */
const NEEDED = {
  [CPU_FAULTS]: ['start', 'address'],
  [GPU_FAULTS]: ['start', 'end', 'deviceId', 'address', 'numberOfPageFaults', 'faultAccessType'],
  [MEMCPY]: ['start', 'end', 'deviceId', 'bytes', 'copyKind', 'migrationCause', 'virtualAddress'],
} as const;

/** Kinds of copies that are migrations (ENUM_CUDA_MEMCPY_OPER). */
const UNIFIED_HTOD = 11;
const UNIFIED_DTOH = 12;
const UNIFIED_DTOD = 13;
const UNIFIED = [UNIFIED_HTOD, UNIFIED_DTOH, UNIFIED_DTOD];
/** ENUM_CUDA_UNIF_MEM_MIGRATION by number. */
const CAUSES = ['invalid', 'user', 'coherence', 'prefetch', 'eviction', 'accessCounters'] as const;
/** ENUM_CUDA_UNIF_MEM_ACCESS_TYPE by number; 0 is unknown. */
const ACCESSES = ['', 'read', 'write', 'atomic', 'prefetch'] as const;

const RECORD_WITH =
  'record with nsys profile --trace=cuda --cuda-um-cpu-page-faults=true --cuda-um-gpu-page-faults=true ' +
  '--cuda-memory-usage=true, and export with nsys export --type sqlite';

/** What is gathered before addresses have places. */
interface Gathering {
  path: string;
  columns: TraceColumns;
  /** Page number and byte of each row; NaN for a row without a place. */
  pages: number[];
  bytes: number[];
  /** Place in code of each row, by number. */
  sites: number[];
  /** Time of the first row, which times count from. */
  zero: bigint | null;
  devices: Set<number>;
  leftOut: Record<string, number>;
  /** Batches of GPU faults, and faults on the first pages of theirs. */
  batches: number;
  faults: number;
  /** Migrations between GPUs, which have no cause. */
  causeless: number;
}

function fail(g: { path: string }, table: string, what: string): never {
  throw new TraceFileError(`${g.path}: table ${table}: ${what}`);
}

function shown(value: SqliteValue | undefined): string {
  if (value === undefined) return 'nothing';
  if (value instanceof Uint8Array) return `${value.length} bytes`;
  const text = typeof value === 'string' ? JSON.stringify(value) : String(value);
  return text.length <= 40 ? text : `${text.slice(0, 37)}...`;
}

/** A whole number of 64 bits; negative ones are what SQLite makes of large addresses. */
function wide(g: Gathering, table: string, row: Record<string, SqliteValue>, column: string): bigint {
  const value = row[column];
  if (typeof value === 'bigint') return value;
  if (typeof value === 'number' && Number.isSafeInteger(value)) return BigInt(value);
  return fail(g, table, `${column}: ${shown(value)}; expected a whole number`);
}

function whole(g: Gathering, table: string, row: Record<string, SqliteValue>, column: string): number {
  const value = Number(wide(g, table, row, column));
  if (!Number.isSafeInteger(value) || value < 0) {
    fail(g, table, `${column}: ${shown(row[column])}; expected a whole number from 0 to 2^53`);
  }
  return value;
}

const PAGE = BigInt(PAGE_SIZE);
const ADDRESSES = 1n << 64n;

/** A new row at a time and an address, or without a place. */
function add(
  g: Gathering,
  table: string,
  row: Record<string, SqliteValue>,
  addressColumn: string | null,
  timeColumn = 'start',
): number {
  const { columns } = g;
  const time = wide(g, table, row, timeColumn);
  g.zero ??= time;
  const given = addressColumn === null ? null : wide(g, table, row, addressColumn);
  const at = addRow(columns);
  columns.arrays.time[at] = Number(time - g.zero);
  const address = given === null ? null : ((given % ADDRESSES) + ADDRESSES) % ADDRESSES;
  g.pages.push(address === null ? Number.NaN : Number(address / PAGE));
  g.bytes.push(address === null ? 0 : Number(address % PAGE));
  g.sites.push(SITE_NONE);
  return at;
}

/** Nanoseconds from `start` to `end`. */
function lengthOf(g: Gathering, table: string, row: Record<string, SqliteValue>): number {
  const length = Number(wide(g, table, row, 'end') - wide(g, table, row, 'start'));
  if (length < 0) fail(g, table, `end: ${shown(row['end'])}; expected a time not before the start`);
  return length;
}

function word(g: Gathering, key: ColumnKey, row: number, text: string): void {
  g.columns.arrays[key][row] = wordNumber(g.columns.words[key], text);
}

function leave(g: Gathering, why: string): void {
  g.leftOut[why] = (g.leftOut[why] ?? 0) + 1;
}

function selectFrom(table: keyof typeof NEEDED, columns: readonly string[], where = ''): string {
  return `SELECT ${columns.map(quoted).join(', ')} FROM ${quoted(table)} ${where} ORDER BY "start"`;
}

function gpu(g: Gathering, device: number): string {
  g.devices.add(device);
  return `gpu${device}`;
}

function readCpuFaults(g: Gathering, database: SqliteReader, sites: Sites): void {
  for (const row of database.rows(selectFrom(CPU_FAULTS, [...NEEDED[CPU_FAULTS], ...sites.columns]))) {
    const at = add(g, CPU_FAULTS, row, 'address');
    g.sites[at] = sites.of(row);
    word(g, 'kind', at, 'cpuFault');
    word(g, 'src', at, 'cpu');
  }
}

/**
 * A row is a batch: it has the batch's first page, how many of its faults were on that page, the GPU's time of the
 * first fault, and the GPU's time of the replay that ended it.
 */
function readGpuFaults(g: Gathering, database: SqliteReader): void {
  const batchesOf = new Map<number, number>();
  for (const row of database.rows(selectFrom(GPU_FAULTS, NEEDED[GPU_FAULTS]))) {
    const access = ACCESSES[whole(g, GPU_FAULTS, row, 'faultAccessType')] ?? '';
    const device = whole(g, GPU_FAULTS, row, 'deviceId');
    const batch = (batchesOf.get(device) ?? 0) + 1;
    batchesOf.set(device, batch);
    g.batches++;
    g.faults += whole(g, GPU_FAULTS, row, 'numberOfPageFaults');
    lengthOf(g, GPU_FAULTS, row);
    const fault = access === '' ? null : add(g, GPU_FAULTS, row, 'address');
    if (fault === null) leave(g, 'a GPU fault whose access is not known');
    else {
      word(g, 'kind', fault, 'gpuFault');
      word(g, 'type', fault, 'invalid');
      word(g, 'access', fault, access);
    }
    const replay = add(g, GPU_FAULTS, row, null, 'end');
    word(g, 'kind', replay, 'replay');
    const { time, gpuTime, batch: batches } = g.columns.arrays;
    for (const at of fault === null ? [replay] : [fault, replay]) {
      word(g, 'src', at, gpu(g, device));
      gpuTime[at] = time[at];
      batches[at] = batch;
    }
  }
}

/** Ends of a migration by its kind, null where it is not told. Between GPUs the device is that which is copied to. */
function endsOf(g: Gathering, row: Record<string, SqliteValue>): { src: string; dst: string } | null {
  const kind = whole(g, MEMCPY, row, 'copyKind');
  const device = gpu(g, whole(g, MEMCPY, row, 'deviceId'));
  if (kind === UNIFIED_HTOD) return { src: 'cpu', dst: device };
  if (kind === UNIFIED_DTOH) return { src: device, dst: 'cpu' };
  const named = (column: string): boolean => row[column] !== null && row[column] !== undefined;
  if (!named('srcDeviceId')) return null;
  return {
    src: gpu(g, whole(g, MEMCPY, row, 'srcDeviceId')),
    dst: named('dstDeviceId') ? gpu(g, whole(g, MEMCPY, row, 'dstDeviceId')) : device,
  };
}

function readMigrations(g: Gathering, database: SqliteReader): void {
  const there = database.tables.get(MEMCPY) ?? [];
  const peers = ['srcDeviceId', 'dstDeviceId'].filter((column) => there.includes(column));
  const where = `WHERE "copyKind" IN (${UNIFIED.join(', ')})`;
  for (const row of database.rows(selectFrom(MEMCPY, [...NEEDED[MEMCPY], ...peers], where))) {
    if (row['virtualAddress'] === null) {
      leave(g, 'a migration without an address');
      continue;
    }
    const ends = endsOf(g, row);
    if (ends === null) {
      leave(g, 'a migration between GPUs that are not named');
      continue;
    }
    const at = add(g, MEMCPY, row, 'virtualAddress');
    const { time, timeEnd, gpuTime, gpuTimeEnd, bytes } = g.columns.arrays;
    const isCauseless = row['migrationCause'] === null;
    const cause = isCauseless ? 0 : whole(g, MEMCPY, row, 'migrationCause');
    if (isCauseless) g.causeless++;
    word(g, 'kind', at, 'migration');
    word(g, 'src', at, ends.src);
    word(g, 'dst', at, ends.dst);
    word(g, 'cause', at, CAUSES[cause] ?? CAUSES[0]);
    bytes[at] = whole(g, MEMCPY, row, 'bytes');
    timeEnd[at] = time[at] + lengthOf(g, MEMCPY, row);
    gpuTime[at] = time[at];
    gpuTimeEnd[at] = timeEnd[at];
  }
}

function checkColumns(path: string, database: SqliteReader): (keyof typeof NEEDED)[] {
  const present = (Object.keys(NEEDED) as (keyof typeof NEEDED)[]).filter((table) => database.tables.has(table));
  if (present.length === 0) {
    const tables = [...database.tables.keys()].slice(0, 8).join(', ');
    throw new TraceFileError(
      `${path}: has none of the tables ${Object.keys(NEEDED).join(', ')}, so no unified memory was recorded; ` +
        `${RECORD_WITH}. Its tables: ${tables === '' ? 'none' : tables}${database.tables.size > 8 ? ', ...' : ''}`,
    );
  }
  for (const table of present) {
    const columns = database.tables.get(table) ?? [];
    const missing = NEEDED[table].filter((column) => !columns.includes(column));
    if (missing.length > 0) {
      fail({ path }, table, `has no column ${missing.join(', ')}; it has ${columns.join(', ') || 'none'}`);
    }
  }
  return present;
}

/** Gives each row its place: in the allocations of the export, else in ranges of 2 MiB around what was touched. */
function place(g: Gathering, ranges: readonly NsysRange[]): { allocations: TraceInfo['allocations']; lost: number } {
  const { columns, pages, bytes } = g;
  const { offset, time } = columns.arrays;
  const nameFor = createRangeNames();
  const names = new Map(ranges.map((range) => [range, nameFor(range.firstPage)]));
  const search = createRangeSearch(ranges);
  const found: (NsysRange | undefined)[] = new Array(columns.count);
  const lost: number[] = [];
  for (let row = 0; row < columns.count; row++) {
    if (Number.isNaN(pages[row])) continue;
    found[row] = search(pages[row], BigInt(Math.round(time[row])) + (g.zero ?? 0n));
    if (found[row] === undefined) lost.push(row);
  }
  const { made, of } = makeUpAllocations(
    lost.map((row) => pages[row]),
    nameFor,
  );
  const isNamed = ranges.length + made.length > 1;
  for (let row = 0; row < columns.count; row++) {
    if (Number.isNaN(pages[row])) continue;
    const range = found[row];
    const allocation = range === undefined ? of(pages[row]) : null;
    if (range !== undefined) offset[row] = (pages[row] - rangeBegin(range)) * PAGE_SIZE + bytes[row];
    else if (allocation !== null) offset[row] = madeUpOffset(allocation, pages[row], bytes[row]);
    if (isNamed) word(g, 'buffer', row, allocation?.name ?? (names.get(range as NsysRange) as string));
  }
  const of2MiB = (name: string, size: number, page: number): TraceInfo['allocations'][number] => ({
    ...{ name, bytes: size, kind: 'managed', address: pageAddress(page) },
  });
  const known = ranges.map((range) =>
    of2MiB(names.get(range) as string, (range.endPage - rangeBegin(range)) * PAGE_SIZE, rangeBegin(range)),
  );
  const others = made.map(({ name, bytes: size, block }) => of2MiB(name, size, block * PAGES_PER_BLOCK));
  return { allocations: [...known, ...others], lost: lost.length };
}

/** How many processes the rows that are read are of; 0 where no column says it. */
function countProcesses(database: SqliteReader): number {
  const processes = new Set<string>();
  for (const table of Object.keys(NEEDED)) {
    if (!(database.tables.get(table) ?? []).includes('globalPid')) continue;
    const where = table === MEMCPY ? `WHERE "copyKind" IN (${UNIFIED.join(', ')})` : '';
    for (const { globalPid } of database.rows(`SELECT DISTINCT "globalPid" FROM ${table} ${where}`)) {
      processes.add(String(globalPid));
    }
  }
  return processes.size;
}

function notesOf(g: Gathering, database: SqliteReader, meta: NsysMeta, lost: number, known: boolean): string[] {
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
  for (const table of Object.keys(NEEDED)) {
    if (!database.tables.has(table)) notes.push(`The export has no table ${table}: ${RECORD_WITH}.`);
  }
  return notes;
}

/** Puts the rows of three tables into one order of time, from 0 on; those at one time stay as they are. */
function inOrder(g: Gathering): void {
  const { arrays, count } = g.columns;
  const times = arrays.time;
  let least = 0;
  for (let i = 0; i < count; i++) least = Math.min(least, times[i]);
  const order = Uint32Array.from({ length: count }, (_, i) => i).sort((a, b) => times[a] - times[b] || a - b);
  for (const key of g.columns.loaded) {
    const values = arrays[key];
    const copy = values.slice(0, count);
    for (let i = 0; i < count; i++) values[i] = copy[order[i]];
  }
  const { pages, bytes, sites } = g;
  g.pages = Array.from(order, (row) => pages[row]);
  g.bytes = Array.from(order, (row) => bytes[row]);
  g.sites = Array.from(order, (row) => sites[row]);
  if (least === 0) return;
  g.zero = (g.zero ?? 0n) + BigInt(least);
  for (const key of ['time', 'timeEnd', 'gpuTime', 'gpuTimeEnd'] as const) {
    for (let i = 0; i < count; i++) arrays[key][i] -= least;
  }
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
function processorsOf(g: Gathering, meta: NsysMeta): TraceInfo['processors'] {
  const gpus = [...g.devices].sort((a, b) => a - b);
  return [
    { word: 'cpu' },
    ...gpus.map((device) => {
      const name = meta.gpuNames.get(device);
      return { word: `gpu${device}`, ...(name === undefined ? {} : { name }) };
    }),
  ];
}

/** Batches of GPU faults by the times of their first faults; `only` is the name where rows do not say it. */
function* batchesOf({ columns, zero }: Gathering, only: string): Iterable<KernelBatch> {
  const { words } = columns;
  const { kind, src, buffer, time, batch } = columns.arrays;
  const [fault, replay] = ['gpuFault', 'replay'].map((word) => words.kind.numbers.get(word) ?? -1);
  const ends = new Map<string, number>();
  for (let row = 0; row < columns.count; row++) {
    if (kind[row] === replay) ends.set(`${src[row]} ${batch[row]}`, time[row]);
  }
  for (let row = 0; row < columns.count; row++) {
    if (kind[row] !== fault) continue;
    const gpuWord = words.src.list[src[row]];
    yield {
      ...{ device: Number(gpuWord.slice('gpu'.length)), gpu: gpuWord },
      allocation: words.buffer.list[buffer[row]] || only,
      time: BigInt(Math.round(time[row])) + (zero ?? 0n),
      length: (ends.get(`${src[row]} ${batch[row]}`) ?? time[row]) - time[row],
    };
  }
}

/** Place in code and allocation of each CPU fault; `only` is the name where rows do not say it. */
function* cpuFaultsOf({ columns, sites }: Gathering, only: string): Iterable<readonly [number, string]> {
  const { kind, buffer } = columns.arrays;
  const cpuFault = columns.words.kind.numbers.get('cpuFault') ?? -1;
  for (let row = 0; row < columns.count; row++) {
    if (kind[row] === cpuFault) yield [sites[row], columns.words.buffer.list[buffer[row]] || only];
  }
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
  const present = checkColumns(path, database);
  const columns = createTraceColumns();
  const g: Gathering = {
    ...{ path, columns, pages: [], bytes: [], sites: [], zero: null, devices: new Set<number>(), leftOut: {} },
    ...{ batches: 0, faults: 0, causeless: 0 },
  };
  const sites = createSites(database, database.tables.get(CPU_FAULTS) ?? []);
  if (present.includes(CPU_FAULTS)) readCpuFaults(g, database, sites);
  if (present.includes(GPU_FAULTS)) readGpuFaults(g, database);
  if (present.includes(MEMCPY)) readMigrations(g, database);
  inOrder(g);
  const ranges = readRanges(database);
  const { allocations, lost } = place(g, ranges ?? []);
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
    gpuFaultKernels: kernelsOf(database, batchesOf(g, allocations[0]?.name ?? '')),
    cpuFaultSites: sites.counted(cpuFaultsOf(g, allocations[0]?.name ?? '')),
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
