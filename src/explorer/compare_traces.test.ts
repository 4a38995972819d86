import { describe, expect, it } from 'vitest';
import { randomTimeline } from '../../test/support/random_timeline.ts';
import { loadMachines } from '../analysis/machines.ts';
import { createPrng, prngBelow } from '../base/prng.ts';
import { compareEvents } from '../trace/compare.ts';
import type { UvmEvent } from '../trace/event.ts';
import { createTraceColumns, wordNumber } from '../trace/store/trace_columns.ts';
import { appendEvent, type Trace } from '../trace/store/trace_events.ts';
import type { Comparison } from './api.ts';
import { compareSides, sideOf } from './compare_traces.ts';
import { createEngine } from './engine.ts';
import { TraceIndex } from './trace_index.ts';

const machines = loadMachines();

/** A trace of other events with the words of its columns in another order. */
function traceOf(like: Trace, events: readonly UvmEvent[]): Trace {
  const columns = createTraceColumns();
  for (const key of ['buffer', 'src', 'dst', 'access', 'kind'] as const) {
    for (const word of [...like.columns.words[key].list].reverse()) wordNumber(columns.words[key], word);
  }
  for (const event of events) appendEvent(columns, event);
  return { info: like.info, columns };
}

async function compared(left: Trace, right: Trace): Promise<Comparison> {
  const engine = createEngine({ machines });
  engine.add('l', 'l', left);
  engine.add('r', 'r', right);
  return engine.compare('l', 'r');
}

/** One change that may or may not matter. */
function changed(events: readonly UvmEvent[], p: ReturnType<typeof createPrng>): UvmEvent[] {
  const copy = structuredClone([...events]);
  const at = prngBelow(p, copy.length);
  const event = copy[at] as unknown as Record<string, unknown>;
  switch (prngBelow(p, 6)) {
    case 0:
      copy.splice(at, 1);
      break;
    case 1:
      copy.splice(at, 0, structuredClone(copy[prngBelow(p, copy.length)]));
      break;
    case 2:
      if ('offset' in event) event['offset'] = (event['offset'] as number) + 4096;
      break;
    case 3:
      if ('time' in event) event['time'] = 1;
      break;
    case 4: {
      const faults = copy.filter((one) => one.event === 'gpuFault');
      faults[prngBelow(p, faults.length)].batch += 1000;
      break;
    }
    default:
      if ('bytes' in event) event['bytes'] = (event['bytes'] as number) + 2 ** 40;
  }
  return copy;
}

describe('two traces beside each other', () => {
  it('have the first difference that the comparison of cases has', async () => {
    const p = createPrng(31);
    const seen = { same: 0, events: 0, batches: 0 };
    for (let seed = 1; seed <= 60; seed++) {
      const options = { steps: seed % 3, ...(seed % 5 === 0 ? { allocations: [{ name: 'a', bytes: 2 ** 22 }] } : {}) };
      const { trace, events } = randomTimeline(seed, 120, options);
      const other = changed(events, p);
      const { first, kinds, differences } = await compared(trace, traceOf(trace, other));
      const slow = compareEvents(events, other, { recordedFromStep: 0 });
      expect(first === null).toBe(slow.same);
      expect(differences > 0).toBe(!slow.same);
      const counts = Object.fromEntries(
        kinds.map(({ kind, left, right }) => [kind, { recorded: left, produced: right }]),
      );
      expect(counts).toEqual(slow.counts);
      if (first === null || slow.firstDifference === null) {
        seen.same++;
        continue;
      }
      const { step, kind, what, index, recorded, produced } = slow.firstDifference;
      expect([first.step, first.kind, first.what, first.index]).toEqual([step, kind, what, index]);
      expect([first.left === null, first.right === null]).toEqual([recorded === null, produced === null]);
      seen[what]++;
      if (what === 'batches' && first.left !== null) expect(first.left.text).toMatch(/^batch of \d+ faults?: gpu/);
    }
    for (const count of Object.values(seen)) expect(count).toBeGreaterThan(2);
  });

  it('leave out steps that either has not recorded, evictions and buffers that either lacks', async () => {
    const { trace, events } = randomTimeline(3, 200, { steps: 4 });
    const late = traceOf(
      { ...trace, info: { ...trace.info, fromStep: 2 } },
      events.filter((e) => (e.step ?? 0) >= 2),
    );
    expect((await compared(trace, late)).first).toBeNull();
    expect((await compared(late, trace)).first).toBeNull();
    const kept = events.filter((e) => e.event !== 'eviction');
    expect(kept.length).toBeLessThan(events.length);
    expect((await compared(trace, traceOf(trace, kept))).first).toBeNull();
    const nameless = kept.map((e) => ({ ...e, ...('buffer' in e ? { buffer: 'other' } : {}) })) as UvmEvent[];
    const without = traceOf({ ...trace, info: { ...trace.info, hasBuffers: false } }, nameless);
    expect((await compared(trace, without)).first).toBeNull();
    expect((await compared(trace, traceOf(trace, nameless))).first).not.toBeNull();
  });

  it('say when each step was', async () => {
    const { trace, events } = randomTimeline(3, 200, { steps: 4 });
    const index = new TraceIndex(trace, machines);
    const late = traceOf(
      trace,
      events.filter((e) => (e.step ?? 0) >= 2),
    );
    const { steps } = await compared(trace, late);
    expect(steps.map(({ step }) => step)).toEqual([0, 1, 2, 3]);
    expect(steps.map(({ right }) => right !== null)).toEqual([false, false, true, true]);
    for (const { step, left } of steps) {
      let [begin, end] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
      for (const lane of index.lanes) {
        for (const [i, row] of lane.row.entries()) {
          if (row === 0xffffffff || trace.columns.arrays.step[row] !== step) continue;
          begin = Math.min(begin, lane.first[i]);
          end = Math.max(end, lane.last[i]);
        }
      }
      expect(left).toEqual({ begin, end });
    }
    const without = { ...trace, info: { ...trace.info, hasSteps: false } };
    expect((await compared(without, without)).steps).toEqual([]);
  });

  it('are compared also where they lie in two places', async () => {
    const { trace, events } = randomTimeline(4, 200, { steps: 2 });
    const other = traceOf(trace, events.slice(0, -20));
    const here = createEngine({ machines });
    here.add('l', 'l', trace);
    const there = createEngine({ machines });
    there.add('r', 'r', other);
    const apart = await compareSides(sideOf(here, 'l'), sideOf(there, 'r'), { left: 'l', right: 'r' });
    expect(apart.first).not.toBeNull();
    expect(apart).toEqual(await compared(trace, other));
  });

  it('names the traces that there are', async () => {
    const engine = createEngine({ machines });
    engine.add('t1', 'one', randomTimeline(1, 5).trace);
    await expect(engine.compare('t1', 't9')).rejects.toThrow('trace t9: there is none of that name; valid: t1');
  });
});
