/**
 * Fits the costs of a machine's profile to recorded wall times: `node bench/calibrate.mjs [--write] [--rounds N]`.
 * Expects a fresh dist/ (npm run build). Deterministic: the same recordings and profile give the same costs.
 *
 * What is fitted: the logarithms of the costs, by damped Gauss-Newton steps on log(predicted / recorded), with large
 * errors counted linearly (Huber) so that no odd recording pulls. Each suite weighs the same, however many times it has.
 * Every cost is held near its estimate (cost-estimates.json) by a weak prior, so that what the recordings cannot tell
 * apart stays put, and inside of a factor of it, so that it stays plausible. A traced and an untraced program share all costs but those
 * that recording changes: OWN_WHEN_TRACED.
 *
 * Fitted to the times of SUITES, traced and untraced. The random histories are never looked at by the fit, so what it
 * prints of them is a test; they were recorded by another program on another host, which launched kernels faster.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { quantile, readWallCases, wallSamples, wallStatistics } from '../dist/analysis/walls.js';
import { parseProfile } from '../dist/scenario/profile.js';
import { root } from '../scripts/steps.mjs';

const PROFILE = 'h200-pcie5';
const SUITES = ['serial', 'cpu', 'scripts1', 'scripts2', 'probes1', 'probes2'];

/** Costs that recording changes: timestamps between copies, flushes, and the records themselves. */
const OWN_WHEN_TRACED = new Set([
  'copyBaseToGpu',
  'copyPageToGpu',
  'copyPageToGpuScattered',
  'copyBaseToCpu',
  'copyPageToCpu',
  'copyPageToCpuScattered',
  'copyRun',
  'memopsBase',
  'replay',
  'migrateCall',
  'cpuFaultFlush',
  'toolsEvent',
]);
/** Not fitted: they move no recorded step's time, or are a property of the recorder. */
const FIXED = new Set(['stepGap', 'sleepOvershoot']);
/** Standard deviation of the prior, and farthest distance from the start, of a cost's logarithm. */
const PRIOR = 0.8;
const FARTHEST = Math.log(5);
/** Weight of the prior against a whole suite's mean squared error. */
const PRIOR_WEIGHT = 0.0004;
/** Errors of log(predicted / recorded) beyond this count linearly. */
const HUBER = 0.25;
const STEP = 0.05;
/** A cost whose change by a factor e moves the times by less than this (root mean square of logarithms) is not told. */
const TOLD = 0.002;
const SOURCES = {
  fitted: 'fitted by bench/calibrate.mjs to recorded wall times; costs that always come together share a sum',
  untold: 'estimate; the recorded wall times do not tell it',
  peer: 'estimate; no wall time of two GPUs was fitted',
};

/** @typedef {import('../dist/analysis/walls.js').WallCase} WallCase */
/** @typedef {{ cases: WallCase[], traced: boolean, weight: number }} Part */

const write = process.argv.includes('--write');
const rounds = process.argv.includes('--rounds') ? Number(process.argv[process.argv.indexOf('--rounds') + 1]) : 6;

const file = `${root}profiles/${PROFILE}.json`;
const json = JSON.parse(readFileSync(file, 'utf8'));
/** Where the fit starts, and what its prior holds to: name to [untraced, traced]. Costs without an entry are left alone. */
const estimates = JSON.parse(readFileSync(`${root}bench/cost-estimates.json`, 'utf8'));
for (const [name, [untraced, traced]] of Object.entries(estimates))
  Object.assign(json.costs[name], { untraced, traced });
const machines = { [PROFILE]: { gpus: 1 } };
const folder = `${root}recordings`;

/** A parameter of the fit: a cost of the untraced program, of the traced one, or of both. */
const parameters = Object.entries(json.costs).flatMap(([name, cost]) => {
  if (FIXED.has(name) || estimates[name] === undefined) return [];
  if (!OWN_WHEN_TRACED.has(name)) return cost.untraced > 0 ? [{ name, sets: ['untraced', 'traced'] }] : [];
  return ['untraced', 'traced'].filter((set) => cost[set] > 0).map((set) => ({ name, sets: [set] }));
});

/** @param {readonly number[]} theta */
function profileOf(theta) {
  const costs = structuredClone(json.costs);
  for (const [i, { name, sets }] of parameters.entries()) for (const set of sets) costs[name][set] = Math.exp(theta[i]);
  return parseProfile({ ...json, costs });
}

/**
 * @param {Part} part
 * @param {ReturnType<typeof parseProfile>} profile
 * @returns {number[]} log(predicted / recorded)
 */
function residuals(part, profile) {
  return part.cases.flatMap((one) =>
    wallSamples(one, profile, part.traced).map((s) => Math.log(s.predicted / s.recorded)),
  );
}

/** @param {readonly number[]} list */
function huberLoss(list) {
  let sum = 0;
  for (const r of list) sum += Math.abs(r) < HUBER ? r * r : HUBER * (2 * Math.abs(r) - HUBER);
  return list.length === 0 ? 0 : sum / list.length;
}

/**
 * Solves a symmetric positive definite system, by Cholesky, in place.
 * @param {number[][]} a
 * @param {number[]} b
 */
function solve(a, b) {
  const n = b.length;
  for (let j = 0; j < n; j++) {
    for (let k = 0; k < j; k++) for (let i = j; i < n; i++) a[i][j] -= a[i][k] * a[j][k];
    const d = Math.sqrt(a[j][j]);
    for (let i = j; i < n; i++) a[i][j] /= d;
  }
  const x = b.slice();
  for (let i = 0; i < n; i++) {
    for (let k = 0; k < i; k++) x[i] -= a[i][k] * x[k];
    x[i] /= a[i][i];
  }
  for (let i = n - 1; i >= 0; i--) {
    for (let k = i + 1; k < n; k++) x[i] -= a[k][i] * x[k];
    x[i] /= a[i][i];
  }
  return x;
}

/**
 * @param {string} title
 * @param {readonly Part[]} list
 * @param {ReturnType<typeof parseProfile>} profile
 */
function report(title, list, profile) {
  console.log(`\n${title}`);
  for (const { cases, traced } of list) {
    const samples = cases.flatMap((one) => wallSamples(one, profile, traced));
    for (const s of wallStatistics(samples)) {
      const percent = (/** @type {number} */ x) => `${(x * 100).toFixed(0)} %`.padStart(6);
      console.log(
        `  ${s.suite.padEnd(10)}${(traced ? 'traced' : 'untraced').padEnd(10)}${String(s.samples).padStart(6)}` +
          `${percent(s.median)}${percent(s.p90)}  ratio ${s.ratio.toFixed(2)}`,
      );
    }
  }
}

const bySuite = await readWallCases(folder, SUITES, machines);
const random1 = await readWallCases(folder, ['random1'], machines);
const random2 = await readWallCases(folder, ['random2'], machines);
/** @type {Part[]} */
const parts = [];
for (const suite of SUITES) {
  const cases = bySuite.filter((one) => one.suite === suite);
  parts.push({ cases, traced: false, weight: 1 }, { cases, traced: true, weight: 1 });
}
const held = [random1, random2].map((cases) => ({ cases, traced: true, weight: 0 }));

const start = parameters.map(({ name, sets }) => Math.log(json.costs[name][sets[0]]));
let theta = start.slice();

/** @param {readonly number[]} values */
function objective(values) {
  const profile = profileOf(values);
  let sum = 0;
  for (const part of parts) sum += part.weight * huberLoss(residuals(part, profile));
  for (const [i, v] of values.entries()) sum += PRIOR_WEIGHT * ((v - start[i]) / PRIOR) ** 2;
  return sum;
}

report('before', [...parts, ...held], profileOf(theta));
let loss = objective(theta);
let damping = 0.01;
for (let round = 0; round < rounds; round++) {
  const base = parts.map((part) => residuals(part, profileOf(theta)));
  const jacobian = parameters.map((_, i) => {
    const moved = theta.slice();
    moved[i] += STEP;
    const profile = profileOf(moved);
    return parts.map((part, p) => residuals(part, profile).map((r, j) => (r - base[p][j]) / STEP));
  });
  const n = parameters.length;
  const a = Array.from({ length: n }, () => new Array(n).fill(0));
  const b = new Array(n).fill(0);
  for (const [p, part] of parts.entries()) {
    for (const [j, r] of base[p].entries()) {
      const weight = (part.weight / base[p].length) * (Math.abs(r) < HUBER ? 1 : HUBER / Math.abs(r));
      for (let i = 0; i < n; i++) {
        const d = jacobian[i][p][j];
        if (d === 0) continue;
        b[i] -= weight * d * r;
        for (let k = 0; k <= i; k++) a[i][k] += weight * d * jacobian[k][p][j];
      }
    }
  }
  for (let i = 0; i < n; i++) {
    a[i][i] += PRIOR_WEIGHT / PRIOR ** 2;
    b[i] -= (PRIOR_WEIGHT / PRIOR ** 2) * (theta[i] - start[i]);
    for (let k = 0; k < i; k++) a[k][i] = a[i][k];
  }
  let taken = false;
  for (let attempt = 0; attempt < 5 && !taken; attempt++) {
    const damped = a.map((row, i) => row.map((v, k) => (i === k ? v * (1 + damping) + 1e-9 : v)));
    const step = solve(damped, b);
    const next = theta.map((v, i) => {
      const limited = v + Math.max(-0.7, Math.min(0.7, step[i]));
      return Math.max(start[i] - FARTHEST, Math.min(start[i] + FARTHEST, limited));
    });
    const nextLoss = objective(next);
    taken = nextLoss < loss;
    if (taken) {
      theta = next;
      loss = nextLoss;
      damping /= 4;
    } else damping *= 8;
  }
  const all = base.flat().map(Math.abs);
  console.log(`round ${round + 1}: loss ${loss.toFixed(5)}, median |log| before it ${quantile(all, 0.5).toFixed(3)}`);
  if (!taken) break;
}

/** How much each cost moves the times that were fitted to. */
function sensitivity() {
  const base = parts.map((part) => residuals(part, profileOf(theta)));
  const moved = new Map();
  for (const [i, { name }] of parameters.entries()) {
    const values = theta.slice();
    values[i] += STEP;
    const profile = profileOf(values);
    let sum = 0;
    let count = 0;
    for (const [p, part] of parts.entries()) {
      for (const [j, r] of residuals(part, profile).entries()) sum += ((r - base[p][j]) / STEP) ** 2;
      count += base[p].length;
    }
    moved.set(name, Math.max(moved.get(name) ?? 0, Math.sqrt(sum / count)));
  }
  return moved;
}

const moved = sensitivity();
for (const [i, { name, sets }] of parameters.entries()) {
  for (const set of sets) json.costs[name][set] = Math.round(Math.exp(theta[i]) * 10) / 10;
}
for (const name of Object.keys(estimates)) {
  const told = (moved.get(name) ?? 0) >= TOLD;
  json.costs[name].source = told ? SOURCES.fitted : /Peer/.test(name) ? SOURCES.peer : SOURCES.untold;
}
const fitted = parseProfile(json);
report('after', parts, fitted);
report('never seen by the fit', held, fitted);
console.log('');
for (const [name, cost] of Object.entries(json.costs))
  console.log(`${name.padEnd(24)}${cost.untraced}  ${cost.traced}`);
if (write) writeFileSync(file, `${JSON.stringify(json, null, 2)}\n`);
