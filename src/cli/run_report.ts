/** What the command `report` does. */
import { loadMachines } from '../analysis/machines.ts';
import { reportRecording } from '../analysis/recording_report.ts';
import { predictUntraced } from '../analysis/untraced_time.ts';
import { choices } from '../scenario/shapes.ts';
import { surveyRecording } from '../trace/recording_ranges.ts';
import { EXIT_OK, UsageError } from './command.ts';
import type { ReportFlags } from './report.ts';
import { reportText } from './report_text.ts';
import { colorsFor } from './text.ts';

/** Prints what a recording holds and returns the exit code. */
export async function runReport(file: string, flags: ReportFlags): Promise<number> {
  const { json = false, machine, prediction = true } = flags;
  const machines = loadMachines();
  if (machine !== undefined && !Object.hasOwn(machines.known, machine)) {
    throw new UsageError(`--machine ${machine}: unknown; valid: ${choices(Object.keys(machines.known))}`);
  }
  const survey = await surveyRecording(file);
  const report = await reportRecording(survey);
  const predicted = prediction
    ? await predictUntraced(survey, report, machines, machine)
    : ({ ok: false, why: '--no-prediction' } as const);
  if (json) {
    const untraced = predicted.ok ? predicted.time : null;
    const data = { file, ...report, untraced, notPredicted: predicted.ok ? null : predicted.why };
    process.stdout.write(`${JSON.stringify(data, null, 2)}\n`);
  } else {
    process.stdout.write(reportText(file, report, predicted.ok ? predicted.time : null, colorsFor(process.stdout)));
  }
  return EXIT_OK;
}
