/** What a report says in sentences, for the terminal and for the page: what cost most, why, what to change. */
import type { FullReport } from '../analysis/report/full_report.ts';
import type {
  Advice,
  AllocationReport,
  Prediction,
  SlowBatch,
  SlowCpuFault,
  TraceReport,
} from '../analysis/report/report_types.ts';
import type { TraceInfo } from '../trace/store/trace_info.ts';
import { bytes, count, counted, duration, percent } from './text.ts';

/** A text of another program, without what a terminal would obey or what turns the direction of writing. */
export function harmless(text: string): string {
  return text.replace(/[\p{Cc}\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu, (c) => {
    const code = c.charCodeAt(0);
    return code < 256 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u${code.toString(16)}`;
  });
}

/** Longest name of an allocation that is shown whole. */
const NAME_WIDTH = 40;

/** An allocation as people see it: those of recordings are named by their address. */
export function allocationLabel(info: TraceInfo, name: string | null): string {
  if (name === null) return 'no known allocation';
  const known = info.allocations.find((a) => a.name === name);
  const address = known?.address ?? null;
  const shown = address !== null && (name === address || name.startsWith(`${address}-`)) ? `0x${name}` : name;
  return harmless(shown.length <= NAME_WIDTH ? shown : `${shown.slice(0, NAME_WIDTH - 3)}...`);
}

/** A gain or loss, with its sign where it is below zero. */
export function signed(microseconds: number): string {
  return microseconds < 0 ? `\u2212${duration(-microseconds)}` : duration(microseconds);
}

export function predictionText({ gainMicroseconds, lowMicroseconds, highMicroseconds, uncertain }: Prediction): string {
  const interval = `${signed(lowMicroseconds)} to ${signed(highMicroseconds)}`;
  if (uncertain) {
    return `predicted gain ${signed(gainMicroseconds)}, uncertain: the interval ${interval} has zero in it`;
  }
  return `predicted gain ${signed(gainMicroseconds)} (${interval})`;
}

function rangeText({ offset, length }: Advice): string {
  return offset === 0 ? `${bytes(length)}` : `${bytes(length)} from ${bytes(offset)} on`;
}

/** What to do, in a sentence without its end. */
export function actionText(item: Advice, info: TraceInfo): string {
  const label = allocationLabel(info, item.allocation);
  switch (item.rule) {
    case 'prefetch':
      return (
        `prefetch ${label} (${rangeText(item)}) to ${item.processor} before it is used there: ` +
        'cudaMemPrefetchAsync to that device'
      );
    case 'prefetchBack':
      return (
        `prefetch ${label} (${rangeText(item)}) to the CPU before the CPU uses it: ` +
        'cudaMemPrefetchAsync to cudaCpuDeviceId'
      );
    case 'readMostly':
      return `let every processor have a copy of ${label}: cudaMemAdviseSetReadMostly, once it is written`;
    case 'preferredLocation':
      return (
        `keep ${label} in one place: cudaMemAdviseSetPreferredLocation ${item.home ?? 'for one processor'}, and ` +
        'cudaMemAdviseSetAccessedBy for those that use it from elsewhere'
      );
    case 'layout':
      return `put what different processors use in ${label} at least 2 MiB apart: they share blocks, but no page`;
    case 'smallBatches':
      return 'let more threads of the GPU touch new pages at a time, or prefetch: faults are served one by one';
    case 'oversubscription':
      return `work on less of ${label} at a time: the memory of the GPU does not hold it, and pages are evicted`;
    case 'prefetchOff':
      return 'let the driver prefetch around faults: load the module with uvm_perf_prefetch_enable=1';
  }
}

const EVIDENCE: Readonly<Record<string, (n: number) => string>> = {
  faults: (n) => counted(n, 'fault'),
  batches: (n) => counted(n, 'batch', 'batches'),
  duplicates: (n) => `${counted(n, 'duplicate')}`,
  movedBytes: (n) => `${bytes(n)} moved by faults`,
  firstTouchPages: (n) => `${counted(n, 'page')} faulted on before they had data`,
  pingPongPages: (n) => `${counted(n, 'page')} changed sides more than once`,
  pingPongMoves: (n) => `${counted(n, 'change')} of sides of these`,
  refaults: (n) => counted(n, 'refault'),
  thrashing: (n) => `thrashing found ${count(n)} times`,
  throttlings: (n) => `${counted(n, 'throttling')}`,
  sharedBlocks: (n) => `${counted(n, 'block')} of 2 MiB with faults of several processors`,
  falselySharedBlocks: (n) => `${count(n)} of them without a page that several fault on`,
  evictedBytes: (n) => `${bytes(n)} evicted`,
  median: (n) => `median size ${count(n)}`,
};

/** The figures that speak for an advice, and where to find its begin. */
export function evidenceText(item: Advice): string {
  const figures = Object.entries(item.evidence).flatMap(([name, n]) => (n > 0 ? [EVIDENCE[name]?.(n) ?? name] : []));
  const where = item.row < 0 ? '' : `; from row ${count(item.row)} on, at ${duration(item.timeMicroseconds)}`;
  return `${figures.join(', ')}; cost about ${duration(item.costMicroseconds)}${where}`;
}

/** What is predicted, or why nothing is. */
export function outcomeText(item: Advice): string {
  if (item.prediction !== null) return predictionText(item.prediction);
  return `no prediction: ${harmless(item.notPredicted ?? 'none was asked for')}`;
}

/** What the intervals are made of. */
export function intervalText({ error, source }: FullReport['modelError']): string {
  return (
    'each change is predicted alone, so gains do not add up; ' +
    `intervals: \u00b1${percent(error)} on what a change takes away, and on what it adds; ${source}`
  );
}

/** Shares above which a cause is worth a word. */
const MUCH = 1 / 3;

function gpuWhy(a: AllocationReport, hasAllFaults: boolean, kernel: FaultKernel | null): string[] {
  if (a.gpuFaults === 0) {
    if (a.faultsToGpu === 0) return [];
    return [
      `${bytes(a.faultsToGpu)} moved to GPUs by faults that the trace does not have, ${duration(a.gpuMicroseconds)}`,
    ];
  }
  const facts: string[] = [];
  if (a.faultsToGpu > 0) facts.push(`they moved ${bytes(a.faultsToGpu)} there`);
  const fresh = a.uses.reduce((n, use) => n + (use.processor === 'cpu' ? 0 : use.firstTouchPages), 0);
  if (fresh > 0) facts.push(`${counted(fresh, 'page')} had no data yet (first touch)`);
  if (a.duplicates >= a.gpuFaults * MUCH) {
    facts.push(`${percent(a.duplicates / a.gpuFaults)} of the faults repeat a page of their batch`);
  }
  const batches = counted(a.batches, 'batch', 'batches');
  const what = hasAllFaults ? `${counted(a.gpuFaults, 'GPU fault')} in ${batches}` : `${batches} of GPU faults`;
  const share =
    kernel === null ? '' : `, ${kernel.batches === a.batches ? 'all' : 'most'} of them in ${kernelText(kernel)}`;
  return [`${what}, ${duration(a.gpuMicroseconds)}${share}${facts.length === 0 ? '' : `: ${facts.join(', ')}`}`];
}

function cpuWhy(a: AllocationReport, site: CpuFaultSite | null): string[] {
  if (a.cpuFaults === 0) {
    if (a.faultsToCpu === 0) return [];
    return [`${bytes(a.faultsToCpu)} came back by faults that the trace does not have, ${duration(a.cpuMicroseconds)}`];
  }
  const moved = a.faultsToCpu > 0 ? ` brought ${bytes(a.faultsToCpu)} back` : ' moved nothing';
  const time = a.cpuMicroseconds > 0 ? `, ${duration(a.cpuMicroseconds)}` : '';
  const by = site === null ? '' : `, ${site.faults === a.cpuFaults ? 'all' : 'most'} of them in ${siteText(site)}`;
  return [`${counted(a.cpuFaults, 'CPU fault')}${moved}${time}${by}`];
}

function sharedWhy(a: AllocationReport): string[] {
  const out: string[] = [];
  if (a.callMicroseconds > 0) out.push(`prefetch calls copied for ${duration(a.callMicroseconds)}`);
  if (a.pingPongPages > 0) {
    out.push(
      `${counted(a.pingPongPages, 'page')} changed sides more than once, ${count(a.pingPongMoves)} times in all`,
    );
  }
  if (a.thrashing > 0) out.push(`thrashing was found ${counted(a.thrashing, 'time')}`);
  if (a.evictions > 0) out.push(`${counted(a.evictions, 'eviction')}`);
  return out;
}

/** A file's name without its folders. */
function baseName(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

type CpuFaultSite = TraceInfo['cpuFaultSites'][number];
/** Characters of a function's name, which templates make long. */
const FUNCTION_SHOWN = 60;

function shortened(name: string): string {
  return name.length <= FUNCTION_SHOWN ? name : `${name.slice(0, FUNCTION_SHOWN - 3)}...`;
}

/** Where in a program the CPU faulted, in a few words. */
export function siteText(site: CpuFaultSite): string {
  if (site.function === '') return 'code that is not known';
  const name = shortened(site.function);
  const where = site.file !== '' ? `${baseName(site.file)}:${site.line}` : baseName(site.module);
  return harmless(where === '' ? name : `${name} (${where})`);
}

type FaultKernel = TraceInfo['gpuFaultKernels'][number];

/** A kernel, in a few words. */
export function kernelText({ kernel }: FaultKernel): string {
  return kernel === '' ? 'no kernel (a copy, for example)' : harmless(shortened(kernel));
}

/** The kernel in which most of an allocation's batches began, where it is known. */
function mainKernel({ gpuFaultKernels }: TraceInfo, { name, batches }: AllocationReport): FaultKernel | null {
  const own = gpuFaultKernels.filter(({ allocation }) => allocation === name);
  return own.find(({ kernel, batches: its }) => kernel !== '' && its * 2 > batches) ?? null;
}

/** The code that most of an allocation's CPU faults are of, where it is known. */
function mainSite({ cpuFaultSites }: TraceInfo, { name, cpuFaults }: AllocationReport): CpuFaultSite | null {
  const site = cpuFaultSites.find(({ allocation }) => allocation === name);
  return site !== undefined && site.function !== '' && site.faults * 2 > cpuFaults ? site : null;
}

/** Why an allocation cost what it did, the most costly part first. */
function whyText(a: AllocationReport, { hasAllFaults }: TraceReport, info: TraceInfo): string {
  const parts = [gpuWhy(a, hasAllFaults, mainKernel(info, a)), cpuWhy(a, mainSite(info, a))];
  if (a.cpuMicroseconds > a.gpuMicroseconds) parts.reverse();
  return [...parts.flat(), ...sharedWhy(a)].join('; ') || 'nothing but mappings';
}

export interface Headline {
  label: string;
  text: string;
}

/** Things to change that the headline has. */
const SHOWN_CHANGES = 2;

function changeText({ report, advice, rejected }: FullReport, info: TraceInfo, allocation: string | null): string {
  const own = advice.filter((item) => item.allocation === allocation);
  const best = (own.length > 0 ? own : advice).slice(0, SHOWN_CHANGES);
  if (best.length > 0) {
    const rest = advice.length - best.length;
    const more = rest === 0 ? '' : `. ${counted(rest, 'more thing')} to try below`;
    return best.map((item) => `${actionText(item, info)}; ${outcomeText(item)}`).join('. Also: ') + more;
  }
  const share = report.durationMicroseconds === 0 ? 0 : report.costMicroseconds / report.durationMicroseconds;
  if (rejected.length > 0) return 'nothing: what the rules found would be slower by the model';
  if (share < 0.005) return `nothing: all of it took ${(share * 100).toFixed(2)} % of the time`;
  return 'nothing that a rule finds';
}

/** The three answers: which allocation cost most, why, what to change. */
export function headlines(full: FullReport, info: TraceInfo): Headline[] {
  const { report } = full;
  const [top] = report.allocations;
  if (top === undefined || report.costMicroseconds === 0) {
    const nothing = report.rows === 0 ? 'the trace has no events' : 'no service of a fault and no copy was seen';
    return [{ label: 'Cost most', text: `nothing: ${nothing}` }];
  }
  const size = top.bytes === 0 ? '' : ` (${bytes(top.bytes)})`;
  const share = `${duration(top.costMicroseconds)} of the ${duration(report.costMicroseconds)}`;
  return [
    {
      label: 'Cost most',
      text:
        `${allocationLabel(info, top.name)}${size}: about ${share} that managed memory cost, ` +
        `in a trace of ${duration(report.durationMicroseconds)}`,
    },
    { label: 'Why', text: whyText(top, report, info) },
    { label: 'Change', text: changeText(full, info, top.name) },
  ];
}

/** Parts of a time that are less than this share of it are not worth a word. */
const LITTLE = 0.01;

/** The parts of a slow batch's time, longest first; what its pages say of them, where they are known. */
export function batchReason(b: SlowBatch, { hasAllFaults }: TraceReport): string {
  const wait = b.waitMicroseconds ?? 0;
  const rest = Math.max(0, b.microseconds - b.copyMicroseconds - wait);
  const facts = [
    `${counted(b.blocks, 'block')}`,
    ...(b.pagesWithoutData > 0 ? [`${counted(b.pagesWithoutData, 'page')} without data to move`] : []),
    ...(b.thrashing > 0 ? [`thrashing ${counted(b.thrashing, 'time')}`] : []),
    ...(b.throttlings > 0 ? [counted(b.throttlings, 'throttling')] : []),
    ...(b.pins > 0 ? [counted(b.pins, 'pin')] : []),
    ...(b.evictions > 0 ? [counted(b.evictions, 'eviction')] : []),
  ];
  const parts: [number, string][] = [
    [b.copyMicroseconds, `copies of ${bytes(b.copiedBytes)}`],
    [wait, 'until the driver came to it'],
    [rest, hasAllFaults ? `other work: ${facts.join(', ')}` : 'other work'],
  ];
  return parts
    .filter(([time]) => time > b.microseconds * LITTLE)
    .sort((x, y) => y[0] - x[0])
    .map(([time, what]) => `${duration(time)} ${what}`)
    .join('; ');
}

export function cpuFaultReason(f: SlowCpuFault): string {
  const rest = Math.max(0, f.microseconds - f.copyMicroseconds);
  const parts: [number, string][] = [
    [f.copyMicroseconds, `copies of ${bytes(f.copiedBytes)} (${count(f.copies)})`],
    [rest, `other work${f.thrashing > 0 ? `, thrashing ${counted(f.thrashing, 'time')}` : ''}`],
  ];
  return parts
    .filter(([time]) => time > 0)
    .sort((x, y) => y[0] - x[0])
    .map(([time, what]) => `${duration(time)} ${what}`)
    .join('; ');
}

/** What tracing cost; null where the model cannot say. */
export function tracingText({ tracing }: FullReport): string | null {
  if (tracing === null) return null;
  const { basis, machine, tracedMicroseconds, untracedMicroseconds } = tracing;
  if (basis === 'replays') {
    const time = `${duration(untracedMicroseconds)}, predicted (${machine})`;
    return `without the recorder: ${time}, if the program waited for each batch`;
  }
  const ratio = tracedMicroseconds / untracedMicroseconds;
  return (
    `tracing would cost ${signed(tracedMicroseconds - untracedMicroseconds)}: the steps take ` +
    `${duration(untracedMicroseconds)} untraced and ${duration(tracedMicroseconds)} traced, predicted ` +
    `(${machine}): ${ratio.toFixed(2)} times as long`
  );
}

export function unreliableText({ untraced }: FullReport): string | null {
  if (untraced === null || untraced.movedAlike) return null;
  const [replayed, recorded] = [bytes(untraced.moved.replayed), bytes(untraced.moved.recorded)];
  return (
    `not reliable: the replay behind it moves ${replayed} by faults where ${recorded} were recorded; of prefetch ` +
    'calls, and of what was before, it does not know'
  );
}
