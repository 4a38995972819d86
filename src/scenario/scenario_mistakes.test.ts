import { describe, expect, it } from 'vitest';
import { parseScenario } from './scenario.ts';

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

function errorOf(json: unknown): string {
  const result = parseScenario(json, MACHINES);
  return result.ok ? 'no error' : result.error;
}

const READ = { on: 'gpu0', do: 'read', buffer: 'a', offset: 0, length: 2 * MIB, stride: 4096 };
const PREFETCH = { do: 'prefetch', to: 'gpu0', buffer: 'a', offset: 0, length: 2 * MIB };
const ADVISE = { do: 'advise', advice: 'setReadMostly', buffer: 'a', offset: 0, length: 4096 };
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

describe('a mistake outside the steps', () => {
  const alloc = (a: object): Record<string, unknown> => frame([], { allocations: [{ name: 'a', bytes: 4096, ...a }] });
  const cases: [string, unknown, string][] = [
    [
      'no object',
      [1, 2],
      'scenario: a list of 2; expected an object with name, machine, parameters, allocations, steps',
    ],
    ['null', null, 'scenario: null; expected an object with name, machine, parameters, allocations, steps'],
    ['no name', { ...frame([]), name: undefined }, 'name: missing; expected a name'],
    ['empty name', frame([], { name: '' }), 'name: ""; expected a name'],
    [
      'unknown field',
      { ...frame([]), step: [] },
      'step: unknown field; valid: name, machine, parameters, allocations, steps',
    ],
    [
      'unknown machine',
      frame([], { machine: 'h100' }),
      'machine: unknown machine "h100"; valid: h200-pcie5, 2xh200-nvlink',
    ],
    [
      'inherited word as machine',
      frame([], { machine: 'constructor' }),
      'machine: unknown machine "constructor"; valid: h200-pcie5, 2xh200-nvlink',
    ],
    ['no machine', { ...frame([]), machine: undefined }, 'machine: missing; expected the name of a machine profile'],
    [
      'parameters as list',
      frame([], { parameters: [] }),
      'parameters: a list of 0; expected an object of module parameters',
    ],
    [
      'parameter as object',
      frame([], { parameters: { uvm_x: {} } }),
      'parameters.uvm_x: an object; expected a number, a string, true or false',
    ],
    [
      'allocations missing',
      { ...frame([]), allocations: undefined },
      'allocations: missing; expected a list of allocations',
    ],
    ['steps no list', { ...frame([]), steps: {} }, 'steps: an object; expected a list of steps'],
    ['zero bytes', alloc({ bytes: 0 }), 'allocations[0].bytes: 0; expected a whole number from 1 to 2^47'],
    ['negative bytes', alloc({ bytes: -4096 }), 'allocations[0].bytes: -4096; expected a whole number from 1 to 2^47'],
    [
      'fractional bytes',
      alloc({ bytes: 4096.5 }),
      'allocations[0].bytes: 4096.5; expected a whole number from 1 to 2^47',
    ],
    [
      'absurd bytes',
      alloc({ bytes: 2 ** 47 + 1 }),
      'allocations[0].bytes: 140737488355329; expected a whole number from 1 to 2^47',
    ],
    [
      'infinite bytes',
      alloc({ bytes: JSON.parse('1e999') }),
      'allocations[0].bytes: Infinity; expected a whole number from 1 to 2^47',
    ],
    ['bytes as text', alloc({ bytes: '4096' }), 'allocations[0].bytes: "4096"; expected a whole number from 1 to 2^47'],
    ['no bytes', alloc({ bytes: undefined }), 'allocations[0].bytes: missing; expected a whole number from 1 to 2^47'],
    ['unknown kind', alloc({ kind: 'pinned' }), 'allocations[0].kind: "pinned"; expected one of managed, host'],
    ['unknown allocation field', alloc({ size: 1 }), 'allocations[0].size: unknown field; valid: name, bytes, kind'],
    [
      'allocation no object',
      frame([], { allocations: [7] }),
      'allocations[0]: 7; expected an object with name, bytes, kind',
    ],
    [
      'two of one name',
      frame([], {
        allocations: [
          { name: 'x', bytes: 1 },
          { name: 'y', bytes: 1 },
          { name: 'x', bytes: 2 },
        ],
      }),
      'allocations[2].name: "x" is the name of allocations[0] too; names must differ',
    ],
    [
      'more than the address space',
      frame([], {
        allocations: [
          { name: 'x', bytes: 2 ** 47 },
          { name: 'y', bytes: 2 ** 47 },
        ],
      }),
      'allocations[1].bytes: 140737488355328; the allocations together need more than 2^48 bytes of addresses',
    ],
  ];
  it.each(cases)('%s', (_, json, message) => {
    expect(errorOf(json)).toBe(message);
  });

  it('accepts the largest size', () => {
    expect(errorOf(alloc({ bytes: 2 ** 47 }))).toBe('no error');
  });

  it('tells the scenario by its name where it has one', () => {
    expect(parseScenario(frame([{ do: 'dance' }]), MACHINES)).toMatchObject({ ok: false, name: 'test' });
    expect(parseScenario({ name: 5 }, MACHINES)).toMatchObject({ ok: false, name: null });
    expect(parseScenario('text', MACHINES)).toMatchObject({ ok: false, name: null });
  });
});

describe('a mistake in a step', () => {
  const WORDS =
    'read, write, atomic, prefetch, advise, kernel, memset, memcpy, ' +
    'setCopyFrom, setNextCopy, copyStatus, checkBytes, contend, free';
  const WHOLE = 'a whole number from';
  const cases: [string, object, string][] = [
    ['unknown step', { do: 'dance' }, `.do: unknown step "dance"; valid: ${WORDS}`],
    ['inherited word as step', { do: 'toString' }, `.do: unknown step "toString"; valid: ${WORDS}`],
    ['no step word', { on: 'cpu' }, `.do: missing; valid: ${WORDS}`],
    [
      'unknown processor',
      { ...READ, on: 'tpu' },
      '.on: unknown processor "tpu" on machine "h200-pcie5"; valid: cpu, gpu0',
    ],
    [
      'a GPU too many',
      { ...READ, on: 'gpu1' },
      '.on: unknown processor "gpu1" on machine "h200-pcie5"; valid: cpu, gpu0',
    ],
    [
      'prefetch to a GPU too many',
      { ...PREFETCH, to: 'gpu1' },
      '.to: unknown processor "gpu1" on machine "h200-pcie5"; valid: cpu, gpu0',
    ],
    ['no processor', { ...READ, on: undefined }, '.on: missing; expected a processor: cpu, gpu0, gpu1, ...'],
    ['unknown buffer', { ...READ, buffer: 'z' }, '.buffer: unknown buffer "z"; valid: a, b, h'],
    [
      'unknown field',
      { ...READ, lenght: 1 },
      '.lenght: unknown field; valid: on, do, buffer, pages, offset, length, stride, value',
    ],
    ['misspelt field beside the missing one', { do: 'free', bufer: 'a' }, '.bufer: unknown field; valid: do, buffer'],
    ['stride 0', { ...READ, stride: 0 }, `.stride: 0; expected ${WHOLE} 1 to 2^47`],
    ['negative stride', { ...READ, stride: -4096 }, `.stride: -4096; expected ${WHOLE} 1 to 2^47`],
    [
      'stride missing',
      { ...READ, stride: undefined },
      '.stride: missing; give either pages, or offset, length and stride',
    ],
    [
      'nothing to touch',
      { on: 'cpu', do: 'read', buffer: 'a' },
      '.offset: missing; give either pages, or offset, length and stride',
    ],
    ['negative offset', { ...READ, offset: -1 }, `.offset: -1; expected ${WHOLE} 0 to 2^47`],
    ['zero length', { ...READ, length: 0 }, `.length: 0; expected ${WHOLE} 1 to 2^47`],
    ['fractional length', { ...READ, length: 0.5 }, `.length: 0.5; expected ${WHOLE} 1 to 2^47`],
    ['absurd length', { ...READ, length: 1e300 }, `.length: 1e+300; expected ${WHOLE} 1 to 2^47`],
    [
      'length outside',
      { ...READ, length: 2 * MIB + 1 },
      '.length: 2097153 from offset 0 ends outside buffer "a" of 2097152 bytes; at most 2097152',
    ],
    [
      'offset outside',
      { ...READ, offset: 2 * MIB, length: 1 },
      '.offset: 2097152 lies outside buffer "a" of 2097152 bytes',
    ],
    [
      'both pages and offset',
      { ...READ, pages: [0] },
      '.offset: 0 beside pages; give either pages, or offset, length and stride',
    ],
    [
      'both pages and stride',
      { on: 'cpu', do: 'read', buffer: 'a', pages: [0], stride: 8 },
      '.stride: 8 beside pages; give either pages, or offset, length and stride',
    ],
    [
      'no pages',
      { on: 'cpu', do: 'read', buffer: 'a', pages: [] },
      '.pages: a list of 0; expected a list of at least one page index',
    ],
    [
      'pages no list',
      { on: 'cpu', do: 'read', buffer: 'a', pages: 3 },
      '.pages: 3; expected a list of at least one page index',
    ],
    [
      'fractional page',
      { on: 'cpu', do: 'read', buffer: 'a', pages: [1, 2.5] },
      `.pages[1]: 2.5; expected ${WHOLE} 0 to 511 (buffer "a")`,
    ],
    [
      'negative page',
      { on: 'cpu', do: 'read', buffer: 'a', pages: [-1] },
      `.pages[0]: -1; expected ${WHOLE} 0 to 511 (buffer "a")`,
    ],
    [
      'page outside',
      { on: 'cpu', do: 'read', buffer: 'a', pages: [511, 512] },
      `.pages[1]: 512; expected ${WHOLE} 0 to 511 (buffer "a")`,
    ],
    [
      'page as text',
      { on: 'cpu', do: 'read', buffer: 'a', pages: ['1'] },
      `.pages[0]: "1"; expected ${WHOLE} 0 to 511 (buffer "a")`,
    ],
    [
      'page null',
      { on: 'cpu', do: 'read', buffer: 'a', pages: [null] },
      `.pages[0]: null; expected ${WHOLE} 0 to 511 (buffer "a")`,
    ],
    ['value of a read', { ...READ, value: 1 }, '.value: 1; only a write takes a value, this is "read"'],
    [
      'value too large',
      { ...READ, do: 'write', value: 2 ** 32 },
      `.value: 4294967296; expected ${WHOLE} 0 to 4294967295`,
    ],
    [
      'prefetch offset in a page',
      { ...PREFETCH, offset: 100, length: 4096 },
      '.offset: 100; expected a multiple of 4096 (whole pages)',
    ],
    [
      'prefetch length in a page',
      { ...PREFETCH, length: 4097 },
      '.length: 4097; expected a multiple of 4096 (whole pages)',
    ],
    [
      'prefetch outside',
      { ...PREFETCH, offset: 4096 },
      '.length: 2097152 from offset 4096 ends outside buffer "a" of 2097152 bytes; at most 2093056',
    ],
    [
      'prefetch of host memory',
      { ...PREFETCH, buffer: 'h', length: 4096 },
      '.buffer: buffer "h" is host memory, which takes no prefetch; valid (managed): a, b',
    ],
    [
      'GPU access to host memory',
      { ...READ, buffer: 'h', length: 1 },
      '.buffer: buffer "h" is host memory, which takes no access by a GPU; valid (managed): a, b',
    ],
    [
      'advice on host memory',
      { ...ADVISE, buffer: 'h' },
      '.buffer: buffer "h" is host memory, which takes no advice; valid (managed): a, b',
    ],
    [
      'unknown advice',
      { ...ADVISE, advice: 'setLoved' },
      '.advice: "setLoved"; expected one of setPreferredLocation, unsetPreferredLocation, setAccessedBy, ' +
        'unsetAccessedBy, setReadMostly, unsetReadMostly',
    ],
    ['advice offset in a page', { ...ADVISE, offset: 1 }, '.offset: 1; expected a multiple of 4096 (whole pages)'],
    ['advice length in a page', { ...ADVISE, length: 1 }, '.length: 1; expected a multiple of 4096 (whole pages)'],
    [
      'advice with unknown processor',
      { ...ADVISE, advice: 'setAccessedBy', processor: 'gpu7' },
      '.processor: unknown processor "gpu7" on machine "h200-pcie5"; valid: cpu, gpu0',
    ],
    ...['setPreferredLocation', 'setAccessedBy', 'unsetAccessedBy'].map((advice): [string, object, string] => [
      `${advice} without processor`,
      { ...ADVISE, advice },
      `.processor: missing; ${advice} takes one; valid: cpu, gpu0`,
    ]),
    ...['unsetPreferredLocation', 'setReadMostly', 'unsetReadMostly'].map((advice): [string, object, string] => [
      `${advice} with processor`,
      { ...ADVISE, advice, processor: 'gpu0' },
      `.processor: "gpu0"; ${advice} takes no processor`,
    ]),
    ['kernel on the CPU', { ...KERNEL, on: 'cpu' }, '.on: "cpu": a kernel runs on a GPU; valid: gpu0'],
    [
      'unknown kernel',
      { ...KERNEL, kernel: 'sort' },
      '.kernel: "sort"; expected one of streamRead, vecAdd, randomRead',
    ],
    ['empty grid', { ...KERNEL, grid: 0 }, `.grid: 0; expected ${WHOLE} 1 to 2147483647`],
    ['block too large', { ...KERNEL, block: 1025 }, `.block: 1025; expected ${WHOLE} 1 to 1024`],
    [
      'kernel length outside',
      { ...KERNEL, length: 2 * MIB + 16 },
      '.length: 2097168 from offset 0 ends outside buffer "a" of 2097152 bytes; at most 2097152',
    ],
    ['kernel shorter than an element', { ...KERNEL, length: 15 }, '.length: 15; streamRead needs at least 16 bytes'],
    [
      'vecAdd shorter than three',
      { ...KERNEL, kernel: 'vecAdd', elementBytes: 4, length: 11 },
      '.length: 11; vecAdd needs at least 12 bytes',
    ],
    [
      'kernel has no offset',
      { ...KERNEL, offset: 0 },
      '.offset: unknown field; valid: on, do, kernel, buffer, grid, block, ' +
        'elementBytes, length, perThread, layout, generator',
    ],
    [
      'randomRead without perThread',
      { ...KERNEL, kernel: 'randomRead' },
      '.perThread: missing; randomRead takes the number of loads of each thread',
    ],
    [
      'streamRead with perThread',
      { ...KERNEL, perThread: 4 },
      '.perThread: 4; streamRead takes none, only randomRead does',
    ],
    ['layout no prose', { ...KERNEL, layout: 3 }, '.layout: 3; expected prose'],
    [
      'memset on the CPU',
      { do: 'memset', on: 'cpu', buffer: 'a', offset: 0, length: 1 },
      '.on: "cpu": a memset runs on a GPU; valid: gpu0',
    ],
    [
      'memset outside',
      { do: 'memset', on: 'gpu0', buffer: 'b', offset: 65535, length: 2 },
      '.length: 2 from offset 65535 ends outside buffer "b" of 65536 bytes; at most 1',
    ],
    [
      'memcpy from nowhere',
      { do: 'memcpy', from: 'z', to: 'a', offset: 0, length: 1 },
      '.from: unknown buffer "z"; valid: a, b, h, host',
    ],
    [
      'memcpy outside its other side',
      { do: 'memcpy', from: 'a', to: 'b', offset: 0, length: 65537 },
      '.length: 65537 from offset 0 ends outside buffer "b" of 65536 bytes; at most 65536',
    ],
    [
      'memcpy of host to host',
      { do: 'memcpy', from: 'host', to: 'host', offset: 0, length: 1 },
      '.to: "host" on both sides; one of them must be a buffer; valid: a, b, h',
    ],
    [
      'setCopyFrom page outside',
      { do: 'setCopyFrom', buffer: 'b', page: 16 },
      '.page: 16 lies outside buffer "b"; valid: 0 to 15',
    ],
    [
      'setCopyFrom count outside',
      { do: 'setCopyFrom', buffer: 'b', page: 15, count: 2 },
      '.count: 2 from page 15 ends outside buffer "b"; at most 1',
    ],
    [
      'setCopyFrom without page',
      { do: 'setCopyFrom', buffer: 'b' },
      '.page: missing; expected a page index of the buffer',
    ],
    [
      'setCopyFrom page without buffer',
      { do: 'setCopyFrom', page: 1 },
      '.page: 1 without buffer; give a buffer, or neither to clear the address',
    ],
    [
      'setNextCopy page outside',
      { do: 'setNextCopy', buffer: 'b', page: 16 },
      '.page: 16 lies outside buffer "b"; valid: 0 to 15',
    ],
    ['setNextCopy arm no flag', { do: 'setNextCopy', buffer: 'b', page: 1, arm: 1 }, '.arm: 1; expected true or false'],
    [
      'checkBytes against nothing',
      { do: 'checkBytes', buffer: 'a', page: 0 },
      '.sameAs: missing; give either sameAs or value',
    ],
    [
      'checkBytes against both',
      { do: 'checkBytes', buffer: 'a', page: 0, value: 1, sameAs: { buffer: 'b', page: 0 } },
      '.value: 1 beside sameAs; give either sameAs or value',
    ],
    [
      'checkBytes other page outside',
      { do: 'checkBytes', buffer: 'a', page: 0, sameAs: { buffer: 'b', page: 16 } },
      '.sameAs.page: 16 lies outside buffer "b"; valid: 0 to 15',
    ],
    [
      'checkBytes other buffer unknown',
      { do: 'checkBytes', buffer: 'a', page: 0, sameAs: { buffer: 'q', page: 0 } },
      '.sameAs.buffer: unknown buffer "q"; valid: a, b, h',
    ],
    [
      'checkBytes unknown inner field',
      { do: 'checkBytes', buffer: 'a', page: 0, sameAs: { bufer: 'b', page: 0 } },
      '.sameAs.bufer: unknown field; valid: buffer, page',
    ],
    ['contend on the CPU', { ...CONTEND, gpu: 'cpu' }, '.gpu: "cpu": one side is a GPU; valid: gpu0'],
    ['contend page outside', { ...CONTEND, page: 512 }, '.page: 512 lies outside buffer "a"; valid: 0 to 511'],
    ['contend negative count', { ...CONTEND, gpuWrites: -1 }, `.gpuWrites: -1; expected ${WHOLE} 0 to 2147483647`],
    [
      'contend on host memory',
      { ...CONTEND, buffer: 'h' },
      '.buffer: buffer "h" is host memory, which takes no access by a GPU; valid (managed): a, b',
    ],
  ];
  it.each(cases)('%s', (_, step, message) => {
    expect(errorOf(frame([PREFETCH, step]))).toBe(`steps[1]${message}`);
  });

  it('no object', () => {
    expect(errorOf(frame([PREFETCH, 7]))).toBe('steps[1]: 7; expected an object with do and the fields of that step');
    expect(errorOf(frame([null]))).toBe('steps[0]: null; expected an object with do and the fields of that step');
  });

  it('use of a freed buffer, by any step', () => {
    const uses: object[] = [
      { ...READ, on: 'cpu' },
      READ,
      PREFETCH,
      ADVISE,
      KERNEL,
      CONTEND,
      { do: 'memset', on: 'gpu0', buffer: 'a', offset: 0, length: 1 },
      { do: 'setCopyFrom', buffer: 'a', page: 0 },
      { do: 'setNextCopy', buffer: 'a', page: 0 },
      { do: 'checkBytes', buffer: 'a', page: 0, value: 1 },
      { do: 'free', buffer: 'a' },
    ];
    for (const use of uses) {
      expect(errorOf(frame([{ do: 'free', buffer: 'a' }, use]))).toBe(
        'steps[1].buffer: buffer "a" was freed by steps[0]',
      );
      expect(errorOf(frame([{ do: 'free', buffer: 'b' }, use]))).toBe('no error');
    }
    const copy = { do: 'memcpy', from: 'host', to: 'a', offset: 0, length: 1 };
    expect(errorOf(frame([{ do: 'free', buffer: 'a' }, copy]))).toBe('steps[1].to: buffer "a" was freed by steps[0]');
    const check = { do: 'checkBytes', buffer: 'b', page: 0, sameAs: { buffer: 'a', page: 0 } };
    expect(errorOf(frame([{ do: 'free', buffer: 'a' }, check]))).toContain(
      'steps[1].sameAs.buffer: buffer "a" was freed',
    );
  });

  it('more touches than a list can hold', () => {
    const allocations = [{ name: 'a', bytes: 2 ** 40 }];
    const step = { ...READ, length: 2 ** 28, stride: 1 };
    expect(errorOf(frame([step], { allocations }))).toBe('no error');
    expect(errorOf(frame([{ ...step, length: 2 ** 28 + 1 }], { allocations }))).toBe(
      'steps[0].stride: 1 makes 268435457 touches; at most 2^28',
    );
  });
});
