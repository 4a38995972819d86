/** What became of prefetched pages, against a slow search through events and steps. */
import { describe, expect, it } from 'vitest';
import { randomScenario } from '../../scenario/random_scenario.ts';
import { parseScenario, type Scenario } from '../../scenario/scenario.ts';
import type { MigrationEvent, UvmEvent } from '../../trace/event.ts';
import { eventAt, type Trace } from '../../trace/store/trace_events.ts';
import { executeRun } from '../execute.ts';
import { loadMachines } from '../machines.ts';
import { traceOfRun } from '../trace_of_run.ts';
import { reportTrace } from './report_trace.ts';
import { isTouched, scenarioTouches, unknownTouches } from './scenario_touches.ts';

const MIB = 2 ** 20;
const machines = loadMachines();

function parsed(json: unknown): Scenario {
  const result = parseScenario(json, machines.known);
  if (!result.ok) throw new Error(result.error);
  return result.scenario;
}

function runTrace(json: unknown): Trace {
  const result = executeRun(json, machines);
  if (!result.ok) throw new Error(result.error);
  return traceOfRun(result.run, { source: 'run', uvmlab: '0', scenario: json });
}

function touchesOf(json: unknown) {
  const touches = scenarioTouches(parsed(json));
  if (!touches.ok) throw new Error(touches.why);
  return touches;
}

type Json = { machine: string; allocations: { name: string; bytes: number }[]; steps: Record<string, unknown>[] };

/** Whether a step of the file touches a page, read from the file's own words. */
function touchesPage(step: Record<string, unknown>, who: string, buffer: string, page: number): boolean {
  if (step['on'] !== who || step['buffer'] !== buffer) return false;
  if (Array.isArray(step['pages'])) return step['pages'].includes(page);
  const [offset, length, stride] = ['offset', 'length', 'stride'].map((name) => Number(step[name]));
  for (let at = offset; at < offset + length; at += stride) if (Math.floor(at / 4096) === page) return true;
  return false;
}

/** Used and unused pages of an allocation, by prefetch around faults and by calls. */
function slowUse({ columns }: Trace, { steps, allocations }: Json, name: string) {
  const events: UvmEvent[] = [];
  for (let row = 0; row < columns.count; row++) {
    const event = eventAt(columns, row);
    if (event !== null) events.push(event);
  }
  const timeOf = (event: UvmEvent): number => (event.event === 'migration' ? event.begin : event.time);
  const ordered = events
    .map((event, i) => ({ event, i }))
    .sort((a, b) => timeOf(a.event) - timeOf(b.event) || a.i - b.i);
  const tally = { prefetch: { used: 0, unused: 0 }, user: { used: 0, unused: 0 } };
  const here = ordered
    .map(({ event }) => event)
    .filter((e) => 'offset' in e && (e.buffer ?? allocations[0].name) === name);
  const covers = (e: { offset: number; bytes: number }, page: number): boolean =>
    e.offset <= page * 4096 && e.offset + e.bytes > page * 4096;
  for (const [i, event] of here.entries()) {
    if (event.event !== 'migration' || (event.cause !== 'prefetch' && event.cause !== 'user')) continue;
    if (event.src === event.dst) continue;
    for (let page = event.offset / 4096; page < (event.offset + event.bytes) / 4096; page++) {
      const end = here
        .slice(i + 1)
        .find(
          (e) =>
            (e.event === 'migration' && e.src !== e.dst && covers(e, page)) ||
            (e.event === 'readDuplicateInvalidate' && e.resident !== event.dst && covers(e, page)),
        );
      const last = end?.step ?? steps.length - 1;
      const used = steps.slice(event.step, last + 1).some((step) => touchesPage(step, event.dst, name, page));
      tally[(event as MigrationEvent).cause as 'prefetch' | 'user'][used ? 'used' : 'unused']++;
    }
  }
  return { byFaults: tally.prefetch, byCalls: tally.user };
}

describe('prefetched pages', () => {
  it('are used or not as a slow search finds, in random histories', () => {
    let pages = 0;
    for (let seed = 1; seed <= 12; seed++) {
      const json = randomScenario(seed, { machine: 'h200-pcie5', gpus: 1 }) as unknown as Json;
      const trace = runTrace(json);
      for (const { name, prefetch } of reportTrace(trace, { touches: touchesOf(json) }).allocations) {
        const slow = slowUse(trace, json, name as string);
        expect({ seed, prefetch }).toEqual({ seed, prefetch: slow });
        pages += slow.byFaults.used + slow.byFaults.unused + slow.byCalls.used + slow.byCalls.unused;
      }
    }
    expect(pages).toBeGreaterThan(5_000);
  });

  it('count a call that brought too much', () => {
    const json = {
      ...{ name: 'x', machine: 'h200-pcie5', allocations: [{ name: 'a', bytes: 4 * MIB }] },
      steps: [
        { on: 'cpu', do: 'write', buffer: 'a', offset: 0, length: 4 * MIB, stride: 4096 },
        { do: 'prefetch', to: 'gpu0', buffer: 'a', offset: 0, length: 4 * MIB },
        { on: 'gpu0', do: 'read', buffer: 'a', offset: 0, length: MIB, stride: 4096 },
      ],
    };
    const [a] = reportTrace(runTrace(json), { touches: touchesOf(json) }).allocations;
    expect(a.prefetch?.byCalls).toEqual({ used: 256, unused: 768 });
    expect(a.prefetchUnknown).toBeNull();
  });
});

describe('the touches of a scenario', () => {
  const base = {
    name: 'x',
    machine: 'h200-pcie5',
    allocations: [
      { name: 'a', bytes: 4 * MIB },
      { name: 'b', bytes: MIB },
    ],
  };

  it('are asked for by step', () => {
    const { touches } = touchesOf({
      ...base,
      steps: [
        { on: 'gpu0', do: 'read', buffer: 'a', pages: [600, 3] },
        { do: 'prefetch', to: 'gpu0', buffer: 'a', offset: 0, length: MIB },
        { on: 'gpu0', do: 'write', buffer: 'a', offset: 4096, length: 12288, stride: 8192 },
        { on: 'gpu0', do: 'read', buffer: 'a', pages: [600] },
      ],
    });
    const asked = (page: number, first: number, last: number): boolean =>
      isTouched(touches, 'gpu0', 'a', page, first, last);
    expect([asked(600, 0, 0), asked(600, 1, 2), asked(600, 1, 3), asked(600, 4, 9)]).toEqual([
      true,
      false,
      true,
      false,
    ]);
    expect([1, 2, 3].map((page) => asked(page, 2, 2))).toEqual([true, false, true]);
    expect(isTouched(touches, 'cpu', 'a', 600, 0, 9)).toBe(false);
    expect(isTouched(touches, 'gpu0', 'b', 3, 0, 9)).toBe(false);
  });

  it('are not known where a kernel reads at random', () => {
    const kernel = { on: 'gpu0', do: 'kernel', buffer: 'b', grid: 1, block: 32, elementBytes: 4, length: MIB };
    const { touches } = touchesOf({
      ...base,
      steps: [
        { ...kernel, kernel: 'randomRead', perThread: 4 },
        { ...kernel, kernel: 'streamRead', buffer: 'a' },
      ],
    });
    expect(unknownTouches(touches, 'gpu0', 'b')).toMatch(/randomRead/);
    expect(unknownTouches(touches, 'gpu0', 'a')).toBeNull();
    expect([255, 256].map((page) => isTouched(touches, 'gpu0', 'a', page, 1, 1))).toEqual([true, false]);
  });
});
