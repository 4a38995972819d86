/**
 * Scenarios on the real driver of this machine: this process allocates and touches the memory, and watches itself
 * through an event queue, as the recordings that the model is held to were made.
 */
import { type EventTypeName, RECORDED_EVENTS } from '../../device/abi/events.ts';
import { type Attachment, type ProcessorEntry, processorTable } from '../../device/attach.ts';
import {
  closeEventSource,
  drainEvents,
  type EventSource,
  enableEvents,
  flushEvents,
  openEventSource,
} from '../../device/event_source.ts';
import { type Cuda, startCuda } from '../../device/linux/cuda.ts';
import { createLinuxDevice, type LinuxDevice } from '../../device/linux/linux_device.ts';
import type { ManagedChoice } from '../../device/linux/managed_limit.ts';
import type { Scenario } from '../../scenario/scenario.ts';
import type { UvmEvent } from '../../trace/event.ts';
import { rebaseEvents } from '../../trace/rebase_events.ts';
import { createEventDecoder, type EventDecoder } from '../../trace/recording_events.ts';
import { attachToProcess } from '../target.ts';
import { copyStepOf, type LiveCopies, performCopyStep } from './live_copies.ts';
import { closeStage, createStage, LiveStepError, performStep, prepareStep, type Stage } from './scenario_stage.ts';

/** Room for what a kernel of a whole grid reports in one step. */
const RING_ENTRIES = 2 ** 18;
const SETTLE_TRIES = 200;
const SETTLE_PAUSE_MICROSECONDS = 250;

export interface LiveSession {
  readonly device: LinuxDevice;
  readonly cuda: Cuda;
  readonly attachment: Attachment;
  /** Null in a session that measures without being traced. */
  readonly source: EventSource | null;
}

export interface LiveOptions {
  managed?: ManagedChoice;
  /** Event types to record, all that a driver records when left out; none: no queue is attached. */
  events?: readonly EventTypeName[];
}

/** Starts CUDA in this process and attaches a queue to it. Throws UnavailableError and what attaching throws. */
export async function openLiveSession(options: LiveOptions = {}): Promise<LiveSession> {
  const { events = RECORDED_EVENTS } = options;
  const device = await createLinuxDevice();
  const cuda = await startCuda(options.managed);
  let attachment: Attachment | null = null;
  try {
    attachment = await attachToProcess(device, device.pid);
    if (events.length === 0) return { device, cuda, attachment, source: null };
    const source = await openEventSource(device, attachment.uvm, { entries: RING_ENTRIES });
    await enableEvents(source, events);
    return { device, cuda, attachment, source };
  } catch (error) {
    if (attachment !== null) await device.close(attachment.uvm);
    cuda.close();
    throw error;
  }
}

export async function closeLiveSession(session: LiveSession): Promise<void> {
  if (session.source !== null) await closeEventSource(session.source);
  await session.device.close(session.attachment.uvm);
  session.cuda.close();
}

/** What a scenario did on this machine. */
export interface LiveRun {
  events: UvmEvent[];
  wallMicroseconds: number[];
  /** Copies of the copy routine, which a stock driver leaves to ioctl 62. */
  copies: LiveCopies['done'];
  /** Events lost, by type number. */
  dropped: [type: number, count: number][];
}

/** Events of a run as they come. */
interface Take {
  readonly source: EventSource;
  readonly decoder: EventDecoder;
  readonly events: UvmEvent[];
  readonly dropped: Map<number, number>;
}

function drain(take: Take, step: number): void {
  const { dropped } = drainEvents(take.source, (span) => {
    take.decoder.decode(span, (event) => {
      event.step = step;
      take.events.push(event);
    });
  });
  for (const [type, count] of dropped) take.dropped.set(type, (take.dropped.get(type) ?? 0) + count);
}

/** Whether the replay of a step's last batch is still to come, on any GPU; `from` is the step's first event. */
export function awaitsReplay(events: readonly UvmEvent[], from: number): boolean {
  const last = new Map<string, number>();
  for (let i = from; i < events.length; i++) {
    const event = events[i];
    if (event.event === 'gpuFault') last.set(event.gpu, event.batch);
    else if (event.event === 'replay') {
      const batch = last.get(event.gpu);
      // The driver's numbers of batches wrap at 2^32; a difference of half of that is none.
      if (batch !== undefined && (event.batch - batch) >>> 0 < 2 ** 31) last.delete(event.gpu);
    }
  }
  return last.size > 0;
}

/** The events of a step: the GPUs have finished, and what they caused is in the queue when its last replay is. */
async function settle(session: LiveSession, take: Take, step: number): Promise<void> {
  const from = take.events.length;
  for (let tries = 0; ; tries++) {
    await flushEvents(take.source);
    drain(take, step);
    if (!awaitsReplay(take.events, from) || tries === SETTLE_TRIES) break;
    session.device.libc.sleepMicroseconds(SETTLE_PAUSE_MICROSECONDS);
  }
}

/** Processors with the words of the scenario: GPUs by CUDA's numbers. */
export function namedProcessors(
  processors: readonly ProcessorEntry[],
  { devices }: Pick<Cuda, 'devices'>,
): ProcessorEntry[] {
  return processors.map((processor) => {
    const device = devices.find((d) => d.uuid === processor.uuid);
    return device === undefined ? processor : { ...processor, word: `gpu${device.ordinal}` };
  });
}

function placer(stage: Stage, scenario: Scenario) {
  return (page: number, within: number) => {
    for (const [i, { address, bytes }] of stage.placed.entries()) {
      const offset = page * 4096 + within - Number(address);
      if (offset >= 0 && offset < bytes) return { buffer: scenario.allocations[i].name, offset };
    }
    throw new LiveStepError(`an event of page 0x${page.toString(16)}, which no allocation has`);
  };
}

/** Events as a case has them: a buffer's name where there are several, times from the first event on. */
function finished(take: Take, scenario: Scenario): UvmEvent[] {
  if (scenario.allocations.length < 2) {
    for (const event of take.events as { buffer?: string }[]) delete event.buffer;
  }
  rebaseEvents(take.events);
  return take.events;
}

async function performOne(session: LiveSession, stage: Stage, copies: LiveCopies, index: number): Promise<number> {
  const { libc } = session.device;
  const step = stage.scenario.steps[index];
  const copy = copyStepOf(step);
  const pages = prepareStep(stage, step);
  const start = libc.clockRaw();
  if (copy !== null) await performCopyStep(session, stage, copies, copy, index);
  else performStep(stage, libc, step, index, pages);
  for (const gpu of stage.lists.keys()) {
    session.cuda.use(gpu);
    session.cuda.synchronize();
  }
  return (libc.clockRaw() - start) / 1000;
}

/** Runs a scenario to its end. Throws LiveStepError, CudaError, ManagedLimitError; everything is freed then. */
export async function runLive(session: LiveSession, scenario: Scenario): Promise<LiveRun> {
  const { source } = session;
  const stage = createStage(session.cuda, session.device.libc, scenario);
  const copies: LiveCopies = { from: null, done: [] };
  const wallMicroseconds: number[] = [];
  // The scenario may be the first that uses a GPU: its VA space knows it from then on.
  const { processors: known } = await processorTable(session.device, session.attachment.uvm);
  const processors = namedProcessors(known, session.cuda);
  const decoder = createEventDecoder({ processors }, placer(stage, scenario));
  const take: Take | null = source === null ? null : { source, decoder, events: [], dropped: new Map() };
  try {
    if (take !== null) {
      // What the allocation caused is no part of the first step.
      await flushEvents(take.source);
      drainEvents(take.source, () => {});
    }
    for (let index = 0; index < scenario.steps.length; index++) {
      wallMicroseconds.push(await performOne(session, stage, copies, index));
      if (take !== null) await settle(session, take, index);
    }
    const events = take === null ? [] : finished(take, scenario);
    return { events, wallMicroseconds, copies: copies.done, dropped: [...(take?.dropped ?? [])] };
  } finally {
    closeStage(stage, session.device.libc);
  }
}
