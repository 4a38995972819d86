import { expect, it } from 'vitest';
import { parseScenario } from '../scenario/scenario.ts';
import { describeStep } from './describe.ts';

const A = { buffer: 'a' };
const WHOLE = { ...A, offset: 0, length: 2097152 };
const STEPS: [object, string][] = [
  [{ on: 'cpu', do: 'write', ...WHOLE, stride: 4096 }, 'cpu writes a: 512 pages'],
  [{ on: 'cpu', do: 'write', ...A, offset: 8192, length: 4096, stride: 4096 }, 'cpu writes a: 1 page from 8 KiB'],
  [{ on: 'gpu0', do: 'read', ...WHOLE, stride: 65536 }, 'gpu0 reads a: 32 of 2 MiB, one each 64 KiB'],
  [{ on: 'gpu1', do: 'atomic', ...A, pages: [5, 3, 9] }, 'gpu1 adds atomically to a: 3 pages, 5 to 9 by list'],
  [{ on: 'gpu0', do: 'read', ...A, pages: [7] }, 'gpu0 reads a: page 7'],
  [{ do: 'prefetch', to: 'gpu1', ...A, offset: 4096, length: 8192 }, 'prefetch a to gpu1: 8 KiB from 4 KiB'],
  [
    { do: 'advise', advice: 'setPreferredLocation', processor: 'cpu', ...WHOLE },
    'setPreferredLocation cpu on a: 2 MiB',
  ],
  [{ do: 'advise', advice: 'unsetReadMostly', ...WHOLE }, 'unsetReadMostly on a: 2 MiB'],
  [
    { on: 'gpu0', do: 'kernel', kernel: 'streamRead', ...A, grid: 1, block: 1, elementBytes: 16, length: 2097152 },
    'streamRead on gpu0, a: 2 MiB',
  ],
  [{ on: 'gpu0', do: 'memset', ...WHOLE }, 'memset on gpu0, a: 2 MiB'],
  [{ do: 'memcpy', from: 'a', to: 'host', offset: 0, length: 2097152 }, 'memcpy a to host: 2 MiB'],
  [{ do: 'setCopyFrom' }, 'setCopyFrom nothing'],
  [{ do: 'setCopyFrom', ...A, page: 3 }, 'setCopyFrom a, page 3'],
  [{ do: 'setNextCopy', ...A, page: 4, arm: true }, 'setNextCopy a, page 4, armed'],
  [{ do: 'copyStatus', wait: true, disarm: true }, 'copyStatus, waiting, disarming'],
  [{ do: 'checkBytes', ...A, page: 2, value: 1 }, 'check the bytes of a, page 2'],
  [
    {
      do: 'contend',
      gpu: 'gpu0',
      ...A,
      page: 1,
      gpuWrites: 1,
      gpuPauseCycles: 0,
      cpuWrites: 1,
      cpuPauseMicroseconds: 0,
    },
    'gpu0 and cpu write page 1 of a at once',
  ],
  [{ do: 'free', ...A }, 'free a'],
];

it('says of every step what it does', () => {
  const json = {
    name: 'all',
    machine: 'm',
    allocations: [{ name: 'a', bytes: 2097152 }],
    steps: STEPS.map(([step]) => step),
  };
  const parsed = parseScenario(json, { m: { gpus: 2 } });
  if (!parsed.ok) throw new Error(parsed.error);
  const { scenario } = parsed;
  expect(scenario.steps.map((step) => describeStep(step, scenario))).toEqual(STEPS.map(([, text]) => text));
});
