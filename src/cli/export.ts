/** The command `export`: its options. */
import type { Command } from 'commander';
import { EXIT_CODES } from './command.ts';
import { addOpenOptions, type OpenFlags, TRACE_HELP } from './import.ts';

const DETAILS = `
--jsonl OUT        lines of JSON: what the trace is of, then each event as docs/formats.md has it. "uvmlab import" makes
                   the same trace of them.
--parquet FOLDER   a Parquet file for each kind of rows (faults, migrations, replays, ...) and for allocations, steps,
                   parameters and the like, with null for what is not there: for pandas, Polars, DuckDB, spreadsheets.
                   docs/trace-schema.md has the columns.
--perfetto OUT     a trace for https://ui.perfetto.dev (such files are called *.perfetto-trace or *.pftrace): faults,
                   batches, migrations, channels, allocations and counters on tracks. docs/perfetto.md says what is
                   where.
`;

const EXAMPLES = `
Examples:
  uvmlab export run.parquet --jsonl events.jsonl
  uvmlab export run.uvmrec --jsonl /dev/stdout | head -3
  uvmlab export run.parquet --parquet tables
  uvmlab export run.uvmrec --perfetto run.perfetto-trace
`;

export interface ExportFlags extends OpenFlags {
  jsonl?: string;
  parquet?: string;
  perfetto?: string;
  overwrite?: boolean;
}

export function registerExport(program: Command): void {
  addOpenOptions(
    program
      .command('export')
      .summary('take a trace to other tools')
      .description('Writes a trace in the forms that other tools read.')
      .argument('<TRACE>', 'a trace, or what can be opened as one')
      .option('--jsonl <OUT>', 'write lines of JSON')
      .option('--parquet <FOLDER>', 'write a folder of Parquet files, one for each kind of rows')
      .option('--perfetto <OUT>', 'write a trace for Perfetto'),
  )
    .option('--overwrite', 'replace files that are there')
    .addHelpText('after', DETAILS + TRACE_HELP + EXAMPLES + EXIT_CODES)
    .action(async (file: string, flags: ExportFlags) => {
      const { runExport } = await import('./run_export.ts');
      process.exitCode = await runExport(file, flags);
    });
}
