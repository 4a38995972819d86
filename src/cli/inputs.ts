/** The files that a command is given: all entries of all of them, in order. */
import { realpathSync, statSync } from 'node:fs';
import { type CaseEntry, readCases } from '../trace/case_file.ts';
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
