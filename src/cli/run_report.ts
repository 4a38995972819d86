/** What the command `report` does. */
import { loadMachines } from '../analysis/machines.ts';
import { openTrace } from '../analysis/open_trace.ts';
import { fullReport } from '../analysis/report/full_report.ts';
import { REPORT_COLUMNS } from '../analysis/report/scan_state.ts';
import { choices } from '../scenario/shapes.ts';
import { createLineWriter, type LineWriter } from '../trace/jsonl.ts';
import { RECORDING_SUFFIX } from '../trace/recording_file.ts';
import { surveyRecording } from '../trace/recording_ranges.ts';
import { TRACE_SUFFIX } from '../trace/store/trace_schema.ts';
import { EXIT_OK, UsageError } from './command.ts';
import { checkOutput } from './inputs.ts';
import type { ReportFlags } from './report.ts';
import { headlines } from './report_sentences.ts';
import { reportText, type ShownReport } from './report_text.ts';
import { colorsFor } from './text.ts';

/** The report as `--json` prints it. */
function jsonOf({ file, full, info, recording }: ShownReport): unknown {
  const { report, ...rest } = full;
  const { notes, processors, parameters, dropped, leftOut, cpuFaultSites, gpuFaultKernels } = info;
  return {
    file,
    answers: headlines(full, info),
    driver: info.driver,
    machine: info.machine,
    traced: info.traced,
    command: info.command,
    processors,
    parameters,
    ...report,
    dropped,
    leftOut,
    cpuFaultSites,
    gpuFaultKernels,
    notes,
    recording:
      recording === null
        ? null
        : {
            header: recording.header,
            gaps: recording.gaps,
            end: recording.end,
            truncated: recording.truncated,
            ignoredBytes: recording.ignoredBytes,
          },
    ...rest,
  };
}

async function shownReport(file: string, flags: ReportFlags): Promise<ShownReport> {
  const { machine, prediction = true, scenario, param, traced } = flags;
  const machines = loadMachines();
  if (machine !== undefined && !Object.hasOwn(machines.known, machine)) {
    throw new UsageError(`--machine ${machine}: unknown; valid: ${choices(Object.keys(machines.known))}`);
  }
  const options = {
    ...(scenario === undefined ? {} : { scenario }),
    ...(machine === undefined ? {} : { machine }),
    ...(traced === undefined ? {} : { traced }),
    ...(param === undefined ? {} : { parameters: param }),
  };
  const trace = await openTrace(file, { ...options, columns: REPORT_COLUMNS });
  // Only a trace's file is read by its columns; of all else everything is there already.
  const whole = file.endsWith(TRACE_SUFFIX) ? () => openTrace(file, options) : undefined;
  const full = await fullReport(trace, {
    machines,
    prediction,
    ...(machine === undefined ? {} : { machine }),
    ...(whole === undefined ? {} : { whole }),
  });
  const recording = file.endsWith(RECORDING_SUFFIX) ? await surveyRecording(file) : null;
  return { file, full, info: trace.info, recording };
}

/** Prints what a trace holds, or writes it as a page, and returns the exit code. */
export async function runReport(file: string, flags: ReportFlags): Promise<number> {
  const { html, json = false } = flags;
  if (html !== undefined) checkOutput(html, [file], 'html');
  // Opened first: a place that cannot be written is told before anything is read or run.
  const out: LineWriter | null = html === undefined ? null : createLineWriter(html);
  try {
    const shown = await shownReport(file, flags);
    if (out !== null) {
      const { reportHtml } = await import('./report_html.ts');
      out.writeText(reportHtml(shown));
      out.commit();
    }
    if (json) process.stdout.write(`${JSON.stringify(jsonOf(shown), null, 2)}\n`);
    else if (out === null) process.stdout.write(reportText(shown, colorsFor(process.stdout)));
    return EXIT_OK;
  } catch (error) {
    out?.abort();
    throw error;
  }
}
