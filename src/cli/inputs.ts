/** The files that a command is given: all entries of all of them, in order. */
import { realpathSync, statSync } from 'node:fs';
import { loadMachines } from '../analysis/machines.ts';
import { scenarioName } from '../scenario/scenario.ts';
import type { CaseLine } from '../trace/case_check.ts';
import { type CaseEntry, readCases } from '../trace/case_file.ts';
import { RECORDING_SUFFIX, readRecordingHeader } from '../trace/recording_file.ts';
import { TRACE_SUFFIX } from '../trace/store/trace_schema.ts';
import { UsageError } from './command.ts';
import { colorsFor } from './text.ts';

export interface Input {
  file: string;
  entry: CaseEntry;
}

/**
 * Opens each file once, so that a wrong name is told before anything has run. Throws CaseFileError or
 * RecordingFileError.
 */
export async function checkFiles(files: readonly string[]): Promise<void> {
  for (const file of files) {
    // To make a case of a recording takes its whole length.
    if (file.endsWith(RECORDING_SUFFIX)) {
      await readRecordingHeader(file);
      continue;
    }
    const entries = readCases(file);
    await entries.next();
    await entries.return(undefined);
  }
}

/** The entries of the files, one after another; `machine` is that of the recordings which do not tell theirs. */
export async function* readInputs(files: readonly string[], machine?: string): AsyncGenerator<Input> {
  for (const file of files) {
    const options = file.endsWith(RECORDING_SUFFIX) ? { machine, machines: loadMachines().known } : {};
    for await (const entry of readCases(file, options)) yield { file, entry };
  }
}

/** Refuses an output file, that of --`option`, that is one of the inputs. */
export function checkOutput(output: string, files: readonly string[], option = 'events'): void {
  const stat = statSync(output, { throwIfNoEntry: false });
  if (stat === undefined || !stat.isFile()) return;
  const real = realpathSync(output);
  for (const file of files) {
    if (realpathSync(file) === real)
      throw new UsageError(`--${option} ${output}: is one of the files to read; name another`);
  }
}

/** Refuses the name of a file that is there. */
export function refuseExisting(option: string, path: string): void {
  if (statSync(path, { throwIfNoEntry: false })?.isFile()) {
    throw new UsageError(`${option} ${path}: exists already; name another file, or add --overwrite`);
  }
}

/** Refuses a name for a trace that is not read as one. */
export function checkTraceName(option: string, path: string): void {
  if (path.endsWith(TRACE_SUFFIX) || path.startsWith('/dev/')) return;
  throw new UsageError(`${option} ${path}: the name of a trace ends in ${TRACE_SUFFIX}`);
}

/** Where an entry stands, for messages. */
export function placeText({ file, entry }: Input): string {
  return file.endsWith('.json') || file.endsWith(RECORDING_SUFFIX) ? file : `${file}:${entry.line}`;
}

/** Says on stderr what was made of a recording so that it became a case. */
export function sayNotes({ scenario, notes = [] }: CaseLine): void {
  const yellow = colorsFor(process.stderr).yellow('note:');
  for (const note of notes) process.stderr.write(`${yellow} ${scenarioName(scenario)}: ${note}\n`);
}

const NAMES_SHOWN = 12;

function namesText(names: readonly string[]): string {
  const rest = names.length - NAMES_SHOWN;
  return names.slice(0, NAMES_SHOWN).join(', ') + (rest > 0 ? ` and ${rest} more` : '');
}

/** The case with the name, or the only one. A bad line matters only when the case is not found. */
export async function findCase(file: string, name: string | undefined, machine?: string): Promise<CaseLine> {
  const names: string[] = [];
  let only: CaseLine | null = null;
  let bad: string | null = null;
  for await (const input of readInputs([file], machine)) {
    const { entry } = input;
    if (entry.kind === 'error') {
      bad ??= `${placeText(input)}: ${entry.error}`;
      continue;
    }
    const its = scenarioName(entry.scenario) ?? '(without a name)';
    if (its === name) return entry;
    names.push(its);
    only = entry;
  }
  const also = bad === null ? '' : `; besides, ${bad}`;
  if (name !== undefined) {
    throw new UsageError(`--scenario ${name}: not in ${file}; valid: ${namesText(names) || 'none'}${also}`);
  }
  if (only === null) throw new UsageError(bad ?? `${file}: has no scenario`);
  if (names.length > 1 || bad !== null) {
    throw new UsageError(
      `${file} has ${names.length} scenarios: choose one with --scenario; ${namesText(names)}${also}`,
    );
  }
  return only;
}
