/**
 * Channels that go wrong in the middle of a scenario: the run ends, with the error that the driver would give, nothing
 * hangs, and what completed before is where it was. What each wait does is in src/model/uvm/channel_inject.test.ts.
 */
import { describe, expect, it } from 'vitest';
import { loadMachines } from '../src/analysis/machines.ts';
import { IOCTL } from '../src/device/abi/ioctls.ts';
import { ioctlResult } from '../src/device/device.ts';
import { createModelDriver } from '../src/device/model/driver.ts';
import { createModelDevice } from '../src/device/model/model_device.ts';
import { contentsRead } from '../src/model/gpu/contents.ts';
import { hostRunUntil } from '../src/model/gpu/host.ts';
import {
  channelInjectBlock,
  channelInjectError,
  channelInjectStuckSemaphore,
  gpuInjectEccError,
} from '../src/model/index.ts';
import { channelRecentPushes } from '../src/model/uvm/channel.ts';
import { NV_ERR_ECC_ERROR, NV_ERR_RC_ERROR, NV_OK } from '../src/model/uvm/status.ts';
import { advanceRun, type Run } from '../src/scenario/runner.ts';
import { parseScenario } from '../src/scenario/scenario.ts';
import { createSession } from '../src/scenario/session.ts';
import { identity } from '../src/trace/event.ts';
import { logEvents } from '../src/trace/log_events.ts';

const machines = loadMachines();
const MIB = 1024 * 1024;

/** A run of these steps over `blocks` blocks of 2 MiB, with the contents of memory. */
function start(steps: unknown[], blocks = 1, parameters: Record<string, number> = {}, copyEngines = 0): Run {
  const json = { name: 'broken', machine: 'h200-pcie5', allocations: [{ name: 'a', bytes: blocks * 2 * MIB }], steps };
  const parsed = parseScenario(json, machines.known);
  if (!parsed.ok) throw new Error(parsed.error);
  const profile = machines.profile('h200-pcie5');
  const spec = copyEngines === 0 ? profile.spec : { ...profile.spec, copyEngines };
  const session = createSession(parsed.scenario, { ...profile, spec }, { contents: true, parameters });
  if (!session.ok) throw new Error(session.error);
  return session.run;
}

const cpuWrite = (value: number, pages: number[]) => ({ on: 'cpu', do: 'write', buffer: 'a', pages, value });
const gpuWrite = (value: number, pages: number[]) => ({ on: 'gpu0', do: 'write', buffer: 'a', pages, value });
const cpuRead = (pages: number[]) => ({ on: 'cpu', do: 'read', buffer: 'a', pages });
const toGpu = (blocks: number) => ({ do: 'prefetch', to: 'gpu0', buffer: 'a', offset: 0, length: blocks * 2 * MIB });
const toCpu = (blocks: number) => ({ do: 'prefetch', to: 'cpu', buffer: 'a', offset: 0, length: blocks * 2 * MIB });

/** The word at the start of a page in a processor's memory, with everything that the GPU has done by now. */
function word(run: Run, processor: number, page: number): number {
  hostRunUntil(run.m, 0, run.m.k.now);
  return contentsRead(run.m.contents as never, processor, run.space.ranges[0].startPage + page, 0);
}

/** Runs the first `steps` steps, which go well. */
function begin(run: Run, steps: number): void {
  for (let i = 0; i < 1000 && run.state.step < steps; i++) expect(advanceRun(run, 1)).toBe(false);
  expect([run.state.step, run.state.error]).toEqual([steps, null]);
}

const identities = (run: Run): string[] => logEvents(run.m, run.scenario.allocations).map(identity);

describe('an RC error in a run', () => {
  it('of the copies to the CPU is a bus error there; the data stays on the GPU', () => {
    const run = start([cpuWrite(3, [0, 1]), gpuWrite(4, [0, 1]), cpuRead([0]), cpuRead([1])]);
    begin(run, 2);
    channelInjectError(run.m, 0, 'GPU_TO_CPU', 1);
    expect(advanceRun(run)).toBe(true);
    expect(run.state.error).toMatch(/^steps\[2\]: the CPU's access to page \d+ ended in a bus error$/);
    expect(run.m.globalStatus).toBe(NV_ERR_RC_ERROR);
    expect(run.m.gpus[0].channelManager.fatalEntry).toMatchObject({ purpose: 1, status: NV_ERR_RC_ERROR });
    expect([word(run, 1, 0), word(run, 1, 1)]).toEqual([4, 4]);
    expect(word(run, 0, 0)).toBe(3);
    // The driver holds that the page is still on the GPU, and tells the tools of an internal error.
    expect(run.space.ranges[0].blocks[0]?.resident).toBe(0b10);
    expect(identities(run).at(-1)).toMatch(/[Ff]atal/);
    // Nobody waits for it once more.
    expect(advanceRun(run)).toBe(true);
  });

  it('of the copies to the GPU ends a prefetch call, and every ioctl later', async () => {
    const run = start([cpuWrite(3, [0]), toGpu(1)]);
    begin(run, 1);
    const device = createModelDevice(createModelDriver(run.m));
    const uvm = await device.open('uvm');
    channelInjectError(run.m, 0, 'CPU_TO_GPU', 1);
    expect(advanceRun(run)).toBe(true);
    expect(run.state.error).toBe('steps[1]: prefetch to gpu0 failed with status 0x60');
    expect(word(run, 0, 0)).toBe(3);
    expect((await ioctlResult(device, uvm, IOCTL.INITIALIZE, {})).status).toBe(NV_ERR_RC_ERROR);
    await expect(device.open('uvm')).rejects.toThrow('open uvm');
  });

  it('of the replay ends the bottom half; the program waits for ever, and the run says so', () => {
    const run = start([cpuWrite(3, [0]), gpuWrite(4, [0]), cpuRead([0])]);
    begin(run, 1);
    channelInjectError(run.m, 0, 'MEMOPS', 1);
    expect(advanceRun(run)).toBe(true);
    expect(run.state.error).toBe(
      "steps[1]: the program waits for the driver, which has nothing more to do: the driver's global status is NV_ERR_RC_ERROR",
    );
    expect(run.m.gpus[0].replayable.batch.tracker).toEqual([]);
  });

  it('of a copy that a fault of the GPU needs leaves the bottom half with a replay that never runs', () => {
    const run = start([cpuWrite(3, [0]), gpuWrite(4, [0])], 1, {}, 5);
    begin(run, 1);
    channelInjectError(run.m, 0, 'CPU_TO_GPU', 1);
    expect(advanceRun(run)).toBe(true);
    // With an engine for each type it waits for the replay alone, whose channel is healthy: nothing looks at the channel of the copy.
    expect(run.state.error).toMatch(/^steps\[1\]: the driver would spin for ever: .* uvm_tracker_wait waits for gpu0/);
    expect(run.state.error).toContain('has an error that this wait does not look for');
    expect(run.m.globalStatus).toBe(NV_OK);
    expect(run.m.gpus[0].channelManager.spinReports).toMatchObject([{ place: 'uvm_tracker_wait', reports: 1 }]);
  });

  it('that is found by the next user of the full channel', () => {
    // 31 blocks fill the first channel of the pool, and as many the second: both stand behind the first push.
    const run = start([toGpu(40), cpuRead([0])], 40, { uvm_channel_num_gpfifo_entries: 32 });
    const { channels, pools, poolForType } = run.m.gpus[0].channelManager;
    for (const { index } of pools[poolForType[2]].channels) channelInjectError(run.m, 0, index, 1);
    expect(channels.length).toBeGreaterThan(4);
    expect(advanceRun(run)).toBe(true);
    expect(run.m.globalStatus).toBe(NV_ERR_RC_ERROR);
    expect(run.state.error).toBe('steps[0]: prefetch to gpu0 failed with status 0x60');
  });

  it('leaves blocks whose copy could not begin where they were', () => {
    const pages = Array.from({ length: 70 }, (_, i) => 512 * i);
    const run = start([cpuWrite(3, pages), toGpu(70)], 70, { uvm_channel_num_gpfifo_entries: 32 });
    begin(run, 1);
    const { pools, poolForType } = run.m.gpus[0].channelManager;
    const { channels } = pools[poolForType[0]];
    for (const { index } of channels) channelInjectError(run.m, 0, index, 1);
    expect(advanceRun(run)).toBe(true);
    expect(run.state.error).toBe('steps[1]: prefetch to gpu0 failed with status 0x60');
    const copies = channels
      .flatMap(({ id }) => channelRecentPushes(run.m, id, 31))
      .filter((push) => push.purpose === 1);
    const residents = run.space.ranges[0].blocks.map((block) => block?.resident);
    expect(copies.length).toBeGreaterThan(15);
    expect(residents.filter((processors) => processors === 0b10)).toHaveLength(copies.length);
    expect(residents.slice(copies.length)).toEqual(new Array(70 - copies.length).fill(0b01));
    for (const page of pages) expect(word(run, 0, page)).toBe(3);
  });
});

describe('an ECC error in a run', () => {
  it('is noticed at a copy to the CPU: a bus error, and the driver is done', () => {
    const run = start([cpuWrite(3, [0, 1]), gpuWrite(4, [0, 1]), cpuRead([0])]);
    begin(run, 2);
    gpuInjectEccError(run.m, 0, 1);
    expect(advanceRun(run)).toBe(true);
    expect(run.state.error).toMatch('bus error');
    expect(run.m.globalStatus).toBe(NV_ERR_ECC_ERROR);
    expect(word(run, 1, 0)).toBe(4);
    expect(run.m.gpus[0].channelManager.fatalEntry).toBe(null);
  });

  it('is not looked for by a prefetch call, but by the next fault of the CPU', () => {
    const run = start([cpuWrite(3, [0, 600]), toGpu(2), toCpu(1), cpuRead([600])], 2);
    begin(run, 1);
    gpuInjectEccError(run.m, 0, 1);
    begin(run, 3);
    expect(run.m.globalStatus).toBe(NV_OK);
    expect(advanceRun(run)).toBe(true);
    expect(run.state.error).toMatch(/^steps\[3\].*bus error/);
    expect(run.m.globalStatus).toBe(NV_ERR_ECC_ERROR);
  });
});

describe('a tracking semaphore that stands still in a run', () => {
  it('ends it with an error that names the wait, after the driver has reported it', () => {
    const run = start([cpuWrite(3, [0]), toGpu(1), cpuRead([0])]);
    begin(run, 1);
    channelInjectStuckSemaphore(run.m, 0, 'CPU_TO_GPU', 1);
    expect(advanceRun(run)).toBe(true);
    expect(run.state.error).toMatch(/^steps\[1\]: the driver would spin for ever: .*stands still$/);
    expect(run.m.gpus[0].channelManager.spinReports).toHaveLength(1);
    // The copy ran all the same.
    expect(word(run, 1, 0)).toBe(3);
  });
});

describe('a blocked GPU in a run', () => {
  const BLOCKS = 70;
  const pages = Array.from({ length: BLOCKS }, (_, i) => 512 * i + 7);
  const steps = [cpuWrite(3, pages), toGpu(BLOCKS), gpuWrite(5, pages), toCpu(BLOCKS), cpuRead(pages)];

  it('fills GPFIFOs; the run takes longer, and gives the same events and the same memory', () => {
    const usual = start(steps, BLOCKS, { uvm_channel_num_gpfifo_entries: 32 });
    expect([advanceRun(usual), usual.state.error, usual.state.mismatches]).toEqual([true, null, 0]);
    const run = start(steps, BLOCKS, { uvm_channel_num_gpfifo_entries: 32 });
    begin(run, 1);
    const until = run.m.k.now + 45e9;
    const { channels } = run.m.gpus[0].channelManager;
    for (const { index } of channels) channelInjectBlock(run.m, 0, index, until);
    expect([advanceRun(run), run.state.error, run.state.mismatches]).toEqual([true, null, 0]);
    expect(run.m.k.now).toBeGreaterThan(until);
    // The first wait is for room in a GPFIFO.
    const { spinReports } = run.m.gpus[0].channelManager;
    expect(spinReports).toMatchObject([{ place: 'channel_reserve_in_pool', reports: 1 }]);
    expect(identities(run).sort()).toEqual(identities(usual).sort());
    for (const page of pages) expect(word(run, 0, page)).toBe(5);
  });

  it('for ever ends the run with an error', () => {
    const run = start([cpuWrite(3, [0]), gpuWrite(4, [0])]);
    begin(run, 1);
    channelInjectBlock(run.m, 0, 'CPU_TO_GPU', Number.POSITIVE_INFINITY);
    expect(advanceRun(run)).toBe(true);
    expect(run.state.error).toMatch(/^steps\[1\]: the driver would spin for ever: .*gpu0 channel \d+ is blocked$/);
    expect(word(run, 0, 0)).toBe(3);
  });
});

describe('any channel that goes wrong at any push', () => {
  const pages = Array.from({ length: 48 }, (_, i) => 33 * i + 5);
  const steps = [
    cpuWrite(1, pages),
    gpuWrite(2, pages),
    cpuWrite(3, pages.slice(0, 20)),
    toGpu(4),
    { on: 'gpu0', do: 'atomic', buffer: 'a', pages: pages.slice(10, 30) },
    toCpu(4),
    { do: 'advise', advice: 'setReadMostly', buffer: 'a', offset: 0, length: 2 * MIB },
    { on: 'gpu0', do: 'read', buffer: 'a', pages },
    cpuWrite(7, pages.slice(5, 40)),
    cpuRead(pages),
  ];
  const ENDS = [
    /bus error$/,
    /^steps\[\d\]: prefetch to \w+ failed with status 0x(60|b)$/,
    /^steps\[\d\]: advice setReadMostly failed with status 0x(60|b)$/,
    /has nothing more to do: the driver's global status is NV_ERR_(RC|ECC)_ERROR$/,
    /would spin for ever: since \d+ ns uvm_/,
    /would spin for ever: since \d+ ns channel_reserve_in_pool/,
    /is a fatal fault/,
  ];

  for (const [name, inject] of [
    ['fails', channelInjectError],
    ['loses its semaphore', channelInjectStuckSemaphore],
  ] as const) {
    it(`${name}: the run ends, in a way that is known, and no word that was written is lost`, () => {
      const seen = new Set<RegExp>();
      let ended = 0;
      for (const copyEngines of [0, 5]) {
        for (const type of ['CPU_TO_GPU', 'GPU_TO_CPU', 'GPU_INTERNAL', 'MEMOPS']) {
          for (const nth of [1, 2, 3, 5, 8, 13, 21, 34, 50, 80, 120]) {
            const run = start(steps, 4, { uvm_channel_num_gpfifo_entries: 32 }, copyEngines);
            inject(run.m, 0, type, nth);
            expect(advanceRun(run)).toBe(true);
            const { error, expected, mismatches } = run.state;
            expect(mismatches).toBe(0);
            if (error !== null) {
              ended++;
              const end = ENDS.find((pattern) => pattern.test(error));
              expect(end, error).toBeDefined();
              seen.add(end as RegExp);
            }
            const first = run.space.ranges[0].startPage;
            for (const [page, value] of expected as Map<number, number>) {
              expect([word(run, 0, page - first), word(run, 1, page - first)], `${error} ${page}`).toContain(value);
            }
          }
        }
      }
      expect(ended).toBeGreaterThan(20);
      expect(seen.size).toBeGreaterThan(name === 'fails' ? 3 : 0);
    });
  }
});
