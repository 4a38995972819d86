/** What the command `export` does. */
import { createLineWriter, type LineWriter } from '../trace/jsonl.ts';
import type { Trace } from '../trace/store/trace_events.ts';
import { writeTraceLines } from '../trace/trace_lines.ts';
import { EXIT_OK, UsageError } from './command.ts';
import type { ExportFlags } from './export.ts';
import { checkOutput, refuseExisting } from './inputs.ts';
import { openInput } from './run_import.ts';
import { bytes, count, table } from './text.ts';

/** Writes a file that has its name only when it is whole. */
function writeWhole<T>(path: string, write: (out: LineWriter) => T): T {
  const out = createLineWriter(path);
  try {
    const result = write(out);
    out.commit();
    return result;
  } catch (error) {
    out.abort();
    throw error;
  }
}

async function exportForPerfetto(path: string, trace: Trace): Promise<void> {
  const { exportPerfetto } = await import('../trace/export/perfetto.ts');
  const summary = writeWhole(path, (out) => exportPerfetto(trace, out.writeBytes));
  const { tracks, slices, instants, counters, flows, leftOut, shortened, shift } = summary;
  const written = [
    [tracks, 'tracks'],
    [slices, 'slices'],
    [instants, 'instants'],
    [counters, 'counter values'],
    [flows, 'flows'],
  ] as const;
  const lines = [`${path}: ${written.map(([n, what]) => `${count(n)} ${what}`).join(', ')}, ${bytes(summary.bytes)}\n`];
  if (shift > 0) lines.push(`note: ${count(shift)} ns were added to all times: Perfetto has none below 0\n`);
  if (leftOut > 0)
    lines.push(`note: ${count(leftOut)} rows are left out: they have no time, or a kind that is not known\n`);
  if (shortened > 0) lines.push(`note: ${count(shortened)} slices have no end after their begin, and no length\n`);
  process.stderr.write(lines.join(''));
}

/** Writes what was asked for and returns the exit code. */
export async function runExport(file: string, flags: ExportFlags): Promise<number> {
  const { jsonl, parquet, perfetto, overwrite = false } = flags;
  if (jsonl === undefined && parquet === undefined && perfetto === undefined) {
    throw new UsageError('export needs --jsonl OUT, --parquet FOLDER or --perfetto OUT');
  }
  if (jsonl !== undefined && !overwrite) refuseExisting('--jsonl', jsonl);
  if (perfetto !== undefined && !overwrite) refuseExisting('--perfetto', perfetto);
  const trace = await openInput(file, flags);
  if (jsonl !== undefined) {
    checkOutput(jsonl, [file], 'jsonl');
    writeWhole(jsonl, (out) => writeTraceLines(out, trace));
  }
  if (parquet !== undefined) {
    const { exportParquet } = await import('../analysis/export_parquet.ts');
    const tables = exportParquet(parquet, trace, { overwrite });
    const lines = tables.map((one) => [one.file, count(one.rows), bytes(one.bytes)]);
    process.stdout.write(`${parquet}\n${table([['file', 'rows', 'size'], ...lines], 'lrr', '  ')}`);
  }
  if (perfetto !== undefined) {
    checkOutput(perfetto, [file], 'perfetto');
    await exportForPerfetto(perfetto, trace);
  }
  return EXIT_OK;
}
