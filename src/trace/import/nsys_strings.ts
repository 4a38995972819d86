/** Texts of an export of Nsight Systems, which other tables name by number. */
import { quoted, type SqliteReader } from './sqlite_reader.ts';

const STRINGS = 'StringIds';

/** The texts with these numbers, as far as the export has them. */
export function textsOf(database: SqliteReader, wanted: ReadonlySet<string>): Map<string, string> {
  const texts = new Map<string, string>();
  const columns = database.tables.get(STRINGS) ?? [];
  if (wanted.size === 0 || !columns.includes('id') || !columns.includes('value')) return texts;
  for (const { id, value } of database.rows(`SELECT "id", "value" FROM ${quoted(STRINGS)}`)) {
    if (typeof value === 'string' && wanted.has(String(id))) texts.set(String(id), value);
  }
  return texts;
}
