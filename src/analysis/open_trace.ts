/**
 * Opening anything as a trace: a trace (`.parquet`), a recording (`.uvmrec`), lines of cases, of results or of events
 * (`.jsonl`, `.jsonl.gz`), a scenario (`.json`), which is run on the model.
 */
import { basename } from 'node:path';
import { parseScenario, type Scenario, scenarioName } from '../scenario/scenario.ts';
import { type CaseLine, checkRecording } from '../trace/case_check.ts';
import { entryOf, readJson } from '../trace/case_file.ts';
import { createPushLog, type PushLog } from '../trace/push_log.ts';
import { RECORDING_SUFFIX } from '../trace/recording_file.ts';
import { createRecordingTrace } from '../trace/recording_trace.ts';
import { createTraceColumns } from '../trace/store/trace_columns.ts';
import type { Trace } from '../trace/store/trace_events.ts';
import { TraceFileError } from '../trace/store/trace_file_error.ts';
import { canBeWritten, type TraceInfo } from '../trace/store/trace_info.ts';
import { readTrace } from '../trace/store/trace_reader.ts';
import { type ColumnKey, TRACE_SUFFIX } from '../trace/store/trace_schema.ts';
import {
  addEvent,
  beginsTraceLines,
  createTraceLines,
  type Fields,
  infoOfEvents,
  isObject,
  type TraceLines,
} from '../trace/trace_lines.ts';
import { executeRun } from './execute.ts';
import { loadMachines, type Machines, packageVersion } from './machines.ts';
import { TRACE_INPUTS } from './trace_inputs.ts';
import { traceOfRun } from './trace_of_run.ts';

export interface OpenTraceOptions {
  /** Which line of a file, by the name of its scenario. */
  scenario?: string;
  /** The machine profile of a recording that does not tell it. */
  machine?: string;
  /** Only these columns of a file of a trace. */
  columns?: readonly ColumnKey[];
  /** Of a scenario that is run: predict a traced program, with these module parameters over its own. */
  traced?: boolean;
  parameters?: Readonly<Record<string, number | string>>;
  onProgress?: (scenario: Scenario, stepsDone: number) => void;
}

let loaded: Machines | null = null;

/** The package's machine profiles, read once. */
function machines(): Machines {
  loaded ??= loadMachines();
  return loaded;
}

const NSYS_SUFFIX = '.sqlite';
const NSYS_REPORT = '.nsys-rep';
const NAMES_SHOWN = 12;

function fail(place: string, what: string): never {
  throw new TraceFileError(`${place}: ${what}`);
}

/** The recorded events of a ground-truth case. */
function traceOfCase(place: string, entry: CaseLine): Trace {
  const checked = checkRecording(entry, false);
  if (!checked.ok) return fail(place, checked.error);
  const parsed = parseScenario(entry.scenario, machines().known, { stepsOptional: true });
  if (!parsed.ok) return fail(place, parsed.error);
  const { scenario } = parsed;
  const { events, fromStep, hasSteps, wallMicroseconds } = checked.recording;
  const columns = createTraceColumns({ capacity: events.length });
  for (const [i, event] of events.entries()) {
    const error = addEvent(columns, event);
    if (error !== null) fail(place, `observed.events[${i}]: ${error}`);
  }
  const known = infoOfEvents(columns, scenario.name, packageVersion());
  const info: TraceInfo = {
    ...known,
    source: 'case',
    machine: scenario.machine,
    parameters: scenario.parameters,
    allocations: scenario.allocations.map(({ name, bytes, kind }) => ({ name, bytes, kind, address: null })),
    scenario: entry.scenario as Fields,
    fromStep,
    wallMicroseconds,
    hasSteps,
    clock: 'recorded',
    notes: [],
  };
  return { info, columns };
}

const RESULT_FIELDS = ['wallMicroseconds', 'copies', 'notes'] as const;

/** A line that `run --events` or `replay --events` wrote. */
function traceOfResult(place: string, value: Fields): Trace {
  const name = value['scenario'] as string;
  if (typeof value['error'] === 'string') fail(place, `${name} did not run: ${value['error']}`);
  const events = value['events'];
  if (!Array.isArray(events)) return fail(place, 'events: expected a list of events, as --events writes it');
  const columns = createTraceColumns({ capacity: events.length });
  for (const [i, event] of events.entries()) {
    const error = addEvent(columns, event);
    if (error !== null) fail(place, `events[${i}]${/^\w+: /.test(error) ? '.' : ': '}${error}`);
  }
  const info = infoOfEvents(columns, name, packageVersion());
  const [wall, copies = [], notes = []] = RESULT_FIELDS.map((field) => value[field]);
  const numbers = Array.isArray(wall) && wall.every((one) => one === null || Number.isFinite(one));
  if (wall !== undefined && !numbers) fail(place, 'wallMicroseconds: expected a list of numbers and nulls');
  if (!Array.isArray(copies) || !copies.every(isObject) || !canBeWritten(copies)) {
    fail(place, 'copies: expected a list of records');
  }
  if (!Array.isArray(notes) || !notes.every((note) => typeof note === 'string')) fail(place, 'notes: expected texts');
  return {
    info: {
      ...info,
      clock: 'virtual',
      wallMicroseconds: numbers ? (wall as (number | null)[]) : null,
      copies: copies as Fields[],
      notes: [...info.notes, ...(notes as string[])],
    },
    columns,
  };
}

function runScenario(place: string, json: unknown, options: OpenTraceOptions): Trace {
  let pushLog: PushLog | null = null;
  const { traced, parameters, onProgress } = options;
  const result = executeRun(json, machines(), {
    ...(traced === undefined ? {} : { traced }),
    ...(parameters === undefined ? {} : { parameters }),
    ...(onProgress === undefined ? {} : { onProgress }),
    onRun: (run) => {
      pushLog = createPushLog();
      run.m.res.pushWatch = pushLog.watch;
    },
  });
  if (!result.ok) return fail(place, result.error);
  const { run, notes } = result;
  return traceOfRun(run, { source: 'run', uvmlab: packageVersion(), scenario: json, pushLog, notes });
}

/** What a line is called, or null where it is nothing that has a name. */
function nameOf(value: unknown): string | null {
  if (!isObject(value)) return null;
  const { scenario } = value;
  if (typeof scenario === 'string') return scenario;
  return scenarioName(scenario === undefined ? value : scenario);
}

function traceOfValue(place: string, value: unknown, line: number, options: OpenTraceOptions): Trace {
  if (isObject(value) && typeof value['scenario'] === 'string') return traceOfResult(place, value);
  const entry = entryOf(value, line);
  if (entry.kind === 'error') return fail(place, entry.error);
  return entry.observed === undefined ? runScenario(place, entry.scenario, options) : traceOfCase(place, entry);
}

function namesText(names: readonly string[]): string {
  const rest = names.length - NAMES_SHOWN;
  return names.slice(0, NAMES_SHOWN).join(', ') + (rest > 0 ? ` and ${rest} more` : '');
}

interface Chosen {
  value: unknown;
  line: number;
}

/** A name that was asked for, and is not that of the only trace of a file. */
function checkName(path: string, name: string, { scenario }: OpenTraceOptions): void {
  if (scenario !== undefined && scenario !== name) fail(path, `has no scenario ${scenario}; valid: ${name}`);
}

async function openJson(path: string, options: OpenTraceOptions): Promise<Trace> {
  const { scenario } = options;
  const placeOf = (line: number): string => (path.endsWith('.json') ? path : `${path}:${line}`);
  const names: string[] = [];
  let bad: string | null = null;
  let chosen: Chosen | null = null;
  let lines: TraceLines | null = null;
  for await (const entry of readJson(path)) {
    const { line } = entry;
    if (entry.kind === 'error') {
      if (lines !== null) fail(placeOf(line), entry.error);
      bad ??= `${placeOf(line)}: ${entry.error}`;
      continue;
    }
    if (lines === null && names.length === 0 && bad === null && beginsTraceLines(entry.value)) {
      lines = createTraceLines(basename(path).replace(/\.jsonl?(\.gz)?$/, ''), packageVersion());
    }
    if (lines !== null) {
      const error = lines.add(entry.value);
      if (error !== null) fail(placeOf(line), error);
      continue;
    }
    const name = nameOf(entry.value) ?? `(line ${line}, without a name)`;
    names.push(name);
    if (scenario === undefined ? names.length === 1 : chosen === null && name === scenario) chosen = entry;
    if (scenario !== undefined && chosen !== null) break;
  }
  if (lines !== null) {
    checkName(path, lines.name(), options);
    return lines.trace();
  }
  const besides = bad === null ? '' : `; besides, ${bad}`;
  if (names.length === 0) throw new TraceFileError(bad ?? `${path}: holds no scenario, no case and no events`);
  if (chosen === null) return fail(path, `has no scenario ${scenario}; valid: ${namesText(names)}${besides}`);
  if (scenario === undefined && (names.length > 1 || bad !== null)) {
    fail(path, `holds ${names.length} scenarios; name one with --scenario: ${namesText(names)}${besides}`);
  }
  return traceOfValue(placeOf(chosen.line), chosen.value, chosen.line, options);
}

/**
 * A file as a trace. Rejects with TraceFileError, RecordingFileError or CaseFileError, whose messages begin with the
 * file and name the place, for a file that cannot be read or used, and for one of several scenarios of which none, or
 * none of that name, was asked for.
 */
export async function openTrace(path: string, options: OpenTraceOptions = {}): Promise<Trace> {
  if (path.endsWith(TRACE_SUFFIX)) {
    const trace = await readTrace(path, options.columns === undefined ? {} : { keys: options.columns });
    checkName(path, trace.info.name, options);
    return trace;
  }
  const { machine } = options;
  const which = {
    ...{ uvmlab: packageVersion(), machines: machines().known },
    ...(machine === undefined ? {} : { machine }),
  };
  if (path.endsWith(RECORDING_SUFFIX)) {
    const trace = await createRecordingTrace(path, which);
    checkName(path, trace.info.name, options);
    return trace;
  }
  if (path.endsWith(NSYS_SUFFIX)) {
    const { importNsys } = await import('../trace/import/nsys.ts');
    const trace = await importNsys(path, which);
    checkName(path, trace.info.name, options);
    return trace;
  }
  if (path.endsWith(NSYS_REPORT)) {
    fail(path, `a report of Nsight Systems is read as its export: nsys export --type sqlite ${path}`);
  }
  if (/\.jsonl?$|\.jsonl\.gz$/.test(path)) return openJson(path, options);
  return fail(path, `unknown kind of file; its name must end in ${TRACE_INPUTS}`);
}
