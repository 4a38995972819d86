import { describe, expect, it } from 'vitest';
import { type RandomOptions, type RandomScenario, randomScenario } from './random_scenario.ts';
import { parseScenario } from './scenario.ts';
import { ADVICES } from './shapes.ts';

const MACHINES = { one: { gpus: 1 }, two: { gpus: 2 } };
const ONE: RandomOptions = { machine: 'one', gpus: 1 };
const TWO: RandomOptions = { machine: 'two', gpus: 2 };
const MIB = 2 ** 20;

const first = (count: number, options: RandomOptions): RandomScenario[] =>
  Array.from({ length: count }, (_, seed) => randomScenario(seed, options));

/** All values that a field of the steps has. */
function valuesOf(scenarios: readonly RandomScenario[], field: string): string[] {
  const values = new Set(scenarios.flatMap(({ steps }) => steps.map((step) => step[field])));
  values.delete(undefined);
  return [...values].map(String).sort();
}

describe('random histories', () => {
  it('are the same for the same seed, byte for byte, and others for others', () => {
    const texts = first(500, TWO).map((scenario) => JSON.stringify(scenario));
    expect(first(500, TWO).map((scenario) => JSON.stringify(scenario))).toEqual(texts);
    expect(new Set(texts.map((text) => text.replace(/"random-\d+"/, ''))).size).toBe(500);
  });

  it.each([ONE, TWO])('are valid, and small enough for a GPU that others use: %j', (options) => {
    for (const [seed, scenario] of first(500, options).entries()) {
      const result = parseScenario(scenario, MACHINES);
      if (!result.ok) throw new Error(`seed ${seed}: ${result.error}`);
      const { name, machine, steps, allocations } = result.scenario;
      expect([name, machine]).toEqual([`random-${seed}`, options.machine]);
      expect(steps.length).toBeGreaterThanOrEqual(3);
      expect(steps.length).toBeLessThanOrEqual(14);
      expect(allocations.map((allocation) => allocation.name)).toEqual(['a', 'b'].slice(0, allocations.length));
      const bytes = scenario.allocations.map((allocation) => allocation.bytes);
      expect(Math.min(...bytes)).toBeGreaterThanOrEqual(2 * MIB);
      expect(Math.max(...bytes)).toBeLessThanOrEqual(8 * MIB);
      expect(bytes.reduce((sum, n) => sum + n)).toBeLessThan(32 * MIB);
    }
  });

  it('have every verb, advice and processor, and no other', () => {
    const scenarios = first(500, TWO);
    expect(valuesOf(scenarios, 'do')).toEqual(['advise', 'atomic', 'prefetch', 'read', 'write']);
    expect(valuesOf(scenarios, 'advice')).toEqual([...ADVICES].sort());
    for (const field of ['on', 'to', 'processor']) {
      expect(valuesOf(scenarios, field), field).toEqual(['cpu', 'gpu0', 'gpu1']);
      expect(valuesOf(first(500, ONE), field), field).toEqual(['cpu', 'gpu0']);
    }
    const lists = scenarios.flatMap(({ steps }) => steps.filter((step) => 'pages' in step));
    const strides = scenarios.flatMap(({ steps }) => steps.filter((step) => 'stride' in step));
    expect(Math.min(lists.length, strides.length)).toBeGreaterThan(100);
  });

  it('touch at most 200 pages in a step', () => {
    for (const { steps } of first(500, TWO)) {
      for (const step of steps) {
        if (Array.isArray(step.pages)) expect(step.pages.length).toBeLessThanOrEqual(60);
        else if (typeof step.stride === 'number') {
          expect(Math.ceil(Number(step.length) / step.stride)).toBeLessThanOrEqual(200);
        }
      }
    }
  });

  it('leave out, each, some of what a history can do', () => {
    const without = (what: string) =>
      first(500, ONE).filter(({ steps }) => !steps.some((step) => Object.values(step).includes(what)));
    for (const what of ['cpu', 'write', 'atomic', 'advise', 'prefetch']) {
      expect(without(what).length, what).toBeGreaterThan(25);
      expect(without(what).length, what).toBeLessThan(475);
    }
  });
});
