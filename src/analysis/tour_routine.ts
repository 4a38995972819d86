/** Facts of the tour's items 1 and 2: how the driver was set up, and the way of the live fault through the routine. */
import type { Model } from '../model/state.ts';
import type { FaultExplanation } from './explain.ts';
import { type CopyItem, type MapItem, type PopulateItem, type PushInfo, walkItems } from './explain_items.ts';
import { type Moment, type Registers, readRegisters } from './tour_recorder.ts';

export interface QueueFacts {
  name: string;
  thread: string;
  /** Node of the thread's stack; null when none was asked for. */
  node: number | null;
  result: number;
}

/** What fault_buffer_init_replayable_faults leaves behind. */
export interface ReplayableFacts {
  entryBytes: number;
  maxFaults: number;
  maxBatchSize: number;
  replayPolicy: number;
  replayUpdatePutRatio: number;
  prefetchFaultsEnabled: boolean;
  batchId: number;
  /** Elements of the three zeroed arrays. */
  faultCache: number;
  orderedFaultCache: number;
  utlbs: number;
  gpcs: number;
  utlbsPerGpc: number;
}

export interface SetUp {
  /** Functions in the order in which they were entered, with their depth. */
  calls: { function: string; depth: number; queue?: string }[];
  bottomHalfQ: QueueFacts;
  killChannelQ: QueueFacts;
  replayable: ReplayableFacts;
  /** Before the first fault. */
  registers: Registers;
}

function queueFacts(m: Model, queue: number): QueueFacts {
  const { name, thread, stackNode, initResult } = m.k.queues[queue];
  return { name, thread: m.k.threads[thread].name, node: stackNode < 0 ? null : stackNode, result: initResult };
}

type SetUpCall = { function: string; depth: number; detail: Readonly<Record<string, number | string | boolean>> };

/** Read off a model that has not begun, with the calls that were seen while it was made. */
export function setUpOf(m: Model, calls: readonly SetUpCall[]): SetUp {
  const [{ replayable: rf, isr, faultBuffer }] = m.gpus;
  const queues: unknown[] = [undefined, m.k.queues[isr.bottomHalfQ].name, m.k.queues[isr.killChannelQ].name];
  // An extension of the model (the copy routine) has a queue of its own, which is no part of the driver's set-up.
  const drivers = calls.filter(({ detail }) => queues.includes(detail['queue']));
  return {
    calls: drivers.map(({ function: name, depth, detail }) => ({
      function: name,
      depth,
      ...(detail['queue'] === undefined ? {} : { queue: String(detail['queue']) }),
    })),
    bottomHalfQ: queueFacts(m, isr.bottomHalfQ),
    killChannelQ: queueFacts(m, isr.killChannelQ),
    replayable: {
      entryBytes: faultBuffer.words.byteLength / faultBuffer.entries,
      maxFaults: rf.maxFaults,
      maxBatchSize: rf.maxBatchSize,
      replayPolicy: rf.replayPolicy,
      replayUpdatePutRatio: rf.replayUpdatePutRatio,
      prefetchFaultsEnabled: rf.prefetchFaultsEnabled,
      batchId: rf.batch.batchId,
      faultCache: rf.batch.faultCache.page.length,
      orderedFaultCache: rf.batch.orderedFaultCache.length,
      utlbs: rf.batch.utlbs.numPendingFaults.length,
      gpcs: m.spec.gpcs,
      utlbsPerGpc: m.spec.utlbsPerGpc,
    },
    registers: readRegisters(m),
  };
}

export interface Station {
  time: number;
  before: Registers;
  after: Registers;
}

/** The live fault, from the top half to the re-arm. */
export interface Routine {
  topHalf: Station;
  bottomHalf: { time: number; thread: string; queue: string };
  fetch: Station;
  batch: { number: number; entries: number; representatives: number };
  preprocess: number;
  service: number;
  populate: PopulateItem[];
  unmap: MapItem[];
  copy: CopyItem;
  map: MapItem & { push: PushInfo };
  flush: Station & { discarded: number };
  replay: PushInfo;
  wait: { begin: number; end: number };
  /** The look for more faults after the replay. */
  fetchAgain: Station;
  /** The end of the bottom half: interrupts on again, GET written once more. */
  rearm: Station;
  resumed: number | null;
}

function indexOf(moments: readonly Moment[], name: string, edge: Moment['edge'] = 'enter', from = 0): number {
  const at = moments.findIndex((one, i) => i >= from && one.function === name && one.edge === edge);
  if (at < 0) throw new Error(`the tour: the run never came to ${name}`);
  return at;
}

/** A moment and what the registers were at the next one. */
function station(moments: readonly Moment[], at: number): Station {
  const after = moments[Math.min(at + 1, moments.length - 1)].registers;
  return { time: moments[at].time, before: moments[at].registers, after };
}

function need<T>(value: T | null | undefined, what: string): T {
  if (value === null || value === undefined) throw new Error(`the tour: the run had no ${what}`);
  return value;
}

/** The stations of the fault, from the moments of its step and its explanation. */
export function routineOf(moments: readonly Moment[], fault: FaultExplanation): Routine {
  const mainLoop = moments[indexOf(moments, '_main_loop')];
  const fetch = indexOf(moments, 'fetch_fault_buffer_entries');
  const preprocess = moments[indexOf(moments, 'preprocess_fault_batch')];
  const flush = indexOf(moments, 'fault_buffer_flush_locked');
  const flushed = moments[indexOf(moments, 'fault_buffer_flush_locked', 'leave')];
  const wait = indexOf(moments, 'uvm_tracker_wait');
  const again = indexOf(moments, 'fetch_fault_buffer_entries', 'enter', fetch + 1);
  const left = indexOf(moments, 'replayable_faults_isr_bottom_half', 'leave');
  const items = [...walkItems(fault.calls)];
  const maps = items.filter((item) => item.kind === 'map');
  const map = need(
    maps.find((item) => item.push !== null && item.protection !== 'none'),
    'mapping',
  );
  return {
    topHalf: station(moments, indexOf(moments, 'uvm_isr_top_half')),
    bottomHalf: {
      time: mainLoop.time,
      thread: need(mainLoop.thread, 'thread'),
      queue: String(mainLoop.detail['queue']),
    },
    fetch: station(moments, fetch),
    batch: {
      number: Number(preprocess.detail['batch']),
      entries: Number(preprocess.detail['entries']),
      representatives: Number(preprocess.detail['representatives']),
    },
    preprocess: preprocess.time,
    service: moments[indexOf(moments, 'service_fault_batch')].time,
    populate: items.filter((item) => item.kind === 'populate'),
    unmap: maps.filter((item) => item.protection === 'none'),
    copy: need(
      items.find((item) => item.kind === 'copy'),
      'copy',
    ),
    map: { ...map, push: need(map.push, 'page-table push') },
    flush: {
      ...station(moments, flush),
      after: flushed.registers,
      discarded: Number(moments[flush].detail['discarded']),
    },
    replay: need(fault.replay?.push, 'replay'),
    wait: {
      begin: moments[wait].time,
      end: moments[indexOf(moments, 'uvm_tracker_wait', 'leave', wait)].time,
    },
    fetchAgain: station(moments, again),
    rearm: { time: moments[left].time, before: moments[left - 1].registers, after: moments[left].registers },
    resumed: fault.replay?.resumed ?? null,
  };
}
