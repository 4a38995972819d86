/**
 * The ways to bring pages of a GPU to the CPU, measured on this machine (analysis/compare_copies.ts predicts them). The
 * copy routine is emulated by ioctl 62 of the stock driver, in one call for all pages.
 *
 * Each way is run several times from the beginning of the scenario: once with the event queue on, for what it moves and
 * the faults that it causes, then with all events off, for its time.
 */
import {
  type CopyChoice,
  type CopyComparison,
  type CopyPages,
  type Cost,
  chooseCopyPages,
  costOf,
  readAgain,
  type ScenarioJson,
  stepsOf,
  WAYS,
  type Way,
  type WayRefused,
  type WayResult,
} from '../../analysis/compare_copies.ts';
import type { Machines } from '../../analysis/machines.ts';
import { summarize } from '../../analysis/summary.ts';
import { RECORDED_EVENTS } from '../../device/abi/events.ts';
import { disableEvents, enableEvents } from '../../device/event_source.ts';
import type { UvmEvent } from '../../trace/event.ts';
import { liveCase } from './live_cases.ts';
import type { LiveSession } from './live_session.ts';

const PAGE = 4096;

/** A comparison with how far the measured times lie apart. */
export interface LiveCopyComparison extends CopyComparison {
  runs: number;
  /** Quartiles of each way's time, microseconds; null where it was refused. */
  quartiles: Record<Way, [low: number, high: number] | null>;
}

/** A way's own steps here: copies into plain memory go to a host buffer as large as the pages' own. */
function ownSteps(way: Way, pages: CopyPages, host: string): object[] {
  if (way !== 'explicit copy') return stepsOf(way, pages, host);
  const { buffer, page, count } = pages;
  return [{ do: 'memcpy', from: buffer, to: host, offset: page * PAGE, length: count * PAGE }];
}

function quantile(sorted: readonly number[], q: number): number {
  const at = (sorted.length - 1) * q;
  const low = Math.floor(at);
  return sorted[low] + ((sorted[low + 1] ?? sorted[low]) - sorted[low]) * (at - low);
}

function summed(wall: readonly number[], from: number, to: number): number {
  return wall.slice(from, to).reduce((sum, time) => sum + time, 0);
}

/** How many of the pages the way moved to the CPU, and how many pages are there then. */
function movedToCpu(events: readonly UvmEvent[], from: number, to: number): number {
  let bytes = 0;
  for (const event of events) {
    if (event.event !== 'migration' || event.step === undefined || event.step < from || event.step >= to) continue;
    if (event.dst === 'cpu') bytes += event.bytes;
  }
  return bytes / PAGE;
}

interface Plan {
  session: LiveSession;
  machines: Machines;
  json: ScenarioJson;
  pages: CopyPages;
  gpu: string;
  resident: Record<string, number>;
  host: { name: string; bytes: number; kind: string };
  runs: number;
}

/** One way; null for the quartiles of one that is refused. */
async function measure(
  plan: Plan,
  way: Way,
): Promise<{ result: WayResult | WayRefused; quartiles: [number, number] | null }> {
  const { session, machines, json, pages, gpu, host, runs } = plan;
  const own = ownSteps(way, pages, host.name);
  const first = json.steps.length;
  const scenario = {
    ...json,
    allocations: [...json.allocations, host],
    steps: [...json.steps, ...own, readAgain(pages, gpu)],
  };
  const traced = await liveCase(session, scenario, 1, machines);
  if (!traced.ok) return { result: { way, refused: traced.error }, quartiles: null };
  const { events, wallMicroseconds } = traced.run;
  const { steps } = summarize(events, wallMicroseconds);
  const cost = costOf(steps.slice(first, first + own.length));
  const again = costOf(steps.slice(first + own.length));
  if (way === 'copy routine' || way.startsWith('explicit')) cost.linkBytes += onGpus(plan.resident) * PAGE;
  const times: number[] = [];
  const afterwards: number[] = [];
  const untraced: LiveSession = { ...session, source: null };
  if (session.source !== null) await disableEvents(session.source, RECORDED_EVENTS);
  try {
    for (let i = 0; i < runs; i++) {
      const run = await liveCase(untraced, scenario, 1, machines);
      if (!run.ok) return { result: { way, refused: run.error }, quartiles: null };
      times.push(summed(run.run.wallMicroseconds, first, first + own.length));
      afterwards.push(summed(run.run.wallMicroseconds, first + own.length, scenario.steps.length));
    }
  } finally {
    if (session.source !== null) await enableEvents(session.source, RECORDED_EVENTS);
  }
  times.sort((a, b) => a - b);
  afterwards.sort((a, b) => a - b);
  const moved = Math.min(pages.count, movedToCpu(events, first, first + own.length));
  const timed = (part: Cost, sorted: readonly number[]): Cost => ({ ...part, microseconds: quantile(sorted, 0.5) });
  const resident = residentAfter(plan.resident, gpu, moved);
  const result: WayResult = { way, ...timed(cost, times), resident, again: timed(again, afterwards) };
  return { result, quartiles: [quantile(times, 0.25), quantile(times, 0.75)] };
}

/** Pages that live on GPUs: what a copy brings over the link. */
function onGpus(resident: Record<string, number>): number {
  return Object.entries(resident).reduce((sum, [place, pages]) => sum + (place.startsWith('gpu') ? pages : 0), 0);
}

function residentAfter(before: Record<string, number>, gpu: string, moved: number): Record<string, number> {
  const after = { ...before, [gpu]: (before[gpu] ?? 0) - moved, cpu: (before['cpu'] ?? 0) + moved };
  return Object.fromEntries(Object.entries(after).filter(([, pages]) => pages > 0));
}

export type LiveCopyComparisonResult = { ok: true; comparison: LiveCopyComparison } | { ok: false; error: string };

/**
 * Measures all ways `runs` times. Where the pages are before comes from the model's run of the scenario, as a driver
 * does not tell; how many move is what the driver reported.
 */
export async function compareCopiesLive(
  session: LiveSession,
  json: ScenarioJson,
  choice: CopyChoice,
  machines: Machines,
  runs: number,
): Promise<LiveCopyComparisonResult> {
  const chosen = chooseCopyPages(json, choice, machines);
  if (!chosen.ok) return chosen;
  const { pages, resident, gpu } = chosen;
  let name = 'destination';
  while (json.allocations.some((allocation) => allocation.name === name)) name += '_';
  const bytes = json.allocations.find((allocation) => allocation.name === pages.buffer)?.bytes ?? 0;
  const host = { name, bytes: Math.max(bytes, pages.count * PAGE), kind: 'host' };
  const plan: Plan = { session, machines, json, pages, gpu, resident, host, runs };
  const ways: (WayResult | WayRefused)[] = [];
  const quartiles = {} as LiveCopyComparison['quartiles'];
  for (const way of WAYS) {
    const measured = await measure(plan, way);
    ways.push(measured.result);
    quartiles[way] = measured.quartiles;
  }
  return { ok: true, comparison: { scenario: json.name, ...pages, resident, gpu, ways, runs, quartiles } };
}
