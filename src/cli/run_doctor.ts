/** What the command `doctor` does. */
import { wrap } from '../analysis/explain_layout.ts';
import { diagnose, hindrances } from '../live/doctor/doctor.ts';
import type { Finding, FindingState } from '../live/doctor/finding.ts';
import { type FactsFrom, gatherFacts } from '../live/doctor/machine_facts.ts';
import { EXIT_FAILED, EXIT_OK, UsageError } from './command.ts';
import type { DoctorFlags } from './doctor.ts';
import { type Colors, colorsFor, counted, table } from './text.ts';

const PID_MAX = 2 ** 31 - 1;
const WIDTH_MIN = 80;

function processId(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const pid = /^\d{1,10}$/.test(text) ? Number(text) : 0;
  if (pid < 1 || pid > PID_MAX) throw new UsageError(`--pid ${text}: expected a number from 1 to ${PID_MAX}`);
  return pid;
}

/** A line for each finding, with its rule and what to do below it; a topic is named once. */
export function findingsText(findings: readonly Finding[], width: number, colors: Colors): string {
  const paint: Record<FindingState, (text: string) => string> = {
    ok: colors.green,
    limited: colors.yellow,
    missing: colors.red,
    unknown: colors.yellow,
  };
  const topicWidth = Math.max(...findings.map(({ topic }) => topic.length));
  const room = Math.max(width, WIDTH_MIN) - topicWidth - 'unknown'.length - 4;
  const rows: string[][] = [];
  let before = '';
  for (const [at, { topic, state, what, rule, todo }] of findings.entries()) {
    const next = findings[at + 1];
    // What is to be done for several findings of a topic stands below the last of them.
    const again = next?.topic === topic && next.todo === todo;
    const lines = wrap(what, room);
    if (rule !== undefined) lines.push(...wrap(`${colors.dim('rule:')} ${rule}`, room));
    if (todo !== undefined && !again) lines.push(...wrap(`${colors.bold('do:')} ${todo}`, room));
    for (const [i, line] of lines.entries()) {
      rows.push([i === 0 && topic !== before ? topic : '', i === 0 ? paint[state](state) : '', line]);
    }
    before = topic;
  }
  return table(rows, 'lll');
}

function verdictText(bad: readonly Finding[], pid: number | undefined, colors: Colors): string {
  const target = pid === undefined ? '-- COMMAND' : `--pid ${pid}`;
  if (bad.length === 0) return `${colors.green('Everything that recording needs is there')}: uvmlab record ${target}\n`;
  const topics = [...new Set(bad.map(({ topic }) => topic))].join(', ');
  const things = counted(bad.length, 'thing is', 'things are');
  return `${colors.red(`For recording (uvmlab record ${target}), ${things} missing or unknown`)}: ${topics}\n`;
}

/** Prints what the machine offers and returns the exit code. Throws UsageError. */
export async function runDoctor(flags: DoctorFlags, from: FactsFrom = {}): Promise<number> {
  const pid = processId(flags.pid);
  const facts = await gatherFacts({ ...from, pid });
  const findings = diagnose(facts);
  const bad = hindrances(findings);
  if (flags.json) {
    process.stdout.write(`${JSON.stringify({ recording: bad.length === 0, findings, facts }, null, 2)}\n`);
  } else {
    const colors = colorsFor(process.stdout);
    const text = findingsText(findings, (process.stdout.columns || 120) - 1, colors);
    process.stdout.write(`${text}\n${verdictText(bad, pid, colors)}`);
  }
  return bad.length === 0 ? EXIT_OK : EXIT_FAILED;
}
