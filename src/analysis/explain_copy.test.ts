import { describe, expect, it } from 'vitest';
import { type CopyExplanation, type CopyMoment, explainCopy } from './explain_copy.ts';
import { copyExplanationText } from './explain_copy_text.ts';
import { loadMachines } from './machines.ts';

const machines = loadMachines();

function explained(steps: object[], number: number): CopyExplanation {
  const scenario = {
    name: 'copies',
    machine: 'h200-pcie5',
    allocations: [
      { name: 'a', bytes: 8192 },
      { name: 'b', bytes: 8192, kind: 'host' },
    ],
    steps,
  };
  const result = explainCopy({ kind: 'case', line: 1, scenario, observed: null } as never, number, machines);
  if (!result.ok) throw new Error(result.error);
  return result.explanation;
}

const WRITE = { on: 'cpu', do: 'write', buffer: 'a', pages: [0], value: 9 };
const GPU_READ = { on: 'gpu0', do: 'read', buffer: 'a', pages: [0] };
const FROM = { do: 'setCopyFrom', buffer: 'a', page: 0 };
const COPY = { do: 'setNextCopy', buffer: 'b', page: 0 };

/** Locks taken and not released up to a moment, outermost first. */
function heldAt(timeline: readonly CopyMoment[], index: number): string[] {
  const held: string[] = [];
  for (const moment of timeline.slice(0, index)) {
    if (moment.kind !== 'lock') continue;
    if (moment.taken) held.push(moment.lock);
    else held.splice(held.lastIndexOf(moment.lock), 1);
  }
  return held;
}

function stageAt(timeline: readonly CopyMoment[], stage: string): number {
  return timeline.findIndex((moment) => moment.kind === 'stage' && moment.stage === stage);
}

describe('an immediate copy', () => {
  const { copy, timeline } = explained([WRITE, GPU_READ, FROM, COPY], 1);

  it('pins under the mmap lock alone, pushes under the block, and waits with nothing held', () => {
    const push = timeline.findIndex((moment) => moment.kind === 'push');
    expect(heldAt(timeline, push)).toEqual([
      'UVM_LOCK_ORDER_MMAP_LOCK',
      'UVM_LOCK_ORDER_VA_SPACE',
      'UVM_LOCK_ORDER_VA_BLOCK',
    ]);
    expect(heldAt(timeline, stageAt(timeline, 'destination'))).toEqual([]);
    expect(heldAt(timeline, stageAt(timeline, 'wait'))).toEqual([]);
    expect(stageAt(timeline, 'wait')).toBeGreaterThan(push);
  });

  it('names the push of the record, with the value that its semaphore reads at its end', () => {
    const [{ gpu, channel, value, begin, end }] = copy.pushes;
    const push = { gpu, channel, value };
    expect(timeline.find((moment) => moment.kind === 'push')).toMatchObject({ push });
    expect(timeline.find((moment) => moment.kind === 'start')).toMatchObject({ push, time: begin });
    expect(timeline.find((moment) => moment.kind === 'semaphore')).toMatchObject({ push, time: end, payload: value });
    expect(timeline[stageAt(timeline, 'released')].time).toBeGreaterThanOrEqual(end);
  });

  it('is in the order of time', () => {
    for (let i = 1; i < timeline.length; i++) expect(timeline[i].time).toBeGreaterThanOrEqual(timeline[i - 1].time);
  });
});

describe('an armed copy', () => {
  const explanation = explained([WRITE, FROM, { ...COPY, arm: true }, GPU_READ, { do: 'copyStatus', wait: true }], 1);
  const { copy, timeline } = explanation;

  it('is taken by the bottom half, which holds the block', () => {
    const claimed = timeline[stageAt(timeline, 'claimed')];
    expect(claimed).toMatchObject({ thread: 'UVM GPU1 BH', detail: { page: expect.any(Number), gpu: 0 } });
    const locks = claimed.kind === 'stage' ? claimed.held.map(({ lock }) => lock) : [];
    expect(locks.at(-1)).toBe('UVM_LOCK_ORDER_VA_BLOCK');
    expect(locks).toContain('UVM_LOCK_ORDER_VA_SPACE');
  });

  it('acquires the migration, and ends before the page-table entries and the replay', () => {
    const push = timeline.find((moment) => moment.kind === 'push');
    expect(push).toMatchObject({ acquires: [{ gpu: 'gpu0', channel: 0, value: 1 }] });
    const ends = timeline.filter((moment) => moment.kind === 'semaphore').map((moment) => moment.push.value);
    expect(ends).toEqual([copy.pushes[0].value, copy.pageTablePush?.value, copy.replay?.value]);
  });

  it('lets go in a thread of its own, after a callback that only queues', () => {
    const queued = stageAt(timeline, 'queued');
    const released = stageAt(timeline, 'released');
    expect(released).toBeGreaterThan(queued);
    expect(timeline[released].thread).toBe('UVM copies');
  });

  it('reads as text', () => {
    const text = copyExplanationText(explanation);
    expect(text).toContain('Copy 1 of 1 in copies: armed, page 0 of a to page 0 of b');
    expect(text).toMatch(/UVM GPU1 BH +a fault on the page is being serviced, [\s\S]* held: ISR[\s\S]*VA_BLOCK/);
    expect(text).toContain('The copy ended at +');
    for (const line of text.split('\n')) expect(line.length).toBeLessThanOrEqual(120);
  });
});

it('tells copies apart, and says which there are', () => {
  const steps = [WRITE, GPU_READ, FROM, COPY, { ...COPY, page: 1 }];
  expect(explained(steps, 2).copy.to).toEqual({ buffer: 'b', page: 1 });
  expect(explained(steps, 2).timeline[0].time).toBeGreaterThan(explained(steps, 1).timeline.at(-1)?.time ?? 0);
  expect(() => explained(steps, 3)).toThrow("--copy 3: not in scenario 'copies'; valid: 1 to 2");
  expect(() => explained([WRITE], 1)).toThrow('it makes no copies');
});
