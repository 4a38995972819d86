import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { type AccessStep, accessCount, accessPages, BASE_PAGE, parseScenario, type Scenario } from './scenario.ts';

const MACHINES = { 'h200-pcie5': { gpus: 1 }, '2xh200-nvlink': { gpus: 2 } };
const MIB = 2 ** 20;

/** A scenario with buffers a (2 MiB), b (64 KiB) and h (host memory, 8 KiB). */
function frame(steps: unknown[], over: object = {}): Record<string, unknown> {
  return {
    name: 'test',
    machine: 'h200-pcie5',
    allocations: [
      { name: 'a', bytes: 2 * MIB },
      { name: 'b', bytes: 65536 },
      { name: 'h', bytes: 8192, kind: 'host' },
    ],
    steps,
    ...over,
  };
}

function parsed(json: unknown): Scenario {
  const result = parseScenario(json, MACHINES);
  if (!result.ok) throw new Error(result.error);
  return result.scenario;
}

function errorOf(json: unknown): string {
  const result = parseScenario(json, MACHINES);
  return result.ok ? 'no error' : result.error;
}

const READ = { on: 'gpu0', do: 'read', buffer: 'a', offset: 0, length: 2 * MIB, stride: 4096 };
const PREFETCH = { do: 'prefetch', to: 'gpu0', buffer: 'a', offset: 0, length: 2 * MIB };
const KERNEL = {
  on: 'gpu0',
  do: 'kernel',
  kernel: 'streamRead',
  buffer: 'a',
  grid: 2,
  block: 32,
  elementBytes: 16,
  length: 2 * MIB,
};
const CONTEND = {
  do: 'contend',
  gpu: 'gpu0',
  buffer: 'a',
  page: 0,
  gpuWrites: 3,
  gpuPauseCycles: 0,
  cpuWrites: 2,
  cpuPauseMicroseconds: 5,
};

describe('a good scenario', () => {
  it('lays allocations out on 2 MiB boundaries with an empty block between them', () => {
    const sizes = [1, 4096, 4097, 2 * MIB, 2 * MIB + 1, 65536];
    const allocations = sizes.map((bytes, i) => ({ name: `m${i}`, bytes }));
    const got = parsed(frame([], { allocations })).allocations;
    expect(got.map((a) => a.pages)).toEqual([1, 1, 2, 512, 513, 16]);
    expect(got.map((a) => a.bytes)).toEqual(sizes);
    expect(got[0].firstPage).toBe(BASE_PAGE);
    for (const [i, a] of got.entries()) {
      expect(a.firstPage % 512).toBe(0);
      if (i > 0) expect(a.firstPage - Math.ceil((got[i - 1].firstPage + got[i - 1].pages) / 512) * 512).toBe(512);
    }
  });

  it('keeps module parameters, with truth values as numbers', () => {
    const parameters = { uvm_perf_fault_replay_policy: 1, uvm_perf_prefetch_enable: false, text: 'Y', on: true };
    expect(parsed(frame([], { parameters })).parameters).toEqual({
      uvm_perf_fault_replay_policy: 1,
      uvm_perf_prefetch_enable: 0,
      text: 'Y',
      on: 1,
    });
    expect(parsed(frame([])).parameters).toEqual({});
  });

  it('reads every step', () => {
    const range = { buffer: 1, offset: 4096, length: 8192 };
    const b = { buffer: 'b', offset: 4096, length: 8192 };
    const cases: [object, object][] = [
      [
        { on: 'cpu', do: 'write', ...b, stride: 64 },
        { do: 'write', on: 0, pages: null, ...range, stride: 64, value: 1 },
      ],
      [
        { on: 'gpu0', do: 'atomic', buffer: 'a', pages: [511, 0, 7] },
        { do: 'atomic', on: 1, buffer: 0, pages: Int32Array.of(511, 0, 7), offset: 0, length: 0, stride: 0, value: 2 },
      ],
      [
        { on: 'gpu0', do: 'write', buffer: 'a', pages: [5], value: 4294967295 },
        { do: 'write', on: 1, buffer: 0, pages: Int32Array.of(5), offset: 0, length: 0, stride: 0, value: 4294967295 },
      ],
      [
        { do: 'prefetch', to: 'cpu', ...b },
        { do: 'prefetch', to: 0, ...range },
      ],
      [
        { do: 'advise', advice: 'setReadMostly', ...b },
        { do: 'advise', advice: 'setReadMostly', processor: -1, ...range },
      ],
      [
        { do: 'advise', advice: 'unsetAccessedBy', processor: 'gpu0', ...b },
        { do: 'advise', advice: 'unsetAccessedBy', processor: 1, ...range },
      ],
      [
        { ...KERNEL, layout: 'prose', generator: 'prose' },
        {
          do: 'kernel',
          on: 1,
          kernel: 'streamRead',
          buffer: 0,
          grid: 2,
          block: 32,
          elementBytes: 16,
          length: 2 * MIB,
          perThread: 0,
        },
      ],
      [
        { ...KERNEL, kernel: 'randomRead', perThread: 8 },
        {
          do: 'kernel',
          on: 1,
          kernel: 'randomRead',
          buffer: 0,
          grid: 2,
          block: 32,
          elementBytes: 16,
          length: 2 * MIB,
          perThread: 8,
        },
      ],
      [
        { on: 'gpu0', do: 'memset', ...b },
        { do: 'memset', on: 1, ...range },
      ],
      [
        { do: 'memcpy', from: 'host', to: 'b', offset: 1, length: 5 },
        { do: 'memcpy', from: -1, to: 1, offset: 1, length: 5 },
      ],
      [
        { do: 'setCopyFrom', buffer: 'b', page: 15 },
        { do: 'setCopyFrom', buffer: 1, page: 15, count: 1 },
      ],
      [
        { do: 'setCopyFrom', buffer: 'a', page: 0, count: 512 },
        { do: 'setCopyFrom', buffer: 0, page: 0, count: 512 },
      ],
      [{ do: 'setCopyFrom' }, { do: 'setCopyFrom', buffer: -1, page: 0, count: 0 }],
      [
        { do: 'setNextCopy', buffer: 'h', page: 1, arm: true },
        { do: 'setNextCopy', buffer: 2, page: 1, arm: true, async: false },
      ],
      [
        { do: 'copyStatus', wait: true },
        { do: 'copyStatus', wait: true, disarm: false },
      ],
      [
        { do: 'checkBytes', buffer: 'a', page: 1, sameAs: { buffer: 'h', page: 0 } },
        { do: 'checkBytes', buffer: 0, page: 1, sameAs: { buffer: 2, page: 0 }, value: null },
      ],
      [
        { do: 'checkBytes', buffer: 'a', page: 1, value: 0 },
        { do: 'checkBytes', buffer: 0, page: 1, sameAs: null, value: 0 },
      ],
      [CONTEND, { ...CONTEND, gpu: 1, buffer: 0 }],
      [
        { on: 'cpu', do: 'read', buffer: 'h', pages: [1] },
        { do: 'read', on: 0, buffer: 2, pages: Int32Array.of(1), offset: 0, length: 0, stride: 0, value: 19 },
      ],
      [
        { do: 'free', buffer: 'h' },
        { do: 'free', buffer: 2 },
      ],
    ];
    const steps = parsed(frame(cases.map(([json]) => json))).steps;
    for (const [i, [, want]] of cases.entries()) expect(steps[i], `steps[${i}]`).toEqual(want);
    expect(steps.length).toBe(cases.length);
  });

  it('reads recorded scenarios', () => {
    const lines = readFileSync(new URL('../../test/fixtures/real-cases.jsonl', import.meta.url), 'utf8').trim();
    const scenarios = lines.split('\n').map((line) => parsed(JSON.parse(line).scenario));
    expect(scenarios.map((s) => [s.name, s.gpus, s.steps.map((step) => step.do).join(' ')])).toEqual([
      ['tiny-z2', 1, 'write read read'],
      ['peer-accessed-by-z1', 2, 'write advise prefetch read write'],
      ['memcpy-managed-to-host', 1, 'write prefetch memcpy'],
    ]);
  });

  it('knows the second GPU where the machine has one', () => {
    const [step] = parsed(frame([{ ...READ, on: 'gpu1' }], { machine: '2xh200-nvlink' })).steps;
    expect(step).toMatchObject({ do: 'read', on: 2 });
  });

  it('takes a range up to the end of the last page, though bytes end earlier', () => {
    const allocations = [{ name: 'a', bytes: 5000 }];
    expect(errorOf(frame([{ ...PREFETCH, length: 8192 }], { allocations }))).toBe('no error');
    expect(errorOf(frame([{ ...PREFETCH, length: 12288 }], { allocations }))).toContain('steps[0].length');
  });

  it('takes a buffer that is named host by its name', () => {
    const allocations = [{ name: 'host', bytes: 4096, kind: 'host' }];
    const [step] = parsed(
      frame([{ do: 'memcpy', from: 'host', to: 'host', offset: 0, length: 1 }], { allocations }),
    ).steps;
    expect(step).toMatchObject({ from: 0, to: 0 });
  });

  it('accepts a frame without steps only when asked to', () => {
    const json = { ...frame([]), steps: undefined };
    expect(errorOf(json)).toBe('steps: missing; expected a list of steps');
    const result = parseScenario(json, MACHINES, { stepsOptional: true });
    expect(result.ok && result.scenario.steps).toEqual([]);
  });

  it('reads a list of a million pages as a typed array', () => {
    const pages = Array.from({ length: 1_000_000 }, (_, i) => (i * 7) % 512);
    const step = parsed(frame([{ on: 'gpu0', do: 'read', buffer: 'a', pages }])).steps[0] as AccessStep;
    expect(step.pages).toBeInstanceOf(Int32Array);
    expect(accessCount(step)).toBe(1_000_000);
    expect(step.pages?.[999_999]).toBe((999_999 * 7) % 512);
  });
});

describe('accessPages', () => {
  function pagesOf(offset: number, length: number, stride: number): number[] {
    const s = parsed(frame([{ ...READ, offset, length, stride }]));
    const step = s.steps[0] as AccessStep;
    const pages = [...accessPages(step, s.allocations[0])];
    expect(accessCount(step)).toBe(pages.length);
    return pages;
  }

  it('touches the page of each byte address below the end', () => {
    expect(pagesOf(0, 4 * 4096, 4096)).toEqual([0, 1, 2, 3]);
    expect(pagesOf(0, 4096 + 1, 4096)).toEqual([0, 1]);
    expect(pagesOf(0, 4096, 4096)).toEqual([0]);
    expect(pagesOf(8192, 65537, 65536)).toEqual([2, 18]);
    expect(pagesOf(8192, 65536, 65536)).toEqual([2]);
  });

  it('touches a page once for each address in it', () => {
    expect(pagesOf(4095, 3, 1)).toEqual([0, 1, 1]);
    expect(pagesOf(0, 8192, 2048)).toEqual([0, 0, 1, 1]);
    expect(pagesOf(100, 12288, 6000)).toEqual([0, 1, 2]);
  });

  it('gives the pages of a list as they are', () => {
    const s = parsed(frame([{ on: 'cpu', do: 'read', buffer: 'a', pages: [3, 3, 1] }]));
    expect([...accessPages(s.steps[0] as AccessStep, s.allocations[0])]).toEqual([3, 3, 1]);
  });

  it('keeps page indices above 2^31 exact', () => {
    const page = 2 ** 31 + 5;
    const allocations = [{ name: 'a', bytes: 2 ** 44 }];
    const s = parsed(
      frame(
        [
          { on: 'cpu', do: 'read', buffer: 'a', pages: [page] },
          { ...READ, offset: page * 4096, length: 1 },
        ],
        { allocations },
      ),
    );
    for (const step of s.steps) expect([...accessPages(step as AccessStep, s.allocations[0])]).toEqual([page]);
  });
});
