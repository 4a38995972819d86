import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { executeRun } from '../analysis/execute.ts';
import { loadMachines, packageRoot } from '../analysis/machines.ts';
import { traceOfRun } from '../analysis/trace_of_run.ts';
import { pageAuthorizedProcessors, pageResidentProcessors } from '../model/uvm/va_block.ts';
import type { VaBlock } from '../model/uvm/va_block_types.ts';
import { PROT_READ_ONLY } from '../model/uvm/va_block_types.ts';
import type { Run } from '../scenario/runner.ts';
import { createPushLog } from '../trace/push_log.ts';
import type { Trace } from '../trace/store/trace_events.ts';
import { createEngine } from './engine.ts';
import { blockAt } from './space.ts';
import { TraceIndex } from './trace_index.ts';

const machines = loadMachines();
type Json = { steps: unknown[]; allocations: unknown[] } & Record<string, unknown>;

const TWO_SIDES = JSON.parse(readFileSync(`${packageRoot()}/examples/two-sides.json`, 'utf8')) as Json;
const MIXED: Json = {
  name: 'mixed',
  machine: '2xh200-nvlink',
  allocations: [
    { name: 'a', bytes: 4 * 2 ** 20 },
    { name: 'b', bytes: 2 ** 21 + 8192 },
  ],
  steps: [
    { on: 'cpu', do: 'write', buffer: 'a', pages: [0, 1, 2, 3, 600, 700] },
    { on: 'gpu0', do: 'read', buffer: 'a', pages: [0, 1, 2, 601] },
    { on: 'gpu1', do: 'write', buffer: 'a', pages: [1, 700] },
    { on: 'gpu0', do: 'write', buffer: 'b', pages: [0, 5, 512] },
    { on: 'cpu', do: 'read', buffer: 'b', pages: [5, 513] },
    { on: 'gpu1', do: 'read', buffer: 'b', pages: [5] },
    { on: 'cpu', do: 'write', buffer: 'a', pages: [1, 2, 700] },
  ],
};

function run(json: Json): { run: Run; trace: Trace } {
  const log = createPushLog();
  const result = executeRun(json, machines, {
    onRun: (begun) => {
      begun.m.res.pushWatch = log.watch;
    },
  });
  if (!result.ok) throw new Error(result.error);
  return {
    run: result.run,
    trace: traceOfRun(result.run, { source: 'run', uvmlab: '0', scenario: json, pushLog: log }),
  };
}

/** For each page of an allocation what `ask` says, processors as bits; 0 where it was never touched. */
function modelPages({ m, scenario }: Run, allocation: number, ask: (block: VaBlock, page: number) => number): number[] {
  const { firstPage, pages } = scenario.allocations[allocation];
  const out = new Array<number>(pages).fill(0);
  for (const block of m.vaSpaces.flatMap((space) => space.ranges.flatMap((range) => range.blocks))) {
    if (block === null || block.dead) continue;
    for (let page = 0; page < block.n; page++) {
      const at = block.startPage + page - firstPage;
      if (at >= 0 && at < pages) out[at] = ask(block, page);
    }
  }
  return out;
}

function residencyBits(code: number, residents: readonly string[]): number | 'several' {
  const word = residents[code];
  if (word === 'several') return 'several';
  return word === 'none' ? 0 : 1 << (word === 'cpu' ? 0 : 1 + Number(word.slice(3)));
}

const bitCount = (bits: number): number => bits.toString(2).replaceAll('0', '').length;

describe('pages of a run of the model', () => {
  for (const json of [MIXED, TWO_SIDES]) {
    it(`are where the model has them behind each step: ${json['name']}`, () => {
      const { trace } = run(json);
      const index = new TraceIndex(trace, machines);
      const steps = trace.info.steps ?? [];
      let resident = 0;
      for (let count = 1; count <= json.steps.length; count += Math.ceil(json.steps.length / 8)) {
        const prefix = run({ ...json, steps: json.steps.slice(0, count) }).run;
        // What happens between the end of a step and the next begin belongs to the step.
        const time = count < steps.length ? steps[count].begin : Number.MAX_SAFE_INTEGER;
        for (const [allocation, { blocks }] of index.places.list.entries()) {
          const wanted = modelPages(prefix, allocation, pageResidentProcessors);
          const mappings = modelPages(prefix, allocation, (its, page) =>
            pageAuthorizedProcessors(its, page, PROT_READ_ONLY),
          );
          for (let block = 0; block < blocks; block++) {
            const detail = blockAt(index, allocation, block, time);
            expect(detail.known).toBe('exact');
            for (let page = 0; page < detail.pageCount; page++) {
              const bits = wanted[block * 512 + page];
              const got = residencyBits(detail.residency[page], detail.residents);
              if (bits !== 0) resident++;
              if (got === 'several') expect(bitCount(bits)).toBeGreaterThan(1);
              else expect([allocation, block, page, count, got]).toEqual([allocation, block, page, count, bits]);
              const maps = mappings[block * 512 + page];
              expect([allocation, block, page, count, detail.mapped?.[page]]).toEqual([
                allocation,
                block,
                page,
                count,
                maps,
              ]);
            }
          }
        }
      }
      expect(resident).toBeGreaterThan(20);
    });
  }

  it('are mapped by who faulted on them', () => {
    const { trace } = run(MIXED);
    const index = new TraceIndex(trace, machines);
    const { mapped } = blockAt(index, 0, 0, Number.MAX_SAFE_INTEGER);
    expect(mapped === null ? null : mapped[1] & 1).toBe(1);
    const before = blockAt(index, 0, 0, -1).mapped;
    expect(before === null ? null : [...new Set(before)]).toEqual([0]);
  });

  it('are concluded from events where the scenario does not run as it did', async () => {
    const { trace } = run(MIXED);
    const engine = createEngine({ machines });
    const other = { ...trace.info, scenario: { ...MIXED, steps: MIXED.steps.slice(0, 2) } };
    engine.add('t1', 'changed', { ...trace, info: other });
    engine.add('t2', 'as it was', trace);
    expect((await engine.space('t1', 0, 1)).known).toBe('inferred');
    expect((await engine.block('t1', 0, 0, 0)).mapped).toBeNull();
    expect((await engine.space('t2', 0, 1)).known).toBe('exact');
  });
});
