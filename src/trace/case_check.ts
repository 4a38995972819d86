/**
 * A case, and the checked recording in it. Nothing here reads a file: a page in a browser checks recordings too.
 */
import { scenarioName } from '../scenario/scenario.ts';
import { checkEvents, type FaultEvent, type UvmEvent } from './event.ts';

/**
 * A line that holds a scenario, alone or inside a case. Nothing in it is checked yet: `run` reads the scenario alone
 * and must not fail over a recording that it does not read.
 */
export interface CaseLine {
  kind: 'case';
  line: number;
  scenario: unknown;
  /** Both absent where the line is a bare scenario. */
  recordedFromStep?: unknown;
  observed?: unknown;
  /** What was made of a recording so that it became a case, and what it lacks. */
  notes?: string[];
}

/** The checked recording of a case. */
export interface Recording<E> {
  /** Steps before it ran unrecorded. */
  fromStep: number;
  events: E[];
  /** Whether the events tell their steps; true where there are no events. */
  hasSteps: boolean;
  /** Microseconds per step (null where not recorded), or one number for the whole recorded part, or nothing. */
  wallMicroseconds: number | (number | null)[] | null;
}
export type RecordingResult<E> = { ok: true; recording: Recording<E> } | { ok: false; error: string };

function wallError(wall: unknown): string | null {
  if (wall === undefined || wall === null || Number.isFinite(wall)) return null;
  if (Array.isArray(wall) && wall.every((w) => w === null || Number.isFinite(w))) return null;
  return 'observed.wallMicroseconds: expected a number, or a list of numbers and nulls';
}

/**
 * Checks the recorded part of a case. With `faultsOnly` (what `replay` reads) no other event is looked at, and no
 * wall time, so that the result is the same whether or not they are there.
 */
export function checkRecording(entry: CaseLine, faultsOnly: true): RecordingResult<FaultEvent>;
export function checkRecording(entry: CaseLine, faultsOnly: boolean): RecordingResult<UvmEvent>;
export function checkRecording(entry: CaseLine, faultsOnly: boolean): RecordingResult<UvmEvent> {
  const { observed, recordedFromStep: from = 0 } = entry;
  const name = scenarioName(entry.scenario) ?? 'the scenario';
  if (typeof observed !== 'object' || observed === null) {
    const what = observed === undefined ? 'missing' : JSON.stringify(observed);
    return { ok: false, error: `observed: ${what}; expected an object with events (${name} has no recording)` };
  }
  if (!Number.isSafeInteger(from) || (from as number) < 0) {
    return { ok: false, error: `recordedFromStep: ${JSON.stringify(from)}; expected a step's index, from 0` };
  }
  const { events: json, wallMicroseconds: wall } = observed as { events?: unknown; wallMicroseconds?: unknown };
  const checked = checkEvents(json, 'observed.events', faultsOnly);
  if (!checked.ok) return checked;
  const wrongWall = faultsOnly ? null : wallError(wall);
  if (wrongWall !== null) return { ok: false, error: wrongWall };
  const events = checked.events;
  const hasSteps = events.every((e) => e.step !== undefined);
  const wallMicroseconds = faultsOnly ? null : ((wall ?? null) as Recording<UvmEvent>['wallMicroseconds']);
  return { ok: true, recording: { fromStep: from as number, events, hasSteps, wallMicroseconds } };
}
