import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { loadMachines, packageRoot, recordingPath } from '../analysis/machines.ts';
import { openTrace } from '../analysis/open_trace.ts';
import { eventAt, type Trace } from '../trace/store/trace_events.ts';
import { createEngine } from './engine.ts';
import { driverFiles } from './server/traces.ts';
import { TraceIndex } from './trace_index.ts';
import { explainFaultOf, walkOf } from './walk.ts';

const machines = loadMachines();
const TWO_SIDES = `${packageRoot()}/examples/two-sides.json`;

/** What the walk explains, and what the row says. */
function bothSides(index: TraceIndex, fault: number): [string, string] {
  const result = explainFaultOf(index, fault);
  if (!result.ok) throw new Error(result.error);
  const { event, access, processor, offset } = result.explanation.fault;
  const row = eventAt(index.trace.columns, index.faultRows[fault - 1]);
  if (row?.event !== 'cpuFault' && row?.event !== 'gpuFault') throw new Error('no fault');
  const its = row.event === 'gpuFault' ? row.gpu : 'cpu';
  const page = (at: number): number => Math.floor(at / 4096);
  return [`${event} ${access} ${processor} ${page(offset)}`, `${row.event} ${row.access} ${its} ${page(row.offset)}`];
}

function faultsOf(index: TraceIndex): number[] {
  const n = index.faultRows.length;
  return [...new Set([1, 2, n >> 1, n])];
}

describe('a walk', () => {
  const cases: [string, string, string | undefined][] = [
    ['a run', TWO_SIDES, undefined],
    ['a case', recordingPath('h200-two-sides.jsonl.gz'), undefined],
    ['a recording', recordingPath('h200-two-sides.uvmrec'), undefined],
    ['a recording without steps', recordingPath('h100-cupy-matmul.uvmrec'), undefined],
    ['a case whose first step was not recorded', recordingPath('cpu.jsonl.gz'), 'cpu-read-back-4k'],
  ];
  for (const [what, path, scenario] of cases) {
    it(`explains the fault that it is asked for: ${what}`, async () => {
      const index = new TraceIndex(await openTrace(path, scenario === undefined ? {} : { scenario }), machines);
      for (const fault of faultsOf(index)) {
        const [explained, asked] = bothSides(index, fault);
        expect(explained).toBe(asked);
        const walk = walkOf(index, fault);
        expect(walk.notes.join()).not.toContain('another fault');
        expect(walk.clock).toBe(what === 'a run' ? 'trace' : 'model');
        expect([walk.fault, walk.faults]).toEqual([fault, index.faultRows.length]);
      }
    });
  }

  it("goes through the driver's functions with their files, and each decision with its inputs", async () => {
    const index = new TraceIndex(await openTrace(TWO_SIDES), machines, driverFiles());
    const gpu = [...index.faultRows].findIndex((row) => eventAt(index.trace.columns, row)?.event === 'gpuFault') + 1;
    const { steps, outcome, begin, end } = walkOf(index, gpu);
    expect(outcome).toBe('serviced');
    expect(end).toBeGreaterThan(begin);
    const calls = steps.filter(({ kind }) => kind === 'call').map(({ title }) => title.split(/[: ]/)[0]);
    const order = [
      'uvm_isr_top_half',
      'fetch_fault_buffer_entries',
      'service_fault_batch',
      'uvm_va_block_service_locked',
    ];
    expect(calls.filter((name) => order.includes(name)).slice(0, 4)).toEqual(order);
    for (const { kind, title, file, depth } of steps) {
      expect(depth).toBeGreaterThanOrEqual(0);
      expect(title).not.toBe('');
      if (kind === 'call') expect([title, file?.endsWith('.c')]).toEqual([title, true]);
    }
    const residency = steps.find(({ kind }) => kind === 'residency');
    expect(residency?.lines.length).toBeGreaterThan(0);
    expect(steps.at(-1)?.title).toBe('replay: the access is tried again and goes through');
    for (let i = 1; i < steps.length; i++) expect(steps[i].depth).toBeLessThanOrEqual(steps[i - 1].depth + 1);
  });

  it('says where the model has another fault at that place', async () => {
    const trace = await openTrace(TWO_SIDES);
    const index = new TraceIndex(trace, machines);
    trace.columns.arrays.offset[index.faultRows[0]] += 4096;
    expect(walkOf(index, 1).notes[0]).toMatch(
      /^The model has another fault at this place .*: cpu write fault on page 0 of /,
    );
  });

  it('is refused where there is none, with the reason', async () => {
    const trace = await openTrace(TWO_SIDES);
    const index = new TraceIndex(trace, machines);
    const last = index.faultRows.length;
    for (const fault of [0, last + 1, 1.5]) {
      expect(() => walkOf(index, fault)).toThrow(`fault ${fault}; the trace has faults 1 to ${last}`);
    }
    const changed = (info: Partial<Trace['info']>) =>
      new TraceIndex({ ...trace, info: { ...trace.info, ...info } }, machines);
    expect(() => walkOf(changed({ scenario: null }), 1)).toThrow('the trace has no scenario that could be run');
    expect(() => walkOf(changed({ source: 'nsys' }), 1)).toThrow('this trace has events alone');
    expect(() => walkOf(changed({ source: 'recording', machine: null }), 1)).toThrow('names no machine profile');
    const broken = { ...JSON.parse(readFileSync(TWO_SIDES, 'utf8')), machine: 'x' };
    expect(() => walkOf(changed({ scenario: broken }), 1)).toThrow(/machine.*x/);
  });

  it('gives a block the prefetch tree of its last fault', async () => {
    const engine = createEngine({ machines });
    engine.add('t', 't', await openTrace(TWO_SIDES));
    const [entry] = await engine.traces();
    if (entry.state !== 'ready') throw new Error('not ready');
    expect((await engine.block('t', 0, 0, entry.summary.begin - 1)).tree).toBeNull();
    const { tree } = await engine.block('t', 0, 0, entry.summary.end);
    expect(tree?.levels.length).toBeGreaterThan(3);
    const sizes = (tree?.levels ?? []).map(({ size }) => size);
    expect(sizes).toEqual([...sizes].sort((x, y) => x - y));
    for (const { set, size } of tree?.levels ?? []) expect(set).toBeLessThanOrEqual(size);
  });
});
