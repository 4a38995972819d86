/** What a trace is of: the JSON document in the metadata of its file, and its shape. */
import { z } from 'zod';
import { TRACE_FORMAT } from './trace_schema.ts';

const text = (what: string) => z.string({ error: what });
const orNull = (what: string) => z.string({ error: `${what}, or null` }).nullable();
const whole = z.int({ error: 'a whole number from 0' }).min(0, { error: 'a whole number from 0' });
const number = z.number({ error: 'a number' });
const counts = (what: string) => z.record(z.string(), whole, { error: what });

/** What can be the origin of a trace. */
export const TRACE_SOURCES = ['run', 'replay', 'case', 'recording', 'lines', 'nsys'] as const;

export const TRACE_INFO_SHAPE = z.looseObject({
  format: z.literal(TRACE_FORMAT, { error: `${TRACE_FORMAT}, the format that this version reads` }),
  /** Of the scenario or the recording. */
  name: text('a name'),
  /**
   * `run` and `replay`: by the model, in virtual time; `case`: the recorded events of a ground-truth case; `recording`:
   * a program, by the recorder; `lines`: event lines of unknown origin; `nsys`: an export of Nsight Systems.
   */
  source: z.enum(TRACE_SOURCES, { error: `one of ${TRACE_SOURCES.join(', ')}` }),
  uvmlab: text('the version of uvmlab'),
  /** Version of the driver: recorded, or modelled. */
  driver: orNull('the version of the driver'),
  /** Name of a machine profile. */
  machine: orNull('the name of a machine profile'),
  processors: z.array(
    z.looseObject({ word: text('a processor'), name: text('a name').optional(), uuid: text('a uuid').optional() }),
    { error: 'a list of processors' },
  ),
  /** The driver's module parameters: those known to differ from their defaults, or all that a recording has. */
  parameters: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()]), { error: 'module parameters' }),
  allocations: z.array(
    z.looseObject({
      name: text('a name'),
      bytes: whole,
      kind: z.enum(['managed', 'host'], { error: 'managed or host' }),
      /** Hexadecimal, of the first byte; null where it is not known. */
      address: orNull('an address in hexadecimal'),
    }),
    { error: 'a list of allocations' },
  ),
  /** The scenario as its file has it, or null. */
  scenario: z.record(z.string(), z.unknown()).nullable(),
  /** Steps before it left no events. */
  fromStep: whole,
  /** Microseconds for each step (null where not known), one number for all of them, or null. */
  wallMicroseconds: z.union([number, z.array(number.nullable())]).nullable(),
  /** Begin and end of each step by the clock of `time`, where they are known. */
  steps: z.array(z.looseObject({ step: whole, begin: number, end: number })).nullable(),
  /** Whether the events tell their step, and their buffer; a trace of one allocation does not need to. */
  hasSteps: z.boolean(),
  hasBuffers: z.boolean(),
  /** What the clock of `time` is: `virtual`, or a recorder's. */
  clock: text('the name of a clock'),
  /** True where the driver was traced, or its costs were those of a traced one. */
  traced: z.boolean(),
  /** Events lost while recording, by kind; and events left out since there are no words for them, by reason. */
  dropped: counts('counts of lost events'),
  leftOut: counts('counts of events left out'),
  /** Records of the copy routine (docs/copy-routine.md). */
  copies: z.array(z.record(z.string(), z.unknown())),
  /**
   * Code whose accesses of the CPU faulted, by allocation, most faults first, where a trace tells it: the function, its
   * module, source file and line; '' and 0 for what is not known.
   */
  cpuFaultSites: z
    .array(
      z.looseObject({
        allocation: text('an allocation'),
        function: text('a function'),
        module: text('a module'),
        file: text('a file'),
        line: whole,
        faults: whole,
      }),
      { error: 'a list of places in code' },
    )
    .default(() => []),
  /**
   * Kernels during which batches of GPU faults began, by allocation of the first fault, those that took longest first,
   * where a trace tells it. `kernel` is '' for no kernel (a copy into managed memory faults, too); `launches` are those
   * with such batches.
   */
  gpuFaultKernels: z
    .array(
      z.looseObject({
        allocation: text('an allocation'),
        gpu: text('a GPU'),
        kernel: text('a kernel'),
        launches: whole,
        batches: whole,
        microseconds: number,
      }),
      { error: 'a list of kernels' },
    )
    .default(() => []),
  /** What a reader should know: what a recording cannot tell, how it began and ended. */
  notes: z.array(z.string()),
  /** Of a recording: the command line, and why it ended. */
  command: z.array(z.string()).nullable(),
  ended: orNull('why it ended'),
});
export type TraceInfo = z.infer<typeof TRACE_INFO_SHAPE>;

/** False where a trace has one fault of each batch alone (docs/nsys.md). */
export function hasAllFaults(source: TraceInfo['source']): boolean {
  return source !== 'nsys';
}

/** A trace of `name` of which nothing else is known. */
export function emptyTraceInfo(name: string, source: TraceInfo['source'], uvmlab: string): TraceInfo {
  return {
    format: TRACE_FORMAT,
    name,
    source,
    uvmlab,
    driver: null,
    machine: null,
    processors: [],
    parameters: {},
    allocations: [],
    scenario: null,
    fromStep: 0,
    wallMicroseconds: null,
    steps: null,
    hasSteps: false,
    hasBuffers: false,
    clock: 'virtual',
    traced: true,
    dropped: {},
    leftOut: {},
    copies: [],
    cpuFaultSites: [],
    gpuFaultKernels: [],
    notes: [],
    command: null,
    ended: null,
  };
}

/** False for JSON that is nested so deep that it can be read and not written again. */
export function canBeWritten(json: unknown): boolean {
  try {
    JSON.stringify(json);
    return true;
  } catch {
    return false;
  }
}
