/**
 * The facts of `tour`: one live run of the model, and what it showed at each item of the notes that uvmlab began with.
 * Everything here is read off the run; the text around it is in src/cli/tour_text.ts and its neighbours. Times are
 * nanoseconds of the run.
 */
import { PAGE_SIZE } from '../base/units.ts';
import { nvKthreadQInitOnNode } from '../model/kernel/nv_kthread_q.ts';
import { EVENT_GPU_FAULT } from '../model/uvm/tools.ts';
import { advanceRun, type Run } from '../scenario/runner.ts';
import { type AccessStep, accessCount, parseScenario, type Scenario } from '../scenario/scenario.ts';
import { createSession } from '../scenario/session.ts';
import type { UvmEvent } from '../trace/event.ts';
import { logEvents } from '../trace/log_events.ts';
import { explainFault, type FaultExplanation } from './explain.ts';
import type { Machines } from './machines.ts';
import {
  type ChannelRow,
  channelRows,
  type PushLife,
  pushLives,
  type WrappedPush,
  wrappedPush,
} from './tour_channels.ts';
import { type CopyRun, type CopyWindow, copyRun, copyWindow } from './tour_copy.ts';
import { type Frame, type PageState, readPage, TourRecorder } from './tour_recorder.ts';
import { type Routine, routineOf, type SetUp, setUpOf } from './tour_routine.ts';

/** Address A of the notes: a page that is neither the first of its buffer nor of its 64 KiB. */
export const TOUR_PAGE = 5;
const BYTES = 2097152;
const A = TOUR_PAGE * PAGE_SIZE;

/** The story of the notes: A is written by the CPU, taken by the GPU's own access, copied, and read by the CPU. */
export const TOUR_SCENARIO = {
  name: 'tour',
  machine: 'h200-pcie5',
  allocations: [
    { name: 'a', bytes: BYTES },
    { name: 'h', bytes: BYTES, kind: 'host' },
  ],
  steps: [
    { on: 'cpu', do: 'write', buffer: 'a', offset: 0, length: BYTES / 2, stride: PAGE_SIZE, value: 42 },
    { on: 'gpu0', do: 'write', buffer: 'a', pages: [TOUR_PAGE], value: 7 },
    { do: 'memcpy', from: 'a', to: 'h', offset: A, length: PAGE_SIZE },
    { on: 'cpu', do: 'read', buffer: 'a', pages: [TOUR_PAGE] },
  ],
} as const;

/** The step with the GPU's access. */
const GPU_STEP = 1;
const EXPLICIT_STEP = 2;

/** Threads that a queue took to get its stack on the wanted node, on a machine where it lands elsewhere first. */
export interface NodeTrial {
  wanted: number;
  /** Node of each thread's stack, in order of creation. */
  landed: number[];
  kept: number;
}

export interface ExplicitCopy {
  bytes: number;
  /** Predicted, ns. */
  duration: number;
  /** Tools events of the step. */
  events: number;
  before: PageState;
  after: PageState;
}

export interface Migration {
  cause: string;
  src: string;
  dst: string;
  /** Pages of the buffer. */
  first: number;
  count: number;
  bytes: number;
}

export interface Tour {
  driver: string;
  scenario: typeof TOUR_SCENARIO;
  page: number;
  /** When the fault's entry came into the fault buffer: the zero of the times in the text. */
  zero: number;
  /** 1: from the thread's main loop down to the residency decision, and the decision. */
  stack: Frame[];
  /** The fault as `explain` tells it. */
  fault: FaultExplanation;
  /** 2 */
  setUp: SetUp;
  nodeTrial: NodeTrial;
  routine: Routine;
  /** 3: before the GPU's access, while its fault is served, after it, and after the CPU took the page back. */
  oneCopy: { before: PageState; between: PageState; after: PageState; back: PageState; migrations: Migration[] };
  /** 4 */
  copyRun: CopyRun;
  copyWindow: CopyWindow;
  /** 5 */
  explicit: ExplicitCopy;
  /** 6, at the end of the run */
  channels: ChannelRow[];
  /** 7 */
  pushes: PushLife[];
  wrapped: WrappedPush;
}

function tourScenario(machines: Machines): Scenario {
  const parsed = parseScenario(TOUR_SCENARIO, machines.known);
  if (!parsed.ok) throw new Error(`the scenario of the tour: ${parsed.error}`);
  return parsed.scenario;
}

/** A run of the tour's scenario that has not begun. */
export function tourRun(machines: Machines, recorder: TourRecorder | null, firstTrackingValue = 0): Run {
  const scenario = tourScenario(machines);
  const session = createSession(scenario, machines.profile(scenario.machine), {
    contents: true,
    why: recorder,
    firstTrackingValue,
  });
  if (!session.ok) throw new Error(`the tour: ${session.error}`);
  return session.run;
}

/** Runs one more step. */
export function tourStep(run: Run): void {
  const step = run.scenario.steps[run.state.step];
  const touches = step.do === 'read' || step.do === 'write' ? accessCount(step as AccessStep) : 1;
  advanceRun(run, touches);
  if (run.state.error !== null) throw new Error(`the tour: ${run.state.error}`);
}

function nodeTrial(machines: Machines): NodeTrial {
  const { m } = tourRun(machines, null);
  const wanted = 1;
  const nodes = [0, 0, 1];
  const landed: number[] = [];
  const queue = nvKthreadQInitOnNode(m, 'node trial', wanted, (attempt) => {
    landed.push(nodes[attempt]);
    return nodes[attempt];
  });
  return { wanted, landed, kept: m.k.queues[queue].stackNode };
}

function migrationsOf(events: readonly UvmEvent[]): Migration[] {
  return events
    .filter((event) => event.event === 'migration')
    .filter((event) => event.step === GPU_STEP)
    .map(({ cause, src, dst, offset, bytes }) => ({
      cause,
      src,
      dst,
      first: offset / PAGE_SIZE,
      count: bytes / PAGE_SIZE,
      bytes,
    }));
}

/** Number of the GPU's fault among all faults, from 1, as `explain` counts them. */
function gpuFaultNumber(run: Run): number {
  const { log } = run.m.tools;
  const at = log.kind.indexOf(EVENT_GPU_FAULT);
  return logEvents(run.m, run.scenario.allocations)
    .slice(0, at + 1)
    .filter((event) => event.event === 'cpuFault' || event.event === 'gpuFault').length;
}

function explained(machines: Machines, number: number): FaultExplanation {
  const entry = { kind: 'case' as const, line: 1, scenario: TOUR_SCENARIO };
  const result = explainFault(entry, number, machines, { contents: true });
  if (!result.ok) throw new Error(`the tour: ${result.error}`);
  return result.explanation;
}

/** Runs the model and collects what the tour shows. Throws an Error where the run is not the one it is written for. */
export function collectTour(machines: Machines): Tour {
  const recorder = new TourRecorder();
  const run = tourRun(machines, recorder);
  const { m } = run;
  const page = run.scenario.allocations[0].firstPage + TOUR_PAGE;
  recorder.attach(m, page);
  const setUp = setUpOf(m, recorder.setup);
  tourStep(run);
  const before = readPage(m, page);
  recorder.watch(true);
  tourStep(run);
  recorder.watch(false);
  const after = readPage(m, page);
  const lives = pushLives(m, recorder.pushed);
  tourStep(run);
  const copied = readPage(m, page);
  tourStep(run);
  const events = logEvents(m, run.scenario.allocations);
  const fault = explained(machines, gpuFaultNumber(run));
  if (recorder.unmapped === null) throw new Error('the tour: nothing was mapped');
  return {
    driver: '580.105.08',
    scenario: TOUR_SCENARIO,
    page: TOUR_PAGE,
    zero: fault.begin,
    stack: recorder.stack,
    fault,
    setUp,
    nodeTrial: nodeTrial(machines),
    routine: routineOf(recorder.moments, fault),
    oneCopy: { before, between: recorder.unmapped, after, back: readPage(m, page), migrations: migrationsOf(events) },
    copyRun: copyRun(machines),
    copyWindow: copyWindow(fault),
    explicit: {
      bytes: PAGE_SIZE,
      duration: run.state.wall[EXPLICIT_STEP] * 1000,
      events: events.filter((event) => event.step === EXPLICIT_STEP).length,
      before: after,
      after: copied,
    },
    channels: channelRows(m, 0),
    pushes: lives,
    wrapped: wrappedPush(() => {
      const wrappedRecorder = new TourRecorder();
      const again = tourRun(machines, wrappedRecorder, 2 ** 32 - 1);
      wrappedRecorder.attach(again.m, page);
      tourStep(again);
      wrappedRecorder.watch(true);
      tourStep(again);
      return { m: again.m, pushed: wrappedRecorder.pushed };
    }),
  };
}
