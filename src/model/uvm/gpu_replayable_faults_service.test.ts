/** Service of batches where the answers of permissions, thrashing and the block service are the test's own. */
import { beforeEach, describe, expect, it, vi } from 'vitest';
import {
  BASE,
  countEvents,
  createFaultMachine,
  faultEvents,
  replayBatches,
  runMachine,
  startProgram,
  watchPushes,
} from '../../../test/support/fault_machine.ts';
import { assert } from '../../base/assert.ts';
import { faultBufferInject } from '../gpu/fault_buffer.ts';
import { makePte, mmuWritePte, PTE_LEVEL_2M } from '../gpu/mmu.ts';
import type { Model } from '../state.ts';
import { CHANNEL_TYPE_CPU_TO_GPU } from './channel.ts';
import {
  FATAL_REASON_INVALID_ADDRESS,
  FATAL_REASON_INVALID_FAULT_TYPE,
  FATAL_REASON_INVALID_PERMISSIONS,
  FATAL_REASON_OUT_OF_MEMORY,
  FAULT_THROTTLED,
} from './gpu_replayable_faults_types.ts';
import { THRASHING_HINT_NONE, THRASHING_HINT_PIN, THRASHING_HINT_THROTTLE } from './perf_thrashing_types.ts';
import { PURPOSE_COPY, PURPOSE_REPLAY, pushBegin, pushCopy, pushEnd } from './push.ts';
import { NV_ERR_INVALID_ACCESS_TYPE, NV_ERR_MORE_PROCESSING_REQUIRED, NV_ERR_NO_MEMORY, NV_OK } from './status.ts';
import { EVENT_FATAL_FAULT } from './tools.ts';
import { trackerAddPush } from './tracker.ts';
import {
  ACCESS_ATOMIC_STRONG,
  ACCESS_PREFETCH,
  ACCESS_READ,
  ACCESS_WRITE,
  PROT_READ_ONLY,
  S_READ_DUPLICATE,
  S_THRASHING_PIN,
  type VaBlock,
} from './va_block_types.ts';
import { vaSpaceCreate, vaSpaceMmap } from './va_space.ts';

const READ = ACCESS_READ;
const WRITE = ACCESS_WRITE;

/** What the mocked parts answer, set by each test. */
const answers = vi.hoisted(() => ({
  /** Highest protection that page `page` of a block may have; 3: everything. */
  protection: (_page: number): number => 3,
  hint: (_page: number): number => 0,
  /** Status instead of the service, or -1 to service. */
  service: (_m: Model, _block: VaBlock): number => -1,
  serviced: [] as { first: number; outer: number; retries: number; pins: number }[],
}));

vi.mock('./va_block.ts', async (original) => ({
  ...(await original<typeof import('./va_block.ts')>()),
  vaBlockCheckLogicalPermissions: (_m: unknown, _b: unknown, _p: number, page: number, protection: number) =>
    protection <= answers.protection(page) ? NV_OK : NV_ERR_INVALID_ACCESS_TYPE,
}));

vi.mock('./perf_thrashing.ts', async (original) => ({
  ...(await original<typeof import('./perf_thrashing.ts')>()),
  perfThrashingGetHint: (m: Model, _b: unknown, page: number) => {
    m.thrashingHint.type = answers.hint(page);
    m.thrashingHint.residency = 1;
    return m.thrashingHint;
  },
}));

vi.mock('./va_block_service.ts', async (original) => {
  const actual = await original<typeof import('./va_block_service.ts')>();
  return {
    ...actual,
    vaBlockServiceLocked: (...args: Parameters<typeof actual.vaBlockServiceLocked>) => {
      const context = args[3];
      answers.serviced.push({
        first: context.firstPage,
        outer: context.outerPage,
        retries: context.numRetries,
        pins: context.thrashingPinCount,
      });
      const status = answers.service(args[0], args[2]);
      return status >= 0 ? status : actual.vaBlockServiceLocked(...args);
    },
  };
});

beforeEach(() => {
  answers.protection = () => 3;
  answers.hint = () => THRASHING_HINT_NONE;
  answers.service = () => -1;
  answers.serviced = [];
});

function machine(parameters: Record<string, unknown> = {}): Model {
  return createFaultMachine({ parameters: { uvm_perf_prefetch_enable: 0, ...parameters } });
}

function inject(m: Model, page: number, access = READ, client = 0, faultType = 0): void {
  faultBufferInject(m, 0, page, access, faultType, 0, client, 0, 0, 0);
}

/** Fatal faults as [page relative to BASE, access, reason]. */
function fatalFaults(m: Model): [number, number, number][] {
  const log = m.tools.log;
  const list: [number, number, number][] = [];
  for (let i = 0; i < log.count; i++) {
    if (log.kind[i] === EVENT_FATAL_FAULT) list.push([log.page[i] - BASE, log.b[i], log.batch[i]]);
  }
  return list;
}

describe('example G: a throttled page', () => {
  it.each([
    // Without a wait for the replay the next fetch finds nothing: one batch for each bottom half.
    [0, 8],
    [1, 8],
    [2, 2],
    [3, 8],
  ])('ends the bottom half after 5 batches, or one, under policy %i', (policy, bottomHalves) => {
    const m = machine({ uvm_perf_fault_replay_policy: policy });
    let throttled = 0;
    answers.hint = () => (throttled++ < 7 ? THRASHING_HINT_THROTTLE : THRASHING_HINT_NONE);
    const outcomes = startProgram(m, [[BASE, READ]]);
    runMachine(m);
    expect(outcomes).toEqual(['replayed']);
    expect(countEvents(m)).toEqual({ gpuFault: 8, replay: 8 });
    expect(m.gpus[0].isr.replayable.bottomHalfCount).toBe(bottomHalves);
    expect(answers.serviced).toHaveLength(1);
  });

  it('takes the number of batches from the module parameter', () => {
    const m = machine({ uvm_perf_fault_max_throttle_per_service: 2 });
    let throttled = 0;
    answers.hint = () => (throttled++ < 7 ? THRASHING_HINT_THROTTLE : THRASHING_HINT_NONE);
    startProgram(m, [[BASE, READ]]);
    runMachine(m);
    expect(m.gpus[0].isr.replayable.bottomHalfCount).toBe(4);
  });

  it('does not keep other pages of the batch from being serviced', () => {
    const m = machine();
    answers.hint = (page) => (page === 1 ? THRASHING_HINT_THROTTLE : THRASHING_HINT_NONE);
    for (const page of [0, 1, 2]) inject(m, BASE + page);
    runMachine(m);
    expect(faultEvents(m)).toHaveLength(3);
    expect(answers.serviced).toEqual([{ first: 0, outer: 3, retries: 0, pins: 0 }]);
    const resident = m.vaSpaces[0].ranges[0].blocks[0]?.gpus[0]?.w[0];
    expect(resident).toBe(0b101);
  });

  it('skips all faults of the page', () => {
    const m = machine();
    let asked = 0;
    answers.hint = () => {
      asked++;
      return THRASHING_HINT_THROTTLE;
    };
    inject(m, BASE, READ, 0);
    inject(m, BASE, WRITE, 1);
    runMachine(m);
    expect(faultEvents(m)).toHaveLength(2);
    expect(asked).toBe(1);
    expect(answers.serviced).toEqual([]);
    const flags = m.gpus[0].replayable.batch.faultCache.flags;
    expect([flags[0], flags[1]]).toEqual([FAULT_THROTTLED, FAULT_THROTTLED]);
  });
});

describe('a pinned page', () => {
  it('is in the pin mask, and others are not', () => {
    const m = machine();
    answers.hint = (page) => (page === 40 ? THRASHING_HINT_PIN : THRASHING_HINT_NONE);
    const context = m.gpus[0].replayable.blockServiceContext;
    context.w.fill(0xffffffff, S_THRASHING_PIN, S_THRASHING_PIN + 16);
    for (const page of [1, 40, 41]) inject(m, BASE + page);
    answers.service = () => NV_OK;
    runMachine(m);
    expect(answers.serviced).toEqual([{ first: 1, outer: 42, retries: 0, pins: 1 }]);
    expect(Array.from(context.w.subarray(S_THRASHING_PIN, S_THRASHING_PIN + 3))).toEqual([0, 1 << 8, 0]);
    expect(context.readDuplicateCount).toBe(0);
  });
});

describe('read duplication', () => {
  it('counts the pages that the residency decision duplicates', () => {
    const m = machine();
    m.res.seams.selectResidency = (_m, _block, context, page) => {
      context.readDuplicate = page % 2 === 1;
      return 1;
    };
    answers.service = () => NV_OK;
    for (const page of [0, 1, 2, 3]) inject(m, BASE + page);
    runMachine(m);
    const context = m.gpus[0].replayable.blockServiceContext;
    expect(context.readDuplicateCount).toBe(2);
    expect(context.w[S_READ_DUPLICATE]).toBe(0b1010);
  });
});

describe('permissions', () => {
  /** Access types serviced, and masks that the residency decision was asked with. */
  const accesses: number[] = [];
  const masks: number[] = [];

  /** The first block may only be read, and its service maps it so. */
  function readOnly(m: Model): void {
    answers.protection = () => PROT_READ_ONLY;
    answers.service = () => {
      const context = m.gpus[0].replayable.blockServiceContext;
      accesses.push(context.accessType[context.firstPage]);
      mmuWritePte(m.gpus[0].mmu, PTE_LEVEL_2M, BASE, 1, makePte(PROT_READ_ONLY, 1));
      return NV_OK;
    };
    m.res.seams.selectResidency = (...args) => {
      masks.push(args[5]);
      args[2].readDuplicate = false;
      return 1;
    };
  }

  beforeEach(() => {
    accesses.length = 0;
    masks.length = 0;
  });

  it('make a read fatal, and the cancel ends it', () => {
    const m = machine();
    answers.protection = () => 0;
    const outcomes = startProgram(m, [[BASE, READ]]);
    runMachine(m);
    expect(outcomes).toEqual(['cancelled']);
    expect(fatalFaults(m)).toEqual([[0, READ, FATAL_REASON_INVALID_PERMISSIONS]]);
    expect(countEvents(m)).toEqual({ gpuFault: 2, fatalFault: 1, replay: 3 });
  });

  it('make a write fatal while reads of the page are serviced', () => {
    const m = machine();
    readOnly(m);
    // The write is first, so the read merges into it and is serviced from its mask.
    const writer = startProgram(m, [[BASE, WRITE]], 0, 0);
    const reader = startProgram(m, [[BASE, READ]], 0, 0);
    runMachine(m);
    expect(writer).toEqual(['cancelled']);
    expect(reader).toEqual(['replayed']);
    expect(accesses).toEqual([READ]);
    expect(masks).toEqual([1 << READ]);
    expect(fatalFaults(m)).toEqual([[0, WRITE, FATAL_REASON_INVALID_PERMISSIONS]]);
  });

  it('service a separate read on the page of a fatal write: the fatal fault does not stand for it', () => {
    const m = machine();
    readOnly(m);
    // The read is first, so both are representatives and the atomic is sorted before the read.
    const reader = startProgram(m, [[BASE, READ]], 0, 0);
    const atomic = startProgram(m, [[BASE, ACCESS_ATOMIC_STRONG]], 0, 1);
    runMachine(m);
    expect(atomic).toEqual(['cancelled']);
    expect(reader).toEqual(['replayed']);
    expect(accesses).toEqual([READ]);
    expect(faultEvents(m)).toEqual([
      [0, ACCESS_ATOMIC_STRONG, 1],
      [0, READ, 1],
      [0, ACCESS_ATOMIC_STRONG, 2],
    ]);
  });

  it('spare a read that waits for the same page when the write is cancelled', () => {
    const m = machine();
    readOnly(m);
    const service = answers.service;
    // Nothing is mapped at first, so the read comes back together with the write.
    let calls = 0;
    answers.service = (...args) => (calls++ === 0 ? NV_OK : service(...args));
    const writer = startProgram(m, [[BASE, WRITE]], 0, 0);
    const reader = startProgram(m, [[BASE, READ]], 0, 0);
    runMachine(m);
    expect([writer, reader]).toEqual([['cancelled'], ['replayed']]);
    expect(faultEvents(m)).toHaveLength(4);
  });

  it('cancel everything on the page when the merged read is forbidden too', () => {
    const m = machine();
    answers.protection = () => 0;
    const writer = startProgram(m, [[BASE, WRITE]], 0, 0);
    const reader = startProgram(m, [[BASE, READ]], 0, 0);
    runMachine(m);
    expect([writer, reader]).toEqual([['cancelled'], ['cancelled']]);
    // One representative stands for both.
    expect(fatalFaults(m)).toHaveLength(1);
    expect(answers.serviced).toEqual([]);
  });

  it('make a prefetch invalid, whatever is merged into it, and the page is neither serviced nor cancelled', () => {
    const m = machine();
    answers.protection = () => 0;
    inject(m, BASE, ACCESS_PREFETCH, 0);
    inject(m, BASE, ACCESS_PREFETCH, 0);
    inject(m, BASE + 1, ACCESS_PREFETCH, 0);
    runMachine(m);
    expect(countEvents(m)).toEqual({ gpuFault: 3, replay: 1 });
    expect(answers.serviced).toEqual([]);
  });

  it('count every entry of an invalid prefetch, those of separate representatives too', () => {
    const m = machine();
    answers.protection = (page) => (page === 0 ? 0 : 3);
    for (const [page, client] of [
      [0, 0],
      [0, 0],
      [1, 1],
      [0, 2],
    ]) {
      inject(m, BASE + page, ACCESS_PREFETCH, client);
    }
    const counts: number[] = [];
    watchPushes(m, (purpose) => {
      if (purpose === PURPOSE_REPLAY) counts.push(m.gpus[0].replayable.batch.numInvalidPrefetchFaults);
    });
    runMachine(m);
    expect(counts).toEqual([3]);
  });

  it('of other pages do not matter', () => {
    const m = machine();
    answers.protection = (page) => (page === 3 ? 0 : 3);
    const outcomes = [2, 3, 4].map((page, i) => startProgram(m, [[BASE + page, WRITE]], 0, i));
    runMachine(m);
    expect(outcomes).toEqual([['replayed'], ['cancelled'], ['replayed']]);
    expect(fatalFaults(m)).toEqual([[3, WRITE, FATAL_REASON_INVALID_PERMISSIONS]]);
  });
});

describe('a retry of the block', () => {
  it('does everything again but the reports and the counts', () => {
    const m = machine();
    let tries = 0;
    answers.service = () => (++tries < 3 ? NV_ERR_MORE_PROCESSING_REQUIRED : -1);
    inject(m, BASE, READ, 0);
    inject(m, BASE, READ, 0);
    inject(m, BASE + 1, WRITE, 1);
    runMachine(m);
    expect(answers.serviced.map((call) => call.retries)).toEqual([0, 1, 2]);
    expect(countEvents(m)).toEqual({ gpuFault: 3, replay: 1 });
  });

  it('does not mark a page as throttled that the first try left alone', () => {
    const m = machine();
    let tries = 0;
    answers.service = () => (tries++ === 0 ? NV_ERR_MORE_PROCESSING_REQUIRED : -1);
    answers.hint = (page) => (page === 1 && tries > 0 ? THRASHING_HINT_THROTTLE : THRASHING_HINT_NONE);
    inject(m, BASE);
    inject(m, BASE + 1);
    const seen: boolean[] = [];
    m.res.seams.selectResidency = () => {
      seen.push(m.gpus[0].replayable.batch.hasThrottledFaults);
      return 1;
    };
    watchPushes(m, (purpose) => {
      if (purpose === PURPOSE_REPLAY) seen.push(m.gpus[0].replayable.batch.hasThrottledFaults);
    });
    runMachine(m);
    // Two pages, then the retry's one; and the batch's end.
    expect(seen).toEqual([false, false, false, false]);
  });
});

describe('an error of the service', () => {
  it.each([0, 1, 2, 3])('cancels every fault of the batch, also those of other blocks, under policy %i', (policy) => {
    const m = machine({ uvm_perf_fault_replay_policy: policy });
    let calls = 0;
    answers.service = () => (calls++ === 1 ? NV_ERR_NO_MEMORY : -1);
    const outcomes = [0, 512, 1024].map((page, i) => startProgram(m, [[BASE + page, READ]], 0, i));
    runMachine(m);
    expect(fatalFaults(m)).toEqual([
      [0, READ, FATAL_REASON_OUT_OF_MEMORY],
      [512, READ, FATAL_REASON_OUT_OF_MEMORY],
      [1024, READ, FATAL_REASON_OUT_OF_MEMORY],
    ]);
    // The first block was in place already: the replay that comes with a cancel lets its access through.
    expect(outcomes.slice(1)).toEqual([['cancelled'], ['cancelled']]);
    // The flush's replay, and the one that every bottom half makes unless it counted one before.
    expect(replayBatches(m)).toHaveLength(2);
    expect(m.gpus[0].isr.replayable.bottomHalfCount).toBe(1);
  });

  it('ends the bottom half and leaves later faults to the next one', () => {
    const m = machine({ uvm_perf_fault_replay_policy: 1, uvm_perf_fault_batch_count: 1 });
    let calls = 0;
    answers.service = () => (calls++ === 0 ? NV_ERR_NO_MEMORY : -1);
    inject(m, BASE);
    inject(m, BASE + 512);
    inject(m, BASE + 1024);
    runMachine(m);
    // The flush that ends the cancel takes what was in the buffer.
    expect(faultEvents(m).map((event) => event[0])).toEqual([0]);
    expect(m.gpus[0].faultBuffer.get).toBe(3);
  });
});

describe('faults of a fatal type', () => {
  it('are cancelled without a fault record', () => {
    const m = machine();
    inject(m, BASE, READ, 0, 5);
    runMachine(m);
    // Nobody waits for it, so it does not come back, and there is nothing to cancel.
    expect(countEvents(m)).toEqual({ replay: 3 });
    expect(answers.serviced).toEqual([]);
  });

  it('are cancelled when they are seen again, and the others of the batch are serviced', () => {
    const m = machine();
    const outcome = startProgram(m, [[BASE + 512, READ]], 0, 0);
    inject(m, BASE, READ, 1, 5);
    // The first replay brings the fatal fault back.
    let replays = 0;
    watchPushes(m, (purpose, finish) => {
      if (purpose !== PURPOSE_REPLAY || replays++ > 0) return;
      faultBufferInject(m, 0, BASE, READ, 5, 0, 1, 0, finish, finish);
    });
    runMachine(m);
    expect(outcome).toEqual(['replayed']);
    expect(faultEvents(m)).toEqual([[512, READ, 1]]);
    expect(fatalFaults(m)).toEqual([[0, READ, FATAL_REASON_INVALID_FAULT_TYPE]]);
    expect(replayBatches(m)).toEqual([1, 2, 2]);
  });
});

describe('VA spaces', () => {
  /** A second VA space with memory of its own, and its context as instance pointer 1. */
  function twoSpaces(): Model {
    const m = machine();
    const other = vaSpaceCreate(m, m.vaSpaces[0].thrashing);
    vaSpaceMmap(other, BASE + 100_000 - (100_000 % 512), 512, 1);
    m.gpus[0].instancePointers.push({ address: 0x20, aperture: 0, vaSpace: other.id });
    return m;
  }
  const OTHER = BASE + 100_000 - (100_000 % 512);

  it('are serviced one after the other, each in its own memory', () => {
    const m = twoSpaces();
    faultBufferInject(m, 0, OTHER, READ, 0, 0, 0, 1, 0, 0);
    inject(m, BASE + 7);
    faultBufferInject(m, 0, OTHER + 1, READ, 0, 0, 0, 1, 0, 0);
    runMachine(m);
    expect(faultEvents(m).map((event) => event[0])).toEqual([7, OTHER - BASE, OTHER - BASE + 1]);
    expect(answers.serviced.map((call) => [call.first, call.outer])).toEqual([
      [7, 8],
      [0, 2],
    ]);
  });

  it('do not share addresses: one is fatal where the other has memory', () => {
    const m = twoSpaces();
    faultBufferInject(m, 0, BASE + 8, READ, 0, 0, 0, 1, 0, 0);
    inject(m, BASE + 7);
    runMachine(m);
    // Both are recorded; only the space that owns the memory services its page.
    expect(faultEvents(m).map((event) => event[0])).toEqual([7, 8]);
    expect(answers.serviced.map((call) => [call.first, call.outer])).toEqual([[7, 8]]);
  });

  it('without the GPU have their faults ignored, without a record', () => {
    const m = twoSpaces();
    m.vaSpaces[1].registeredGpus = 0;
    faultBufferInject(m, 0, OTHER, READ, 0, 0, 0, 1, 0, 0);
    inject(m, BASE);
    runMachine(m);
    expect(faultEvents(m).map((event) => event[0])).toEqual([0]);
    expect(replayBatches(m)).toEqual([1]);
  });

  it('make the bottom half wait for a writer, and note when they were let go of', () => {
    const m = twoSpaces();
    m.vaSpaces[0].writeFreeAt = 70_000;
    inject(m, BASE);
    runMachine(m);
    expect(m.tools.log.time[0]).toBeGreaterThanOrEqual(70_000);
    expect(m.vaSpaces[0].readFreeAt).toBeGreaterThan(70_000);
    expect(m.vaSpaces[1].readFreeAt).toBe(0);
  });

  it('have a fatal fault of one cancelled without harm to the other', () => {
    const m = twoSpaces();
    const good = startProgram(m, [[BASE, READ]], 0, 0);
    const bad = startProgram(m, [[OTHER + 5000, READ]], 0, 1);
    m.gpus[0].clients.instance[1] = 1;
    runMachine(m);
    expect([good, bad]).toEqual([['replayed'], ['cancelled']]);
    expect(fatalFaults(m)).toEqual([[OTHER + 5000 - BASE, READ, FATAL_REASON_INVALID_ADDRESS]]);
  });
});

describe('the replay', () => {
  it.each([0, 1, 2, 3])('runs after the work of all blocks of the bottom half under policy %i', (policy) => {
    const m = machine({ uvm_perf_fault_replay_policy: policy });
    // Work on a channel of its own, so that only an acquire can hold the replay back.
    let copied = 0;
    answers.service = (model, block) => {
      const push = pushBegin(model, 0, CHANNEL_TYPE_CPU_TO_GPU, PURPOSE_COPY);
      pushCopy(model, push, 1, 0, block.startPage, 512, false);
      pushEnd(model, push);
      trackerAddPush(block.tracker, push);
      copied = push.finish;
      return NV_OK;
    };
    const replays: [number, number][] = [];
    watchPushes(m, (purpose, finish) => {
      if (purpose === PURPOSE_REPLAY) replays.push([finish, copied]);
    });
    for (const page of [0, 512, 1024]) inject(m, BASE + page);
    runMachine(m);
    expect(replays).toHaveLength(policy === 0 ? 3 : 1);
    for (const [finish, before] of replays) expect(finish).toBeGreaterThan(before + m.cost.replay);
  });
});

describe('a block', () => {
  it('makes the bottom half wait until its lock is free', () => {
    const m = machine();
    inject(m, BASE);
    runMachine(m);
    const block = m.vaSpaces[0].ranges[0].blocks[0];
    assert(block !== null, 'the block exists');
    const records = m.tools.log.count;
    block.lockFreeAt = m.k.now + 90_000;
    const free = block.lockFreeAt;
    faultBufferInject(m, 0, BASE + 1, READ, 0, 0, 0, 0, m.k.now, m.k.now);
    runMachine(m);
    expect(m.tools.log.time[records]).toBeGreaterThanOrEqual(free);
    expect(block.lockFreeAt).toBeGreaterThan(free);
  });

  it('is dispatched once for all its faults, and its neighbour apart', () => {
    const m = machine({ uvm_perf_fault_replay_policy: 0 });
    for (const page of [511, 5, 512, 600, 300]) inject(m, BASE + page);
    runMachine(m);
    expect(answers.serviced.map((call) => [call.first, call.outer])).toEqual([
      [5, 512],
      [0, 89],
    ]);
    // Policy BLOCK replays after each, under an id of its own.
    expect(replayBatches(m)).toEqual([1, 2]);
    expect(m.gpus[0].replayable.batch.batchId).toBe(3);
  });

  it('gets no replay of its own any more once a fault of the batch is fatal', () => {
    const m = machine({ uvm_perf_fault_replay_policy: 0 });
    for (const page of [0, 512]) inject(m, BASE + page);
    inject(m, BASE - 1);
    runMachine(m);
    // The page below comes first: none for the blocks; the cancel's two, and the last one.
    expect(faultEvents(m).map((event) => [event[0], event[2]])).toEqual([
      [-1, 1],
      [0, 1],
      [512, 1],
    ]);
    expect(replayBatches(m)).toHaveLength(3);
  });
});
