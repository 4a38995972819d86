/**
 * SQL over traces: DuckDB, an optional package, with the views of store/trace_views.ts. The database is in memory; it
 * reads the files of the traces where they lie, and can open nothing else. Only queries run: a statement that writes
 * could write over a trace.
 */
import type { DuckDBConnection, DuckDBInstance, DuckDBValue } from '@duckdb/node-api';
import { PAGES_PER_BLOCK } from '../base/units.ts';
import { type Cell, infoRows } from '../trace/store/trace_info_rows.ts';
import { readTraceHead } from '../trace/store/trace_reader.ts';
import { COLUMN_KEYS, type ColumnKey, TRACE_COLUMNS } from '../trace/store/trace_schema.ts';
import {
  BATCHES_TABLE,
  INFO_TABLES,
  TRACE_VIEWS,
  type TraceView,
  type ViewColumn,
} from '../trace/store/trace_views.ts';

/** A query that cannot be answered, or a package that is not there; the message is for people. */
export class TraceQueryError extends Error {
  override name = 'TraceQueryError';
}

/** The optional package and the version that is tested; its versions have a suffix, so a message has to name one. */
export const DUCKDB_PACKAGE = '@duckdb/node-api';
export const DUCKDB_VERSION = '1.5.6-r.1';

export interface QueriedTrace {
  /** The schema in which its tables are; null for the one that needs no name. */
  name: string | null;
  /** A whole file of a trace, absolute, without characters that stand for others (*, ?, [). */
  path: string;
}

/** A value as JSON has it; numbers that JSON cannot hold exactly are texts. */
export type QueryCell = string | number | boolean | null;

export interface QueryAnswer {
  columns: string[];
  /** Whether each column has numbers. */
  numeric: boolean[];
  /** Rows, some thousand at a time. */
  rows: AsyncIterable<QueryCell[][]>;
}

export interface TraceDatabase {
  /** Rejects with TraceQueryError for what is no query, or is wrong. */
  query(sql: string): Promise<QueryAnswer>;
  close(): void;
}

const SQL_TYPES: Readonly<Record<ViewColumn['type'], string>> = {
  time: 'DOUBLE',
  whole: 'BIGINT',
  count: 'INTEGER',
  text: 'VARCHAR',
};
const NUMERIC = /^(DOUBLE|FLOAT|DECIMAL\(.*\)|[A-Z]*INT|[A-Z]*INTEGER)$/;

function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

function literal(cell: Cell): string {
  if (cell === null) return 'NULL';
  // DuckDB's texts have no NUL.
  return typeof cell === 'number' ? String(cell) : `'${cell.replaceAll('\0', '\ufffd').replaceAll("'", "''")}'`;
}

/** A column of the file with null for what is not there. */
function nullable(key: ColumnKey, pushes: boolean): string {
  const { name, type } = TRACE_COLUMNS[key];
  const column = quoted(name);
  if ('pushes' in TRACE_COLUMNS[key] && !pushes) {
    return `NULL::${SQL_TYPES[type === 'word' ? 'text' : type]} AS ${column}`;
  }
  if (type === 'time') return `CASE WHEN isnan(${column}) THEN NULL ELSE ${column} END AS ${column}`;
  const absent = type === 'word' || type === 'text' ? "''" : '-1';
  return `nullif(${column}, ${absent}) AS ${column}`;
}

function rowsSql(path: string, pushes: boolean): string {
  const columns = COLUMN_KEYS.map((key) => nullable(key, pushes));
  const file = `read_parquet(${literal(path)}, file_row_number = true)`;
  return `SELECT file_row_number AS "row", ${columns.join(', ')} FROM ${file}`;
}

function viewSql(view: TraceView, schema: string): string {
  const columns = view.columns.map(({ name, of }) => {
    const sql = typeof of === 'string' ? quoted(TRACE_COLUMNS[of].name) : of.sql;
    return `${sql} AS ${quoted(name)}`;
  });
  const kinds = (view.kinds ?? []).map(literal).join(', ');
  return `SELECT "row", ${columns.join(', ')} FROM ${schema}.rows WHERE kind IN (${kinds})`;
}

function batchesSql(schema: string): string {
  return `WITH f AS (
      SELECT processor AS gpu, batch, min(step) AS step, count(*) AS faults,
        count(DISTINCT (buffer, page)) AS pages, count(DISTINCT (buffer, page // ${PAGES_PER_BLOCK})) AS blocks,
        min(time) AS first_time, max(time) AS last_time
      FROM ${schema}.faults WHERE kind = 'gpuFault' GROUP BY ALL
    ), r AS (SELECT gpu, batch, min(time) AS time FROM ${schema}.replays GROUP BY ALL)
    SELECT f.gpu, f.batch, step, faults, pages, faults - pages AS duplicates, blocks, first_time, last_time,
      r.time AS replay_time, r.time - first_time AS duration
    FROM f ASOF LEFT JOIN r ON f.gpu = r.gpu AND f.batch <= r.batch`;
}

const ROWS_AT_ONCE = 500;

/** All that makes the tables of one trace. */
async function* tableStatements({ name, path }: QueriedTrace): AsyncGenerator<string> {
  const head = await readTraceHead(path);
  if (head.ignoredBytes > 0) {
    throw new TraceQueryError(
      `${path}: the file was cut, or is still being written; "uvmlab import" makes a whole one of it`,
    );
  }
  const schema = quoted(name ?? 'main');
  if (name !== null) yield `CREATE SCHEMA IF NOT EXISTS ${schema}`;
  yield `CREATE VIEW ${schema}.rows AS ${rowsSql(path, head.pushes)}`;
  for (const view of TRACE_VIEWS) {
    if (view.kinds !== null) yield `CREATE VIEW ${schema}.${quoted(view.name)} AS ${viewSql(view, schema)}`;
  }
  yield `CREATE VIEW ${schema}.${BATCHES_TABLE.name} AS ${batchesSql(schema)}`;
  const rows = infoRows(head.info);
  for (const table of INFO_TABLES) {
    const columns = table.columns.map((column) => `${quoted(column.name)} ${SQL_TYPES[column.type]}`);
    yield `CREATE TABLE ${schema}.${quoted(table.name)} (${columns.join(', ')})`;
    for (let at = 0; at < rows[table.name].length; at += ROWS_AT_ONCE) {
      const some = rows[table.name].slice(at, at + ROWS_AT_ONCE);
      const values = some.map((row) => `(${row.map(literal).join(', ')})`);
      yield `INSERT INTO ${schema}.${quoted(table.name)} VALUES ${values.join(', ')}`;
    }
  }
}

type DuckDB = typeof import('@duckdb/node-api');

async function loadDuckDB(load: () => Promise<DuckDB>): Promise<DuckDB> {
  try {
    return await load();
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const missing = code === 'ERR_MODULE_NOT_FOUND' || code === 'MODULE_NOT_FOUND';
    const why = missing ? 'which is not installed' : `which cannot be loaded (${message})`;
    throw new TraceQueryError(
      `SQL needs the optional package ${DUCKDB_PACKAGE}, ${why}: npm install ${DUCKDB_PACKAGE}@${DUCKDB_VERSION} ` +
        '(with -g where uvmlab was installed with -g)',
    );
  }
}

function cellOf(value: DuckDBValue): QueryCell {
  switch (typeof value) {
    case 'bigint': {
      const number = Number(value);
      return Number.isSafeInteger(number) ? number : String(value);
    }
    case 'number':
      return Number.isFinite(value) ? value : String(value);
    case 'string':
    case 'boolean':
      return value;
    default:
      return value === null || value === undefined ? null : String(value);
  }
}

const NOTHING = 'SQL: no statement; expected one query';

/** What DuckDB says, without what it is to it. */
function asQueryError(error: unknown): TraceQueryError {
  // Its answer to a text of comments and blanks alone.
  if ((error as Error).message === 'Error in native callback') return new TraceQueryError(NOTHING);
  return new TraceQueryError(
    `SQL: ${(error as Error).message.replace(/^Failed to extract statements: /, '').trimEnd()}`,
  );
}

async function runQuery(connection: DuckDBConnection, { StatementType }: DuckDB, sql: string): Promise<QueryAnswer> {
  try {
    const statements = await connection.extractStatements(sql);
    if (statements.count === 0) throw new TraceQueryError(NOTHING);
    if (statements.count !== 1) {
      throw new TraceQueryError(`SQL: ${statements.count} statements; expected one query`);
    }
    const prepared = await statements.prepare(0);
    if (prepared.statementType !== StatementType.SELECT) {
      const kind = StatementType[prepared.statementType];
      throw new TraceQueryError(
        `SQL: a statement of kind ${kind}; a trace takes queries alone (SELECT, FROM, WITH, DESCRIBE)`,
      );
    }
    const result = await prepared.stream();
    const columns = result.columnNames();
    const numeric = result.columnTypes().map((type) => NUMERIC.test(type.toString()));
    return { columns, numeric, rows: rowsOf(result.yieldRows()) };
  } catch (error) {
    throw error instanceof TraceQueryError ? error : asQueryError(error);
  }
}

async function* rowsOf(chunks: AsyncIterable<DuckDBValue[][]>): AsyncGenerator<QueryCell[][]> {
  try {
    for await (const chunk of chunks) yield chunk.map((row) => row.map(cellOf));
  } catch (error) {
    throw asQueryError(error);
  }
}

/**
 * Opens traces for SQL. Rejects with TraceQueryError where the package is not there, and with TraceFileError for what
 * is no trace.
 */
export async function openTraceDatabase(
  traces: readonly QueriedTrace[],
  load: () => Promise<DuckDB> = () => import('@duckdb/node-api'),
): Promise<TraceDatabase> {
  const duckdb = await loadDuckDB(load);
  const statements: string[] = [];
  for (const trace of traces) for await (const statement of tableStatements(trace)) statements.push(statement);
  const instance: DuckDBInstance = await duckdb.DuckDBInstance.create(':memory:', {
    autoinstall_known_extensions: 'false',
    autoload_known_extensions: 'false',
    allow_community_extensions: 'false',
  });
  try {
    const connection = await instance.connect();
    const paths = traces.map(({ path }) => literal(path)).join(', ');
    const closing = [
      `SET allowed_paths = [${paths}]`,
      'SET enable_external_access = false',
      'SET lock_configuration = true',
    ];
    for (const statement of [...statements, ...closing]) await connection.run(statement);
    return {
      query: (sql) => runQuery(connection, duckdb, sql),
      close: () => {
        connection.closeSync();
        instance.closeSync();
      },
    };
  } catch (error) {
    instance.closeSync();
    throw asQueryError(error);
  }
}
