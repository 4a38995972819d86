/**
 * Rows of the three tables of unified memory that an export of Nsight Systems has, in order of their times: page faults
 * of the CPU, batches of GPU faults with their replays, and migrations. They have addresses, not places yet.
 */
import { PAGE_SIZE } from '../../base/units.ts';
import { addRow, createTraceColumns, setWord, type TraceColumns } from '../store/trace_columns.ts';
import { TraceFileError } from '../store/trace_file_error.ts';
import { createSites, SITE_NONE, type Sites } from './nsys_sites.ts';
import { quoted, type SqliteReader, type SqliteValue, wholeNumber } from './sqlite_reader.ts';

const CPU_FAULTS = 'CUDA_UM_CPU_PAGE_FAULT_EVENTS';
const GPU_FAULTS = 'CUDA_UM_GPU_PAGE_FAULT_EVENTS';
const MEMCPY = 'CUPTI_ACTIVITY_KIND_MEMCPY';

/** Columns that have to be there. */
export const NSYS_TABLES = {
  [CPU_FAULTS]: ['start', 'address'],
  [GPU_FAULTS]: ['start', 'end', 'deviceId', 'address', 'numberOfPageFaults', 'faultAccessType'],
  [MEMCPY]: ['start', 'end', 'deviceId', 'bytes', 'copyKind', 'migrationCause', 'virtualAddress'],
} as const;

/** Kinds of copies that are migrations (ENUM_CUDA_MEMCPY_OPER). */
export const UNIFIED_HTOD = 11;
export const UNIFIED_DTOH = 12;
export const UNIFIED_DTOD = 13;
const UNIFIED = [UNIFIED_HTOD, UNIFIED_DTOH, UNIFIED_DTOD];
/** ENUM_CUDA_UNIF_MEM_MIGRATION by number. */
export const CAUSES = ['invalid', 'user', 'coherence', 'prefetch', 'eviction', 'accessCounters'] as const;
/** ENUM_CUDA_UNIF_MEM_ACCESS_TYPE by number; 0 is unknown. */
export const ACCESSES = ['', 'read', 'write', 'atomic', 'prefetch'] as const;

/** What to do where a table is missing. */
export const RECORD_WITH =
  'record with nsys profile --trace=cuda --cuda-um-cpu-page-faults=true --cuda-um-gpu-page-faults=true ' +
  '--cuda-memory-usage=true, and export with nsys export --type sqlite';

export interface NsysRows {
  path: string;
  columns: TraceColumns;
  /** Page number and byte of each row; NaN for a row without a place. */
  pages: number[];
  bytes: number[];
  /** Of a CPU fault: its place in code, by number. Of a GPU fault: how long its batch took (ns). */
  sites: number[];
  lengths: number[];
  /** What the numbers of `sites` stand for. */
  places: Sites;
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

function wide(g: NsysRows, table: string, row: Record<string, SqliteValue>, column: string): bigint {
  return wholeNumber(row[column]) ?? fail(g, table, `${column}: ${shown(row[column])}; expected a whole number`);
}

function whole(g: NsysRows, table: string, row: Record<string, SqliteValue>, column: string): number {
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
  g: NsysRows,
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
  g.lengths.push(0);
  return at;
}

/** Nanoseconds from `start` to `end`. */
function lengthOf(g: NsysRows, table: string, row: Record<string, SqliteValue>): number {
  const length = Number(wide(g, table, row, 'end') - wide(g, table, row, 'start'));
  if (length < 0) fail(g, table, `end: ${shown(row['end'])}; expected a time not before the start`);
  return length;
}

function leave(g: NsysRows, why: string): void {
  g.leftOut[why] = (g.leftOut[why] ?? 0) + 1;
}

function selectFrom(table: keyof typeof NSYS_TABLES, columns: readonly string[], where = ''): string {
  return `SELECT ${columns.map(quoted).join(', ')} FROM ${quoted(table)} ${where} ORDER BY "start"`;
}

function gpu(g: NsysRows, device: number): string {
  g.devices.add(device);
  return `gpu${device}`;
}

function readCpuFaults(g: NsysRows, database: SqliteReader, sites: Sites): void {
  for (const row of database.rows(selectFrom(CPU_FAULTS, [...NSYS_TABLES[CPU_FAULTS], ...sites.columns]))) {
    const at = add(g, CPU_FAULTS, row, 'address');
    g.sites[at] = sites.of(row);
    setWord(g.columns, 'kind', at, 'cpuFault');
    setWord(g.columns, 'src', at, 'cpu');
  }
}

/**
 * A row is a batch: it has the batch's first page, how many of its faults were on that page, the GPU's time of the
 * first fault, and the GPU's time of the replay that ended it.
 */
function readGpuFaults(g: NsysRows, database: SqliteReader): void {
  const numbers = new Map<number, number>();
  for (const row of database.rows(selectFrom(GPU_FAULTS, NSYS_TABLES[GPU_FAULTS]))) {
    const access = ACCESSES[whole(g, GPU_FAULTS, row, 'faultAccessType')] ?? '';
    const device = whole(g, GPU_FAULTS, row, 'deviceId');
    const batch = (numbers.get(device) ?? 0) + 1;
    numbers.set(device, batch);
    g.batches++;
    g.faults += whole(g, GPU_FAULTS, row, 'numberOfPageFaults');
    const length = lengthOf(g, GPU_FAULTS, row);
    const fault = access === '' ? null : add(g, GPU_FAULTS, row, 'address');
    if (fault === null) leave(g, 'a GPU fault whose access is not known');
    else {
      setWord(g.columns, 'kind', fault, 'gpuFault');
      setWord(g.columns, 'type', fault, 'invalid');
      setWord(g.columns, 'access', fault, access);
      g.lengths[fault] = length;
    }
    const replay = add(g, GPU_FAULTS, row, null, 'end');
    setWord(g.columns, 'kind', replay, 'replay');
    const { time, gpuTime, batch: batches } = g.columns.arrays;
    for (const at of fault === null ? [replay] : [fault, replay]) {
      setWord(g.columns, 'src', at, gpu(g, device));
      gpuTime[at] = time[at];
      batches[at] = batch;
    }
  }
}

/** Ends of a migration by its kind, null where it is not told. Between GPUs the device is that which is copied to. */
function endsOf(g: NsysRows, row: Record<string, SqliteValue>): { src: string; dst: string } | null {
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

function readMigrations(g: NsysRows, database: SqliteReader): void {
  const there = database.tables.get(MEMCPY) ?? [];
  const peers = ['srcDeviceId', 'dstDeviceId'].filter((column) => there.includes(column));
  const where = `WHERE "copyKind" IN (${UNIFIED.join(', ')})`;
  for (const row of database.rows(selectFrom(MEMCPY, [...NSYS_TABLES[MEMCPY], ...peers], where))) {
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
    setWord(g.columns, 'kind', at, 'migration');
    setWord(g.columns, 'src', at, ends.src);
    setWord(g.columns, 'dst', at, ends.dst);
    setWord(g.columns, 'cause', at, CAUSES[cause] ?? CAUSES[0]);
    bytes[at] = whole(g, MEMCPY, row, 'bytes');
    timeEnd[at] = time[at] + lengthOf(g, MEMCPY, row);
    gpuTime[at] = time[at];
    gpuTimeEnd[at] = timeEnd[at];
  }
}

function checkColumns(path: string, database: SqliteReader): (keyof typeof NSYS_TABLES)[] {
  const present = (Object.keys(NSYS_TABLES) as (keyof typeof NSYS_TABLES)[]).filter((table) =>
    database.tables.has(table),
  );
  if (present.length === 0) {
    const tables = [...database.tables.keys()].slice(0, 8).join(', ');
    throw new TraceFileError(
      `${path}: has none of the tables ${Object.keys(NSYS_TABLES).join(', ')}, so no unified memory was recorded; ` +
        `${RECORD_WITH}. Its tables: ${tables === '' ? 'none' : tables}${database.tables.size > 8 ? ', ...' : ''}`,
    );
  }
  for (const table of present) {
    const columns = database.tables.get(table) ?? [];
    const missing = NSYS_TABLES[table].filter((column) => !columns.includes(column));
    if (missing.length > 0) {
      fail({ path }, table, `has no column ${missing.join(', ')}; it has ${columns.join(', ') || 'none'}`);
    }
  }
  return present;
}

/** How many processes the rows that are read are of; 0 where no column says it. */
export function countProcesses(database: SqliteReader): number {
  const processes = new Set<string>();
  for (const table of Object.keys(NSYS_TABLES)) {
    if (!(database.tables.get(table) ?? []).includes('globalPid')) continue;
    const where = table === MEMCPY ? `WHERE "copyKind" IN (${UNIFIED.join(', ')})` : '';
    for (const { globalPid } of database.rows(`SELECT DISTINCT "globalPid" FROM ${table} ${where}`)) {
      processes.add(String(globalPid));
    }
  }
  return processes.size;
}

/** Puts the rows of three tables into one order of time, from 0 on; those at one time stay as they are. */
function inOrder(g: NsysRows): void {
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
  for (const key of ['pages', 'bytes', 'sites', 'lengths'] as const) {
    const values = g[key];
    g[key] = Array.from(order, (row) => values[row]);
  }
  if (least === 0) return;
  g.zero = (g.zero ?? 0n) + BigInt(least);
  for (const key of ['time', 'timeEnd', 'gpuTime', 'gpuTimeEnd'] as const) {
    for (let i = 0; i < count; i++) arrays[key][i] -= least;
  }
}

/** Reads an export. Throws TraceFileError, with the table, where it has none of the tables, or what is wrong in one. */
export function readRows(path: string, database: SqliteReader): NsysRows {
  const present = checkColumns(path, database);
  const sites = createSites(database, database.tables.get(CPU_FAULTS) ?? []);
  const g: NsysRows = {
    ...{ path, columns: createTraceColumns(), pages: [], bytes: [], sites: [], lengths: [], places: sites },
    ...{ zero: null, devices: new Set<number>(), leftOut: {}, batches: 0, faults: 0, causeless: 0 },
  };
  if (present.includes(CPU_FAULTS)) readCpuFaults(g, database, sites);
  if (present.includes(GPU_FAULTS)) readGpuFaults(g, database);
  if (present.includes(MEMCPY)) readMigrations(g, database);
  inOrder(g);
  return g;
}
