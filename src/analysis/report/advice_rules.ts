/**
 * What to try: rules over the figures of a report, each with the figures that speak for it. A rule that nothing speaks
 * for gives nothing.
 */
import type { Scenario } from '../../scenario/scenario.ts';
import type { TraceInfo } from '../../trace/store/trace_info.ts';
import type { Advice, AdviceRule, AllocationReport, AllocationUse, TraceReport } from './report_types.ts';

/** Costs below these are not worth a line: of all that managed memory cost, of the whole time, and in microseconds. */
const LEAST_SHARE_OF_COST = 0.05;
const LEAST_SHARE_OF_TIME = 0.005;
const LEAST_MICROSECONDS = 20;
/** A prefetch pays for pages that are wanted: so many of the blocks in its range must have been. */
const LEAST_BLOCKS = 0.5;
/** Changes of sides of a page, in the mean, from which it goes to and fro. */
const TO_AND_FRO = 3;
/** Batches so small, and so many, that single faults are waited for one by one. */
const SMALL_BATCH = 2;
const MANY_BATCHES = 32;

const BLOCK_BYTES = 2 ** 21;

export interface AdviceInput {
  report: TraceReport;
  info: TraceInfo;
  /** Read, where the trace has one that can be: by it accesses are known. */
  scenario: Scenario | null;
}

/** Whether a cost is worth a line. */
function matters(cost: number, { costMicroseconds, durationMicroseconds }: TraceReport): boolean {
  return (
    cost >= LEAST_MICROSECONDS &&
    cost >= costMicroseconds * LEAST_SHARE_OF_COST &&
    costMicroseconds >= durationMicroseconds * LEAST_SHARE_OF_TIME
  );
}

function advice(
  rule: AdviceRule,
  a: AllocationReport | null,
  use: AllocationUse | null,
  cost: number,
  evidence: Record<string, number>,
): Advice {
  const offset = use?.firstByte ?? 0;
  return {
    rule,
    allocation: a?.name ?? null,
    processor: use?.processor ?? null,
    offset,
    length: use === null ? (a?.bytes ?? 0) : use.endByte - offset,
    costMicroseconds: cost,
    evidence,
    row: use?.firstRow ?? -1,
    timeMicroseconds: use?.firstMicroseconds ?? 0,
    home: null,
    prediction: null,
    notPredicted: null,
  };
}

/** What a GPU's faults in an allocation cost: by its share of the faults. */
function gpuCost(a: AllocationReport, use: AllocationUse): number {
  return a.gpuFaults === 0 ? 0 : (a.gpuMicroseconds * use.faults) / a.gpuFaults;
}

function isDense(use: AllocationUse): boolean {
  const blocks = Math.ceil(use.endByte / BLOCK_BYTES) - Math.floor(use.firstByte / BLOCK_BYTES);
  return use.blocks >= blocks * LEAST_BLOCKS;
}

function prefetch(input: AdviceInput, a: AllocationReport): Advice[] {
  if (a.thrashing > 0) return [];
  return a.uses.flatMap((use) => {
    if (use.processor === 'cpu' || use.faults === 0 || !isDense(use)) return [];
    const cost = gpuCost(a, use);
    if (!matters(cost, input.report)) return [];
    const duplicates = Math.round((a.duplicates * use.faults) / a.gpuFaults);
    const { faults, batches, movedBytes, firstTouchPages } = use;
    const evidence = { faults, batches, duplicates, movedBytes, firstTouchPages };
    return [advice('prefetch', a, use, cost, evidence)];
  });
}

function prefetchBack(input: AdviceInput, a: AllocationReport): Advice[] {
  const use = a.uses.find(({ processor }) => processor === 'cpu');
  if (use === undefined || a.thrashing > 0 || use.movedBytes === 0 || !isDense(use)) return [];
  if (!matters(a.cpuMicroseconds, input.report)) return [];
  const evidence = { faults: use.faults, movedBytes: use.movedBytes };
  return [advice('prefetchBack', a, use, a.cpuMicroseconds, evidence)];
}

/** The step from which on nobody writes the buffer, though several processors read it; -1 where there is none. */
export function readOnlyFrom({ steps }: Scenario, buffer: number): number {
  let from = -1;
  const readers = new Set<number>();
  for (const [i, step] of steps.entries()) {
    const writes =
      ((step.do === 'write' || step.do === 'atomic' || step.do === 'memset' || step.do === 'contend') &&
        step.buffer === buffer) ||
      (step.do === 'memcpy' && step.to === buffer) ||
      (step.do === 'kernel' && step.kernel === 'vecAdd' && step.buffer === buffer);
    if (writes) {
      readers.clear();
      from = -1;
    } else if ((step.do === 'read' || step.do === 'kernel') && step.buffer === buffer) {
      if (readers.size === 0) from = i;
      readers.add(step.on);
    }
  }
  return readers.size > 1 ? from : -1;
}

function shares(a: AllocationReport): boolean {
  return a.thrashing > 0 || (a.pingPongPages > 0 && a.pingPongMoves >= a.pingPongPages * TO_AND_FRO);
}

function goesToAndFro(input: AdviceInput, a: AllocationReport): Advice[] {
  const { report, scenario } = input;
  const moved = a.pingPongPages > 0 || a.thrashing > 0;
  if (!moved || !matters(a.costMicroseconds, report)) return [];
  const refaults = a.refaults.reduce((sum, { count }) => sum + count, 0);
  const evidence = {
    pingPongPages: a.pingPongPages,
    pingPongMoves: a.pingPongMoves,
    refaults,
    thrashing: a.thrashing,
    throttlings: a.throttlings,
    sharedBlocks: a.sharedBlocks,
    falselySharedBlocks: a.falselySharedBlocks,
  };
  const first = a.uses.find(({ faults }) => faults > 0) ?? null;
  const whole = (rule: AdviceRule): Advice => ({
    ...advice(rule, a, null, a.costMicroseconds, evidence),
    row: first?.firstRow ?? -1,
    timeMicroseconds: first?.firstMicroseconds ?? 0,
  });
  const out: Advice[] = [];
  const index = scenario?.allocations.findIndex(({ name }) => name === a.name) ?? -1;
  const readMostly = scenario !== null && index >= 0 && readOnlyFrom(scenario, index) >= 0;
  if (readMostly) out.push(whole('readMostly'));
  else if (shares(a)) out.push(whole('preferredLocation'));
  if (a.falselySharedBlocks > 0 && shares(a)) out.push(whole('layout'));
  return out;
}

function oversubscription({ report }: AdviceInput, a: AllocationReport): Advice[] {
  const evicted = a.migrations.filter(({ cause }) => cause === 'eviction').reduce((sum, { bytes }) => sum + bytes, 0);
  if (evicted === 0 || !matters(a.costMicroseconds, report)) return [];
  const refaults = a.refaults.reduce((sum, { count }) => sum + count, 0);
  return [advice('oversubscription', a, null, a.costMicroseconds, { evictedBytes: evicted, refaults })];
}

function wholeTrace({ report, info }: AdviceInput, others: readonly Advice[]): Advice[] {
  const { batches } = report;
  const out: Advice[] = [];
  const service = batches.serviceMicroseconds;
  const off = Number(info.parameters['uvm_perf_prefetch_enable'] ?? 1) === 0;
  if (off && matters(service, report)) {
    out.push(advice('prefetchOff', null, null, service, { faults: faultsOfGpus(report), batches: batches.count }));
  }
  const small = report.hasAllFaults && batches.count >= MANY_BATCHES && batches.median <= SMALL_BATCH;
  const better = others.some(({ rule }) => ['prefetch', 'preferredLocation', 'readMostly'].includes(rule));
  if (small && !better && matters(service, report)) {
    const evidence = { batches: batches.count, median: batches.median, faults: faultsOfGpus(report) };
    out.push(advice('smallBatches', null, null, service, evidence));
  }
  return out;
}

function faultsOfGpus({ faults }: TraceReport): number {
  return faults.reduce((sum, { processor, count }) => sum + (processor === 'cpu' ? 0 : count), 0);
}

/** What the rules say, most costly first. */
export function adviceFor(input: AdviceInput): Advice[] {
  const of = input.report.allocations
    .filter(({ name }) => name !== null)
    .flatMap((a) => [
      ...goesToAndFro(input, a),
      ...prefetch(input, a),
      ...prefetchBack(input, a),
      ...oversubscription(input, a),
    ]);
  return [...wholeTrace(input, of), ...of].sort((a, b) => b.costMicroseconds - a.costMicroseconds);
}
