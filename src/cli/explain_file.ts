/** What the command `explain` does. */
import { type ExplainOptions, explainFault } from '../analysis/explain.ts';
import { explainCopy } from '../analysis/explain_copy.ts';
import { copyExplanationText } from '../analysis/explain_copy_text.ts';
import type { TextStyle } from '../analysis/explain_layout.ts';
import { explainPage, type PageName } from '../analysis/explain_page.ts';
import { pageExplanationText } from '../analysis/explain_page_text.ts';
import { faultExplanationText } from '../analysis/explain_text.ts';
import { loadMachines } from '../analysis/machines.ts';
import { RECORDING_SUFFIX } from '../trace/recording_file.ts';
import { type BranchNames, branchNames } from './branch_names.ts';
import { createProgress, EXIT_FAILED, EXIT_OK, UsageError } from './command.ts';
import type { ExplainFlags } from './explain.ts';
import { findCase, sayNotes } from './inputs.ts';
import { colorsFor } from './text.ts';

/** Columns where the output is no terminal, and the most that lines take on one. */
const WIDTH_DEFAULT = 120;
const WIDTH_MAX = 160;

function parseNumber(option: string, text: string): number {
  const number = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(number)) throw new UsageError(`--${option} ${text}: expected a whole number from 1`);
  return number;
}

function parsePage(text: string): PageName {
  const match = /^(?:(.*):)?(\d+)$/s.exec(text);
  const index = match === null ? Number.NaN : Number(match[2]);
  if (match === null || !Number.isSafeInteger(index)) {
    throw new UsageError(`--page ${text}: expected BUFFER:INDEX, or INDEX, which counts 4 KiB pages from 0`);
  }
  return { buffer: match[1] ?? null, index };
}

function styleFor(stream: NodeJS.WriteStream, names: BranchNames | null): TextStyle {
  const colors = colorsFor(stream);
  const call = (text: string): string => colors.cyan(names === null ? text : names.marked(text));
  return { strong: (text) => colors.bold(text), faint: (text) => colors.dim(text), call };
}

/** An explanation as it is printed: its functions with the names of a branch, where one was asked for. */
function asJson(explanation: object, names: BranchNames | null): string {
  const data = names === null ? explanation : { ...(names.renamed(explanation) as object), ...names.summary() };
  return `${JSON.stringify(data, null, 2)}\n`;
}

/** Prints the explanation and returns the exit code. */
export async function explainFile(file: string, flags: ExplainFlags): Promise<number> {
  const { fault, page, copy, json = false } = flags;
  const given = [fault, page, copy].filter((option) => option !== undefined).length;
  if (given !== 1) {
    const several = given === 0 ? '' : ', and takes one of them';
    throw new UsageError(`explain needs --fault N, --page BUFFER:INDEX or --copy N${several}`);
  }
  const replay = flags.replay ?? file.endsWith(RECORDING_SUFFIX);
  if (copy !== undefined && replay) throw new UsageError('--copy: a replay of recorded faults makes no copies');
  const wantedFault = fault === undefined ? null : parseNumber('fault', fault);
  const wantedCopy = copy === undefined ? null : parseNumber('copy', copy);
  const wantedPage = page === undefined ? null : parsePage(page);
  const names = flags.names === undefined ? null : branchNames(flags.names);
  const entry = await findCase(file, flags.scenario, flags.machine);
  sayNotes(entry);
  const progress = createProgress();
  const options: ExplainOptions = {
    traced: flags.traced ?? false,
    parameters: flags.param ?? {},
    replay,
    onProgress: (scenario, step) => progress.say(`${scenario.name}, step ${step} of ${scenario.steps.length}`),
  };
  const style = styleFor(process.stdout, names);
  const width = Math.min(process.stdout.columns ?? WIDTH_DEFAULT, WIDTH_MAX);
  const machines = loadMachines();
  let text: string;
  if (wantedFault !== null) {
    const result = explainFault(entry, wantedFault, machines, options);
    progress.clear();
    if (!result.ok) return failed(result);
    const { explanation } = result;
    text = json ? asJson(explanation, names) : faultExplanationText(explanation, style, width);
  } else if (wantedCopy !== null) {
    const result = explainCopy(entry, wantedCopy, machines, options);
    progress.clear();
    if (!result.ok) return failed(result);
    const { explanation } = result;
    text = json ? asJson(explanation, names) : copyExplanationText(explanation, style, width);
  } else {
    const result = explainPage(entry, wantedPage as PageName, machines, options);
    progress.clear();
    if (!result.ok) return failed(result);
    const { explanation } = result;
    text = json ? asJson(explanation, names) : pageExplanationText(explanation, style, width);
  }
  process.stdout.write(json || names === null ? text : text + names.footnote());
  return EXIT_OK;
}

function failed({ error, asked }: { error: string; asked: boolean }): number {
  if (asked) throw new UsageError(error);
  process.stderr.write(`${colorsFor(process.stderr).red('error:')} ${error}\n`);
  return EXIT_FAILED;
}
