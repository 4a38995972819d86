/**
 * Reading a SQLite file: by Node's own `node:sqlite` where it exists (Node 22 and later), else by the package
 * node-sqlite3-wasm, which is loaded when it is needed. Whole numbers come as bigint or number, exact either way.
 *
 * Nothing is written beside the file. The package locks a file by a folder beside it, which a read-only folder cannot
 * have and a killed process leaves behind: so it is given a link in a temporary folder. A database that keeps a
 * write-ahead log (WAL) would get files beside it from Node's own, and the package cannot open it: of such a one a copy
 * is read that says it keeps none.
 */
import {
  closeSync,
  constants,
  copyFileSync,
  existsSync,
  mkdtempSync,
  openSync,
  readSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';

export type SqliteValue = bigint | number | string | Uint8Array | null;

export interface SqliteReader {
  /** Columns of each table, by its name. */
  readonly tables: ReadonlyMap<string, readonly string[]>;
  /** Rows of a query, one after another; a row has its columns by name. */
  rows(sql: string): Iterable<Record<string, SqliteValue>>;
  close(): void;
}

/** The file is no SQLite database, is damaged, or cannot be read here. The message does not name it. */
export class SqliteError extends Error {
  override name = 'SqliteError';
}

export const SQLITE_PACKAGE = 'node-sqlite3-wasm';

interface Statement {
  setReadBigInts(on: boolean): void;
  iterate(): Iterable<Record<string, SqliteValue>>;
}
interface NodeSqlite {
  DatabaseSync: new (
    path: string,
    options: { readOnly: boolean },
  ) => { prepare(sql: string): Statement; close(): void };
}
interface WasmSqlite {
  Database: new (
    path: string,
    options: { fileMustExist: boolean; readOnly: boolean },
  ) => {
    prepare(sql: string): { iterate(): Iterable<Record<string, SqliteValue>>; finalize(): void };
    close(): void;
  };
}

function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/**
 * Node's own, or null. It announces itself as experimental when it is loaded, which is nobody's business here: while it
 * is (and nothing else runs), warnings are not given on.
 */
function nodeSqlite(): NodeSqlite | null {
  const { emitWarning } = process;
  process.emitWarning = () => {};
  try {
    return createRequire(import.meta.url)('node:sqlite') as NodeSqlite;
  } catch {
    return null;
  } finally {
    process.emitWarning = emitWarning;
  }
}

async function wasmSqlite(): Promise<WasmSqlite> {
  const name = SQLITE_PACKAGE;
  try {
    const module = (await import(name)) as { default: WasmSqlite };
    return module.default;
  } catch (error) {
    throw new SqliteError(
      `reading it needs the package ${SQLITE_PACKAGE} on this Node (${process.version}): ` +
        `npm install ${SQLITE_PACKAGE}, or use Node 22.13 or later (${reason(error).split('\n')[0]})`,
    );
  }
}

interface Raw {
  rows(sql: string): Iterable<Record<string, SqliteValue>>;
  close(): void;
}

/** Bytes 18 and 19 of a file say how it is written and read: 1 with a journal, 2 with a write-ahead log. */
const MODES_AT = 18;
const WITH_LOG = 2;

function keepsLog(path: string): boolean {
  const file = openSync(path, 'r');
  try {
    const modes = Buffer.alloc(2);
    readSync(file, modes, 0, 2, MODES_AT);
    return modes.includes(WITH_LOG);
  } finally {
    closeSync(file);
  }
}

/** A file whose last changes lie in another file beside it is half of a database. */
function checkWhole(path: string): void {
  for (const suffix of ['-wal', '-journal']) {
    if (!existsSync(path + suffix) || statSync(path + suffix).size === 0) continue;
    throw new SqliteError(
      `${basename(path)}${suffix} lies beside it: a program writes it still, or did not close it. ` +
        'Close it first, or export it again',
    );
  }
}

/** A path to read in a temporary folder, or the file's own, and how to remove what was made. */
function placeToRead(path: string, isWasm: boolean): { path: string; remove: () => void } {
  checkWhole(path);
  const hasLog = keepsLog(path);
  if (!hasLog && !isWasm) return { path, remove: () => {} };
  const folder = mkdtempSync(join(tmpdir(), 'uvmlab-sqlite-'));
  const remove = (): void => rmSync(folder, { recursive: true, force: true });
  const place = join(folder, 'read.sqlite');
  try {
    if (hasLog) copyWithoutLog(path, place);
    else linkOrCopy(path, place);
    return { path: place, remove };
  } catch (error) {
    remove();
    throw error;
  }
}

/** Links, where the system lets one: an export can have gigabytes, and a temporary folder may be memory. */
function linkOrCopy(path: string, place: string): void {
  try {
    symlinkSync(realpathSync(path), place, 'file');
  } catch {
    copyFileSync(path, place, constants.COPYFILE_FICLONE);
  }
}

function copyWithoutLog(path: string, place: string): void {
  copyFileSync(path, place, constants.COPYFILE_FICLONE);
  const file = openSync(place, 'r+');
  try {
    writeSync(file, Uint8Array.of(1, 1), 0, 2, MODES_AT);
  } finally {
    closeSync(file);
  }
}

function openNode(sqlite: NodeSqlite, path: string): Raw {
  const database = new sqlite.DatabaseSync(path, { readOnly: true });
  return {
    rows: (sql) => {
      const statement = database.prepare(sql);
      statement.setReadBigInts(true);
      return statement.iterate();
    },
    close: () => database.close(),
  };
}

function openWasm(sqlite: WasmSqlite, path: string): Raw {
  const database = new sqlite.Database(path, { fileMustExist: true, readOnly: true });
  return {
    rows: function* (sql) {
      const statement = database.prepare(sql);
      try {
        yield* statement.iterate();
      } finally {
        statement.finalize();
      }
    },
    close: () => database.close(),
  };
}

/** A whole number of 64 bits, or null for anything else; negative ones are what SQLite makes of large addresses. */
export function wholeNumber(value: SqliteValue | undefined): bigint | null {
  if (typeof value === 'bigint') return value;
  return typeof value === 'number' && Number.isSafeInteger(value) ? BigInt(value) : null;
}

/** Names as SQL has them, whatever they are. */
export function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

function tablesOf(raw: Raw): Map<string, string[]> {
  const tables = new Map<string, string[]>();
  for (const { name } of raw.rows("SELECT name FROM sqlite_master WHERE type = 'table'")) {
    tables.set(String(name), []);
  }
  for (const [table, columns] of tables) {
    for (const { name } of raw.rows(`PRAGMA table_info(${quoted(table)})`)) columns.push(String(name));
  }
  return tables;
}

function guarded<T>(act: () => T): T {
  try {
    return act();
  } catch (error) {
    throw error instanceof SqliteError ? error : new SqliteError(reason(error));
  }
}

/** Opens a file for reading. Rejects with SqliteError. `builtIn` false passes Node's own by. */
export async function openSqlite(path: string, builtIn = true): Promise<SqliteReader> {
  const node = builtIn ? nodeSqlite() : null;
  const wasm = node === null ? await wasmSqlite() : null;
  const place = guarded(() => placeToRead(path, node === null));
  let raw: Raw | null = null;
  const close = (): void => {
    try {
      raw?.close();
    } finally {
      place.remove();
    }
  };
  try {
    const opened = guarded(() =>
      node === null ? openWasm(wasm as WasmSqlite, place.path) : openNode(node, place.path),
    );
    raw = opened;
    const tables = guarded(() => tablesOf(opened));
    return {
      tables,
      rows: function* (sql) {
        try {
          yield* opened.rows(sql);
        } catch (error) {
          throw error instanceof SqliteError ? error : new SqliteError(reason(error));
        }
      },
      close,
    };
  } catch (error) {
    close();
    throw error;
  }
}
