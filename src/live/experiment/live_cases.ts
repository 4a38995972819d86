/** Scenarios run on this machine as recorded cases: what `validate` and a file of recordings take. */
import type { Machines } from '../../analysis/machines.ts';
import { parseScenario, scenarioName } from '../../scenario/scenario.ts';
import type { CaseLine } from '../../trace/case_check.ts';
import { type LiveRun, type LiveSession, runLive } from './live_session.ts';

export interface LiveCase {
  ok: true;
  entry: CaseLine;
  run: LiveRun;
}
export type LiveCaseResult = LiveCase | { ok: false; name: string | null; error: string };

/** Errors of this kind end one scenario; others are of the machine and end them all. */
const OF_ONE_SCENARIO = ['LiveStepError', 'ManagedLimitError', 'CudaError'];

/** Runs a scenario as it comes from a file. `line` is what the case is known by in messages. */
export async function liveCase(
  session: LiveSession,
  json: unknown,
  line: number,
  machines: Machines,
): Promise<LiveCaseResult> {
  const parsed = parseScenario(json, machines.known);
  if (!parsed.ok) return { ok: false, name: parsed.name, error: parsed.error };
  let run: LiveRun;
  try {
    run = await runLive(session, parsed.scenario);
  } catch (error) {
    const { name, message } = error as Error;
    if (!OF_ONE_SCENARIO.includes(name)) throw error;
    return { ok: false, name: scenarioName(json), error: message };
  }
  const { events, wallMicroseconds, dropped } = run;
  if (dropped.length > 0) {
    const lost = dropped.reduce((sum, [, count]) => sum + count, 0);
    return { ok: false, name: scenarioName(json), error: `${lost} events were lost: the queue was full` };
  }
  const observed = { wallMicroseconds, events };
  return { ok: true, entry: { kind: 'case', line, scenario: json as object, recordedFromStep: 0, observed }, run };
}
