/** What the command `export` does. */
import { createLineWriter } from '../trace/jsonl.ts';
import type { Trace } from '../trace/store/trace_events.ts';
import { writeTraceLines } from '../trace/trace_lines.ts';
import { EXIT_OK, UsageError } from './command.ts';
import type { ExportFlags } from './export.ts';
import { checkOutput, refuseExisting } from './inputs.ts';
import { openInput } from './run_import.ts';
import { bytes, count, table } from './text.ts';

function exportLines(path: string, trace: Trace): void {
  const out = createLineWriter(path);
  try {
    writeTraceLines(out, trace);
    out.commit();
  } catch (error) {
    out.abort();
    throw error;
  }
}

/** Writes what was asked for and returns the exit code. */
export async function runExport(file: string, flags: ExportFlags): Promise<number> {
  const { jsonl, parquet, overwrite = false } = flags;
  if (jsonl === undefined && parquet === undefined) {
    throw new UsageError('export needs --jsonl OUT or --parquet FOLDER');
  }
  if (jsonl !== undefined && !overwrite) refuseExisting('--jsonl', jsonl);
  const trace = await openInput(file, flags);
  if (jsonl !== undefined) {
    checkOutput(jsonl, [file], 'jsonl');
    exportLines(jsonl, trace);
  }
  if (parquet !== undefined) {
    const { exportParquet } = await import('../analysis/export_parquet.ts');
    const tables = exportParquet(parquet, trace, { overwrite });
    const lines = tables.map((one) => [one.file, count(one.rows), bytes(one.bytes)]);
    process.stdout.write(`${parquet}\n${table([['file', 'rows', 'size'], ...lines], 'lrr', '  ')}`);
  }
  return EXIT_OK;
}
