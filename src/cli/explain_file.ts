/** What the command `explain` does. */
import { type ExplainOptions, explainFault } from '../analysis/explain.ts';
import type { TextStyle } from '../analysis/explain_layout.ts';
import { explainPage, type PageName } from '../analysis/explain_page.ts';
import { pageExplanationText } from '../analysis/explain_page_text.ts';
import { faultExplanationText } from '../analysis/explain_text.ts';
import { loadMachines } from '../analysis/machines.ts';
import { scenarioName } from '../scenario/scenario.ts';
import type { CaseLine } from '../trace/case_file.ts';
import { type BranchNames, branchNames } from './branch_names.ts';
import { createProgress, EXIT_FAILED, EXIT_OK, UsageError } from './command.ts';
import type { ExplainFlags } from './explain.ts';
import { readInputs } from './inputs.ts';
import { colorsFor } from './text.ts';

const NAMES_SHOWN = 12;
/** Columns where the output is no terminal, and the most that lines take on one. */
const WIDTH_DEFAULT = 120;
const WIDTH_MAX = 160;

function namesText(names: readonly string[]): string {
  const rest = names.length - NAMES_SHOWN;
  return names.slice(0, NAMES_SHOWN).join(', ') + (rest > 0 ? ` and ${rest} more` : '');
}

/** The case with the name, or the only one. A bad line matters only when the case is not found. */
async function findCase(file: string, name: string | undefined): Promise<CaseLine> {
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

function parseFault(text: string): number {
  const number = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(number)) throw new UsageError(`--fault ${text}: expected a whole number from 1`);
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
  const { fault, page, json = false } = flags;
  if ((fault === undefined) === (page === undefined)) {
    throw new UsageError(
      `explain needs --fault N or --page BUFFER:INDEX${fault === undefined ? '' : ', and takes one of them'}`,
    );
  }
  const wantedFault = fault === undefined ? null : parseFault(fault);
  const wantedPage = page === undefined ? null : parsePage(page);
  const names = flags.names === undefined ? null : branchNames(flags.names);
  const entry = await findCase(file, flags.scenario);
  const progress = createProgress();
  const options: ExplainOptions = {
    traced: flags.traced ?? false,
    parameters: flags.param ?? {},
    replay: flags.replay ?? false,
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
