/** Runs of the model in a page: a scenario goes in as text, and comes out as a trace of the engine. */
import { executeRun } from '../analysis/execute.ts';
import type { Machines } from '../analysis/machines.ts';
import { traceOfRun } from '../analysis/trace_of_run.ts';
import { type Profile, parseProfile } from '../scenario/profile.ts';
import { createPushLog, type PushLog } from '../trace/push_log.ts';
import { createEngine, type Engine } from './engine.ts';

export interface Live extends Engine {
  /** The trace's id. Rejects with what is wrong with the scenario. */
  start(scenario: string, onProgress?: (done: number, steps: number) => void): Promise<string>;
}

/** Machines from profiles as their files have them, by name. */
export function machinesOf(profiles: Readonly<Record<string, unknown>>): Machines {
  const known = Object.fromEntries(
    Object.entries(profiles).map(([name, json]) => {
      const gpus = (json as { machine?: { gpus?: unknown } } | null)?.machine?.gpus;
      return [name, { gpus: Number(gpus ?? 0) }];
    }),
  );
  const parsed = new Map<string, Profile>();
  return {
    known,
    profile: (name) => {
      const profile = parsed.get(name) ?? parseProfile(profiles[name]);
      parsed.set(name, profile);
      return profile;
    },
  };
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new RangeError(`the scenario is not JSON: ${(error as Error).message}`);
  }
}

/** `uvmlab` is the version that traces name. */
export function createLive(machines: Machines, uvmlab: string): Live {
  const engine = createEngine({ machines });
  let runs = 0;
  const start: Live['start'] = async (text, onProgress) => {
    const json = parse(text);
    let pushLog: PushLog | null = null;
    const result = executeRun(json, machines, {
      onRun: (run) => {
        pushLog = createPushLog();
        run.m.res.pushWatch = pushLog.watch;
      },
      onProgress: (scenario, done) => onProgress?.(done, scenario.steps.length),
    });
    if (!result.ok) throw new RangeError(result.error);
    const { run, notes } = result;
    const trace = traceOfRun(run, { source: 'run', uvmlab, scenario: json, pushLog, notes });
    const id = `run-${++runs}`;
    engine.add(id, `${run.scenario.name}, run ${runs}`, trace);
    return id;
  };
  return { ...engine, start };
}
