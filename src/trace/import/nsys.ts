/**
 * Exports of Nsight Systems (`nsys export --type sqlite`) as traces, of which the unified memory is read: page faults
 * of CPU and GPUs, and migrations. Tables and columns are those of NVIDIA's documentation (docs/nsys.md says where, and
 * what it does not say).
 */
import { closeSync, openSync, readSync, statSync } from 'node:fs';
import { basename } from 'node:path';
import { PAGE_SIZE } from '../../base/units.ts';
import { type MadeUpAllocation, madeUpOffset, makeUpAllocations } from '../recording_case.ts';
import { createRangeNames, pageAddress } from '../recording_ranges.ts';
import { addRow, createTraceColumns, type TraceColumns, wordNumber } from '../store/trace_columns.ts';
import type { Trace } from '../store/trace_events.ts';
import { TraceFileError } from '../store/trace_file_error.ts';
import { emptyTraceInfo, type TraceInfo } from '../store/trace_info.ts';
import type { ColumnKey } from '../store/trace_schema.ts';
import { openSqlite, quoted, type SqliteReader, type SqliteValue } from './sqlite_reader.ts';

const NSYS_SUFFIX = '.sqlite';
const CPU_FAULTS = 'CUDA_UM_CPU_PAGE_FAULT_EVENTS';
const GPU_FAULTS = 'CUDA_UM_GPU_PAGE_FAULT_EVENTS';
const MEMCPY = 'CUPTI_ACTIVITY_KIND_MEMCPY';
const EXPORT_DATA = 'META_DATA_EXPORT';
const VERSION_NAME = 'EXPORT_SCHEMA_VERSION';
/** The schemas that the documentation describes: in 3.25 to 3.30 the columns that are read here are the same. */
const KNOWN_VERSION = 3;
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
/** CUpti_ActivityUnifiedMemoryMigrationCause by number. */
const CAUSES = ['invalid', 'user', 'coherence', 'prefetch', 'eviction', 'accessCounters'] as const;
/** CUpti_ActivityUnifiedMemoryAccessType by number; 0 is unknown. */
const ACCESSES = ['', 'read', 'write', 'atomic', 'prefetch'] as const;

const RECORD_WITH =
  'record with nsys profile --trace=cuda --cuda-um-cpu-page-faults=true --cuda-um-gpu-page-faults=true, and export ' +
  'with nsys export --type sqlite';

/** What is gathered before addresses have places. */
interface Gathering {
  path: string;
  columns: TraceColumns;
  /** Page number and byte of each row. */
  pages: number[];
  bytes: number[];
  /** Time of the first row, which times count from. */
  zero: bigint | null;
  devices: Set<number>;
  leftOut: Record<string, number>;
  /** GPU page faults that the rows stand for, and rows of them. */
  faults: number;
  groups: number;
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

/** A new row at a time and an address. */
function add(g: Gathering, table: string, row: Record<string, SqliteValue>, addressColumn: string): number {
  const { columns } = g;
  const start = wide(g, table, row, 'start');
  g.zero ??= start;
  const address = ((wide(g, table, row, addressColumn) % ADDRESSES) + ADDRESSES) % ADDRESSES;
  const at = addRow(columns);
  columns.arrays.time[at] = Number(start - g.zero);
  g.pages.push(Number(address / PAGE));
  g.bytes.push(Number(address % PAGE));
  return at;
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

function readCpuFaults(g: Gathering, database: SqliteReader): void {
  for (const row of database.rows(selectFrom(CPU_FAULTS, NEEDED[CPU_FAULTS]))) {
    const at = add(g, CPU_FAULTS, row, 'address');
    word(g, 'kind', at, 'cpuFault');
    word(g, 'src', at, 'cpu');
  }
}

/** Numbers of groups that began at one moment on one GPU: what was serviced together, as far as an export tells. */
function readGpuFaults(g: Gathering, database: SqliteReader): void {
  const last = new Map<number, { start: bigint; batch: number }>();
  for (const row of database.rows(selectFrom(GPU_FAULTS, NEEDED[GPU_FAULTS]))) {
    const access = ACCESSES[whole(g, GPU_FAULTS, row, 'faultAccessType')] ?? '';
    const device = whole(g, GPU_FAULTS, row, 'deviceId');
    const start = wide(g, GPU_FAULTS, row, 'start');
    g.faults += whole(g, GPU_FAULTS, row, 'numberOfPageFaults');
    g.groups++;
    if (access === '') {
      leave(g, 'a GPU fault whose access is not known');
      continue;
    }
    const before = last.get(device);
    const batch = before === undefined ? 1 : before.start === start ? before.batch : before.batch + 1;
    last.set(device, { start, batch });
    const at = add(g, GPU_FAULTS, row, 'address');
    const { time, gpuTime, batch: batches } = g.columns.arrays;
    word(g, 'kind', at, 'gpuFault');
    word(g, 'src', at, gpu(g, device));
    word(g, 'type', at, 'invalid');
    word(g, 'access', at, access);
    gpuTime[at] = time[at];
    batches[at] = batch;
  }
}

/** Ends of a migration by its kind; null where the export does not tell. */
function endsOf(g: Gathering, row: Record<string, SqliteValue>): { src: string; dst: string } | null {
  const kind = whole(g, MEMCPY, row, 'copyKind');
  const device = gpu(g, whole(g, MEMCPY, row, 'deviceId'));
  if (kind === UNIFIED_HTOD) return { src: 'cpu', dst: device };
  if (kind === UNIFIED_DTOH) return { src: device, dst: 'cpu' };
  const [from, to] = ['srcDeviceId', 'dstDeviceId'].map((column) => row[column]);
  if (from === null || to === null || from === undefined || to === undefined) return null;
  return {
    src: gpu(g, whole(g, MEMCPY, row, 'srcDeviceId')),
    dst: gpu(g, whole(g, MEMCPY, row, 'dstDeviceId')),
  };
}

function readMigrations(g: Gathering, database: SqliteReader): void {
  const there = database.tables.get(MEMCPY) ?? [];
  const peers = ['srcDeviceId', 'dstDeviceId'].filter((column) => there.includes(column));
  const kinds = [UNIFIED_HTOD, UNIFIED_DTOH, UNIFIED_DTOD].join(', ');
  for (const row of database.rows(
    selectFrom(MEMCPY, [...NEEDED[MEMCPY], ...peers], `WHERE "copyKind" IN (${kinds})`),
  )) {
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
    const cause = row['migrationCause'] === null ? 0 : whole(g, MEMCPY, row, 'migrationCause');
    word(g, 'kind', at, 'migration');
    word(g, 'src', at, ends.src);
    word(g, 'dst', at, ends.dst);
    word(g, 'cause', at, CAUSES[cause] ?? CAUSES[0]);
    bytes[at] = whole(g, MEMCPY, row, 'bytes');
    const length = Number(wide(g, MEMCPY, row, 'end') - wide(g, MEMCPY, row, 'start'));
    if (length < 0) fail(g, MEMCPY, `end: ${shown(row['end'])}; expected a time not before the start`);
    timeEnd[at] = time[at] + length;
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

/** The version of the schema, and a note where it is not one that is known. */
function versionNotes(database: SqliteReader): string[] {
  const columns = database.tables.get(EXPORT_DATA) ?? [];
  if (!columns.includes('name') || !columns.includes('value')) {
    return [`The export does not tell the version of its schema (no table ${EXPORT_DATA}).`];
  }
  for (const { name, value } of database.rows(`SELECT "name", "value" FROM ${EXPORT_DATA}`)) {
    if (name !== VERSION_NAME) continue;
    const major = /^(\d+)(\.|$)/.exec(String(value));
    if (major !== null && Number(major[1]) === KNOWN_VERSION) return [];
    return [
      `The schema of the export has version ${shown(value)}; the one that is known is ${KNOWN_VERSION}. ` +
        'What is read has the columns that it needs; whether they mean the same is not known.',
    ];
  }
  return [`The export does not tell the version of its schema (no ${VERSION_NAME} in ${EXPORT_DATA}).`];
}

/** Names of GPUs by their number, where the export has them. */
function deviceNames(database: SqliteReader): Map<number, string> {
  const names = new Map<number, string>();
  const columns = database.tables.get('TARGET_INFO_GPU') ?? [];
  if (!columns.includes('id') || !columns.includes('name')) return names;
  for (const { id, name } of database.rows('SELECT "id", "name" FROM TARGET_INFO_GPU')) {
    if ((typeof id === 'number' || typeof id === 'bigint') && typeof name === 'string') names.set(Number(id), name);
  }
  return names;
}

/** Gives each row its place in ranges of 2 MiB around what was touched. */
function place(g: Gathering): MadeUpAllocation[] {
  const { made, of } = makeUpAllocations(g.pages, createRangeNames());
  const { offset } = g.columns.arrays;
  for (let row = 0; row < g.columns.count; row++) {
    const allocation = of(g.pages[row]);
    offset[row] = madeUpOffset(allocation, g.pages[row], g.bytes[row]);
    if (made.length > 1) word(g, 'buffer', row, allocation.name);
  }
  return made;
}

function infoOf(g: Gathering, database: SqliteReader, made: readonly MadeUpAllocation[], uvmlab: string): TraceInfo {
  const names = deviceNames(database);
  const gpus = [...g.devices]
    .sort((a, b) => a - b)
    .map((device) => {
      const name = names.get(device);
      return { word: `gpu${device}`, ...(name === undefined ? {} : { name }) };
    });
  const notes = [
    ...versionNotes(database),
    'An export tells no allocations: ranges of 2 MiB around what was touched stand for them.',
    'It tells no replays, no type of a fault and no access of the CPU; its batches are faults that began at one time.',
  ];
  if (g.groups > 0) {
    notes.push(`${g.groups} rows of GPU faults stand for ${g.faults} faults: those on one page are one row.`);
  }
  for (const table of Object.keys(NEEDED)) {
    if (!database.tables.has(table)) notes.push(`The export has no table ${table}: ${RECORD_WITH}.`);
  }
  return {
    ...emptyTraceInfo(basename(g.path, NSYS_SUFFIX), 'nsys', uvmlab),
    processors: [{ word: 'cpu' }, ...gpus],
    allocations: made.map(({ name, bytes, block }) => ({
      name,
      bytes,
      kind: 'managed' as const,
      address: pageAddress(block * 512),
    })),
    hasBuffers: made.length > 1,
    clock: 'nsys',
    leftOut: g.leftOut,
    notes,
  };
}

/** Puts the rows of three tables into one order of time; those at one time stay as they are. */
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
  const { pages, bytes } = g;
  g.pages = Array.from(order, (row) => pages[row]);
  g.bytes = Array.from(order, (row) => bytes[row]);
  if (least === 0) return;
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

/**
 * The unified memory of an export. Rejects with TraceFileError, which names the file and the table, for a file that is
 * no export, has none of the tables, or lacks columns.
 */
export async function importNsys(path: string, options: { uvmlab: string; builtIn?: boolean }): Promise<Trace> {
  checkFile(path);
  let database: SqliteReader;
  try {
    database = await openSqlite(path, options.builtIn);
  } catch (error) {
    throw new TraceFileError(`${path}: ${(error as Error).message}`);
  }
  try {
    const present = checkColumns(path, database);
    const columns = createTraceColumns();
    const empty = { pages: [], bytes: [], zero: null, devices: new Set<number>(), leftOut: {}, faults: 0, groups: 0 };
    const g: Gathering = { path, columns, ...empty };
    if (present.includes(CPU_FAULTS)) readCpuFaults(g, database);
    if (present.includes(GPU_FAULTS)) readGpuFaults(g, database);
    if (present.includes(MEMCPY)) readMigrations(g, database);
    inOrder(g);
    const made = place(g);
    return { info: infoOf(g, database, made, options.uvmlab), columns };
  } catch (error) {
    if (error instanceof TraceFileError) throw error;
    throw new TraceFileError(`${path}: ${(error as Error).message}`);
  } finally {
    database.close();
  }
}
