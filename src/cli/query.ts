/** The command `query`: its options. */
import type { Command } from 'commander';
import { EXIT_CODES } from './command.ts';
import { addOpenOptions, type OpenFlags, TRACE_HELP } from './import.ts';

const DETAILS = `
SQL is DuckDB's, an optional package: npm install @duckdb/node-api@1.5.6-r.1. Queries alone are taken; nothing can be
written.
--tables lists the tables and their columns; docs/trace-schema.md has them too. Times are nanoseconds. The column
"offset" needs its quotes, as OFFSET is a word of SQL; "page" does not.

With several traces, write NAME=TRACE for each but the first: its tables are NAME.events, NAME.faults, ...
`;

const EXAMPLES = `
Examples:
  uvmlab query run.parquet "select kind, count(*) from events group by all"
  uvmlab query run.parquet "select buffer, page, count(*) n from faults group by all order by n desc limit 10"
  uvmlab query run.uvmrec "select cause, src, dst, sum(bytes) from migrations group by all" --csv
  uvmlab query a.parquet b=b.parquet "select (select count(*) from faults), (select count(*) from b.faults)"
  uvmlab query --tables
`;

export interface QueryFlags extends OpenFlags {
  json?: boolean;
  csv?: boolean;
  tables?: boolean;
}

export function registerQuery(program: Command): void {
  addOpenOptions(
    program
      .command('query')
      .summary('ask a trace with SQL')
      .description('Answers a question in SQL about a trace.')
      .usage('[options] <TRACE...> <SQL>')
      .argument('[TRACE_AND_SQL...]', 'traces, or what can be opened as one; and the query'),
  )
    .option('--json', 'print the rows as a list of JSON objects')
    .option('--csv', 'print the rows as CSV')
    .option('--tables', 'list the tables and their columns')
    .addHelpText('after', DETAILS + TRACE_HELP + EXAMPLES + EXIT_CODES)
    .action(async (args: string[], flags: QueryFlags) => {
      const { runQuery } = await import('./run_query.ts');
      process.exitCode = await runQuery(args, flags);
    });
}
