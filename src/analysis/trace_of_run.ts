/** A run of the model as a trace. Nothing here knows Node: a page runs the model too. */
import { PAGE_SIZE } from '../base/units.ts';
import { MODULE_PARAMETERS, type ParameterName } from '../model/uvm/params.ts';
import { processorWords } from '../scenario/machine.ts';
import type { Run } from '../scenario/runner.ts';
import { copyEntries } from '../trace/copies.ts';
import { eventAt } from '../trace/log_events.ts';
import type { PushLog } from '../trace/push_log.ts';
import { createTraceColumns } from '../trace/store/trace_columns.ts';
import { appendEvent, appendPush, type Trace } from '../trace/store/trace_events.ts';
import { emptyTraceInfo, type TraceInfo } from '../trace/store/trace_info.ts';

/** The driver that is modelled. */
export const MODELLED_DRIVER = '580.105.08';

export interface TraceOfRunOptions {
  source: 'run' | 'replay';
  /** The version of uvmlab. */
  uvmlab: string;
  /** The scenario as its file has it. */
  scenario: unknown;
  /** The log that watched the run; without it the trace has no pushes. */
  pushLog?: PushLog | null;
  notes?: readonly string[];
  /** Of a replay: steps before it were not recorded. */
  fromStep?: number;
}

/** The parameters in force that are not the driver's defaults. */
function parametersOf({ m }: Run): TraceInfo['parameters'] {
  const differing: TraceInfo['parameters'] = {};
  for (const name of Object.keys(MODULE_PARAMETERS) as ParameterName[]) {
    const value = m.params[name];
    if (value !== MODULE_PARAMETERS[name].default) differing[name] = value;
  }
  return differing;
}

function infoOf(run: Run, options: TraceOfRunOptions): TraceInfo {
  const { scenario, state, m } = run;
  const json = options.scenario;
  const steps = state.wall.map((wall, step) => {
    const begin = state.begins[step];
    return { step, begin, end: begin + Math.round(wall * 1000) };
  });
  return {
    ...emptyTraceInfo(scenario.name, options.source, options.uvmlab),
    driver: MODELLED_DRIVER,
    machine: scenario.machine,
    processors: processorWords(scenario.gpus).map((word) => ({ word })),
    parameters: parametersOf(run),
    allocations: scenario.allocations.map(({ name, bytes, kind, firstPage }) => ({
      name,
      bytes,
      kind,
      address: (firstPage * PAGE_SIZE).toString(16),
    })),
    scenario: typeof json === 'object' && json !== null ? (json as Record<string, unknown>) : null,
    fromStep: options.fromStep ?? 0,
    wallMicroseconds: [...state.wall],
    steps,
    hasSteps: true,
    hasBuffers: scenario.allocations.length > 1,
    traced: m.tools.traced,
    // As a file would have them: the records are made of plain values.
    copies: JSON.parse(JSON.stringify(copyEntries(m, scenario.allocations))),
    notes: [...(options.notes ?? [])],
  };
}

/**
 * The trace of a run at its end: its events in the order in which the driver's queue would hold them, and each push
 * behind the events that were there when it was submitted.
 */
export function traceOfRun(run: Run, options: TraceOfRunOptions): Trace {
  const { log } = run.m.tools;
  const pushes = options.pushLog ?? null;
  const pushCount = pushes?.entries.length ?? 0;
  const columns = createTraceColumns({ pushes: pushes !== null, capacity: log.count + pushCount });
  let push = 0;
  for (let i = 0; i <= log.count; i++) {
    while (pushes !== null && push < pushCount && pushes.eventsBefore[push] <= i) {
      appendPush(columns, pushes.entries[push]);
      push++;
    }
    if (i < log.count) appendEvent(columns, eventAt(log, i, run.scenario.allocations));
  }
  return { info: infoOf(run, options), columns };
}
