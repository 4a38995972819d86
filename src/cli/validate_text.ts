/** The result of a validation as people read it. */
import { basename } from 'node:path';
import {
  type CaseResult,
  type CountRange,
  type FileTally,
  GROUP_COUNTS,
  type Range,
  type ShownDifference,
  type TimeDependentGroup,
} from '../analysis/validate.ts';
import type { WallStatistics } from '../analysis/walls.ts';
import { IDENTITY_FIELDS } from '../trace/event.ts';
import { type Colors, count, counted, percent, table } from './text.ts';
import type { Validation } from './validate_files.ts';

function orDash(n: number): string {
  return n === 0 ? '-' : count(n);
}

function fileRow(tally: Omit<FileTally, 'file'>, name: string, colors: Colors): string[] {
  const bad = (n: number): string => (n === 0 ? '-' : colors.red(count(n)));
  const good = tally.exact === 0 ? '-' : colors.green(count(tally.exact));
  const row = [name, count(tally.cases), good, bad(tally.notExact), orDash(tally.timeDependent), bad(tally.errors)];
  const { replayed, exactMigrations, replayedMigrations, unknownMigrations } = tally;
  const migrations =
    exactMigrations === replayedMigrations
      ? counted(replayedMigrations, 'migration')
      : `${count(exactMigrations)} of ${counted(replayedMigrations, 'migration')} in exact cases`;
  const unknown =
    unknownMigrations === 0 ? '' : `; ${count(unknownMigrations)} after calls of the program, which no recording has`;
  return [...row, replayed === 0 ? '' : `${counted(replayed, 'case')} replayed: ${migrations}${unknown}`];
}

/** The files and their sum. */
function filesText(files: readonly FileTally[], colors: Colors): string {
  const header = ['file', 'cases', 'exact', 'not exact', 'time-dependent', 'errors', ''];
  const rows = [
    header.map((cell) => colors.dim(cell)),
    ...files.map((tally) => fileRow(tally, basename(tally.file), colors)),
  ];
  if (files.length > 1) {
    const sum = (name: Exclude<keyof FileTally, 'file'>): number =>
      files.reduce((total, tally) => total + tally[name], 0);
    const total = {
      cases: sum('cases'),
      exact: sum('exact'),
      notExact: sum('notExact'),
      timeDependent: sum('timeDependent'),
      errors: sum('errors'),
      replayed: sum('replayed'),
      replayedMigrations: sum('replayedMigrations'),
      exactMigrations: sum('exactMigrations'),
      unknownMigrations: sum('unknownMigrations'),
    };
    rows.push(fileRow(total, 'total', colors));
  }
  return table(rows, 'lrrrrrl');
}

/** The values of an identity without the names of its fields, which stand above the table. */
function values(identity: string | undefined): string {
  if (identity === undefined) return '(nothing)';
  return identity.replace(/^\S+ /, '').replace(/(^| )\w+=/g, '$1');
}

/** Recorded and produced events side by side around the first that differs. */
function sideBySide(difference: ShownDifference, colors: Colors): string {
  const { first, index, recordedAround, producedAround } = difference;
  const rows = [['', '', 'recorded', 'model'].map((cell) => colors.dim(cell))];
  const last = Math.max(recordedAround.length, producedAround.length);
  for (let i = 0; i < last; i++) {
    const here = first + i === index;
    const row = [here ? '>' : '', String(first + i), values(recordedAround[i]), values(producedAround[i])];
    rows.push(here ? row.map((cell) => colors.red(cell)) : row);
  }
  return table(rows, 'rrll', '    ');
}

function caseText(result: CaseResult & { file: string }, colors: Colors): string {
  const where = `  ${colors.bold(result.scenario ?? 'no scenario')} (${basename(result.file)}, line ${result.line})`;
  if (result.error !== null) return `${where}: ${result.error}\n`;
  const { difference } = result;
  if (difference === null) return `${where}\n`;
  if (difference.what === 'batches') return `${where}: ${difference.message}\n`;
  const { step, kind, index } = difference;
  const place = `${step === null ? '' : `step ${step}, `}${kind} ${index}`;
  const fields = colors.dim(`(${IDENTITY_FIELDS[kind].join(', ')})`);
  return `${where}: ${place} ${fields}\n${sideBySide(difference, colors)}`;
}

function section(title: string, text: string, colors: Colors): string {
  return text === '' ? '' : `\n${colors.bold(title)}\n${text}`;
}

function rangeText({ low, high }: Range): string {
  return low === high ? count(low) : `${count(low)} to ${count(high)}`;
}

function groupText(groups: readonly TimeDependentGroup[], colors: Colors): string {
  if (groups.length === 0) return '';
  const rows = [['history', '', ...['thrashing', 'migrations', 'throttlings', 'gpu faults']].map((c) => colors.dim(c))];
  for (const group of groups) {
    const line = (text: (range: CountRange) => string): string[] =>
      GROUP_COUNTS.map((name) => text(group.counts[name]));
    const model = line(({ model: range, inside }) => (inside ? rangeText(range) : colors.red(`${rangeText(range)} !`)));
    rows.push(
      [group.scenario, counted(group.recordings, 'recording'), ...line((c) => rangeText(c.recorded))],
      ['', 'allowed', ...line((c) => rangeText(c.allowed))],
      ['', group.inside ? colors.green('model, inside') : colors.red('model, outside'), ...model],
    );
  }
  return table(rows, 'llrrrr', '  ');
}

function wallText({ traced, untraced }: NonNullable<Validation['wallTimes']>, colors: Colors): string {
  const header = ['suite', 'program', 'times', 'median error', '90th percentile', 'median predicted / recorded'];
  const rows = [header.map((cell) => colors.dim(cell))];
  const add = (kind: string, s: WallStatistics): void => {
    rows.push([s.suite, kind, count(s.samples), percent(s.median), percent(s.p90), s.ratio.toFixed(2)]);
  };
  for (const suite of [...new Set([...traced, ...untraced].map((s) => s.suite))]) {
    for (const s of traced) if (s.suite === suite) add('traced', s);
    for (const s of untraced) if (s.suite === suite) add('untraced', s);
  }
  return table(rows, 'llrrrr', '  ');
}

/** Cases of one verdict, told in full. */
const CASES_SHOWN = 20;

function casesText(cases: Validation['cases'], verdict: CaseResult['verdict'], colors: Colors): string {
  const chosen = cases.filter((result) => result.verdict === verdict);
  const text = chosen
    .slice(0, CASES_SHOWN)
    .map((result) => caseText(result, colors))
    .join(verdict === 'notExact' ? '\n' : '');
  const left = chosen.length - CASES_SHOWN;
  return left > 0 ? `${text}  ... and ${counted(left, 'more', 'more')}; --json has all\n` : text;
}

export function validationText(validation: Validation, colors: Colors): string {
  const { files, cases, timeDependent, wallTimes } = validation;
  return (
    filesText(files, colors) +
    section('Not exact: the first difference', casesText(cases, 'notExact', colors), colors) +
    section('Errors', casesText(cases, 'error', colors), colors) +
    section('Time-dependent: counts, over all recordings of a history', groupText(timeDependent, colors), colors) +
    (wallTimes === null ? '' : section('Wall times, predicted against recorded', wallText(wallTimes, colors), colors))
  );
}
