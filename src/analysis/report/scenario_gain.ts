/** The predicted gain of an advice where the scenario is known: the changed scenario is run on the model. */
import { type ExecuteResult, executeRun } from '../execute.ts';
import type { Machines } from '../machines.ts';
import { gainInterval } from './model_error.ts';
import type { Advice, AllocationUse, Prediction } from './report_types.ts';

type Json = Record<string, unknown>;

/** A scenario with more steps; `origin` has for each of its steps the number of the one before the change, or -1. */
interface Variant {
  what: string;
  scenario: Json;
  origin: number[];
  parameters: Record<string, number>;
}

export interface ScenarioBase {
  scenario: Json;
  machines: Machines;
  /** Predicted microseconds of each step, untraced. */
  wall: number[];
}

/** The unchanged scenario on the model, untraced; or why it cannot be run. */
export function scenarioBase(
  scenario: Json,
  machines: Machines,
): { ok: true; base: ScenarioBase } | { ok: false; why: string } {
  const result = executeRun(scenario, machines, { traced: false });
  if (!result.ok) return { ok: false, why: result.error };
  return { ok: true, base: { scenario, machines, wall: [...result.run.state.wall] } };
}

function withSteps(base: ScenarioBase, what: string, insert: (step: number) => Json[]): Variant {
  const steps: unknown[] = [];
  const origin: number[] = [];
  for (const [i, step] of (base.scenario['steps'] as unknown[]).entries()) {
    for (const added of insert(i)) {
      steps.push(added);
      origin.push(-1);
    }
    steps.push(step);
    origin.push(i);
  }
  return { what, scenario: { ...base.scenario, steps }, origin, parameters: {} };
}

function stepsOf({ rule }: Advice, use: AllocationUse): number[] {
  return rule === 'prefetchBack' ? use.movedSteps : use.steps;
}

/**
 * Prefetches go before each step in which the processor faulted, those to the CPU where its faults moved data; the
 * whole range of its faults each time.
 */
function prefetches(base: ScenarioBase, item: Advice, use: AllocationUse): Variant {
  const { processor, allocation, offset, length } = item;
  const steps = new Set(stepsOf(item, use));
  const step = { do: 'prefetch', to: processor, buffer: allocation, offset, length };
  return withSteps(base, 'prefetch', (i) => (steps.has(i) ? [step] : []));
}

function advised(base: ScenarioBase, what: string, at: number, ...list: Json[]): Variant {
  return withSteps(base, what, (i) => (i === at ? list : []));
}

function variantsOf(base: ScenarioBase, item: Advice, uses: readonly AllocationUse[], readOnlyStep: number): Variant[] {
  const { rule, allocation: buffer, length } = item;
  const whole = { do: 'advise', buffer, offset: 0, length: Math.ceil(length / 4096) * 4096 };
  const use = uses.find(({ processor }) => processor === item.processor);
  switch (rule) {
    case 'prefetch':
    case 'prefetchBack':
      return use === undefined || stepsOf(item, use).length === 0 ? [] : [prefetches(base, item, use)];
    case 'readMostly':
      return [advised(base, 'cudaMemAdviseSetReadMostly', readOnlyStep, { ...whole, advice: 'setReadMostly' })];
    case 'preferredLocation': {
      const processors = uses.map(({ processor }) => processor);
      return processors.map((home) =>
        advised(
          base,
          home,
          0,
          { ...whole, advice: 'setPreferredLocation', processor: home },
          ...processors
            .filter((other) => other !== home)
            .map((other) => ({ ...whole, advice: 'setAccessedBy', processor: other })),
        ),
      );
    }
    case 'prefetchOff':
      return [{ ...withSteps(base, 'on', () => []), parameters: { uvm_perf_prefetch_enable: 1 } }];
    default:
      return [];
  }
}

/** What a change takes away from the times of steps, and what it adds: to steps, and by those that it brought. */
export function changedTimes(
  before: readonly number[],
  after: readonly number[],
  origin: readonly number[],
): { removed: number; added: number } {
  const sums = { removed: 0, added: 0 };
  for (const [i, from] of origin.entries()) {
    const more = after[i] - (from < 0 ? 0 : before[from]);
    if (more > 0) sums.added += more;
    else sums.removed -= more;
  }
  return sums;
}

function predictionOf(base: ScenarioBase, variant: Variant, result: ExecuteResult): Prediction | null {
  if (!result.ok) return null;
  const { removed, added } = changedTimes(base.wall, result.run.state.wall, variant.origin);
  const { low, high } = gainInterval(removed, added);
  return {
    basis: 'scenario',
    machine: result.run.scenario.machine,
    removedMicroseconds: removed,
    addedMicroseconds: added,
    gainMicroseconds: removed - added,
    lowMicroseconds: low,
    highMicroseconds: high,
    uncertain: low <= 0 && high >= 0,
    assumption: 'the scenario with this change against the one without, both run on the model untraced',
  };
}

export interface ScenarioGain {
  prediction: Prediction;
  /** Of several ways to follow the advice the best one, as `variantsOf` names it. */
  what: string;
}

/** What following the advice would gain; or why the model cannot say. `readOnlyStep` as advice_rules.ts finds it. */
export function scenarioGain(
  base: ScenarioBase,
  item: Advice,
  uses: readonly AllocationUse[],
  readOnlyStep: number,
): { ok: true; gain: ScenarioGain } | { ok: false; why: string } {
  const variants = variantsOf(base, item, uses, readOnlyStep);
  if (variants.length === 0) {
    const prefetch = item.rule === 'prefetch' || item.rule === 'prefetchBack';
    const why = prefetch
      ? 'the events do not tell their steps'
      : 'what to change in the scenario is for its author to say';
    return { ok: false, why };
  }
  let best: ScenarioGain | null = null;
  let why = '';
  for (const variant of variants) {
    const { parameters } = variant;
    const result = executeRun(variant.scenario, base.machines, { traced: false, parameters });
    const prediction = predictionOf(base, variant, result);
    if (prediction === null) {
      if (!result.ok) why = result.error;
    } else if (best === null || prediction.gainMicroseconds > best.prediction.gainMicroseconds) {
      best = { prediction, what: variant.what };
    }
  }
  return best === null ? { ok: false, why } : { ok: true, gain: best };
}
