/**
 * The copy routine beside its rivals, on the model: the same pages, in the same state, brought to the CPU in four ways.
 * Each way is a run of its own that begins with the same steps. Explicit copies are two: into memory that was
 * page-locked before, and into plain memory, which the runtime has to copy through memory of its own.
 */
import { PAGE_SIZE } from '../base/units.ts';
import { CPU_ID } from '../model/uvm/processors.ts';
import { pageIsResident } from '../model/uvm/va_block.ts';
import { processorName, vaBlockFind } from '../model/uvm/va_space.ts';
import type { Run } from '../scenario/runner.ts';
import { logEvents } from '../trace/log_events.ts';
import { type ExecuteOptions, executeRun } from './execute.ts';
import type { Machines } from './machines.ts';
import { summarize, type Tally } from './summary.ts';

export const WAYS = [
  'copy routine',
  'explicit copy, pinned',
  'explicit copy',
  'prefetch, then read',
  'plain read',
] as const;
export type Way = (typeof WAYS)[number];

/** What some steps of a run cost. */
export interface Cost {
  microseconds: number;
  /** Bytes that crossed the link between CPU and GPUs: copies and migrations. */
  linkBytes: number;
  cpuFaults: number;
  gpuFaults: number;
}

export interface WayResult extends Cost {
  way: Way;
  /** How many of the pages live where afterwards; with read duplication one may live in several places. */
  resident: Record<string, number>;
  /** The GPU that had them reads the pages once more. */
  again: Cost;
}

/** A way that cannot be taken in this state, and why. */
export interface WayRefused {
  way: Way;
  refused: string;
}

export interface CopyComparison {
  scenario: string;
  buffer: string;
  page: number;
  count: number;
  /** Where the pages live before, and the GPU that reads them afterwards. */
  resident: Record<string, number>;
  gpu: string;
  ways: (WayResult | WayRefused)[];
}

export type CopyComparisonResult = { ok: true; comparison: CopyComparison } | { ok: false; error: string };

/** Which pages; what is left out is chosen: the first pages of a managed buffer that live on a GPU. */
export interface CopyChoice {
  buffer?: string;
  page?: number;
  count?: number;
}

export interface ScenarioJson {
  name: string;
  allocations: { name: string; bytes: number; kind?: string }[];
  steps: object[];
}

export interface CopyPages {
  buffer: string;
  page: number;
  count: number;
}

function residencyOf(run: Run, { buffer, page, count }: CopyPages): Record<string, number> {
  const { m, space, scenario } = run;
  const base = scenario.allocations.find(({ name }) => name === buffer)?.firstPage ?? 0;
  const resident: Record<string, number> = {};
  for (let i = page; i < page + count; i++) {
    const block = vaBlockFind(space, base + i);
    let places = 0;
    for (let id = CPU_ID; block !== null && id <= m.spec.gpus; id++) {
      if (!pageIsResident(block, id, base + i - block.startPage)) continue;
      resident[processorName(id)] = (resident[processorName(id)] ?? 0) + 1;
      places++;
    }
    if (places === 0) resident['nowhere'] = (resident['nowhere'] ?? 0) + 1;
  }
  return resident;
}

/** The pages that were asked for, or why there are none. */
function choose(run: Run, choice: CopyChoice): CopyPages | string {
  const managed = run.scenario.allocations.filter(({ kind }) => kind === 'managed');
  const names = managed.map(({ name }) => name);
  if (choice.buffer !== undefined && !names.includes(choice.buffer)) {
    return `buffer: "${choice.buffer}"; expected a managed buffer: ${names.join(', ')}`;
  }
  for (const { name, pages } of managed) {
    if (choice.buffer !== undefined && name !== choice.buffer) continue;
    const onGpu = (page: number): boolean => {
      const places = Object.keys(residencyOf(run, { buffer: name, page, count: 1 }));
      return places.some((place) => place.startsWith('gpu'));
    };
    let page = choice.page ?? 0;
    if (choice.page === undefined) while (page < pages && !onGpu(page)) page++;
    if (page >= pages) {
      if (choice.page === undefined) continue;
      return `page: ${page}; buffer "${name}" has ${pages} pages`;
    }
    let count = choice.count ?? 1;
    if (choice.count === undefined) while (page + count < pages && onGpu(page + count)) count++;
    if (page + count > pages) return `count: ${count}; buffer "${name}" has ${pages - page} pages from page ${page} on`;
    return { buffer: name, page, count };
  }
  return 'no page of any managed buffer lives on a GPU when the scenario ends: name one with --buffer and --page';
}

/** The steps of a way; `host` is a host buffer for the routine. */
export function stepsOf(way: Way, { buffer, page, count }: CopyPages, host: string): object[] {
  const range = { buffer, offset: page * PAGE_SIZE, length: count * PAGE_SIZE };
  const read = { on: 'cpu', do: 'read', ...range, stride: PAGE_SIZE };
  switch (way) {
    case 'copy routine':
      return [
        { do: 'setCopyFrom', buffer, page, count },
        { do: 'setNextCopy', buffer: host, page: 0 },
      ];
    case 'explicit copy, pinned':
    case 'explicit copy':
      return [{ do: 'memcpy', from: buffer, to: 'host', offset: range.offset, length: range.length }];
    case 'prefetch, then read':
      return [{ do: 'prefetch', to: 'cpu', ...range }, read];
    case 'plain read':
      return [read];
  }
}

/** On a machine on which the program's own copies go through staging buffers too, and nothing was measured. */
const NO_EXPLICIT_COST = 'with Confidential Computing it is encrypted too, and the model has no cost for that';

/** What some steps cost together. */
export function costOf(tallies: readonly Tally[]): Cost {
  const cost: Cost = { microseconds: 0, linkBytes: 0, cpuFaults: 0, gpuFaults: 0 };
  for (const tally of tallies) {
    cost.microseconds += tally.wallMicroseconds;
    cost.cpuFaults += tally.cpuFaults;
    cost.gpuFaults += tally.gpuFaults;
    for (const flow of tally.migrations) if (flow.src === 'cpu' || flow.dst === 'cpu') cost.linkBytes += flow.bytes;
  }
  return cost;
}

/** The step in which the GPU reads the pages once more. */
export function readAgain({ buffer, page, count }: CopyPages, gpu: string): object {
  return { on: gpu, do: 'read', buffer, offset: page * PAGE_SIZE, length: count * PAGE_SIZE, stride: PAGE_SIZE };
}

/** Which pages are copied, where the model has them then, and the GPU that reads them afterwards. */
export interface ChosenPages {
  ok: true;
  pages: CopyPages;
  resident: Record<string, number>;
  gpu: string;
}

/** Chooses the pages by a run of the scenario. An error names what is wrong with the scenario or the choice. */
export function chooseCopyPages(
  json: ScenarioJson,
  choice: CopyChoice,
  machines: Machines,
  options: ExecuteOptions = {},
): ChosenPages | { ok: false; error: string } {
  const before = executeRun(json, machines, options);
  if (!before.ok) return before;
  const pages = choose(before.run, choice);
  if (typeof pages === 'string') return { ok: false, error: pages };
  const resident = residencyOf(before.run, pages);
  const gpu = Object.keys(resident).find((place) => place.startsWith('gpu')) ?? 'gpu0';
  return { ok: true, pages, resident, gpu };
}

/**
 * Compares the ways on a scenario as it comes from a file, in the state in which its steps leave the pages. An error
 * names what is wrong with the scenario or the choice.
 */
export function compareCopies(
  json: ScenarioJson,
  choice: CopyChoice,
  machines: Machines,
  options: ExecuteOptions = {},
): CopyComparisonResult {
  const chosen = chooseCopyPages(json, choice, machines, options);
  if (!chosen.ok) return chosen;
  const { pages, resident, gpu } = chosen;
  const onGpus = Object.entries(resident).reduce((sum, [place, n]) => sum + (place.startsWith('gpu') ? n : 0), 0);
  let host = 'destination';
  while (json.allocations.some(({ name }) => name === host)) host += '_';
  const destination = { name: host, bytes: pages.count * PAGE_SIZE, kind: 'host' };
  const again = readAgain(pages, gpu);
  const ways = WAYS.map((way): WayResult | WayRefused => {
    const own = stepsOf(way, pages, host);
    const with_ = (steps: object[]): object => ({
      ...json,
      allocations: [...json.allocations, destination],
      steps: [...json.steps, ...steps],
    });
    const after = executeRun(with_(own), machines, options);
    if (!after.ok) return { way, refused: after.error };
    const done = executeRun(with_([...own, again]), machines, options);
    if (!done.ok) return { way, refused: done.error };
    const { run } = done;
    if (way.startsWith('explicit') && run.m.res.confComputing !== null) return { way, refused: NO_EXPLICIT_COST };
    const { steps } = summarize(logEvents(run.m, run.scenario.allocations), run.state.wall);
    const first = json.steps.length;
    const cost = costOf(steps.slice(first, first + own.length));
    // Copies are no migrations: what they bring over the link is what they read out of the GPUs' memory.
    if (way === 'copy routine' || way.startsWith('explicit')) cost.linkBytes += onGpus * PAGE_SIZE;
    // A scenario has no page-locked memory of the program: the same copy at the cost that it has there.
    const { memcpyCall, memcpyPinnedPage } = run.m.cost;
    if (way === 'explicit copy, pinned') cost.microseconds = (memcpyCall + pages.count * memcpyPinnedPage) / 1000;
    return { way, ...cost, resident: residencyOf(after.run, pages), again: costOf(steps.slice(first + own.length)) };
  });
  return { ok: true, comparison: { scenario: json.name, ...pages, resident, gpu, ways } };
}

function isResult(way: WayResult | WayRefused): way is WayResult {
  return !('refused' in way);
}

function samePlaces(a: Record<string, number>, b: Record<string, number>): boolean {
  const places = new Set([...Object.keys(a), ...Object.keys(b)]);
  return [...places].every((place) => (a[place] ?? 0) === (b[place] ?? 0));
}

/** When the routine is worth having, from the figures of a comparison alone. */
export interface Verdict {
  /** Time of the routine divided by that of the explicit copy into page-locked memory; null where there is none. */
  ofExplicit: number | null;
  /** Neither of the two moves a page or causes a fault. */
  bothStay: boolean;
  /** Ways that move pages, with what the GPU's next reading of them costs, microseconds, beside the routine's. */
  movers: { way: Way; moved: number; againMicroseconds: number }[];
  routineAgainMicroseconds: number;
}

/** Null where the routine itself was refused. */
export function verdictOf({ ways, resident, count }: CopyComparison): Verdict | null {
  const results = ways.filter(isResult);
  const routine = results.find(({ way }) => way === 'copy routine');
  if (routine === undefined) return null;
  const explicit = results.find(({ way }) => way === 'explicit copy, pinned') ?? null;
  const stays = (one: WayResult): boolean =>
    samePlaces(one.resident, resident) && one.cpuFaults === 0 && one.gpuFaults === 0;
  return {
    ofExplicit: explicit === null ? null : routine.microseconds / explicit.microseconds,
    bothStay: stays(routine) && (explicit === null || stays(explicit)),
    movers: results
      .filter((one) => !samePlaces(one.resident, resident))
      .map((one) => ({
        way: one.way,
        moved: Math.min(count, Math.abs((one.resident['cpu'] ?? 0) - (resident['cpu'] ?? 0))),
        againMicroseconds: one.again.microseconds,
      })),
    routineAgainMicroseconds: routine.again.microseconds,
  };
}
