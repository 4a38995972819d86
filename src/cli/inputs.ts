/** The files that a command is given: all entries of all of them, in order. */
import { realpathSync, statSync } from 'node:fs';
import { scenarioName } from '../scenario/scenario.ts';
import { type CaseEntry, type CaseLine, readCases } from '../trace/case_file.ts';
import { UsageError } from './command.ts';

export interface Input {
  file: string;
  entry: CaseEntry;
}

/** Opens each file once, so that a wrong name is told before anything has run. Throws CaseFileError. */
export async function checkFiles(files: readonly string[]): Promise<void> {
  for (const file of files) {
    const entries = readCases(file);
    await entries.next();
    await entries.return(undefined);
  }
}

/** The entries of the files, one after another. */
export async function* readInputs(files: readonly string[]): AsyncGenerator<Input> {
  for (const file of files) {
    for await (const entry of readCases(file)) yield { file, entry };
  }
}

/** Refuses an output file that is one of the inputs. */
export function checkOutput(output: string, files: readonly string[]): void {
  const stat = statSync(output, { throwIfNoEntry: false });
  if (stat === undefined || !stat.isFile()) return;
  const real = realpathSync(output);
  for (const file of files) {
    if (realpathSync(file) === real)
      throw new UsageError(`--events ${output}: is one of the files to read; name another`);
  }
}

/** Where an entry stands, for messages. */
export function placeText({ file, entry }: Input): string {
  return file.endsWith('.json') ? file : `${file}:${entry.line}`;
}

const NAMES_SHOWN = 12;

function namesText(names: readonly string[]): string {
  const rest = names.length - NAMES_SHOWN;
  return names.slice(0, NAMES_SHOWN).join(', ') + (rest > 0 ? ` and ${rest} more` : '');
}

/** The case with the name, or the only one. A bad line matters only when the case is not found. */
export async function findCase(file: string, name: string | undefined): Promise<CaseLine> {
  const names: string[] = [];
  let only: CaseLine | null = null;
  let bad: string | null = null;
  for await (const { entry } of readInputs([file])) {
    if (entry.kind === 'error') {
      bad ??= `${file}:${entry.line}: ${entry.error}`;
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
