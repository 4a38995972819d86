/**
 * A fixture of the tests of Nsight imports: what uvmlab reads of an export of Nsight Systems, and what the recorder saw
 * of the same run. Both are written at once by, for example,
 *
 *     nsys profile --trace=cuda --cuda-um-cpu-page-faults=true --cuda-um-gpu-page-faults=true --cuda-memory-usage=true \
 *       -o run uvmlab record -o run.uvmrec -- python3 bench/gpu/cupy_managed.py sort
 *     nsys export --type sqlite run.nsys-rep
 *
 * and then, after `npm run build`:
 *
 *     node scripts/nsys-fixture.mjs run.sqlite run.uvmrec test/fixtures/nsys-sort
 *
 * OUT.sql has the tables of the export that are read, as SQL; of what tells of the machine only versions, names of GPUs
 * and the command of the recording are kept, and of kernels what is read. nsys-enums.sql beside it has what the numbers
 * in them mean. OUT.json has the recorder's events: batches
 * of GPU faults in the order in which they were serviced, migrations and CPU faults.
 */
import { writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import sqlite from 'node-sqlite3-wasm';
import { openTrace } from '../dist/analysis/open_trace.js';
import { eventAt } from '../dist/trace/store/trace_events.js';

const PAGE = 4096;
const [exported, recorded, out] = process.argv.slice(2);
if (out === undefined) {
  process.stderr.write('usage: node scripts/nsys-fixture.mjs EXPORT.sqlite RECORDING.uvmrec OUT\n');
  process.exit(1);
}

const WHOLE = [
  'CUDA_UM_CPU_PAGE_FAULT_EVENTS',
  'CUDA_UM_GPU_PAGE_FAULT_EVENTS',
  'CUDA_GPU_MEMORY_USAGE_EVENTS',
  'CUPTI_ACTIVITY_KIND_MEMCPY',
  'TARGET_INFO_CUDA_DEVICE',
];
/** What numbers mean: the same in every export of a version, so there is one file of them. */
const ENUMS = [
  'ENUM_CUDA_UNIF_MEM_MIGRATION',
  'ENUM_CUDA_UNIF_MEM_ACCESS_TYPE',
  'ENUM_CUDA_MEMCPY_OPER',
  'ENUM_CUDA_MEM_KIND',
  'ENUM_CUDA_DEV_MEM_EVENT_OPER',
];
const PARTS = {
  CUPTI_ACTIVITY_KIND_KERNEL: 'SELECT start, "end", deviceId, shortName FROM CUPTI_ACTIVITY_KIND_KERNEL',
  TARGET_INFO_GPU: 'SELECT id, name FROM TARGET_INFO_GPU',
  TARGET_INFO_SYSTEM_ENV: "SELECT name, value FROM TARGET_INFO_SYSTEM_ENV WHERE name = 'NvDriverVersion'",
  META_DATA_EXPORT:
    "SELECT name, value FROM META_DATA_EXPORT WHERE name IN ('EXPORT_PRODUCT_NAME', 'EXPORT_PRODUCT_VERSION', " +
    "'EXPORT_SCHEMA_VERSION')",
};

/** @param {unknown} value */
const quoted = (value) => (typeof value === 'string' ? `'${value.replaceAll("'", "''")}'` : String(value ?? 'NULL'));

/**
 * @param {string} name
 * @param {readonly Record<string, unknown>[]} rows
 */
function tableText(name, rows) {
  if (rows.length === 0) return '';
  const columns = Object.keys(rows[0]).map((column) => `"${column}"`);
  const lines = rows.map((row) => `  (${Object.values(row).map(quoted).join(', ')})`);
  return `CREATE TABLE ${name} (${columns.join(', ')});\nINSERT INTO ${name} VALUES\n${lines.join(',\n')};\n`;
}

const { info, columns } = await openTrace(recorded);
const command = info.command ?? [];
const database = new sqlite.Database(exported, { fileMustExist: true, readOnly: true });
const tables = /** @type {{ name: string }[]} */ (
  database.all("SELECT name FROM sqlite_master WHERE type = 'table'")
).map(({ name }) => name);
const HEAD = '-- Exported by Nsight Systems, as far as uvmlab reads it; made by scripts/nsys-fixture.mjs.\n';
/** @param {readonly string[]} names */
const wholeTables = (names) =>
  names.map((name) => (tables.includes(name) ? tableText(name, database.all(`SELECT * FROM ${name}`)) : '')).join('');
let sql = HEAD + wholeTables(WHOLE);
for (const [name, query] of Object.entries(PARTS)) sql += tableText(name, database.all(query));
// Texts of CPU faults and kernels, without folders of the machine.
const texts = `SELECT id, value FROM StringIds WHERE id IN (${['CpuInstruction', 'module', 'sourceFile']
  .map((column) => `SELECT ${column} FROM CUDA_UM_CPU_PAGE_FAULT_EVENTS`)
  .join(' UNION ')} UNION SELECT shortName FROM CUPTI_ACTIVITY_KIND_KERNEL)`;
const strings = /** @type {{ id: number, value: string }[]} */ (database.all(texts));
sql += tableText(
  'StringIds',
  strings.map(({ id, value }) => ({ id, value: value.slice(value.lastIndexOf('/') + 1) })),
);
sql += tableText(
  'META_DATA_CAPTURE',
  command.map((value, i) => ({ name: i === 0 ? 'PROCESS_0:COMMAND' : `PROCESS_0:ARGUMENT_${i - 1}`, value })),
);
writeFileSync(`${out}.sql`, sql);
writeFileSync(join(dirname(out), 'nsys-enums.sql'), HEAD + wholeTables(ENUMS));
database.close();

/** Where an event lies, in hexadecimal. */
const bases = new Map(info.allocations.map(({ name, address }) => [name, BigInt(`0x${address}`)]));
const [only] = bases.values();
/** @param {{ buffer?: string | undefined, offset: number }} event */
const addressOf = ({ buffer = '', offset }) => ((bases.get(buffer) ?? only) + BigInt(offset)).toString(16);

/** @type {Map<string, { gpu: string, page: string, begin: number, pages: string[], replay: number | null }>} */
const batches = new Map();
/** @type {unknown[][]} */
const migrations = [];
/** @type {unknown[][]} */
const cpuFaults = [];
for (let row = 0; row < columns.count; row++) {
  const event = eventAt(columns, row);
  if (event === null) continue;
  if (event.event === 'gpuFault') {
    const key = `${event.gpu} ${event.batch}`;
    const page = addressOf({ ...event, offset: event.offset - (event.offset % PAGE) });
    const batch = batches.get(key) ?? { gpu: event.gpu, page, begin: event.gpuTime, pages: [], replay: null };
    if (!batches.has(key)) batches.set(key, batch);
    batch.pages.push(page);
  } else if (event.event === 'replay') {
    const batch = batches.get(`${event.gpu} ${event.batch}`);
    if (batch !== undefined) batch.replay = event.gpuTime;
  }
  if (event.event === 'migration') {
    const { src, dst, cause, bytes, gpuBegin, gpuEnd } = event;
    migrations.push([addressOf(event), bytes, src, dst, cause, gpuBegin, gpuEnd]);
  }
  if (event.event === 'cpuFault') cpuFaults.push([addressOf(event), event.time]);
}
/** @param {readonly unknown[][]} rows */
const lines = (rows) =>
  `[\n${rows.map((row) => `    [${row.map((value) => JSON.stringify(value)).join(', ')}]`).join(',\n')}\n  ]`;
const summed = [...batches.values()].map(({ gpu, page, begin, pages, replay }) => {
  const onFirst = pages.filter((other) => other === page).length;
  return [gpu, page, begin, replay, pages.length, new Set(pages).size, onFirst];
});
writeFileSync(
  `${out}.json`,
  `{\n  "batches": ${lines(summed)},\n  "migrations": ${lines(migrations)},\n  "cpuFaults": ${lines(cpuFaults)}\n}\n`,
);
process.stdout.write(
  `${out}: ${batches.size} batches, ${migrations.length} migrations, ${cpuFaults.length} CPU faults\n`,
);
