/**
 * Reading a SQLite file: by Node's own `node:sqlite` where it exists (Node 22 and later), else by the package
 * node-sqlite3-wasm, which is loaded when it is needed. Whole numbers come as bigint or number, exact either way.
 *
 * The package locks a file by a folder beside it, which a file in a read-only folder cannot have and a killed process
 * leaves behind: so it reads a copy in a temporary folder.
 */
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

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

/** Node's own, or null; it announces itself as experimental, which is nobody's business here. */
async function nodeSqlite(): Promise<NodeSqlite | null> {
  const name = 'node:sqlite';
  const { emitWarning } = process;
  process.emitWarning = () => {};
  try {
    return (await import(name)) as NodeSqlite;
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
  const folder = mkdtempSync(join(tmpdir(), 'uvmlab-sqlite-'));
  const remove = (): void => rmSync(folder, { recursive: true, force: true });
  try {
    const copy = join(folder, 'copy.sqlite');
    copyFileSync(path, copy);
    const database = new sqlite.Database(copy, { fileMustExist: true, readOnly: true });
    return {
      rows: function* (sql) {
        const statement = database.prepare(sql);
        try {
          yield* statement.iterate();
        } finally {
          statement.finalize();
        }
      },
      close: () => {
        try {
          database.close();
        } finally {
          remove();
        }
      },
    };
  } catch (error) {
    remove();
    throw error;
  }
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

/** Opens a file for reading. Rejects with SqliteError. `builtIn` false passes Node's own by. */
export async function openSqlite(path: string, builtIn = true): Promise<SqliteReader> {
  const node = builtIn ? await nodeSqlite() : null;
  const wasm = node === null ? await wasmSqlite() : null;
  let raw: Raw | null = null;
  const guarded = <T>(act: () => T): T => {
    try {
      return act();
    } catch (error) {
      throw error instanceof SqliteError ? error : new SqliteError(reason(error));
    }
  };
  try {
    raw = guarded(() => (node === null ? openWasm(wasm as WasmSqlite, path) : openNode(node, path)));
    const opened = raw;
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
      close: () => opened.close(),
    };
  } catch (error) {
    raw?.close();
    throw error;
  }
}
