/** What the command `query` does. */
import { mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import {
  openTraceDatabase,
  type QueriedTrace,
  type QueryAnswer,
  type QueryCell,
  type TraceDatabase,
} from '../analysis/trace_query.ts';
import { readTraceHead } from '../trace/store/trace_reader.ts';
import { TRACE_SUFFIX } from '../trace/store/trace_schema.ts';
import { BATCHES_TABLE, INFO_TABLES, TRACE_VIEWS } from '../trace/store/trace_views.ts';
import { saveTrace } from '../trace/store/trace_writer.ts';
import { EXIT_OK, UsageError } from './command.ts';
import type { QueryFlags } from './query.ts';
import { openInput } from './run_import.ts';
import { clip, colorsFor, count, counted, table } from './text.ts';

/** Rows that a table on a screen has; --json and --csv have all. */
const ROWS_SHOWN = 1000;
const CELL_WIDTH = 60;
/** Characters that stand for others where DuckDB reads the name of a file. */
const PATTERN = /[*?[\]{}]/;
const NAME = /^([A-Za-z_]\w*)=(.+)$/s;
/** Names of DuckDB's own schemas. */
const TAKEN = ['main', 'temp', 'system', 'pg_catalog', 'information_schema'];

function tablesText(): string {
  const { bold, dim } = colorsFor(process.stdout);
  const out: string[] = [];
  for (const view of TRACE_VIEWS) {
    const rows = [['row', '', 'number of the row in the trace, from 0'], ...view.columns.map(columnCells)];
    out.push(`${bold(view.name)}  ${view.meaning}\n${table(rows, 'lll', '  ')}`);
  }
  for (const { name, meaning, columns } of [BATCHES_TABLE, ...INFO_TABLES]) {
    out.push(`${bold(name)}  ${meaning}\n${table(columns.map(columnCells), 'lll', '  ')}`);
  }
  return `${out.join('\n')}\n${dim('NULL stands for what is not there.')}\n`;
}

function columnCells({ name, unit, meaning }: { name: string; unit: string; meaning: string }): string[] {
  return [name, unit, meaning];
}

interface Given {
  name: string | null;
  file: string;
}

/** Traces with their names: the first needs none, the others do. */
function givenTraces(args: readonly string[]): Given[] {
  const traces = args.map((arg, i): Given => {
    const match = NAME.exec(arg);
    if (match !== null) return { name: match[1], file: match[2] };
    if (i > 0)
      throw new UsageError(`${arg}: give traces after the first a name, as in NAME=${arg}; the query comes last`);
    return { name: null, file: arg };
  });
  const names = traces.map(({ name }) => name?.toLowerCase());
  for (const [i, name] of names.entries()) {
    if (name === undefined) continue;
    if (names.indexOf(name) < i) throw new UsageError(`${args[i]}: the name is that of another trace too`);
    if (TAKEN.includes(name)) throw new UsageError(`${args[i]}: the name is one of SQL's own; take another`);
  }
  return traces;
}

/** Whole files of traces, where DuckDB can read them; others are made in `folder`, which it calls for. */
async function prepare(traces: readonly Given[], flags: QueryFlags, folder: () => string): Promise<QueriedTrace[]> {
  const prepared: QueriedTrace[] = [];
  for (const [i, { name, file }] of traces.entries()) {
    let path = resolve(file);
    const whole = file.endsWith(TRACE_SUFFIX) && (await readTraceHead(file)).ignoredBytes === 0;
    if (!whole) {
      path = join(folder(), `${i}${TRACE_SUFFIX}`);
      saveTrace(path, await openInput(file, flags));
    } else if (PATTERN.test(path)) {
      const link = join(folder(), `${i}${TRACE_SUFFIX}`);
      symlinkSync(path, link);
      path = link;
    }
    prepared.push({ name, path });
  }
  return prepared;
}

async function printTable({ columns, numeric, rows }: QueryAnswer): Promise<void> {
  const { bold, dim } = colorsFor(process.stdout);
  const shown: QueryCell[][] = [];
  let all = 0;
  for await (const piece of rows) {
    all += piece.length;
    for (const row of piece) if (shown.length < ROWS_SHOWN) shown.push(row);
  }
  const cell = (value: QueryCell): string =>
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they would move the cursor of a terminal
    value === null ? dim('null') : clip(String(value).replace(/[\u0000-\u001f\u007f-\u009f]/g, ' '), CELL_WIDTH);
  const align = numeric.map((is) => (is ? 'r' : 'l')).join('');
  // A row of one cell takes part in no column, so it gets an empty one.
  const cells = [columns.map((name) => bold(name)), ...shown.map((row) => row.map(cell))].map((row) => [...row, '']);
  process.stdout.write(table(cells, `${align}l`));
  const rest = all - shown.length;
  if (rest > 0) process.stdout.write(dim(`${counted(rest, 'more row')} of ${count(all)}; --csv or --json has all\n`));
}

async function printJson({ columns, rows }: QueryAnswer): Promise<void> {
  let separator = '[\n';
  for await (const piece of rows) {
    for (const row of piece) {
      process.stdout.write(separator + JSON.stringify(Object.fromEntries(columns.map((name, i) => [name, row[i]]))));
      separator = ',\n';
    }
  }
  process.stdout.write(separator === '[\n' ? '[]\n' : '\n]\n');
}

function csvCell(value: QueryCell): string {
  const text = value === null ? '' : String(value);
  return /[",\r\n]/.test(text) || (text === '' && value !== null) ? `"${text.replaceAll('"', '""')}"` : text;
}

async function printCsv({ columns, rows }: QueryAnswer): Promise<void> {
  process.stdout.write(`${columns.map(csvCell).join(',')}\n`);
  for await (const piece of rows) {
    process.stdout.write(piece.map((row) => `${row.map(csvCell).join(',')}\n`).join(''));
  }
}

/** Answers the query and returns the exit code. */
export async function runQuery(args: readonly string[], flags: QueryFlags): Promise<number> {
  if (flags.tables) {
    process.stdout.write(tablesText());
    return EXIT_OK;
  }
  if (args.length < 2) throw new UsageError('query needs a trace and a query, as in: uvmlab query TRACE "from events"');
  if (flags.json && flags.csv) throw new UsageError('--json and --csv: choose one');
  const traces = givenTraces(args.slice(0, -1));
  let temporary: string | null = null;
  const folder = (): string => {
    temporary ??= mkdtempSync(join(tmpdir(), 'uvmlab-query-'));
    return temporary;
  };
  let database: TraceDatabase | null = null;
  try {
    database = await openTraceDatabase(await prepare(traces, flags, folder));
    const answer = await database.query(args[args.length - 1]);
    if (flags.json) await printJson(answer);
    else if (flags.csv) await printCsv(answer);
    else await printTable(answer);
    return EXIT_OK;
  } finally {
    database?.close();
    if (temporary !== null) rmSync(temporary, { recursive: true, force: true });
  }
}
