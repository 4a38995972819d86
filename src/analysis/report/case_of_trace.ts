/** The faults of a trace as a case that the model replays, whatever the trace is of. */
import type { CaseLine } from '../../trace/case_check.ts';
import type { UvmEvent } from '../../trace/event.ts';
import { CASE_EVENTS_MAX, differingParameters } from '../../trace/recording_case.ts';
import { eventAt, type Trace } from '../../trace/store/trace_events.ts';
import { hasAllFaults } from '../../trace/store/trace_info.ts';

/** A scenario without steps, made of what a trace says about itself. */
function frameOf({ info }: Trace, machine: string, notes: string[]): Record<string, unknown> {
  return {
    name: info.name || 'trace',
    machine,
    parameters: differingParameters(info.parameters, notes),
    allocations: info.allocations.map(({ name, bytes, kind }) => ({ name, bytes, kind })),
  };
}

/** Steps that the model runs only by replaying the faults that were recorded of them. */
export function hasSteps(scenario: Record<string, unknown> | null): boolean {
  return Array.isArray(scenario?.['steps']) && scenario['steps'].length > 0;
}

/**
 * The case, or why there is none. All columns of events must be loaded. `machine` takes the place of the trace's.
 */
export function caseOfTrace(
  trace: Trace,
  machine: string | undefined,
  eventsMax = CASE_EVENTS_MAX,
): { ok: true; entry: CaseLine } | { ok: false; why: string } {
  const { info, columns } = trace;
  const { numbers } = columns.words.kind;
  const faults = [numbers.get('gpuFault') ?? -1, numbers.get('cpuFault') ?? -1];
  if (!hasAllFaults(info.source)) {
    return { ok: false, why: 'the trace has one fault of each batch alone, so its faults cannot be replayed' };
  }
  const profile = machine ?? info.machine;
  if (profile === null) {
    return { ok: false, why: 'no machine profile belongs to the processors of the trace: name one with --machine' };
  }
  // Known before any row becomes an object: there are too many for that then.
  if (columns.count > eventsMax) return { ok: false, why: 'the trace has too many events to be replayed' };
  const events: UvmEvent[] = [];
  for (let row = 0; row < columns.count; row++) {
    if (!faults.includes(columns.arrays.kind[row])) continue;
    events.push(eventAt(columns, row) as UvmEvent);
  }
  const notes: string[] = [];
  const scenario = hasSteps(info.scenario) ? { ...info.scenario, machine: profile } : frameOf(trace, profile, notes);
  const observed = { events, wallMicroseconds: null };
  return { ok: true, entry: { kind: 'case', line: 1, scenario, recordedFromStep: info.fromStep, observed, notes } };
}
