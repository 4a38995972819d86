/** Makes a failing history smaller: leaves out steps, programs, accesses and settings as long as it still fails. */
import type { History, HistoryStep } from './history.ts';

/** Histories tried at most. */
const TRIES_MAX = 400;

/** All lists that are one element shorter, the later elements left out first. */
function* shorter<T>(list: readonly T[]): Generator<T[]> {
  for (let i = list.length - 1; i >= 0; i--) yield [...list.slice(0, i), ...list.slice(i + 1)];
}

function* smallerSteps(step: HistoryStep): Generator<HistoryStep> {
  if (step.do === 'access' && step.pages.length > 1) {
    for (const pages of shorter(step.pages)) yield { ...step, pages };
  }
  if (step.do === 'burst') {
    for (const programs of shorter(step.programs)) yield { ...step, programs };
    for (const raw of shorter(step.raw)) yield { ...step, raw };
    for (const flushAt of shorter(step.flushAt)) yield { ...step, flushAt };
    for (const [i, program] of step.programs.entries()) {
      if (program.accesses.length < 2) continue;
      for (const accesses of shorter(program.accesses)) {
        yield { ...step, programs: step.programs.with(i, { ...program, accesses }) };
      }
    }
  }
  if (step.do === 'nonReplayable' && step.faults.length > 1) {
    for (const faults of shorter(step.faults)) yield { ...step, faults };
  }
}

function* smaller(history: History): Generator<History> {
  for (const steps of shorter(history.steps)) yield { ...history, steps };
  for (const name of Object.keys(history.parameters)) {
    const { [name]: _dropped, ...parameters } = history.parameters;
    yield { ...history, parameters };
  }
  if (Object.keys(history.costs).length > 0) yield { ...history, costs: {} };
  if (history.traced) yield { ...history, traced: false };
  if (history.observed) yield { ...history, observed: false };
  if (history.verify) yield { ...history, verify: false };
  for (const [i, step] of history.steps.entries()) {
    for (const less of smallerSteps(step)) yield { ...history, steps: history.steps.with(i, less) };
  }
}

/** A history that still fails and of which nothing can be left out, or the smallest one found after many tries. */
export function shrink(history: History, fails: (candidate: History) => boolean): History {
  let best = history;
  for (let tries = 0; tries < TRIES_MAX; ) {
    let found = false;
    for (const candidate of smaller(best)) {
      if (++tries > TRIES_MAX) break;
      if (!fails(candidate)) continue;
      best = candidate;
      found = true;
      break;
    }
    if (!found) break;
  }
  return best;
}
