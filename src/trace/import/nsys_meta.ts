/** What an export of Nsight Systems says beside its events: versions, the driver, the command, names of GPUs. */
import { type SqliteReader, type SqliteValue, wholeNumber } from './sqlite_reader.ts';

const EXPORT_DATA = 'META_DATA_EXPORT';
const CAPTURE_DATA = 'META_DATA_CAPTURE';
const SYSTEM_DATA = 'TARGET_INFO_SYSTEM_ENV';
/** The schemas that are known: 3.20 from exports, 3.25 to 3.30 from the documentation. */
const KNOWN_VERSION = 3;
const ARGUMENTS_MAX = 1000;

export interface NsysMeta {
  driver: string | null;
  /** Of the program that was profiled. */
  command: string[] | null;
  /** Names of GPUs by the number that the program's CUDA gives them. */
  gpuNames: Map<number, string>;
  notes: string[];
}

/** Name and value of the rows of a table of such pairs; none where the export has no such table. */
function* pairs(database: SqliteReader, table: string): Iterable<[string, string]> {
  const columns = database.tables.get(table) ?? [];
  if (!columns.includes('name') || !columns.includes('value')) return;
  for (const { name, value } of database.rows(`SELECT "name", "value" FROM ${table}`)) {
    if (typeof name === 'string' && typeof value === 'string') yield [name, value];
  }
}

function versionNotes(database: SqliteReader): string[] {
  const about = new Map<string, string>();
  for (const [name, value] of pairs(database, EXPORT_DATA)) {
    if (name === 'EXPORT_SCHEMA_VERSION' || name === 'EXPORT_PRODUCT_VERSION') about.set(name, value);
  }
  const version = about.get('EXPORT_SCHEMA_VERSION');
  if (version === undefined) {
    const lacks = database.tables.has(EXPORT_DATA) ? `EXPORT_SCHEMA_VERSION in ${EXPORT_DATA}` : `table ${EXPORT_DATA}`;
    return [`The export does not tell the version of its schema (no ${lacks}).`];
  }
  const product = about.get('EXPORT_PRODUCT_VERSION');
  const by = product === undefined ? '' : `Exported by Nsight Systems ${product}, schema ${version}.`;
  const major = /^(\d+)(\.|$)/.exec(version);
  if (major !== null && Number(major[1]) === KNOWN_VERSION) return by === '' ? [] : [by];
  return [
    ...(by === '' ? [] : [by]),
    `The schema of the export has version ${JSON.stringify(version)}; the one that is known is ${KNOWN_VERSION}. ` +
      'What is read has the columns that it needs; whether they mean the same is not known.',
  ];
}

function driverOf(database: SqliteReader): string | null {
  for (const [name, value] of pairs(database, SYSTEM_DATA)) if (name === 'NvDriverVersion') return value;
  return null;
}

function commandOf(database: SqliteReader): string[] | null {
  const words: string[] = [];
  for (const [name, value] of pairs(database, CAPTURE_DATA)) {
    const found = /^PROCESS_0:(?:COMMAND|ARGUMENT_(\d{1,4}))$/.exec(name);
    if (found === null) continue;
    const at = found[1] === undefined ? 0 : Number(found[1]) + 1;
    if (at < ARGUMENTS_MAX) words[at] = value;
  }
  return words[0] === undefined ? null : words.filter((word) => word !== undefined);
}

function numbered(database: SqliteReader, table: string, from: string, to: string): [number, SqliteValue][] {
  const columns = database.tables.get(table) ?? [];
  if (!columns.includes(from) || !columns.includes(to)) return [];
  const found: [number, SqliteValue][] = [];
  for (const row of database.rows(`SELECT "${from}", "${to}" FROM ${table}`)) {
    const number = wholeNumber(row[from]);
    if (number !== null) found.push([Number(number), row[to]]);
  }
  return found;
}

/** TARGET_INFO_GPU numbers the GPUs of the machine, TARGET_INFO_CUDA_DEVICE says what a program calls them. */
function gpuNamesOf(database: SqliteReader): Map<number, string> {
  const ofMachine = new Map(numbered(database, 'TARGET_INFO_GPU', 'id', 'name'));
  const names = new Map<number, string>();
  for (const [id, name] of ofMachine) if (typeof name === 'string') names.set(id, name);
  for (const [cuda, id] of numbered(database, 'TARGET_INFO_CUDA_DEVICE', 'cudaId', 'gpuId')) {
    const name = ofMachine.get(Number(wholeNumber(id) ?? -1));
    if (typeof name === 'string') names.set(cuda, name);
  }
  return names;
}

/** Throws SqliteError for a damaged file. */
export function readMeta(database: SqliteReader): NsysMeta {
  return {
    driver: driverOf(database),
    command: commandOf(database),
    gpuNames: gpuNamesOf(database),
    notes: versionNotes(database),
  };
}
