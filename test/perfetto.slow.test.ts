/** Traces for Perfetto of everything that ships, of many runs of the model, and of many random traces. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { openTrace } from '../src/analysis/open_trace.ts';
import { readCases } from '../src/trace/case_file.ts';
import type { UvmEvent } from '../src/trace/event.ts';
import { createTraceColumns } from '../src/trace/store/trace_columns.ts';
import { appendEvent } from '../src/trace/store/trace_events.ts';
import { emptyTraceInfo } from '../src/trace/store/trace_info.ts';
import { modelTrace } from './support/model_trace.ts';
import { checkPerfetto } from './support/perfetto_check.ts';
import { randomTrace } from './support/random_trace.ts';

const RECORDINGS = fileURLToPath(new URL('../recordings', import.meta.url));
const SEED = Number(process.env['UVMLAB_FUZZ_SEED'] ?? 1000);

/** Runs a check; what fails names its input. */
function named<T>(what: string, check: () => T): T {
  try {
    return check();
  } catch (error) {
    throw new Error(`${what}: ${(error as Error).message}`);
  }
}

describe('what ships', () => {
  for (const name of readdirSync(RECORDINGS).filter((one) => one.endsWith('.jsonl.gz'))) {
    it(`${name} has the same counts and times`, async () => {
      let events = 0;
      let shown = 0;
      for await (const entry of readCases(join(RECORDINGS, name))) {
        if (entry.kind === 'error') throw new Error(entry.error);
        const { events: list } = entry.observed as { events: UvmEvent[] };
        const columns = createTraceColumns({ capacity: list.length });
        for (const event of list) appendEvent(columns, event);
        const info = { ...emptyTraceInfo(`${name}:${entry.line}`, 'case', '0'), clock: 'recorded' };
        const { read } = named(info.name, () => checkPerfetto({ info, columns }));
        events += list.length;
        for (const { category } of [...read.instants, ...read.slices]) {
          if (category === 'throttling') shown += 2;
          else if (!['trace', 'step', 'batch', 'allocation'].includes(category)) shown++;
        }
      }
      expect(events).toBeGreaterThan(100);
      expect(shown).toBe(events);
    });
  }

  it('recordings of programs have the same counts and times', async () => {
    const names = readdirSync(RECORDINGS).filter((one) => one.endsWith('.uvmrec'));
    expect(names.length).toBeGreaterThan(1);
    for (const name of names) {
      const trace = await openTrace(join(RECORDINGS, name));
      expect(named(name, () => checkPerfetto(trace)).summary.instants).toBeGreaterThan(1000);
    }
  });
});

it('runs of the model have the same counts and times, and flows that pair up', () => {
  let acquired = 0;
  for (let seed = 1; seed <= 120; seed++) {
    const { read, summary } = named(`seed ${seed}`, () => checkPerfetto(modelTrace(seed)));
    acquired += summary.flows - read.slices.filter(({ category }) => category === 'push').length;
  }
  expect(acquired).toBeGreaterThan(1000);
});

it(`random traces have the same counts and times, from seed ${SEED}`, () => {
  for (let seed = SEED; seed < SEED + 1000; seed++) {
    const { trace } = randomTrace(seed, (seed * 31) % 500, { pushes: seed % 2 === 0 });
    if (seed % 3 === 0) trace.info.clock = 'recorded';
    named(`seed ${seed}`, () => checkPerfetto(trace));
  }
});
