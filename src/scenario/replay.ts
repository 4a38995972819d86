/**
 * Replays a recorded fault stream through the model: each recorded batch is put into the empty fault buffer at its time
 * and one bottom half services it, each recorded CPU fault is delivered at its time. Steps before the recorded ones run
 * as in a run, and so do recorded steps that fault nowhere (advice, prefetches, frees).
 */

import { faultBufferInject } from '../model/gpu/fault_buffer.ts';
import { nextEventTime, runNextEvent } from '../model/kernel/clock.ts';
import { THREAD_DONE, threadCreate } from '../model/kernel/thread.ts';
import type { Model } from '../model/state.ts';
import { toolsReserve } from '../model/uvm/tools.ts';
import {
  CPU_FAULT_DONE,
  CPU_FAULT_FATAL,
  vaSpaceCpuFault,
  vaSpaceCpuFaultWoken,
} from '../model/uvm/va_block_cpu_fault.ts';
import { type FaultStream, STREAM_CPU_FAULT } from './fault_stream.ts';
import { beginStep, endWith, finishStep, type Run, runStep, StepError } from './runner.ts';
import type { Step } from './scenario.ts';

/** Steps whose faults a recording holds; the others run by themselves. */
function isFaulting(step: Step): boolean {
  switch (step.do) {
    case 'read':
    case 'write':
    case 'atomic':
    case 'kernel':
    case 'memset':
    case 'memcpy':
    case 'contend':
      return true;
    default:
      return false;
  }
}

/** Recorded steps that look at bytes: a fault stream has none, so there is nothing to look at. */
function looksAtBytes(step: Step): boolean {
  return step.do === 'checkBytes';
}

/** Lets the bottom half finish: the buffer is empty and its lock is free. */
function* drain(m: Model, gpuIndex: number): Generator<number, void, void> {
  const gpu = m.gpus[gpuIndex];
  const buffer = gpu.faultBuffer;
  while (gpu.isr.replayable.serviceLock.locked || buffer.put !== buffer.get || buffer.arrivalCount > 0) {
    const next = nextEventTime(m);
    if (!Number.isFinite(next)) throw new StepError('the fault buffer does not drain');
    yield Math.max(m.k.now, next) + 1;
  }
}

/** What a replay measures. */
interface Measured {
  /** Nanoseconds from the CPU faults to their ends, throttling included: the sum over all of them. */
  cpuFaultTime: number;
}

/** Delivers the entries `[from, to)` of the stream, `base` ns after the recording's own clock. */
function* deliver(
  run: Run,
  stream: FaultStream,
  from: number,
  to: number,
  base: number,
  measured: Measured,
): Generator<number, void, void> {
  const { m, space } = run;
  let i = from;
  while (i < to) {
    const due = base + stream.time[i];
    if (due > m.k.now) yield due;
    if (stream.kind[i] === STREAM_CPU_FAULT) {
      const page = stream.page[i];
      const begin = m.k.now;
      for (let retries = 0; ; retries++) {
        const outcome = vaSpaceCpuFault(m, space, page, stream.access[i] !== 0, retries);
        if (outcome === CPU_FAULT_DONE || outcome === CPU_FAULT_FATAL) break;
        yield outcome;
        vaSpaceCpuFaultWoken(m, page);
      }
      measured.cpuFaultTime += m.k.now - begin;
      i++;
      continue;
    }
    const gpu = stream.gpu[i];
    const batch = stream.batch[i];
    const now = Math.ceil(m.k.now);
    while (i < to && stream.kind[i] !== STREAM_CPU_FAULT && stream.gpu[i] === gpu && stream.batch[i] === batch) {
      faultBufferInject(
        m,
        gpu,
        stream.page[i],
        stream.access[i],
        stream.type[i],
        stream.gpc[i],
        stream.client[i],
        0,
        now,
        now,
      );
      i++;
    }
    yield* drain(m, gpu);
  }
}

function* program(run: Run, stream: FaultStream, fromStep: number, measured: Measured): Generator<number, void, void> {
  const { m, state, scenario } = run;
  const steps = scenario.steps;
  const hasSteps = stream.count > 0 && stream.step[0] >= 0;
  let base = Number.NaN;
  let next = 0;
  if (steps.length === 0) {
    beginStep(run);
    yield* deliver(run, stream, 0, stream.count, m.k.now, measured);
    yield* finishStep(run);
  }
  while (state.step < steps.length) {
    const step = steps[state.step];
    beginStep(run);
    if (state.step < fromStep || !(isFaulting(step) || looksAtBytes(step))) {
      yield* runStep(run, step, Number.POSITIVE_INFINITY);
    } else if (isFaulting(step)) {
      if (Number.isNaN(base)) base = m.k.now - (stream.count > 0 ? stream.time[0] : 0);
      let outer = next;
      while (outer < stream.count && (!hasSteps || stream.step[outer] <= state.step)) outer++;
      // Pauses between steps differ from the recording's, so each step's clock is set by its first fault.
      if (outer > next && hasSteps) base = m.k.now - stream.time[next];
      yield* deliver(run, stream, next, outer, base, measured);
      next = outer;
    }
    yield* finishStep(run);
  }
}

/**
 * Replays the stream to its end on a fresh run; `fromStep` is the first recorded step. Returns what the CPU faults of
 * the stream took, in nanoseconds.
 */
export function replayRun(run: Run, stream: FaultStream, fromStep: number): number {
  const { m } = run;
  const measured: Measured = { cpuFaultTime: 0 };
  // Each recorded fault becomes an event, if nothing else does.
  toolsReserve(m, stream.count);
  try {
    const thread = threadCreate(m, 'replay', program(run, stream, fromStep, measured));
    while (m.k.threads[thread].status !== THREAD_DONE && runNextEvent(m));
  } catch (error) {
    endWith(run, error);
  }
  return measured.cpuFaultTime;
}

/** What a fault stream cannot tell, for the reader of a replay's output. */
export function replayNotes(run: Run, stream: FaultStream, fromStep: number): string[] {
  const notes: string[] = [];
  const steps = run.scenario.steps;
  if (steps.length === 0) {
    notes.push('The recording has no steps: advice, prefetches, frees and what was before the attach are unknown.');
  }
  const recorded = steps.slice(fromStep);
  if (stream.count > 0 && stream.step[0] < 0 && recorded.filter(isFaulting).length > 1) {
    notes.push('The recorded faults name no steps: all of them are delivered in the first recorded step that faults.');
  }
  if (recorded.some(looksAtBytes)) {
    notes.push('checkBytes of the recorded steps was passed over: a fault stream does not tell what was written.');
  }
  return notes;
}
