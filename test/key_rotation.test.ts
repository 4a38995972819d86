/**
 * Rotation of keys in whole histories: with a threshold so low that nearly every copy passes it, the same pages fault, and
 * move, and hold the same bytes as without. The driver's tests rotate keys after 8 MiB, in `uvm_enable_builtin_tests`.
 */
import { expect, it } from 'vitest';
import type { Model } from '../src/model/state.ts';
import { logEvents } from '../src/trace/log_events.ts';
import { withConfidentialComputing } from './histories/check.ts';
import { generateHistory } from './histories/generate.ts';
import type { History } from './histories/history.ts';
import { runHistory } from './histories/run.ts';

const FIRST = 30_001;
const COUNT = 60;
const THRESHOLD = 4096;
const TIMES = ['time', 'gpuTime', 'begin', 'end', 'gpuBegin', 'gpuEnd'];

const lowThreshold = (m: Model): void => {
  for (const { channelManager } of m.gpus) {
    if (channelManager.confComputing !== null) channelManager.confComputing.keyRotationThreshold = THRESHOLD;
  }
};

const withTests = (history: History): History => ({
  ...withConfidentialComputing(history),
  parameters: { ...withConfidentialComputing(history).parameters, uvm_enable_builtin_tests: 1 },
});

/** What does not depend on time: one thread after the other, and nothing that thrashes. */
function timeless(history: History): History {
  const steps = history.steps.filter((step) => step.do !== 'burst' && step.do !== 'contend');
  return { ...history, steps, parameters: { ...history.parameters, uvm_perf_thrashing_enable: 0 } };
}

/** Runs a history: its failure, rotations, events without their times, and what was written where. */
function outcome(history: History, plant: (m: Model) => void) {
  const { failure, harness } = runHistory(history, new Map(), plant);
  if (harness === null) throw new Error(String(failure));
  const { m, run } = harness;
  const text = logEvents(m, run.scenario.allocations).map((event) =>
    JSON.stringify(Object.fromEntries(Object.entries(event).filter(([key]) => !TIMES.includes(key)))),
  );
  const isFault = (event: string) => /"event":"\w*Fault"/.test(event);
  return {
    failure,
    rotations: m.gpus.reduce((sum, gpu) => sum + (gpu.channelManager.confComputing?.counts.keyRotations ?? 0), 0),
    faults: text.filter(isFault),
    // A rotation collects the pushes of its pool, and with them their events, earlier than others would.
    others: text.filter((event) => !isFault(event)).sort(),
    written: [...(run.state.expected ?? [])],
  };
}

it(`changes no fault, migration or byte of seeds ${FIRST} to ${FIRST + COUNT - 1}`, () => {
  const sum = { rotations: 0, faults: 0, others: 0 };
  for (let seed = FIRST; seed < FIRST + COUNT; seed++) {
    const history = timeless(withTests(generateHistory(seed)));
    const { rotations: none, ...without } = outcome(history, () => {});
    const { rotations, ...rotated } = outcome(history, lowThreshold);
    expect({ seed, none, ...rotated }).toEqual({ seed, none: 0, ...without });
    expect(rotated.failure).toBeNull();
    sum.rotations += rotations;
    sum.faults += rotated.faults.length;
    sum.others += rotated.others.length;
  }
  expect(sum.rotations).toBeGreaterThan(150);
  expect(Math.min(sum.faults, sum.others)).toBeGreaterThan(300);
}, 60_000);

it('breaks no rule in histories with bursts either', () => {
  let rotations = 0;
  for (let seed = FIRST; seed < FIRST + COUNT; seed++) {
    const rotated = outcome(withTests(generateHistory(seed)), lowThreshold);
    expect([seed, rotated.failure]).toEqual([seed, null]);
    rotations += rotated.rotations;
  }
  expect(rotations).toBeGreaterThan(200);
}, 60_000);
