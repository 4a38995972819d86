/** A model that has a kernel and nothing else, for the tests of src/model/kernel. */
import { createKernel } from '../../src/model/kernel/clock.ts';
import { createThreads } from '../../src/model/kernel/thread.ts';
import type { Model } from '../../src/model/state.ts';

/** A kernel at time 0 with threads, all checks on, and a wake-up of a queue's thread that takes `bottomHalfWake` ns. */
export function createKernelModel(bottomHalfWake = 0): Model {
  const m = {
    cost: { bottomHalfWake },
    res: {
      handlers: [],
      kthreadFunctions: [],
      threads: { generators: [], kind: -1 },
      why: null,
      pushWatch: null,
      verify: true,
    },
    k: createKernel(),
  } as unknown as Model;
  createThreads(m);
  return m;
}
