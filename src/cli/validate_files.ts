/** What the command `validate` does. */
import { existsSync, readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { loadMachines } from '../analysis/machines.ts';
import {
  type CaseResult,
  type FileTally,
  type TimeDependentGroup,
  tallyFile,
  timeDependentGroups,
  validateCase,
} from '../analysis/validate.ts';
import {
  parseWallLines,
  type WallLine,
  type WallSample,
  type WallStatistics,
  wallStatistics,
} from '../analysis/walls.ts';
import { scenarioName } from '../scenario/scenario.ts';
import type { CaseEntry } from '../trace/case_file.ts';
import { createProgress, EXIT_FAILED, EXIT_OK, UsageError } from './command.ts';
import { checkFiles, readInputs, sayNotes } from './inputs.ts';
import { colorsFor, counted } from './text.ts';
import { validationText } from './validate_text.ts';

export interface ValidateFilesOptions {
  json: boolean;
  walls?: string;
  /** The machine of recordings that do not tell theirs. */
  machine?: string;
}

export interface Validation {
  /** No case differs, and none failed. */
  ok: boolean;
  files: FileTally[];
  cases: (CaseResult & { file: string })[];
  timeDependent: TimeDependentGroup[];
  /** Null where there are no recorded times. */
  wallTimes: { traced: WallStatistics[]; untraced: WallStatistics[] } | null;
}

function readWalls(path: string): Map<string, WallLine> {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw new UsageError(`${path}: cannot be read: ${(error as Error).message}`);
  }
  try {
    return new Map(parseWallLines(text).map((line) => [line.scenario, line]));
  } catch (error) {
    throw new UsageError(`${path}: ${(error as Error).message}`);
  }
}

/** The recorded wall times for each file; each file of times is read once. */
function wallsByFile(files: readonly string[], given: string | undefined): (Map<string, WallLine> | undefined)[] {
  const read = new Map<string, Map<string, WallLine>>();
  return files.map((file) => {
    const path = given ?? join(dirname(file), 'walls.jsonl');
    if (given === undefined && !existsSync(path)) return undefined;
    const known = read.get(path) ?? readWalls(path);
    read.set(path, known);
    return known;
  });
}

/** `serial` for `recordings/serial.jsonl.gz`. */
function suiteName(file: string): string {
  return basename(file).replace(/\.(jsonl?(\.gz)?|uvmrec)$/, '');
}

/** Cases under one name: those of a file, or those that a machine makes now. */
export interface CaseSet {
  name: string;
  entries: AsyncIterable<{ entry: CaseEntry }>;
  walls?: ReadonlyMap<string, WallLine>;
}

/** Judges all cases of the sets, one after another. */
export async function validateSets(sets: readonly CaseSet[], machines = loadMachines()): Promise<Validation> {
  const progress = createProgress();
  const tallies: FileTally[] = [];
  const cases: Validation['cases'] = [];
  const traced: WallSample[] = [];
  const untraced: WallSample[] = [];
  try {
    for (const { name: file, entries, walls } of sets) {
      const results: CaseResult[] = [];
      for await (const { entry } of entries) {
        const name = entry.kind === 'case' ? (scenarioName(entry.scenario) ?? '') : '';
        progress.say(`${counted(cases.length, 'case')} done, now ${basename(file)} ${name}`);
        if (entry.kind === 'case') sayNotes(entry);
        const validated = validateCase(entry, suiteName(file), machines, { walls });
        results.push(validated.result);
        cases.push({ file, ...validated.result });
        traced.push(...validated.traced);
        untraced.push(...validated.untraced);
      }
      tallies.push(tallyFile(file, results));
    }
  } finally {
    progress.clear();
  }
  return {
    ok: tallies.every((tally) => tally.notExact === 0 && tally.errors === 0),
    files: tallies,
    cases,
    timeDependent: timeDependentGroups(cases),
    wallTimes:
      traced.length + untraced.length === 0
        ? null
        : { traced: wallStatistics(traced), untraced: wallStatistics(untraced) },
  };
}

/** As JSON, without what only grouping needs. */
function jsonText({ cases, ...rest }: Validation): string {
  const shown = cases.map(({ history, ...result }) => result);
  return `${JSON.stringify({ ...rest, cases: shown }, null, 2)}\n`;
}

/** Prints a validation and returns the exit code. */
export function showValidation(validation: Validation, json: boolean): number {
  process.stdout.write(json ? jsonText(validation) : validationText(validation, colorsFor(process.stdout)));
  return validation.ok ? EXIT_OK : EXIT_FAILED;
}

/** Validates the files and returns the exit code. */
export async function validateFiles(files: readonly string[], options: ValidateFilesOptions): Promise<number> {
  await checkFiles(files);
  const walls = wallsByFile(files, options.walls);
  const sets = files.map((name, i) => ({ name, entries: readInputs([name], options.machine), walls: walls[i] }));
  return showValidation(await validateSets(sets), options.json);
}
