/** Traces of random scenarios, run on the model, with their pushes. */
import { executeRun } from '../../src/analysis/execute.ts';
import { loadMachines, packageVersion } from '../../src/analysis/machines.ts';
import { traceOfRun } from '../../src/analysis/trace_of_run.ts';
import { randomScenario } from '../../src/scenario/random_scenario.ts';
import { createPushLog, type PushLog } from '../../src/trace/push_log.ts';
import type { Trace } from '../../src/trace/store/trace_events.ts';

/** One GPU for even seeds, two for odd ones. */
export function modelTrace(seed: number): Trace {
  const machine = seed % 2 === 0 ? 'h200-pcie5' : '2xh200-nvlink';
  const scenario = randomScenario(seed, { machine, gpus: seed % 2 === 0 ? 1 : 2 });
  let pushLog: PushLog = createPushLog();
  const result = executeRun(scenario, loadMachines(), {
    onRun: (run) => {
      pushLog = createPushLog();
      run.m.res.pushWatch = pushLog.watch;
    },
  });
  if (!result.ok) throw new Error(result.error);
  return traceOfRun(result.run, { source: 'run', uvmlab: packageVersion(), scenario, pushLog });
}
