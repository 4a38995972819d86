/** The examples, and scenarios with the copy routine, memcpy and checks of bytes. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { executeRun } from '../src/analysis/execute.ts';
import { loadMachines } from '../src/analysis/machines.ts';
import { summarize } from '../src/analysis/summary.ts';
import { summaryText } from '../src/cli/summary_text.ts';
import { colorsFor } from '../src/cli/text.ts';
import { advanceRun, resumeRun, runCanStop, snapshotRun } from '../src/scenario/runner.ts';
import { createSession } from '../src/scenario/session.ts';
import { copyEntries } from '../src/trace/copies.ts';
import { logEvents } from '../src/trace/log_events.ts';

const EXAMPLES = fileURLToPath(new URL('../examples', import.meta.url));
const machines = loadMachines();

const ALLOCATIONS = [
  { name: 'a', bytes: 65536 },
  { name: 'm', bytes: 65536 },
  { name: 'b', bytes: 65536, kind: 'host' },
];

function scenario(...steps: object[]): object {
  return { name: 'copies', machine: 'h200-pcie5', allocations: ALLOCATIONS, steps };
}

/** Runs steps to their end: the records of copies, or the error. */
function run(...steps: object[]) {
  const result = executeRun(scenario(...steps), machines, { contents: true, verify: true });
  return result.ok ? copyEntries(result.run.m, result.run.scenario.allocations) : result.error;
}

const WRITE = { on: 'cpu', do: 'write', buffer: 'a', pages: [0, 1, 2], value: 11 };
const TO_GPU = { on: 'gpu0', do: 'read', buffer: 'a', pages: [0, 1, 2] };
const FROM = { do: 'setCopyFrom', buffer: 'a', page: 0 };
const NEXT = { do: 'setNextCopy', buffer: 'b', page: 0 };
const CHECK = { do: 'checkBytes', buffer: 'b', page: 0, value: 11 };

describe('examples', () => {
  // copy-abi.json describes a module and is no scenario.
  const names = readdirSync(EXAMPLES).filter((name) => name.endsWith('.json') && name !== 'copy-abi.json');
  it.each(names)('%s runs, and what it checks holds', (name) => {
    const json = JSON.parse(readFileSync(join(EXAMPLES, name), 'utf8'));
    const result = executeRun(json, machines, { verify: true });
    expect(result).toMatchObject({ ok: true });
    expect(json.name).toBe(name.replace('.json', ''));
    if (!result.ok) return;
    const copies = copyEntries(result.run.m, result.run.scenario.allocations);
    const asked = json.steps.filter((step: { do: string }) => step.do === 'setNextCopy').length;
    expect(copies.map((copy) => [copy.state, copy.status])).toEqual(new Array(asked).fill(['done', 'NV_OK']));
  });
  it('are there', () => expect(names.length).toBeGreaterThan(3));
});

describe('steps of the copy routine', () => {
  it('copy a page and leave it where it is', () => {
    const [copy] = run(WRITE, TO_GPU, FROM, NEXT, CHECK, TO_GPU) as ReturnType<typeof copyEntries>;
    expect(copy).toMatchObject({ step: 3, form: 'immediate', state: 'done', residentOn: 'gpu0', bytes: 4096 });
    expect(copy.from).toEqual({ buffer: 'a', page: 0 });
    expect(copy.to).toEqual({ buffer: 'b', page: 0 });
  });

  it('end the scenario with the status and the rule when the ioctl refuses', () => {
    expect(run(NEXT)).toBe(
      'steps[0]: setNextCopy failed with NV_ERR_INVALID_STATE: without arm there must be an address to copy from ' +
        '(setCopyFrom) (docs/copy-routine.md, rule 11)',
    );
    expect(run(FROM, { ...NEXT, arm: true }, { ...NEXT, arm: true })).toContain('NV_ERR_STATE_IN_USE: a copy is armed');
    expect(run(FROM, { ...NEXT, arm: true }, FROM)).toContain('steps[2]: setCopyFrom failed with NV_ERR_STATE_IN_USE');
    expect(run({ ...FROM, buffer: 'b' })).toContain('NV_ERR_INVALID_ADDRESS');
    expect(run(FROM, { ...NEXT, buffer: 'm', async: true })).toContain('rule 25');
    expect(run(FROM, { ...NEXT, buffer: 'm', arm: true })).toContain('rule 30');
    expect(run({ ...FROM, count: 4 }, { ...NEXT, page: 13 })).toContain('rule 13');
    expect(run(FROM, { ...NEXT, buffer: 'a', page: 0 })).toContain('overlap');
    expect(run({ do: 'copyStatus' })).toContain('steps[0]: copyStatus: no setNextCopy with arm or async');
    expect(run(FROM, NEXT, { do: 'copyStatus' })).toContain('steps[2]: copyStatus');
  });

  it('let an armed copy wait across steps, and disarm it', () => {
    const steps = [WRITE, FROM, { ...NEXT, arm: true }, { on: 'gpu0', do: 'read', buffer: 'm', pages: [3] }];
    expect(run(...steps)).toMatchObject([{ state: 'armed', from: { page: 0 }, bytes: 0, pageTablePush: null }]);
    const [ended] = run(...steps, { do: 'copyStatus', disarm: true }, TO_GPU) as ReturnType<typeof copyEntries>;
    expect(ended).toMatchObject({ state: 'ended', status: 'NV_WARN_NOTHING_TO_DO', bytes: 0, pushes: [] });
    const [done] = run(...steps, TO_GPU, CHECK) as ReturnType<typeof copyEntries>;
    expect(done).toMatchObject({ state: 'done', snapshot: true, fault: { step: 4, gpu: 'gpu0', page: 'migrated' } });
  });

  it('keep a run exact when it is stopped and resumed, also while armed', () => {
    const json = scenario(WRITE, FROM, { ...NEXT, arm: true }, TO_GPU, CHECK);
    const whole = executeRun(json, machines, { contents: true });
    expect(whole.ok).toBe(true);
    if (!whole.ok) return;
    const profile = machines.profile('h200-pcie5');
    const session = createSession(whole.run.scenario, profile, { contents: true });
    if (!session.ok) throw new Error(session.error);
    let { run: piece } = session;
    let resumed = 0;
    while (!advanceRun(piece, 1)) {
      if (!runCanStop(piece)) continue;
      const { spec, params, cost } = piece.m;
      piece = resumeRun(snapshotRun(piece), piece.scenario, spec, params, cost, { contents: true });
      resumed++;
    }
    expect(resumed).toBeGreaterThan(4);
    expect(piece.state.error).toBeNull();
    const { allocations } = piece.scenario;
    expect(copyEntries(piece.m, allocations)).toEqual(copyEntries(whole.run.m, allocations));
    expect(logEvents(piece.m, allocations)).toEqual(logEvents(whole.run.m, allocations));
  });

  it('appear in the summary for people', () => {
    const result = executeRun(scenario(WRITE, FROM, { ...NEXT, arm: true }, TO_GPU), machines, {});
    if (!result.ok) throw new Error(result.error);
    const { scenario: read, m, state } = result.run;
    const summary = summarize(logEvents(m, read.allocations), state.wall);
    const colors = colorsFor({ isTTY: false } as never);
    const text = summaryText(read, summary, [], colors, copyEntries(m, read.allocations));
    expect(text).toContain('copy: armed copy of step 2, a, page 0 to b, page 0: 4 KiB from gpu0 in ');
    expect(text).toContain('at the fault of gpu0 in step 3, a snapshot');
  });
});

describe('bytes', () => {
  const GPU_WRITE = { on: 'gpu0', do: 'write', buffer: 'a', offset: 0, length: 65536, stride: 4096, value: 21 };

  it('of a memcpy move, to host memory, to another buffer and back', () => {
    const copy = { do: 'memcpy', from: 'a', to: 'b', offset: 4096, length: 8192 };
    const check = (buffer: string, page: number, value: number) => ({ do: 'checkBytes', buffer, page, value });
    expect(run(GPU_WRITE, copy, check('b', 0, 0), check('b', 1, 21), check('b', 2, 21), check('b', 3, 0))).toEqual([]);
    const other = { ...GPU_WRITE, buffer: 'm', value: 30 };
    const between = { do: 'memcpy', from: 'm', to: 'a', offset: 0, length: 65536 };
    const back = { do: 'memcpy', from: 'b', to: 'a', offset: 8192, length: 4096 };
    const same = { do: 'checkBytes', buffer: 'a', page: 3, sameAs: { buffer: 'm', page: 3 } };
    const read = { on: 'gpu0', do: 'read', buffer: 'a', pages: [0, 2, 3] };
    expect(run(GPU_WRITE, other, copy, between, same, back, check('a', 2, 21), check('a', 1, 30), read)).toEqual([]);
    expect(run(GPU_WRITE, { ...copy, to: 'host' }, { ...back, from: 'host' }, check('a', 2, 21))).toEqual([]);
  });

  it('of part of a page leave the rest alone', () => {
    const some = { do: 'memcpy', from: 'a', to: 'b', offset: 4098, length: 2 };
    expect(
      run({ ...GPU_WRITE, value: 0x44332211 }, some, { do: 'checkBytes', buffer: 'b', page: 1, value: 0x44330000 }),
    ).toEqual([]);
  });

  it('are compared for the whole page, and host buffers hold what is written', () => {
    const hostWrite = { on: 'cpu', do: 'write', buffer: 'b', pages: [0, 1], value: 7 };
    const sameAs = { do: 'checkBytes', buffer: 'b', page: 0, sameAs: { buffer: 'b', page: 1 } };
    const add = { on: 'cpu', do: 'atomic', buffer: 'b', pages: [0] };
    const seven = { do: 'checkBytes', buffer: 'b', page: 0, value: 7 };
    expect(run(hostWrite, seven, sameAs, { on: 'cpu', do: 'read', buffer: 'b', pages: [0] })).toEqual([]);
    expect(run(hostWrite, add, { ...seven, value: 8 })).toEqual([]);
    expect(run(hostWrite, add, sameAs)).toContain("page 0 of buffer 'b' differs from page 1 of buffer 'b' at byte 0");
    // A word that only contend writes: the first words agree and word 64 does not.
    const contend = {
      do: 'contend',
      gpu: 'gpu0',
      buffer: 'a',
      page: 0,
      gpuWrites: 1,
      gpuPauseCycles: 0,
      cpuWrites: 1,
      cpuPauseMicroseconds: 0,
    };
    const one = { on: 'cpu', do: 'write', buffer: 'b', pages: [0], value: 1 };
    const whole = { do: 'checkBytes', buffer: 'a', page: 0, sameAs: { buffer: 'b', page: 0 } };
    expect(run(contend, one, { do: 'checkBytes', buffer: 'a', page: 0, value: 1 }, whole)).toContain('at byte 256');
  });

  it('of freed host memory are gone', () => {
    expect(run({ on: 'cpu', do: 'write', buffer: 'b', pages: [0] }, { do: 'free', buffer: 'b' })).toEqual([]);
    const steps = [FROM, { ...NEXT, arm: true }, { do: 'free', buffer: 'b' }, TO_GPU];
    expect(run(WRITE, ...steps)).toMatchObject([{ state: 'done', status: 'NV_OK', bytes: 4096 }]);
  });
});
