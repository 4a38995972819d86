/** What the command `import` does, and how commands open a trace. */
import { type OpenTraceOptions, openTrace } from '../analysis/open_trace.ts';
import { parseModuleParameters } from '../model/uvm/params.ts';
import type { Trace } from '../trace/store/trace_events.ts';
import { saveTrace } from '../trace/store/trace_writer.ts';
import { createProgress, EXIT_OK, UsageError } from './command.ts';
import type { ImportFlags, OpenFlags } from './import.ts';
import { checkOutput, checkTraceName, refuseExisting } from './inputs.ts';
import { bytes, colorsFor, counted } from './text.ts';

/** Opens what a command was given, and says what a reader should know on stderr. */
export async function openInput(file: string, flags: OpenFlags): Promise<Trace> {
  const { scenario, machine, param = {}, traced } = flags;
  const parameters = parseModuleParameters(param);
  if (!parameters.ok) throw new UsageError(`--param: ${parameters.error}`);
  const progress = createProgress();
  const options: OpenTraceOptions = {
    parameters: param,
    onProgress: ({ name, steps }, step) => progress.say(`${name}, step ${step} of ${steps.length}`),
  };
  if (scenario !== undefined) options.scenario = scenario;
  if (machine !== undefined) options.machine = machine;
  if (traced !== undefined) options.traced = traced;
  try {
    const trace = await openTrace(file, options);
    progress.clear();
    const yellow = colorsFor(process.stderr).yellow('note:');
    for (const note of trace.info.notes) process.stderr.write(`${yellow} ${trace.info.name}: ${note}\n`);
    return trace;
  } finally {
    progress.clear();
  }
}

/** Writes the trace and returns the exit code. */
export async function runImport(file: string, flags: ImportFlags): Promise<number> {
  const { output, overwrite = false } = flags;
  checkTraceName('--output', output);
  if (!overwrite) refuseExisting('--output', output);
  const trace = await openInput(file, flags);
  checkOutput(output, [file], 'output');
  const size = saveTrace(output, trace, { overwrite });
  const { info, columns } = trace;
  const text = `${output}: ${info.name}, ${counted(columns.count, 'row')}, ${bytes(size)}\n`;
  (output.startsWith('/dev/') ? process.stderr : process.stdout).write(text);
  return EXIT_OK;
}
