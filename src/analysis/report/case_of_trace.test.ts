import { expect, it } from 'vitest';
import { recordingPath } from '../machines.ts';
import { openTrace } from '../open_trace.ts';
import { caseOfTrace } from './case_of_trace.ts';

const SORT = recordingPath('h100-cupy-sort.uvmrec');

it('has the faults of a trace, and the parameters that are not the default', async () => {
  const trace = await openTrace(SORT);
  const made = caseOfTrace(trace, undefined);
  if (!made.ok) throw new Error(made.why);
  const { events } = made.entry.observed as { events: { event: string }[] };
  expect(events).toHaveLength(8097 + 48);
  expect(new Set(events.map(({ event }) => event))).toEqual(new Set(['gpuFault', 'cpuFault']));
  expect(made.entry.scenario).toMatchObject({ machine: 'h200-pcie5', parameters: {} });
  const changed = { ...trace, info: { ...trace.info, parameters: { uvm_perf_prefetch_enable: '0', strange: '7' } } };
  const other = caseOfTrace(changed, '2xh200-nvlink');
  expect(other).toMatchObject({
    ...{ ok: true },
    entry: {
      scenario: { machine: '2xh200-nvlink', parameters: { uvm_perf_prefetch_enable: 0 } },
      notes: [expect.stringContaining('strange')],
    },
  });
});

it('has a scenario with its steps where the trace has one', async () => {
  const trace = await openTrace(recordingPath('cpu.jsonl.gz'), { scenario: 'cpu-read-back-64k' });
  const made = caseOfTrace(trace, undefined);
  expect(made).toMatchObject({
    ok: true,
    entry: { recordedFromStep: trace.info.fromStep, scenario: trace.info.scenario },
  });
});

it('is none of too many rows, refused at one more than there may be', async () => {
  const trace = await openTrace(SORT);
  expect(caseOfTrace(trace, undefined, 8295).ok).toBe(true);
  expect(caseOfTrace(trace, undefined, 8294)).toEqual({
    ...{ ok: false, why: 'the trace has too many events to be replayed' },
  });
});
