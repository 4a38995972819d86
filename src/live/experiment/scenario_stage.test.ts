import { beforeAll, describe, expect } from 'vitest';
import { type FakeCuda, fakeCuda } from '../../../test/support/fake_cuda.ts';
import { itOnLinux } from '../../../test/support/on_linux.ts';
import { CUDA_ADVICE, CUDA_CPU, CudaError } from '../../device/linux/cuda.ts';
import { KERNEL_NAMES, KERNELS_PTX } from '../../device/linux/kernels.ts';
import { type Libc, loadLibc } from '../../device/linux/libc.ts';
import { type AccessStep, parseScenario, type Scenario } from '../../scenario/scenario.ts';
import { closeStage, createStage, LiveStepError, performStep, prepareStep, type Stage } from './scenario_stage.ts';

const MIB = 2 ** 20;
const PAGE = 4096;

let libc: Libc;
beforeAll(async () => {
  if (process.platform === 'linux') libc = await loadLibc();
});

function scenario(steps: object[], gpus = 1): Scenario {
  const machine = gpus === 1 ? 'one' : 'two';
  const json = {
    name: 'test',
    machine,
    allocations: [
      { name: 'a', bytes: 2 * MIB },
      { name: 'b', bytes: 4 * MIB },
      { name: 'h', bytes: 2 * PAGE, kind: 'host' },
    ],
    steps,
  };
  const result = parseScenario(json, { one: { gpus: 1 }, two: { gpus: 2 } });
  if (!result.ok) throw new Error(result.error);
  return result.scenario;
}

/** The widths of a kernel's parameters as its text declares them. */
function widths(kernel: string): number[] {
  const params = new RegExp(`\\.entry ${kernel}\\(([^)]*)\\)`).exec(KERNELS_PTX)?.[1] ?? '';
  return [...params.matchAll(/\.param \.u(\d+)/g)].map(([, bits]) => Number(bits));
}

/** Prepares and performs step `index`; returns the calls of each part. */
function perform(stage: Stage, cuda: FakeCuda, index = 0): { prepared: unknown[][]; performed: unknown[][] } {
  cuda.calls.length = 0;
  const step = stage.scenario.steps[index];
  const pages = prepareStep(stage, step);
  const prepared = cuda.calls.splice(0);
  performStep(stage, libc, step, index, pages);
  const performed = cuda.calls.splice(0);
  for (const [call, kernel, , , args] of performed) {
    if (call !== 'launch') continue;
    expect(KERNEL_NAMES).toContain(kernel);
    const given = (args as object[]).map((arg) => ('u32' in arg ? 32 : 64));
    expect(given, `${kernel}`).toEqual(widths(kernel as string));
  }
  return { prepared, performed };
}

/** Runs `act` on a stage of these steps, and sees that nothing is left afterwards. */
function onStage(steps: object[], act: (stage: Stage, cuda: FakeCuda) => void, gpus = 1): void {
  const cuda = fakeCuda(libc, gpus);
  const stage = createStage(cuda, libc, scenario(steps, gpus));
  try {
    act(stage, cuda);
  } finally {
    closeStage(stage, libc);
  }
  expect(cuda.held.size).toBe(0);
}

const CONTEND = {
  do: 'contend',
  gpu: 'gpu1',
  buffer: 'a',
  page: 3,
  gpuWrites: 5,
  gpuPauseCycles: 70,
  cpuWrites: 2,
  cpuPauseMicroseconds: 1,
};

describe('a stage', () => {
  itOnLinux('allocates host memory, lists and results, then the buffers, and frees them all', () => {
    const cuda = fakeCuda(libc);
    const stage = createStage(cuda, libc, scenario([{ on: 'gpu0', do: 'read', buffer: 'a', pages: [0] }]));
    expect(cuda.calls).toEqual([
      ['hostAlloc', PAGE],
      ['use', 0],
      ['alloc', PAGE],
      ['alloc', PAGE],
      ['allocManaged', 2 * MIB],
      ['allocManaged', 4 * MIB],
      ['synchronize'],
    ]);
    expect(stage.placed.map(({ bytes, managed }) => [bytes, managed])).toEqual([
      [2 * MIB, true],
      [4 * MIB, true],
      [2 * PAGE, false],
    ]);
    expect(cuda.held.has(stage.placed[2].address)).toBe(false);
    closeStage(stage, libc);
    expect(cuda.held.size).toBe(0);
    expect(stage.placed.map(({ words }) => words)).toEqual([null, null, null]);
  });

  itOnLinux('has room for the longest list and the farthest byte of a copy', () => {
    const touch = (on: string, count: number) => ({ on, do: 'read', buffer: 'a', pages: new Array(count).fill(1) });
    const copy = (length: number) => ({ do: 'memcpy', from: 'host', to: 'a', offset: PAGE, length });
    const roomOf = (steps: object[]): number => {
      let room = 0;
      onStage(steps, (stage) => {
        room = stage.host.bytes;
      });
      return room;
    };
    expect(roomOf([touch('gpu0', 1024)])).toBe(PAGE);
    expect(roomOf([touch('gpu0', 1), touch('gpu0', 1025)])).toBe(2 * PAGE);
    expect(roomOf([touch('cpu', 5000)])).toBe(PAGE);
    expect(roomOf([copy(PAGE), touch('gpu0', 1)])).toBe(2 * PAGE);
    expect(roomOf([copy(PAGE + 1)])).toBe(3 * PAGE);
  });

  itOnLinux('has lists on each GPU that touches memory or gets it', () => {
    const steps = [
      { on: 'gpu1', do: 'memset', buffer: 'a', offset: 0, length: PAGE },
      { do: 'prefetch', to: 'gpu1', buffer: 'a', offset: 0, length: PAGE },
      CONTEND,
      { on: 'gpu1', do: 'read', buffer: 'a', pages: [0] },
    ];
    for (const step of steps) {
      onStage([step], (stage) => expect([...stage.lists.keys()], step.do).toEqual([0, 1]), 2);
    }
    const advice = { do: 'advise', advice: 'setAccessedBy', processor: 'gpu1', buffer: 'a', offset: 0, length: PAGE };
    onStage([advice], (stage) => expect([...stage.lists.keys()]).toEqual([0]), 2);
  });

  for (const step of [
    { on: 'gpu1', do: 'read', buffer: 'a', pages: [0] },
    { on: 'gpu1', do: 'memset', buffer: 'a', offset: 0, length: PAGE },
    { do: 'prefetch', to: 'gpu1', buffer: 'a', offset: 0, length: PAGE },
    { do: 'advise', advice: 'setPreferredLocation', processor: 'gpu1', buffer: 'a', offset: 0, length: PAGE },
    CONTEND,
  ] as const) {
    itOnLinux(`needs the GPUs of its steps: ${step.do}`, () => {
      const cuda = fakeCuda(libc, 1);
      const error = new LiveStepError('the scenario uses gpu1; this machine has 1 GPU');
      expect(() => createStage(cuda, libc, scenario([step], 2))).toThrow(error);
      expect(cuda.calls).toEqual([]);
    });
  }

  for (const call of ['alloc', 'allocManaged', 'synchronize'] as const) {
    itOnLinux(`leaves nothing behind when ${call} fails`, () => {
      const cuda = fakeCuda(libc);
      const { alloc, allocManaged } = cuda;
      let count = 0;
      const failing = (give: (bytes: number) => bigint) => (bytes: number) => {
        if (++count === 2) throw new CudaError(call, 2, 'CUDA_ERROR_OUT_OF_MEMORY');
        return give(bytes);
      };
      if (call === 'alloc') cuda.alloc = failing(alloc);
      else if (call === 'allocManaged') cuda.allocManaged = failing(allocManaged);
      else {
        cuda.synchronize = () => {
          throw new CudaError(call, 700, 'CUDA_ERROR_ILLEGAL_ADDRESS');
        };
      }
      expect(() => createStage(cuda, libc, scenario([]))).toThrow(CudaError);
      expect(cuda.held.size).toBe(0);
      expect(cuda.calls.filter(([name]) => name === 'hostFree')).toHaveLength(1);
    });
  }
});

describe('touches', () => {
  for (const [verb, mode] of [
    ['read', 0],
    ['write', 1],
    ['atomic', 2],
  ] as const) {
    itOnLinux(`of a GPU, ${verb}: the list goes there before, and one thread walks it`, () => {
      const step = { on: 'gpu1', do: verb, buffer: 'b', pages: [3, 1, 3], ...(verb === 'write' ? { value: 99 } : {}) };
      onStage(
        [step],
        (stage, cuda) => {
          const { prepared, performed } = perform(stage, cuda);
          expect(prepared).toEqual([
            ['use', 1],
            ['memcpy', stage.lists.get(1), stage.host.address, 12],
          ]);
          expect([...stage.host.words.subarray(0, 3)]).toEqual([3, 1, 3]);
          const { value } = stage.scenario.steps[0] as AccessStep;
          if (verb === 'write') expect(value).toBe(99);
          const args = [
            { u64: stage.lists.get(1) },
            { u32: 3 },
            { u32: mode },
            { u64: stage.placed[1].address },
            { u32: value },
            { u32: 0 },
            { u64: stage.results.get(1) },
          ];
          expect(performed).toEqual([
            ['use', 1],
            ['launch', 'touch', 1, 1, args],
          ]);
        },
        2,
      );
    });
  }

  itOnLinux('of the CPU are this thread touching the first word of each page', () => {
    const steps = [
      { on: 'cpu', do: 'write', buffer: 'a', pages: [1, 2], value: 7 },
      { on: 'cpu', do: 'atomic', buffer: 'a', pages: [2, 2, 5] },
      { on: 'cpu', do: 'read', buffer: 'a', pages: [1] },
      { on: 'cpu', do: 'write', buffer: 'h', offset: 0, length: 2 * PAGE, stride: PAGE, value: 4294967295 },
    ];
    onStage(steps, (stage, cuda) => {
      for (let i = 0; i < steps.length; i++) expect(perform(stage, cuda, i)).toEqual({ prepared: [], performed: [] });
      const words = stage.placed[0].words as Int32Array;
      const changed = [...words.keys()].filter((i) => words[i] !== 0);
      expect(changed.map((i) => [i / 1024, words[i]])).toEqual([
        [1, 7],
        [2, 9],
        [5, 1],
      ]);
      const host = stage.placed[2].words as Int32Array;
      expect([host[0], host[1], host[1024]]).toEqual([-1, 0, -1]);
    });
  });
});

describe('kernels', () => {
  const KERNEL = { on: 'gpu0', do: 'kernel', buffer: 'b', grid: 5, block: 64, length: 4 * MIB };
  itOnLinux('are launched with the elements of their part', () => {
    const steps = [
      { ...KERNEL, kernel: 'streamRead', elementBytes: 16, length: 1000 },
      { ...KERNEL, kernel: 'vecAdd', elementBytes: 4, length: 120 },
      { ...KERNEL, kernel: 'randomRead', elementBytes: 4, perThread: 11, length: 1000 },
    ];
    onStage(steps, (stage, cuda) => {
      const { address } = stage.placed[1];
      const out = { u64: stage.results.get(0) };
      const launches = steps.map((_, i) => {
        const { prepared, performed } = perform(stage, cuda, i);
        expect([prepared, performed[0], performed.length]).toEqual([[], ['use', 0], 2]);
        return performed[1].slice(1);
      });
      expect(launches).toEqual([
        ['streamRead', 5, 64, [{ u64: address }, { u64: 62n }, out]],
        ['vecAdd', 5, 64, [{ u64: address }, { u64: address + 40n }, { u64: address + 80n }, { u64: 10n }]],
        ['randomRead', 5, 64, [{ u64: address }, { u64: 250n }, { u32: 11 }, out]],
      ]);
    });
  });

  for (const [kernel, elementBytes, expected] of [
    ['streamRead', 4, 16],
    ['vecAdd', 8, 4],
    ['randomRead', 16, 4],
  ] as const) {
    itOnLinux(`of other elements are refused: ${kernel} with ${elementBytes} bytes`, () => {
      const perThread = kernel === 'randomRead' ? { perThread: 1 } : {};
      onStage([{ ...KERNEL, kernel, elementBytes, ...perThread }], (stage, cuda) => {
        const error = new LiveStepError(`steps[0].elementBytes: ${elementBytes}; ${kernel} takes ${expected} here`);
        expect(() => perform(stage, cuda)).toThrow(error);
        expect(cuda.calls).toEqual([]);
      });
    });
  }
});

describe('other steps', () => {
  itOnLinux('prefetch to a GPU from its own context, and to the CPU from the first', () => {
    const range = { buffer: 'b', offset: 2 * MIB, length: PAGE };
    const steps = ['gpu1', 'cpu'].map((to) => ({ do: 'prefetch', to, ...range }));
    onStage(
      steps,
      (stage, cuda) => {
        const at = stage.placed[1].address + BigInt(2 * MIB);
        expect(perform(stage, cuda, 0).performed).toEqual([
          ['use', 1],
          ['prefetch', at, PAGE, 1],
        ]);
        expect(perform(stage, cuda, 1).performed).toEqual([
          ['use', 0],
          ['prefetch', at, PAGE, CUDA_CPU],
        ]);
      },
      2,
    );
  });

  for (const [advice, processor, place] of [
    ['setPreferredLocation', 'cpu', CUDA_CPU],
    ['setPreferredLocation', 'gpu1', 1],
    ['setAccessedBy', 'gpu0', 0],
    ['unsetAccessedBy', 'cpu', CUDA_CPU],
    ['unsetPreferredLocation', undefined, 0],
    ['setReadMostly', undefined, 0],
    ['unsetReadMostly', undefined, 0],
  ] as const) {
    itOnLinux(`advise ${advice} of ${processor ?? 'none'}`, () => {
      const step = {
        do: 'advise',
        advice,
        ...(processor && { processor }),
        buffer: 'a',
        offset: PAGE,
        length: 3 * PAGE,
      };
      onStage(
        [step],
        (stage, cuda) => {
          const at = stage.placed[0].address + BigInt(PAGE);
          expect(perform(stage, cuda).performed).toEqual([['advise', at, 3 * PAGE, CUDA_ADVICE[advice], place]]);
        },
        2,
      );
    });
  }

  itOnLinux('set and copy memory', () => {
    const steps = [
      { on: 'gpu0', do: 'memset', buffer: 'b', offset: 8, length: 100 },
      { do: 'memcpy', from: 'host', to: 'a', offset: PAGE, length: 16 },
      { do: 'memcpy', from: 'a', to: 'h', offset: 4, length: 12 },
      { do: 'memcpy', from: 'a', to: 'host', offset: 0, length: 4 },
    ];
    onStage(steps, (stage, cuda) => {
      const [a, b, h] = stage.placed.map(({ address }) => address);
      const host = stage.host.address;
      const performed = steps.map((_, i) => perform(stage, cuda, i).performed);
      expect(performed).toEqual([
        [
          ['use', 0],
          ['memset', b + 8n, 0, 100],
        ],
        [
          ['use', 0],
          ['memcpy', a + 4096n, host + 4096n, 16],
        ],
        [
          ['use', 0],
          ['memcpy', h + 4n, a + 4n, 12],
        ],
        [
          ['use', 0],
          ['memcpy', host, a, 4],
        ],
      ]);
    });
  });

  itOnLinux('contend for a page: the GPU is started first, then the CPU writes another word of it', () => {
    onStage([{ ...CONTEND, gpu: 'gpu0' }], (stage, cuda) => {
      const { address, words } = stage.placed[0];
      const at = address + BigInt(3 * PAGE);
      const args = [{ u64: at }, { u32: 5 }, { u64: 70n }, { u64: stage.results.get(0) }];
      expect(perform(stage, cuda).performed).toEqual([
        ['use', 0],
        ['launch', 'pound', 1, 1, args],
      ]);
      const changed = [...(words as Int32Array).keys()].filter((i) => (words as Int32Array)[i] !== 0);
      expect(changed).toEqual([3 * 1024 + 64]);
      expect((words as Int32Array)[3 * 1024 + 64]).toBe(2);
    });
  });

  itOnLinux('free a buffer once, and what is left at the end', () => {
    const steps = ['a', 'h'].map((buffer) => ({ do: 'free', buffer }));
    const cuda = fakeCuda(libc);
    const stage = createStage(cuda, libc, scenario(steps));
    const freed = () => stage.placed.map(({ words }) => words === null);
    expect(perform(stage, cuda, 0).performed).toEqual([['freeManaged', stage.placed[0].address]]);
    expect(freed()).toEqual([true, false, false]);
    expect(perform(stage, cuda, 1).performed).toEqual([]);
    expect(freed()).toEqual([true, false, true]);
    const [list, result] = [stage.lists.get(0), stage.results.get(0)];
    closeStage(stage, libc);
    expect(cuda.calls).toEqual([
      ['freeManaged', stage.placed[1].address],
      ['free', list],
      ['free', result],
      ['hostFree', stage.host.address],
    ]);
    expect(cuda.held.size).toBe(0);
  });

  itOnLinux("of the copy routine are not the stage's", () => {
    onStage([{ do: 'setCopyFrom', buffer: 'a', page: 0 }], (stage, cuda) => {
      expect(() => perform(stage, cuda)).toThrow(
        new LiveStepError("steps[0].do: 'setCopyFrom' is not a step of the stage"),
      );
    });
  });
});
